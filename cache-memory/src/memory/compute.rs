//! Changes that depend on what is there: compare and retry.

use super::gone::Cause;
use super::slab::Slab;
use super::writer::Entry;
use super::{Locked, MemoryTier, Seen};
use crate::grace::Region;
use crate::policy::Slot;
use cache_core::{Local, Moment, Terms};
use std::borrow::Borrow;
use std::sync::Arc;

/// How often one may be overtaken before it gives up. By chance none comes so far; one does that writes its own key.
const MOST_RUNS: usize = 10_000;

/// What a `compute` or an `and_modify` has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[must_use = "the update may not have been made"]
pub enum Computed {
    /// The new value is stored.
    Stored,
    /// The entry is removed.
    Removed,
    /// Nothing has changed: it was to be kept, or there was nothing to modify or to remove.
    Kept,
    /// The new value could not be stored, mostly because it is heavier than a shard, and the old one is gone as well.
    Refused,
    /// Other writes came first, 10,000 times: it gave up, and the entry is as they left it.
    Overtaken,
}

/// What a [`MemoryTier::compute`] does to what it found.
pub(crate) enum Change<V> {
    Keep,
    Put(V, Terms),
    Remove,
}

/// What a look saw, for whoever has the lock later. It holds within the region of the look, in which no slot is used again; of nothing it holds ever.
struct Before<K, V>(Option<(Slot, Arc<Slab<K, V>>)>);

impl<K, V> Before<K, V> {
    fn of(seen: Option<&Seen<'_, K, V>>) -> Self {
        Self(seen.map(|seen| (seen.address.slot(), seen.table.slab.clone())))
    }

    fn is_still(&self, held: Option<Slot>, locked: &Locked<'_, K, V>, now: Moment) -> bool {
        match &self.0 {
            Some((slot, slab)) => held == Some(*slot) && Arc::ptr_eq(slab, &locked.table.slab),
            // What is held is past its life, or it would have been seen: unless it is newer than that look.
            None => held.is_none_or(|slot| locked.table.is_dead(locked.region, slot, now)),
        }
    }
}

impl<K: Eq, V> MemoryTier<K, V> {
    /// Replaces, removes or keeps what a key has, as `f` decides by it. `f` runs without a lock, so it runs again if the entry has changed when
    /// the lock is held. Where there is nothing it runs in no region either: it may be slow.
    pub(crate) fn compute(
        &self,
        hash: u64,
        mut key: K,
        time: impl Fn() -> Moment,
        mut f: impl FnMut(Option<Local<&V>>) -> Change<V>,
    ) -> Computed {
        for _ in 0..MOST_RUNS {
            let region = self.enter();
            let seen = self.look(&region, hash, &key, time());
            let before = Before::of(seen.as_ref());
            let (change, region) = if let Some(seen) = seen {
                (f(Some(self.local(&seen))), region)
            } else {
                drop(region);
                (f(None), self.enter())
            };
            // Anew: the life of a new value has begun since.
            let now = time();
            match change {
                Change::Keep => return Computed::Kept,
                Change::Put(value, terms) => {
                    let weight = self.weigh(&key, &value);
                    match self.put_after(region, &before, self.entry(hash, key, value, weight, &terms), now) {
                        Ok(done) => return done,
                        Err(back) => key = back,
                    }
                }
                Change::Remove => {
                    let removed = self.change(
                        region,
                        hash,
                        &key,
                        |key, found| found == *key,
                        |locked, held| before.is_still(held, locked, now),
                        |_, still, locked, writer, held, gone| {
                            still.then(|| held.inspect(|slot| writer.unlink(locked.table, *slot, Cause::Removed, gone)).is_some())
                        },
                    );
                    match removed {
                        Some(true) => return Computed::Removed,
                        Some(false) => return Computed::Kept,
                        None => {}
                    }
                }
            }
        }
        Computed::Overtaken
    }

    /// Replaces what a key has, if it has anything: as `compute`, but the key need not be owned. A new value is a new node, so it takes a clone of the
    /// one that is there.
    pub(crate) fn and_modify<Q>(
        &self,
        hash: u64,
        key: &Q,
        time: impl Fn() -> Moment,
        mut f: impl FnMut(Local<&V>) -> (V, Terms),
    ) -> Computed
    where
        K: Borrow<Q> + Clone,
        Q: Eq + ?Sized,
    {
        for _ in 0..MOST_RUNS {
            let region = self.enter();
            let Some(seen) = self.look(&region, hash, key, time()) else { return Computed::Kept };
            let before = Before::of(Some(&seen));
            let (value, terms) = f(self.local(&seen));
            let key = seen.node.key.clone();
            let (weight, now) = (self.weigh(&key, &value), time());
            if let Ok(done) = self.put_after(region, &before, self.entry(hash, key, value, weight, &terms), now) {
                return done;
            }
        }
        Computed::Overtaken
    }

    /// Stores an entry if nothing has changed since the look, or hands its key back.
    fn put_after(&self, region: Region, before: &Before<K, V>, entry: Entry<'_, K, V>, now: Moment) -> Result<Computed, K> {
        let mut tried = true;
        let stored = self.put(region, entry, now, |held, locked| {
            tried = before.is_still(held, locked, now);
            tried
        });
        match stored {
            Ok(()) => Ok(Computed::Stored),
            Err(_) if tried => Ok(Computed::Refused),
            Err((key, _)) => Err(key),
        }
    }
}
