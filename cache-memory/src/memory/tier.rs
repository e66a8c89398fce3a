//! The tier as the stack uses it.

use super::gone::Cause;
use super::remains::keep_first;
use super::upkeep::go_on;
use super::{MemoryTier, Seen};
use crate::grace::Region;
use crate::sync::Ordering;
use cache_core::{Local, LocalTier, Moment, Partition, Terms};
use std::borrow::Borrow;
use std::hash::Hash;

impl<K, V> LocalTier<K, V> for MemoryTier<K, V>
where
    K: Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    #[inline]
    fn with<Q, F, R>(&self, hash: u64, key: &Q, now: Moment, f: F) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&V>) -> R,
    {
        let region = self.enter();
        let seen = self.look(&region, hash, key, now)?;
        Some(f(self.local(&seen)))
    }

    fn terms<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Terms>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let region = self.enter();
        self.look(&region, hash, key, now).map(|seen| seen.terms(&region))
    }

    fn insert(&self, hash: u64, key: K, value: V, terms: &Terms, now: Moment, admit: &dyn Fn() -> bool) -> bool {
        let weight = self.weigh(&key, &value);
        let region = self.enter();
        // It comes while the life is put together.
        self.shard(hash).table(&region).fetch(hash);
        let entry = self.entry(hash, key, value, weight, terms);
        self.put(region, entry, now, |_, _| admit()).is_ok()
    }

    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>, bump: &dyn Fn()) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.change(
            self.enter(),
            hash,
            key,
            |key, found| found.borrow() == *key,
            |_, _| bump(),
            |_, (), locked, writer, held, gone| {
                let old = |slot: &u32| version.is_none_or(|version| locked.table.version(locked.region, *slot) < version);
                let Some(slot) = held.filter(old) else { return false };
                writer.unlink(locked.table, slot, Cause::Removed, gone);
                true
            },
        )
    }

    fn suspect(&self, partition: Partition) {
        let mut panic = None;
        while let Some(walk) = self.epochs.suspect(partition.index()) {
            keep_first(&mut panic, self.forget_suspects());
            self.epochs.walked(walk);
        }
        go_on(panic);
    }

    fn clear(&self) {
        go_on(self.clear_all());
    }

    fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.writer.lock().len()).sum()
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.capacity.load(Ordering::Relaxed))
    }

    fn evictions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.writer.lock().evictions()).sum()
    }

    fn sweep(&self, now: Moment) {
        self.sweep(now);
    }
}

impl<K, V> Seen<'_, K, V> {
    /// The terms, put together again from the life and what is beside it.
    fn terms(&self, region: &Region) -> Terms {
        let life = &self.node.life;
        let plain = Terms { stamp: life.stamp(), partition: Partition::from_index(life.partition()), ..Terms::default() };
        let extra = self.table.extra_at(region, self.address);
        extra.map_or(plain, |extra| Terms { version: extra.version, token: extra.token, idle: extra.idle(), ..plain })
    }
}
