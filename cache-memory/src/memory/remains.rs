//! What has left the index and is not dropped yet.

use super::node::Node;
use super::shard::Table;
use super::slab::Slab;
use crate::grace::Grace;
use crate::policy::Slot;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Slots wait in batches: one that is filled, and one before it whose grace period runs. So a batch has the time of a whole batch to become free
/// by what other shards do, and the barrier that ends grace periods runs rarely.
#[derive(Debug)]
pub(super) struct Retired {
    filling: Vec<Slot>,
    weight: u64,
    waiting: Vec<Slot>,
    stamp: u64,
    /// How long `filling` gets before somebody has to advance; it grows while a reader stays in its region.
    patience: usize,
}

/// A batch is this share of the capacity, within bounds; its weight, where entries have one, is at most this share, too.
const SHARE: u64 = 64;
const SMALLEST: usize = 16;
const LARGEST: usize = 256;

/// However heavy they are, the barrier is not worth fewer.
const FEWEST_HEAVY: usize = 4;

/// How long a batch gets in a shard of so many entries.
fn batch(capacity: u64) -> usize {
    usize::try_from(capacity / SHARE).unwrap_or(LARGEST).clamp(SMALLEST, LARGEST)
}

impl Retired {
    pub(super) fn new() -> Self {
        Self { filling: Vec::new(), weight: 0, waiting: Vec::new(), stamp: 0, patience: 0 }
    }

    /// How many slots wait as long as no reader holds them up.
    pub(super) fn most(capacity: u64) -> usize {
        3 * batch(capacity)
    }

    pub(super) fn push(&mut self, slot: Slot, weight: u64) {
        self.filling.push(slot);
        self.weight += weight;
    }

    /// Whether `settle` has nothing to do.
    pub(super) fn is_idle(&self, grace: &Grace, capacity: u64) -> bool {
        !self.is_full(capacity) && (self.waiting.is_empty() || !grace.is_over(self.stamp))
    }

    fn is_full(&self, capacity: u64) -> bool {
        let slots = self.filling.len();
        // A few heavy ones are a batch, too; where all weigh 1 this never holds.
        let heavy = slots >= FEWEST_HEAVY && self.weight > slots as u64 && self.weight > capacity / SHARE;
        slots >= self.patience && (heavy || slots >= batch(capacity))
    }

    /// Slots that nobody reads any more, if a batch of them is ready; `true` if somebody should advance the grace period.
    pub(super) fn settle(&mut self, grace: &Grace, capacity: u64) -> (Vec<Slot>, bool) {
        let mut ready = Vec::new();
        if !self.waiting.is_empty() && grace.is_over(self.stamp) {
            ready = std::mem::take(&mut self.waiting);
            self.patience = 0;
        }
        if !self.is_full(capacity) {
            return (ready, false);
        }
        if self.waiting.is_empty() {
            self.close(grace);
            return (ready, false);
        }
        self.patience = 2 * self.filling.len();
        (ready, true)
    }

    /// Ends the filling batch, if the one before is done.
    fn close(&mut self, grace: &Grace) {
        std::mem::swap(&mut self.filling, &mut self.waiting);
        self.stamp = grace.stamp();
        self.weight = 0;
        self.patience = 0;
    }

    /// As `settle`, for whoever wants all of it back now and has advanced.
    pub(super) fn flush(&mut self, grace: &Grace) -> Vec<Slot> {
        let mut ready = Vec::new();
        if grace.is_over(self.stamp) {
            ready = std::mem::take(&mut self.waiting);
        }
        if self.waiting.is_empty() && !self.filling.is_empty() {
            self.close(grace);
        }
        ready
    }

    /// All of them, from whoever knows that nobody reads.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Slot> {
        self.filling.into_iter().chain(self.waiting)
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.filling.iter().chain(&self.waiting).copied()
    }
}

/// What a panic carried.
pub(super) type Payload = Box<dyn Any + Send>;

/// Of several panics the first one goes on. To drop the payload of another could panic again, so it is forgotten.
pub(super) fn keep_first(first: &mut Option<Payload>, next: Option<Payload>) {
    match first {
        None => *first = next,
        Some(_) => std::mem::forget(next),
    }
}

/// Whether there is anything to drop in a node.
pub(super) const fn needs_drop<K, V>() -> bool {
    std::mem::needs_drop::<K>() || std::mem::needs_drop::<V>()
}

