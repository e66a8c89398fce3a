//! The rounds of polls: one a second, or as soon as somebody needs one.

use super::deployment::{Deployment, Running, every_partition};
use crate::error::{Error, ErrorKind};
use crate::partition::Partition;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Three polls a bound: two may be lost.
const POLLS_A_BOUND: u32 = 3;
/// The pause after a failure: a store that is back is found soon.
const RETRY: Duration = Duration::from_millis(250);
/// Rounds that somebody waits for come no closer together.
const SPACING: Duration = Duration::from_millis(20);
/// How long a read waits at most for a round before it asks L2 itself.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many rounds have ended. Not a `watch`: that wakes who waits in an order drawn at random, and a simulation has to repeat itself.
#[derive(Debug, Default)]
pub(super) struct Ended {
    count: AtomicU64,
    another: Notify,
}

impl Ended {
    fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    fn another(&self) {
        // Ordering: release pairs with the acquire in `count`: who sees the round sees what it has found.
        self.count.fetch_add(1, Ordering::AcqRel);
        self.another.notify_waiters();
    }

    /// Waits until so many have ended.
    async fn reaches(&self, wanted: u64) {
        loop {
            let another = self.another.notified();
            let mut another = std::pin::pin!(another);
            // Registered before the check, so that none is missed in between.
            another.as_mut().enable();
            if self.count() >= wanted {
                return;
            }
            another.await;
        }
    }
}

/// Polls until the deployment is dropped, or its last cache is closed.
pub(super) async fn go_round(deployment: Weak<Deployment>, running: Running) {
    loop {
        let Some(strong) = deployment.upgrade() else { return };
        if strong.is_deserted() {
            // Another task may run already.
            return running.has_said_so();
        }
        let well = strong.round().await;
        let poked = strong.poked.clone();
        let pause = if well { strong.bound() / POLLS_A_BOUND } else { RETRY.min(strong.bound() / POLLS_A_BOUND) };
        drop(strong);
        sleep(SPACING.min(pause)).await;
        let _ = timeout(pause.saturating_sub(SPACING), poked.notified()).await;
    }
}

impl Deployment {
    /// Polls every partition once. `false` if any poll failed.
    pub(super) async fn round(self: &Arc<Self>) -> bool {
        self.notice_sleep();
        let partitions = every_partition();
        let before: Vec<_> = partitions.iter().map(|partition| self.before(*partition)).collect();
        // Before the request: what is told from then on may be missing.
        let sent = self.now();
        self.last_sent.store(sent.as_nanos(), Ordering::Release);
        self.counts.polls.fetch_add(1, Ordering::Relaxed);
        let polled = self.tier.poll(&self.prefix, &partitions).await;
        if let Err(err) = &polled {
            debug!(kind = ?err.kind(), "a poll of the partitions failed");
        }
        let missing = polled.as_ref().map_or_else(Error::kind, |_| ErrorKind::Unavailable);
        let mut answers = polled.unwrap_or_default().into_iter();
        let mut well = true;
        for (partition, before) in partitions.iter().zip(before) {
            match answers.next().map_or(Err(missing), |answer| answer.map_err(|err| err.kind())) {
                Ok(meta) => self.answered(*partition, meta, sent, before),
                Err(err) => {
                    well = false;
                    self.failed(*partition, err, sent);
                }
            }
        }
        // Once a round, and not for each of 256 answers.
        self.publish();
        if !well {
            self.counts.poll_errors.fetch_add(1, Ordering::Relaxed);
        }
        self.ended.another();
        self.tell_again();
        well
    }

    /// Waits, for 100 ms and `limit` at most, for a round that may make a partition verified which was found not to be: after a pause of this process, say. At once where
    /// the last round was a moment ago, or nothing is heard.
    pub(crate) async fn next_round(&self, partition: Partition, limit: Duration) {
        if self.now().since(self.last_sent()) < RETRY || !self.is_listening(partition) {
            return;
        }
        let wanted = self.ended.count() + 1;
        self.poked.notify_one();
        let _ = timeout(PATIENCE.min(limit), self.ended.reaches(wanted)).await;
    }

    /// Waits until all partitions are verified, for `limit` at most.
    pub(crate) async fn verified(&self, bound: Duration, limit: Duration) -> bool {
        let verified = async {
            loop {
                let ended = self.ended.count();
                if self.unverified(bound) == 0 {
                    break;
                }
                self.ended.reaches(ended + 1).await;
            }
        };
        timeout(limit, verified).await.is_ok()
    }
}
