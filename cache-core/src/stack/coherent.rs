//! L1 among other nodes: the bound on its age, what it hears, and what may be served while nobody can tell.

use super::Inner;
use crate::clock::Moment;
use crate::coherence::{Deployment, Lease, Member, Standing};
use crate::error::{Error, Result};
use crate::flights::{Passage, Ticket};
use crate::local::{Local, LocalTier};
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use crate::written::WriteToken;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
const LONGEST_GRACE: Duration = Duration::from_secs(3_600);

/// Within which time L1 of a node follows what other nodes write.
///
/// As a rule that is one message of the backplane, well under a millisecond. The **bound** holds even if every message is lost: three times in it
/// the node asks L2 whether it has heard everything, and what it cannot be sure of is asked of L2 before it is served again. With L2 away nobody can tell:
/// then L1 goes on for the **grace**, its answers marked [`Unverified`](crate::Freshness::Unverified), and after it serves only what was loaded within bound and grace.
///
/// | option | default | meaning |
/// |---|---|---|
/// | [`bound`](Self::bound) | 3 s | after an invalidation's `Ok` no node that reaches L2 serves an older value from L1 for longer |
/// | [`grace`](Self::grace) | 30 s | so much longer may a node that does not reach L2; 0 is strict |
///
/// Caches of one prefix on one tier share their polls; the smallest bound sets the pace. 50 nodes that poll by the default cost a Redis 2 % of a core.
///
/// ```
/// use cache_core::{Coherence, EmbeddedTier, TieredCache};
/// use std::time::Duration;
///
/// // For rights that are taken away: a second, and nothing that nobody can verify.
/// let strict = Coherence::new().bound(Duration::from_secs(1)).grace(Duration::ZERO);
/// let rights = TieredCache::<u64, String>::builder("rights").l2(EmbeddedTier::new()).coherence(strict).build()?;
/// # Ok::<_, cache_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coherence {
    pub(super) bound: Duration,
    pub(super) grace: Duration,
}

impl Default for Coherence {
    fn default() -> Self {
        Self { bound: Duration::from_secs(3), grace: Duration::from_secs(30) }
    }
}

impl Coherence {
    /// 3 s, and 30 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// 100 ms to 60 s.
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// 0 to an hour.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.bound < SHORTEST || self.bound > LONGEST {
            return Err(Error::config("the bound of coherence must lie between 100 ms and 60 s"));
        }
        if self.grace > LONGEST_GRACE {
            return Err(Error::config("the grace of coherence must be an hour at most"));
        }
        Ok(())
    }
}

/// A cache's part in its deployment.
pub(super) struct Coherent {
    pub(super) deployment: Arc<Deployment>,
    pub(super) coherence: Coherence,
    /// Of its bound.
    pub(super) lease: Lease,
    /// What this cache signs its messages with.
    pub(super) signature: u64,
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// The time for a look into L1.
    #[inline]
    pub(super) fn moment(&self) -> Moment {
        self.coherent.as_ref().map_or_else(|| self.clock.now(), |coherent| coherent.deployment.moment())
    }

    /// Whether all that L1 holds and nobody suspects may be served. To be asked before L1 is: see [`Deployment::is_verified`].
    #[inline]
    pub(super) fn is_verified(&self, now: Moment) -> bool {
        self.coherent.as_ref().is_none_or(|coherent| coherent.deployment.is_verified(now, coherent.lease))
    }

    /// To be asked where something is not verified, and before the entry is looked at.
    pub(super) fn notice_sleep(&self) {
        if let Some(coherent) = &self.coherent {
            coherent.deployment.notice_sleep();
        }
    }

    /// How an entry stands that nobody suspects. To be asked before the entry is looked at.
    pub(super) fn standing(&self, partition: Partition, created: Moment, now: Moment) -> Standing {
        self.coherent.as_ref().map_or(Standing::Verified, |Coherent { deployment, coherence, .. }| {
            deployment.standing(partition, created, now, coherence.bound, coherence.grace)
        })
    }

    /// Whether an entry may be served, marked, now that L2 was asked and this came of it. Not if L2 has answered, if only by refusing, nor if the call was never sent.
    pub(super) fn in_grace(&self, local: &Local<V>, err: &Error, now: Moment) -> bool {
        self.coherent.as_ref().is_some_and(|Coherent { deployment, coherence, .. }| {
            now < local.stamp.hard
                && deployment.is_away(local.partition, err.kind(), now, coherence.bound)
                && deployment.in_grace(local.partition, local.stamp.created, now, coherence.bound, coherence.grace)
        })
    }