/// Drops the key and the value in each of the slots. One that panics keeps none of the others: its panic is returned, the first of several.
///
/// # Safety
/// Each slot has a node that was written and not dropped, that nobody else reads, and that nobody drops again.
pub(super) unsafe fn drop_nodes<K, V>(slab: &Slab<K, V>, slots: impl Iterator<Item = Slot>) -> Option<Payload> {
    let mut first = None;
    if needs_drop::<K, V>() {
        for slot in slots {
            let node: *mut Node<K, V> = slab.node(slot);
            // SAFETY: the caller's.
            let key = catch_unwind(AssertUnwindSafe(|| unsafe { (&raw mut (*node).key).drop_in_place() }));
            // SAFETY: the caller's.
            let value = catch_unwind(AssertUnwindSafe(|| unsafe { (&raw mut (*node).value).drop_in_place() }));
            for payload in [key, value].into_iter().filter_map(Result::err) {
                keep_first(&mut first, Some(payload));
            }
        }
    }
    first
}

/// All that was in a shard when it was cleared, taken apart by and by.
pub(super) struct Grave<K, V> {
    table: *mut Table<K, V>,
    retired: Retired,
    stamp: u64,
    /// Buckets before it are done.
    next: usize,
}

// SAFETY: it owns the table and what is in it.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Grave<K, V> {}

/// Who is told of the entries in a grave.
pub(super) type Tell<'a, K, V> = dyn Fn(&K, &V) + 'a;

/// Buckets of a grave that one write takes apart: about 80 entries.
const AT_ONCE: usize = 8;

impl<K, V> Grave<K, V> {
    /// # Safety
    /// The table is no shard's any more, and nobody else frees it.
    pub(super) unsafe fn new(table: *mut Table<K, V>, retired: Retired, grace: &Grace) -> Self {
        Self { table, retired, stamp: grace.stamp(), next: 0 }
    }

    pub(super) fn is_over(&self, grace: &Grace) -> bool {
        grace.is_over(self.stamp)
    }

    /// Tells of and drops the entries in the next few buckets; `true` when all is done. Its grace period must be over.
    pub(super) fn dismantle(&mut self, all: bool, tell: Option<&Tell<'_, K, V>>) -> (bool, Option<Payload>) {
        // SAFETY: it owns the table, and nobody reads it any more.
        let table = unsafe { &*self.table };
        if !needs_drop::<K, V>() && tell.is_none() {
            return (true, None);
        }
        let until = if all { table.index.buckets() } else { table.index.buckets().min(self.next + AT_ONCE) };
        let mut first = None;
        while self.next < until {
            let bucket = self.next;
            self.next += 1;
            for slot in table.index.slots_in(bucket) {
                // SAFETY: the slot is in the index, so its node was written, and its bucket is met once.
                unsafe {
                    let node = table.slab.node(slot);
                    if let Some(tell) = tell {
                        let told = catch_unwind(AssertUnwindSafe(|| tell(&(*node).key, &(*node).value)));
                        keep_first(&mut first, told.err());
                    }
                    keep_first(&mut first, drop_nodes(&table.slab, std::iter::once(slot)));
                }
            }
        }
        (self.next == table.index.buckets(), first)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
impl<K, V> Grave<K, V> {
    /// How many entries are in it still.
    pub(super) fn len(&self) -> usize {
        // SAFETY: it owns the table.
        let index = unsafe { &(*self.table).index };
        (self.next..index.buckets()).map(|bucket| index.slots_in(bucket).count()).sum::<usize>() + self.retired.slots().count()
    }
}

impl<K, V> Drop for Grave<K, V> {
    /// Drops what is left. Whoever drops a grave knows that nobody reads it.
    fn drop(&mut self) {
        let (_, mut first) = self.dismantle(true, None);
        // SAFETY: it was made from a box, and nobody else has it.
        let table = unsafe { Box::from_raw(self.table) };
        let slab: Arc<Slab<K, V>> = table.slab.clone();
        drop(table);
        // SAFETY: retired slots left the index before the table left its shard.
        keep_first(&mut first, unsafe { drop_nodes(&slab, self.retired.take().into_slots()) });
        if let Some(payload) = first
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(payload);
        }
    }
}
