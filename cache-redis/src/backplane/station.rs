//! What keeps listening to one server: dials, subscribes, and begins anew whenever that ends.

use super::connection::Connection;
use super::names::channel;
use super::roster::Roster;
use super::subscription::Subscription;
use super::tell::every_partition;
use crate::config::Address;
use crate::link::{Backoff, REFUSED_BACKOFF, STABLE, jittered};
use crate::tier::RedisTier;
use cache_core::{Error, ErrorKind, Partition, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// How long an answer may take at least: a timeout may be meant for caches that would rather ask the database.
const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// The channels of a deployment.
pub(super) struct Channels {
    /// What its keys begin with.
    pub(super) keys: String,
    names: Vec<Vec<u8>>,
    partitions: HashMap<Vec<u8>, Partition>,
}

impl Channels {
    pub(super) fn new(prefix: &str, database: i64) -> Self {
        let names: Vec<_> = every_partition().into_iter().map(|partition| channel(prefix, partition, database)).collect();
        let partitions = names.iter().cloned().zip(every_partition()).collect();
        Self { keys: format!("{prefix}{{"), names, partitions }
    }
}

pub(super) struct Station {
    pub(super) tier: RedisTier,
    pub(super) address: Address,
    pub(super) channels: Arc<Channels>,
    /// Which partitions are this server's.
    pub(super) wanted: watch::Receiver<Vec<Partition>>,
    pub(super) roster: Arc<Roster>,
    /// What the roster knows it by.
    pub(super) id: u64,
}

impl Station {
    pub(super) fn channel(&self, partition: Partition) -> &[u8] {
        &self.channels.names[usize::from(partition.index())]
    }

    pub(super) fn partition(&self, channel: &[u8]) -> Option<Partition> {
        self.channels.partitions.get(channel).copied()
    }

    /// Whether channels have slots, as keys have.
    pub(super) fn is_sharded(&self) -> bool {
        self.tier.nodes().are_many()
    }

    /// Whether writes are tracked.
    pub(super) fn tracks(&self) -> bool {
        self.tier.config().tracks
    }

    pub(super) fn patience(&self) -> Duration {
        self.tier.config().timeout.clamp(LEAST_PATIENCE, Duration::from_secs(60))
    }

    /// Listens until its task is aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut trouble: Option<String> = None;
        loop {
            let since = Instant::now();
            let (began, ended) = self.listen(&mut trouble).await;
            // Before anything else: nothing is verified from now on.
            self.roster.lost(&every_partition(), self.id);
            let err = ended.err().unwrap_or_else(crate::multiplexer::lost);
            let is_news = trouble.as_ref() != Some(&err.to_string());
            let needs_a_person = err.kind() != ErrorKind::Unavailable;
            // That the server is away, the other connections to it tell.
            if is_news && (began || needs_a_person) {
                warn!(error = %err, "invalidations of other nodes are not heard");
            } else {
                debug!(error = %err, "invalidations of other nodes are not heard yet");
            }
            if began && since.elapsed() >= STABLE {
                backoff = Backoff::new();
            }
            if is_news {
                trouble = Some(err.to_string());
            }
            sleep(if needs_a_person { jittered(REFUSED_BACKOFF) } else { backoff.next() }).await;
        }
    }

    /// One connection, from its dial to its end. Whether it was of use.
    async fn listen(&mut self, trouble: &mut Option<String>) -> (bool, Result<(), Error>) {
        let connection = match Connection::dial(self.tier.config(), &self.address).await {
            Ok(connection) => connection,
            Err(err) => return (false, Err(err)),
        };
        let mut subscription = Subscription::new(self, connection);
        if let Err(err) = subscription.begin().await {
            return (false, Err(err));
        }
        if trouble.take().is_some() {
            info!("invalidations of other nodes are heard again");
        } else {
            debug!("invalidations of other nodes are heard");
        }
        (true, subscription.serve().await)
    }
}
