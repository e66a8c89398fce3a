//! What is done outside of the locks for what has left, and for the tier as a whole.

use super::MemoryTier;
use super::gone::{Cause, Gone};
use super::remains::{BUDGET, Payload, Tell, drop_nodes, keep_first};
use super::shard::{Shard, Table};
use super::slab::Slab;
use super::writer::{Due, Remains, Writer};
use crate::grace::Region;
use crate::policy::Slot;
use crate::sync::Ordering;
use cache_core::Moment;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// How many slots are looked at, or entries evicted, under a lock that is held for nothing else: some ten microseconds.
const AT_ONCE: usize = 256;

/// How often a write looks at what is due: before it has asked for the end of a grace period, and after.
const AGAIN: usize = 3;

impl<K, V> MemoryTier<K, V> {
    /// Tells the listener what has left, and returns its panic.
    pub(super) fn tell(&self, region: &Region, table: &Table<K, V>, gone: Gone) -> Option<Payload> {
        let listener = self.listener.as_ref()?;
        let mut first = None;
        for (slot, cause) in gone.into_slots() {
            // It has left the index in this region, so it is still what it was.
            let node = table.node(region, slot);
            let told = catch_unwind(AssertUnwindSafe(|| listener(&node.key, &node.value, cause)));
            keep_first(&mut first, told.err());
        }
        first
    }

    /// Does what a write has left to do, now that it has released the lock and left its region; then lets a panic go on.
    #[inline]
    pub(super) fn finish(&self, shard: &Shard<K, V>, due: Option<Due<K, V>>, mut panic: Option<Payload>) {
        if let Some(due) = due {
            keep_first(&mut panic, self.settle(shard, due));
        }
        go_on(panic);
    }

    #[cold]
    #[inline(never)]
    fn settle(&self, shard: &Shard<K, V>, mut due: Due<K, V>) -> Option<Payload> {
        let mut panic = None;
        for again in (0..AGAIN).rev() {
            let advance = due.advance;
            keep_first(&mut panic, self.drop_due(shard, due));
            if !advance || again == 0 {
                break;
            }
            self.grace.advance();
            // What is over now goes now: the next write may come late, and what waits may be heavy.
            let region = self.enter();
            let more = shard.writer.lock().settle(self.grace, shard.table(&region));
            match more {
                Some(more) => due = more,
                None => break,
            }
        }
        panic
    }

