//! Telling a new server again what this node told the one before: a failover loses what had not been replicated.

use super::Notice;
use super::deployment::{Deployment, Running};
use super::replay::Lot;
use crate::key::Namespace;
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use futures_util::future::join_all;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tracing::debug;

/// How long a tombstone stays that is told again.
const RETAIN: Duration = Duration::from_secs(60);
/// Partitions that are told at a time, so 2,000 keys at most: tens of milliseconds for a server, whatever a call of it may take.
const AT_ONCE: usize = 4;

impl Deployment {
    /// Begins to tell again what is owed, unless that is under way. In a task of its own: nobody may wait for the next poll because there is much to tell, or a store to be scanned. What
    /// fails stays owed, and the next round of polls comes here again.
    pub(super) fn tell_again(self: &Arc<Self>) {
        if !self.replay.lock().is_owing() || is(Mutant::NoReplay) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(running) = Running::the_only(&self.is_telling) {
            runtime.spawn(self.clock().held(go_through(Arc::downgrade(self), running)));
        }
    }

    /// Tells a partition's server, lot by lot, until nothing is owed to it or it fails.
    async fn tell_partition_again(&self, partition: Partition) {
        while self.has_members()
            && let Some(lot) = self.next_lot(partition)
        {
            let notice = Notice { node: self.signature(), namespace: lot.namespace.clone() };
            match self.tier.invalidate(&lot.keys, RETAIN, Some(&notice)).await {
                Ok(_) => self.replay.lock().told_again(partition, &lot, self.now()),
                Err(err) => return debug!(kind = ?err.kind(), "what was told before a failover could not be told again yet"),
            }
        }
    }

    fn next_lot(&self, partition: Partition) -> Option<Lot> {
        self.replay.lock().next_lot(partition)
    }

    /// Once for all partitions: a clear reaches every master.
    async fn clear_again(&self, namespace: &Namespace, times: u64) {
        let notice = Notice { node: self.signature(), namespace: namespace.clone() };
        let servers = self.servers();
        match self.tier.clear(namespace, RETAIN, Some(&notice)).await {
            Ok(_) => self.replay.lock().cleared_again(namespace, times, servers, self.now()),
            Err(err) => debug!(kind = ?err.kind(), "a clear from before a failover could not be repeated yet"),
        }
    }
}

/// All that is owed, once. Ends with the deployment, or with its last cache.
pub(super) async fn go_through(deployment: Weak<Deployment>, _running: Running) {
    let Some(strong) = deployment.upgrade() else { return };
    let (partitions, clears) = strong.replay.lock().owed();
    drop(strong);
    // Keys first, as a clear may take long.
    for some in partitions.chunks(AT_ONCE) {
        let Some(strong) = deployment.upgrade() else { return };
        join_all(some.iter().map(|partition| strong.tell_partition_again(*partition))).await;
    }
    for (namespace, times) in clears {
        match deployment.upgrade() {
            Some(strong) if strong.has_members() => strong.clear_again(&namespace, times).await,
            _ => return,
        }
    }
}
