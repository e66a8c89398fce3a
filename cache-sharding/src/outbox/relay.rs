//! A relay, as its owner sees it.

use std::fmt;
use std::future::Future;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time;

use super::error::Error;
use super::settings::{Backoff, Settings};
use super::stats::{Counters, RelayStats};
use super::store::{Backlog, Claimed, Store};
use super::work::Work;

/// A relay that is being described. Made by [`Relay::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is relayed before `start`"]
pub struct RelayBuilder<S> {
    store: S,
    settings: Settings,
}

impl<S: Store> RelayBuilder<S> {
    /// Rows claimed at once, at most 10,000. Default: 100. Memory: the rows' keys, of up to 64 KiB each.
    pub fn batch(mut self, rows: NonZeroU32) -> Self {
        self.settings.batch = rows;
        self
    }

    /// Deliveries that run at the same time. Default: 16.
    pub fn concurrency(mut self, deliveries: NonZeroUsize) -> Self {
        self.settings.concurrency = deliveries;
        self
    }

    /// How long the relay waits before it asks again, after it was given less than a full batch. Default: 200 ms. A row waits for half
    /// of it on average; the database is asked this often by each relay.
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.settings.poll_every = interval;
        self
    }

    /// How long one delivery may take. Default: 5 s. One that takes longer has failed and is dropped; one that blocks its thread
    /// cannot be interrupted.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long a claim lasts: the time until the rows of a relay that died are another's. Default: 30 s. It must be longer than the
    /// timeout: a row is delivered only if that will have ended within the claim, and otherwise given back. It also bounds each question to the
    /// database.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease;
        self
    }

    /// How long a row rests after its first failure; then twice that, and so on up to `most`, each less up to a half by chance.
    /// Default: 200 ms and 10 s. A database that refuses is asked again by the same rule.
    pub fn retry_after(mut self, first: Duration, most: Duration) -> Self {
        self.settings.retry = Backoff { first, most };
        self
    }

    /// Starts relaying, in a task of its own and one for each delivery.
    ///
    /// `deliver` is given each row at least once: again if it returned an error, panicked or took too long, or if the outcome could not
    /// be written down. Rows come in no particular order. What it returns as an error is dropped: log it there, or give the row up
    /// there after some [`attempt`](Claimed::attempt)s, by returning `Ok`.
    ///
    /// # Errors
    /// [`Error::Setting`]. A database that is down is none: the relay waits for it, see [`Relay::trouble`].
    ///
    /// # Panics
    /// Outside of a Tokio runtime with a timer.
    pub fn start<D, F, E>(self, deliver: D) -> Result<Relay<S>, Error>
    where
        D: Fn(Claimed) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: 'static,
    {
        self.settings.check()?;
        let (store, counters, wake) = (Arc::new(self.store), Arc::new(Counters::default()), Arc::new(Notify::new()));
        let (stop, stopped) = watch::channel(false);
        let work = Work::new(Arc::clone(&store), deliver, self.settings, Arc::clone(&counters));
        let task = tokio::spawn(work.run(Arc::clone(&wake), stopped));
        Ok(Relay { store, counters, wake, stop, task })
    }
}

/// Hands the rows of one outbox to a delivery, at least once each, and deletes those that were delivered.
///
/// Any number of relays may work on one table, in any processes: each row is claimed by one of them for the length of a lease. A row
/// is delivered twice when a relay dies, or loses its database, between the delivery and the delete.
///
/// Up to the [concurrency](RelayBuilder::concurrency), deliveries that hang hold up no others; a row that fails rests, and new rows
/// come before those that failed.
///
/// Dropping it aborts deliveries at their next `await`; what was claimed is due again when its lease ends. [`close`](Self::close)
/// ends in order.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "outbox-sqlite")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cache_sharding::outbox::{Claimed, Relay, Row, SqliteOutbox};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let file = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("shop")).create_if_missing(true);
/// # let pool = sqlx::SqlitePool::connect_with(file).await?;
/// # sqlx::query("CREATE TABLE product (id INTEGER PRIMARY KEY, price INTEGER)").execute(&pool).await?;
/// let outbox = SqliteOutbox::new(pool.clone());
/// outbox.create_table().await?;
///
/// // A node that writes.
/// let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
/// sqlx::query("UPDATE product SET price = 12 WHERE id = 17").execute(&mut *transaction).await?;
/// outbox.add(&mut transaction, &Row::new("product", 17_u64.to_be_bytes())?).await?;
/// transaction.commit().await?;
///
/// // Any node.
/// let (done, mut delivered) = tokio::sync::mpsc::unbounded_channel();
/// let relay = Relay::builder(outbox).start(move |claimed: Claimed| {
///     let done = done.clone();
///     async move {
///         match claimed.row.topic() {
///             b"product" => done.send(claimed.row.key().to_vec()), // cache.invalidate(…)
///             _ => Ok(()), // a cache that is no more
///         }
///     }
/// })?;
/// assert_eq!(delivered.recv().await.unwrap(), 17_u64.to_be_bytes());
///
/// let closed = relay.close(Duration::from_secs(5)).await;
/// assert_eq!(closed.unsettled, 0);
/// # Ok(()) }
/// # #[cfg(not(feature = "outbox-sqlite"))] fn main() {}
/// ```
#[must_use = "a relay that is dropped stops"]
pub struct Relay<S> {
    store: Arc<S>,
    counters: Arc<Counters>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What [`Relay::close`] left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayClosed {
    /// Rows that were claimed and whose outcome could not be written down in time. They are due again when their lease ends.
    pub unsettled: u64,
}

impl<S: Store> Relay<S> {
    /// A relay of what is in `store`.
    pub fn builder(store: S) -> RelayBuilder<S> {
        RelayBuilder { store, settings: Settings::default() }
    }

    /// Makes it look for rows now and not at the next poll; call it after a commit on the same node. A row may then be delivered
    /// within a few round trips. Costs an atomic, and a question to the database unless one is being asked.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// What it has done. Costs some atomic loads.
    pub fn stats(&self) -> RelayStats {
        self.counters.stats()
    }

    /// How much there is to relay, for all relays of the table. Two short questions to the database, one of which counts up to 100,000 rows.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        self.store.backlog().await
    }

    /// Why its last question to the database failed; `None` once one has succeeded.
    pub fn trouble(&self) -> Option<Error> {
        self.counters.trouble()
    }

    /// Claims no more, gives back what was claimed and not begun, waits for deliveries that run, and writes down the outcomes; all
    /// that for at most `limit`, and then it stops as if dropped. Cancelling it also stops it as if dropped.
    pub async fn close(mut self, limit: Duration) -> RelayClosed {
        self.stop.send_replace(true);
        let _ = time::timeout(limit, &mut self.task).await;
        RelayClosed { unsettled: self.counters.stats().in_hand }
    }
}

impl<S> Drop for Relay<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S> fmt::Debug for Relay<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("stats", &self.counters.stats()).finish_non_exhaustive()
    }
}
