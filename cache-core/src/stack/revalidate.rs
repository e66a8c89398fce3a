//! A suspect entry of L1: it may have been invalidated, and mostly was not. L2 says which, by a record's header.

use super::Inner;
use super::allowance::Allowance;
use super::second::Second;
use crate::answer::{Answer, Freshness, Tier};
use crate::key::RemoteKey;
use crate::local::{Local, LocalTier};
use crate::token::Token;
use std::hash::Hash;

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// The value of a suspect entry, if L2's record is of the same load, and L1 vouches for it from now on. To be asked under a ticket, as any read of L2 whose answer L1
    /// keeps: `admit` says what has become of it.
    ///
    /// Only where records are long. A short one is read whole by as short a reply, and where it has changed that is all.
    pub(super) async fn revalidated(
        &self,
        hash: u64,
        key: &K,
        l2: &Second<K, V>,
        remote: &RemoteKey,
        allowance: &mut Allowance,
        admit: &(dyn Fn() -> bool + Sync),
    ) -> Option<Answer<V>> {
        let suspect = self.suspect_entry(hash, key).filter(|_| l2.is_long())?;
        let terms = self.l1.terms(hash, key, self.clock.now())?;
        // Of another entry by now; or of a load that held no lease: then L2's value is another's.
        if terms.stamp.created != suspect.stamp.created || terms.token == Token::default() {
            return None;
        }
        let has = allowance.of(l2.has(remote, terms.token)).await.inspect_err(|err| self.l2_failed("head", err));
        if !has.ok()? || self.clock.now() >= suspect.stamp.soft {
            return None;
        }
        self.keep_newest(hash, key, &suspect.value, &terms, admit);
        Some(Answer { value: suspect.value, tier: Tier::L2, created: suspect.stamp.created, freshness: Freshness::Fresh })
    }

    fn suspect_entry(&self, hash: u64, key: &K) -> Option<Local<V>> {
        let now = self.clock.now();
        let suspect = |local: Local<&V>| (local.suspect && now < local.stamp.soft).then(|| local.cloned());
        self.l1.with(hash, key, now, suspect).flatten()
    }
}
