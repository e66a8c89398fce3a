//! The tier's handle: it finds a connection for each call, bounds the call, and accounts for how it ended.

use crate::builder::{Config, RedisTierBuilder};
use crate::error::{from_driver, is_read_only};
use crate::link::{Link, State, supervise};
use crate::live::Live;
use crate::script::{Answer, Script};
use bytes::Bytes;
use cache_core::record::HEADER_LEN;
use cache_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};
use std::fmt;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// The Redis tier: a [`RemoteTier`](cache_core::RemoteTier) on one Redis node. See the crate's documentation.
///
/// Cloning shares the connection. When the last clone is dropped, the connection and the task behind it are gone too. A call
/// may be cancelled by dropping its future; its command may run nonetheless, and no other call sees its reply.
///
/// ```no_run
/// # async fn example() -> cache_core::Result<()> {
/// use cache_redis::RedisTier;
/// use std::time::Duration;
///
/// let tier = RedisTier::connect("redis://localhost/").await?;
/// let other = RedisTier::builder("redis://:password@localhost:6380/1").timeout(Duration::from_millis(50)).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisTier {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    supervisor: Mutex<Supervisor>,
}

enum Supervisor {
    /// Not needed so far.
    None,
    Running(JoinHandle<()>),
    Closed,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Supervisor::Running(task) = self.supervisor.get_mut() {
            task.abort();
        }
    }
}

/// A call's reply, the connection it came over, and when it was sent.
pub(crate) struct Called<T> {
    pub(crate) reply: T,
    live: Arc<Live>,
    sent: Instant,
}

impl<T> Called<T> {
    /// The server's time when the call was sent, as late as it may have been.
    pub(crate) fn now(&self) -> u64 {
        self.live.latest_ms(self.sent.into_std())
    }
}

impl RedisTier {
    /// Connects with the defaults: `redis://[user:password@]host[:port][/database]`, or `unix:///path`.
    ///
    /// Returns after one dial, within 500 ms. A Redis that is down is no error: the calls of the tier then fail at once, and it
    /// comes up by itself.
    ///
    /// # Errors
    /// See [`RedisTierBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// A tier with the defaults that dials at its first call, which must come from within a tokio runtime.
    ///
    /// # Errors
    /// See [`RedisTierBuilder::lazy`].
    pub fn lazy(url: &str) -> Result<Self> {
        Self::builder(url).lazy()
    }

    /// Options besides the URL.
    pub fn builder(url: &str) -> RedisTierBuilder {
        RedisTierBuilder::new(url)
    }

    /// Whether there is a connection at the moment, for a health page. Nothing is sent.
    pub fn is_connected(&self) -> bool {
        matches!(**self.shared.link.state(), State::Up(_))
    }

    pub(crate) fn new(config: Config) -> Self {
        Self { shared: Arc::new(Shared { link: Arc::new(Link::new(config)), supervisor: Mutex::new(Supervisor::None) }) }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.link.config
    }

    /// Waits for the first dial. Only what a person must mend is an error.
    pub(crate) async fn first_dial(&self) -> Result<()> {
        self.supervise()?;
        self.shared.link.settled().await;
        match &**self.shared.link.state() {
            State::Down(err) if matches!(err.kind(), ErrorKind::Config | ErrorKind::Credentials) => Err(err.clone()),
            _ => Ok(()),
        }
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        const DECADE: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 86_400);
        Instant::now() + self.config().timeout.min(DECADE)
    }

    /// Runs one exchange over the connection, until the deadline.
    pub(crate) async fn call<T, F>(
        &self,
        verb: &'static str,
        deadline: Instant,
        exchange: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<Called<T>>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let called = self.try_call(deadline, exchange).await;
        called.inspect_err(|err| debug!(verb, kind = ?err.kind(), error = %err, "a call to Redis failed"))
    }

    async fn try_call<T, F>(&self, deadline: Instant, exchange: impl FnOnce(MultiplexedConnection) -> F) -> Result<Called<T>>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let live = self.live(deadline).await?;
        let sent = Instant::now();
        match timeout_at(deadline, exchange(live.connection())).await {
            Ok(Ok(reply)) => {
                live.answered();
                Ok(Called { reply, live, sent })
            }
            Ok(Err(err)) => {
                if err.is_connection_dropped() {
                    // The supervisor sees it by itself, unless the runtime that it ran on has ended.
                    self.supervise()?;
                } else {
                    live.answered();
                    if is_read_only(&err) {
                        live.read_only();
                    }
                }
                Err(from_driver(&err))
            }
            Err(_) => {
                live.timed_out();
                Err(late())
            }
        }
    }

    /// Runs a script, and takes its answer's word and detail.
    pub(crate) async fn run(&self, verb: &'static str, deadline: Instant, script: &Script, call: Cmd) -> Result<(Bytes, Bytes)> {
        let exchange = async move |mut connection: MultiplexedConnection| script.run(&mut connection, call).await;
        let Called { reply: (time, word, detail), live, sent }: Called<Answer> = self.call(verb, deadline, exchange).await?;
        live.observe(sent.into_std(), time);
        Ok((word, detail))
    }

    /// The connection: at once if there is one or none, else when the first dial has ended.
    async fn live(&self, deadline: Instant) -> Result<Arc<Live>> {
        if let State::Up(live) = &**self.shared.link.state() {
            return Ok(live.clone());
        }
        self.supervise()?;
        timeout_at(deadline, self.shared.link.settled()).await.map_err(|_| late())?;
        match &**self.shared.link.state() {
            State::Up(live) => Ok(live.clone()),
            State::Down(err) => Err(err.clone()),
            State::Closed => Err(closed()),
            State::Idle | State::Dialing => Err(Error::new(ErrorKind::Unavailable, "there is no connection to Redis")),
        }
    }

    /// Starts the supervisor if none runs: at first use, and after the runtime it ran on has ended.
    fn supervise(&self) -> Result<()> {
        let mut supervisor = self.shared.supervisor.lock();
        match &*supervisor {
            Supervisor::Running(task) if !task.is_finished() => return Ok(()),
            Supervisor::Closed => return Err(closed()),
            _ => {}
        }
        let runtime = Handle::try_current();
        let runtime =
            runtime.map_err(|_| crate::error::config_error("the Redis tier must be used from within a tokio runtime"))?;
        self.shared.link.publish(State::Dialing);
        *supervisor = Supervisor::Running(runtime.spawn(supervise(self.shared.link.clone())));
        Ok(())
    }

    pub(crate) async fn stop(&self) {
        let supervisor = std::mem::replace(&mut *self.shared.supervisor.lock(), Supervisor::Closed);
        if let Supervisor::Running(task) = supervisor {
            task.abort();
            self.shared.link.publish(State::Closed);
            let _ = task.await;
        }
        // Once more: until it had ended, the supervisor could still publish.
        self.shared.link.publish(State::Closed);
    }

    /// A record as it is handed out: cut off after its header, and so unreadable, if it is too large.
    pub(crate) fn bounded(&self, record: Bytes) -> Bytes {
        if record.len() <= self.config().max_record_bytes {
            return record;
        }
        debug!(bytes = record.len(), "a record in Redis is larger than max_record_bytes");
        // Copied, so that the rest is freed.
        Bytes::copy_from_slice(&record[..HEADER_LEN])
    }
}

fn late() -> Error {
    Error::new(ErrorKind::Timeout, "Redis did not answer in time")
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the Redis tier is closed")
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("connected", &self.is_connected()).field("config", self.config()).finish()
    }
}