    /// Whether what L1 holds and nobody suspects is no older than a write.
    pub(super) fn covers(&self, token: &WriteToken) -> bool {
        match (&self.coherent, token.receipt()) {
            (Some(coherent), Some(receipt)) => coherent.deployment.covers(receipt),
            // Without L2 there is no other node.
            (_, None) | (None, _) => self.l2.is_none(),
        }
    }

    /// Listens and polls from now on, if it does not yet, and tells L2 what an earlier runtime has left untold.
    pub(super) fn wake(self: &Arc<Self>) {
        if let Some(coherent) = &self.coherent {
            coherent.deployment.start();
        }
        self.settle_left();
    }

    /// Waits a little for a poll that may verify a partition: for half of L2's timeout at most, which comes before what L2 itself is waited for.
    pub(super) async fn await_poll(&self, partition: Partition) {
        if let (Some(coherent), Some(l2)) = (&self.coherent, &self.l2) {
            let limit = l2.tier.timeout().map_or(Duration::MAX, |timeout| timeout / 2);
            coherent.deployment.next_round(partition, limit).await;
        }
    }

    /// For a ticket to be taken now.
    pub(super) fn passage(&self, hash: u64, key: &K) -> Passage {
        let partition = self.l2.as_ref().map_or_else(Partition::default, |l2| l2.partition(key));
        Passage { hash, partition, now: self.clock.now() }
    }

    /// A key that another node, or the store, has named.
    pub(super) fn read_key(&self, encoded: &[u8]) -> Option<K> {
        let read_key = self.l2.as_ref()?.read_key;
        // One that panics while it is read is no key of ours either.
        catch_unwind(AssertUnwindSafe(|| read_key(encoded))).ok().flatten()
    }

    /// Lets go of those whose hash is to be let go of. `false` if some key could not be read.
    fn let_go_of_some(&self, keys: &[(&[u8], Option<u64>)], which: impl Fn(u64) -> bool) -> bool {
        let mut all_read = true;
        for (encoded, version) in keys {
            let Some(key) = self.read_key(encoded) else {
                all_read = false;
                continue;
            };
            let mut lets_go = false;
            let done = survived(|| {
                let hash = self.hash(&key);
                lets_go = which(hash);
                if lets_go {
                    self.let_go(hash, &key, *version);
                }
            });
            if done && lets_go {
                self.sample(encoded, *version);
            }
            all_read &= done;
        }
        all_read
    }

    /// Whether a flight's answer is good enough for who comes now. One that was begun long ago, in a partition that may have missed something since, is not:
    /// it would hand an old value to new readers, unmarked (`spec`, `JoinUnverified`).
    pub(super) fn may_join(&self, ticket: &Ticket) -> bool {
        self.coherent.as_ref().is_none_or(|Coherent { deployment, coherence, .. }| {
            if is(Mutant::JoinUnverified) {
                return true;
            }
            let now = self.clock.now();
            now < ticket.taken().after(coherence.bound) || deployment.vouches(ticket.partition(), now, coherence.bound)
        })
    }
}

impl<K, V, L> Member for Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> u64 {
        self.coherent.as_ref().map_or(0, |coherent| coherent.signature)
    }

    fn let_go_of(&self, keys: &[(&[u8], Option<u64>)]) -> bool {
        self.let_go_of_some(keys, |_| true)
    }

    fn let_go_of_own(&self, keys: &[(&[u8], Option<u64>)]) -> bool {
        self.let_go_of_some(keys, |hash| !self.flights.is_blocked(hash))
    }

    fn ask_again(&self, encoded: &[u8]) -> bool {
        let Some(key) = self.read_key(encoded) else { return false };
        let hash = self.hash(&key);
        let suspect = || {
            if !is(Mutant::ChangeMissesFlights) {
                self.flights.suspect(hash);
            }
        };
        // In this order, and twice, as when a key is let go.
        survived(|| {
            suspect();
            self.l1.remove(hash, &key, None, &|| ());
            suspect();
        })
    }

    fn suspect(&self, partition: Partition) {
        // In this order: what lands in between is poisoned or suspect; what begins in between asks L2 later than what was missed.
        if !is(Mutant::SuspicionWithoutPoison) {
            survived(|| self.flights.poison_partition(partition));
        }
        survived(|| self.l1.suspect(partition));
    }
}

/// Runs what runs the user's code: a `Drop`, a listener, an `Eq`. Nobody who called is there to be told of its panic, and what is to be done besides has to be done. `false` if there was one.
fn survived(f: impl FnOnce()) -> bool {
    let done = catch_unwind(AssertUnwindSafe(f));
    if done.is_err() {
        tracing::error!("code of the application panicked while the cache let go of an entry");
    }
    done.is_ok()
}