    fn drop_due(&self, shard: &Shard<K, V>, due: Due<K, V>) -> Option<Payload> {
        let Due { slab, dead, graves, .. } = due;
        let mut panic = None;
        if !dead.is_empty() {
            keep_first(&mut panic, self.bury(shard, &slab, dead));
        }
        let tell = self.listener.as_ref().map(|listener| |key: &K, value: &V| listener(key, value, Cause::Removed));
        let tell = tell.as_ref().map(|tell| tell as &Tell<'_, K, V>);
        let mut budget = BUDGET;
        for mut grave in graves {
            let (done, first) = grave.dismantle(&mut budget, tell);
            keep_first(&mut panic, first);
            if done {
                keep_first(&mut panic, catch_unwind(AssertUnwindSafe(|| drop(grave))).err());
            } else {
                shard.writer.lock().bury(grave);
            }
        }
        panic
    }

    /// Drops the nodes of slots whose grace period is over, and gives the slots back.
    fn bury(&self, shard: &Shard<K, V>, slab: &Arc<Slab<K, V>>, dead: Vec<Slot>) -> Option<Payload> {
        // SAFETY: they left the index, their grace period is over, and `settle` gave them to this thread alone.
        let first = unsafe { drop_nodes(slab, dead.iter().copied()) };
        let mut writer = shard.writer.lock();
        let region = self.enter();
        // After a clear they are a slab's that goes as a whole.
        if Arc::ptr_eq(&shard.table(&region).slab, slab) {
            writer.give_back(dead);
        }
        first
    }

    /// Acts on each shard in turn under its lock until `act` says that it is done, and does what is due in between. A panic of users' code is returned:
    /// it must not leave the shards after it as they were.
    fn each_shard(
        &self,
        mut act: impl FnMut(&Shard<K, V>, &Table<K, V>, &mut Writer<K, V>, &mut Gone) -> bool,
    ) -> Option<Payload> {
        let mut panic = None;
        for shard in &self.shards {
            loop {
                let region = self.enter();
                let mut gone = Gone::new(self.listener.is_some());
                let mut writer = shard.writer.lock();
                let table = shard.table(&region);
                let write = shard.begin_write();
                let done = act(shard, table, &mut writer, &mut gone);
                drop(write);
                let due = writer.settle(self.grace, table);
                drop(writer);
                keep_first(&mut panic, self.tell(&region, table, gone));
                drop(region);
                keep_first(&mut panic, due.and_then(|due| self.settle(shard, due)));
                if done {
                    break;
                }
            }
        }
        panic
    }

    /// Changes the capacity, and evicts what is over it before it returns. The number of shards stays, and the slots that were used stay allocated.
    pub fn resize(&self, capacity: u64) {
        self.capacity.store(capacity, Ordering::Relaxed);
        let (parts, mut at) = (self.shards.len() as u64, 0);
        let panic = self.each_shard(|_, table, writer, gone| {
            // The latest call's, not this one's, so that calls at once leave shares of one capacity. Ordering: relaxed; who visits the shard after
            // the last call did got the lock from it, and sees what it stored.
            writer.resize(shares(self.capacity.load(Ordering::Relaxed), parts).nth(at).unwrap_or(0));
            let fits = writer.make_room(table, 0, AT_ONCE, None, None, gone);
            at += usize::from(fits);
            fits
        });
        go_on(panic);
    }

    /// Takes out all that has expired by `now`, and drops all that has left and that nobody reads any more. A tier that is written to does as much by
    /// and by; this is for one that is not, and for tests.
    pub fn sweep(&self, now: Moment) {
        let mut left = None;
        let mut panic = self.each_shard(|_, table, writer, gone| {
            let looks = left.unwrap_or_else(|| writer.slots());
            let some = looks.min(AT_ONCE);
            writer.forget_expired(table, now, None, some, gone);
            left = (looks > some).then(|| looks - some);
            left.is_none()
        });
        // Twice, for there may be a batch that waits and one that fills.
        for _ in 0..2 {
            keep_first(&mut panic, self.flush());
            self.grace.advance();
        }
        keep_first(&mut panic, self.flush());
        go_on(panic);
    }

    /// Takes out what was suspected so often that its epoch could come round again, and returns the first panic. Costs a look at each entry.
    pub(super) fn forget_suspects(&self) -> Option<Payload> {
        let mut next = 0;
        self.each_shard(|_, table, writer, gone| {
            let rest = writer.forget_suspects(table, next, AT_ONCE, |life| self.epochs.is_ancient(life), gone);
            next = rest.unwrap_or(0);
            rest.is_none()
        })
    }

    /// The entries that live at `now`, cloned out: those of each shard as they are at one moment, shard after shard. So it is no snapshot of the whole
    /// tier: what is written meanwhile is met if its shard comes later, and not if that was visited. No use of them. It holds the clones of one shard at a
    /// time, and no lock while the caller has an item; a shard's lock is held for a copy of a bit a slot.
    ///
    /// Below a cache it hands out what the tier has, and not what the cache would serve: entries that it would ask for again first are among them.
    ///
    /// ```
    /// use cache_core::{Clock, LocalTier, Moment, Stamp, Terms};
    ///
    /// let tier = cache_memory::MemoryTier::<u64, &str>::new(100);
    /// let (now, end) = (Clock::default().now(), Moment::NEVER);
    /// let terms = Terms::from(Stamp { created: now, soft: end, hard: end, last: end });
    /// tier.insert(0x5EED, 1, "one", &terms, now, &|| true);
    /// assert_eq!(tier.iter(now).collect::<Vec<_>>(), [(1, "one")]);
    /// ```
    pub fn iter(&self, now: Moment) -> impl Iterator<Item = (K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.iter_at(move || now)
    }

    /// As `iter`, each shard's at the time at which its turn comes.
    pub(crate) fn iter_at(&self, time: impl Fn() -> Moment) -> impl Iterator<Item = (K, V)>
    where
        K: Clone,
        V: Clone,
    {
        (0..self.shards.len()).flat_map(move |shard| self.snapshot(shard, time()))
    }

    pub(super) fn snapshot(&self, shard: usize, now: Moment) -> Vec<(K, V)>
    where
        K: Clone,
        V: Clone,
    {
        let shard = &self.shards[shard];
        let region = self.enter();
        let (table, slots) = {
            let writer = shard.writer.lock();
            (shard.table(&region), writer.linked_slots())
        };
        let live = slots.filter(|slot| !table.is_dead(&region, *slot, now));
        let cloned = live.map(|slot| {
            let node = table.node(&region, slot);
            (node.key.clone(), node.value.clone())
        });
        cloned.collect()
    }

    /// Drops what has left, as far as grace periods are over, and returns the first panic.
    fn flush(&self) -> Option<Payload> {
        let mut panic = None;
        for shard in &self.shards {
            loop {
                let region = self.enter();
                let (due, again) = {
                    let mut writer = shard.writer.lock();
                    let due = writer.flush(self.grace, shard.table(&region));
                    let again = !due.graves.is_empty() || writer.has_ripe_graves(self.grace);
                    (due, again)
                };
                drop(region);
                keep_first(&mut panic, self.settle(shard, due));
                if !again {
                    break;
                }
            }
        }
        panic
    }

    /// See [`LocalTier::clear`](cache_core::LocalTier::clear). Like a write to each shard it takes apart some of what earlier clears have left, and
    /// returns the first panic of that.
    pub(super) fn clear_all(&self) -> Option<Payload> {
        let (mut cleared, mut left) = (false, Vec::new());
        for shard in &self.shards {
            let mut writer = shard.writer.lock();
            if !writer.is_idle(self.grace) {
                let region = self.enter();
                let due = writer.settle(self.grace, shard.table(&region));
                left.extend(due.map(|due| (shard, due)));
            }
            let _write = shard.begin_write();
            cleared |= writer.clear(shard, self.grace);
        }
        // So that the first writes after it can begin to take it apart.
        if cleared || left.iter().any(|(_, due)| due.advance) {
            self.grace.advance();
        }
        // Not before all is cleared.
        let mut panic = None;
        for (shard, due) in left {
            keep_first(&mut panic, self.drop_due(shard, due));
        }
        panic
    }
}

/// Lets a panic go on.
pub(super) fn go_on(panic: Option<Payload>) {
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// A capacity, split evenly.
pub(super) fn shares(capacity: u64, shards: u64) -> impl Iterator<Item = u64> {
    (0..shards).map(move |shard| capacity / shards + u64::from(shard < capacity % shards))
}

impl<K, V> Drop for MemoryTier<K, V> {
    /// Drops every key and value at once, those that left included.
    fn drop(&mut self) {
        let mut panic = None;
        for shard in &mut self.shards {
            let table = shard.table_mut();
            let Remains { retired, outgrown, graves } = shard.writer.lock().take_remains();
            for table in outgrown {
                // SAFETY: `publish` gave it from a box. Nobody reads: this has the tier for itself.
                drop(unsafe { Box::from_raw(table) });
            }
            for grave in graves {
                keep_first(&mut panic, catch_unwind(AssertUnwindSafe(|| drop(grave))).err());
            }
            // SAFETY: the table is the shard's, which is not used after this.
            let grave = unsafe { super::remains::Grave::new(table, retired, None, self.grace) };
            keep_first(&mut panic, catch_unwind(AssertUnwindSafe(|| drop(grave))).err());
        }
        if let Some(panic) = panic
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}
