//! What has left the index and is not dropped yet.

use super::node::Node;
use super::shard::Table;
use super::slab::Slab;
use crate::grace::Grace;
use crate::policy::{Policy, Slot};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Slots wait in batches: one that is filled, and one before it whose grace period runs. So a batch has the time of a whole batch to become free
/// by what other shards do, and the barrier that ends grace periods runs rarely.
#[derive(Debug)]
pub(super) struct Retired {
    filling: Vec<Slot>,
    weight: u64,
    waiting: Vec<Slot>,
    stamp: u64,
    /// How many slots and how much weight `filling` gets before somebody asks again, where a reader held up the last try.
    patience: (usize, u64),
    /// Tries in vain since a batch went, as far as they matter.
    tries: u32,
}

/// A batch is this share of the capacity, within bounds. Where entries have weights it is also full once it weighs more than this share, by one entry
/// at most.
const SHARE: u64 = 64;
const SMALLEST: usize = 16;
const LARGEST: usize = 256;

/// What has to leave after a try in vain before the next: as much as in a batch, and then twice as much each time, up to so many, or so large a part
/// of the capacity. The reader may be a thread in a plain read that waits for a core, or a writer that waits for the lock: such a one leaves soon.
const AGAIN: usize = 256;
const AGAIN_SHARE: u64 = 16;

/// Tries in vain after which there is no more to double: from the smallest batch to `AGAIN`.
const MOST_TRIES: u32 = (AGAIN / SMALLEST).ilog2();

/// The most that one write drops. What a reader held up may be much more.
const MOST_AT_ONCE: usize = 512;

/// How long a batch gets in a shard of so many entries.
fn batch(capacity: u64) -> usize {
    usize::try_from(capacity / SHARE).unwrap_or(LARGEST).clamp(SMALLEST, LARGEST)
}

impl Retired {
    pub(super) fn new() -> Self {
        Self { filling: Vec::new(), weight: 0, waiting: Vec::new(), stamp: 0, patience: (0, 0), tries: 0 }
    }

    /// How many slots wait as long as no reader holds them up.
    pub(super) fn most(capacity: u64) -> usize {
        3 * batch(capacity)
    }

    pub(super) fn push(&mut self, slot: Slot, weight: u64) {
        self.filling.push(slot);
        self.weight += weight;
    }

    pub(super) fn len(&self) -> usize {
        self.filling.len() + self.waiting.len()
    }

    /// Whether `settle` has nothing to do.
    pub(super) fn is_idle(&self, grace: &Grace, capacity: u64) -> bool {
        // All of it, for the CPU would guess wrong which part decides: shards take turns at random.
        !self.is_full(capacity) & (self.waiting.is_empty() | !grace.is_over(self.stamp))
    }

    fn is_full(&self, capacity: u64) -> bool {
        let (slots, weight) = self.patience;
        self.filling.len() >= batch(capacity).max(slots) || self.is_heavy((capacity / SHARE).max(weight))
    }

    /// Whether it weighs more than this; where each weighs 1 it never does.
    fn is_heavy(&self, most: u64) -> bool {
        self.weight > most && self.weight > self.filling.len() as u64
    }

    /// Slots that nobody reads any more, if there are some; `true` if somebody should advance the grace period.
    pub(super) fn settle(&mut self, grace: &Grace, capacity: u64) -> (Vec<Slot>, bool) {
        let mut ready = Vec::new();
        if !self.waiting.is_empty() && grace.is_over(self.stamp) {
            ready = split_off(&mut self.waiting, MOST_AT_ONCE);
            (self.patience, self.tries) = ((0, 0), 0);
            if !self.waiting.is_empty() {
                // The rest by the next writes, before a batch is closed: it waits for nobody.
                return (ready, false);
            }
        }
        if !self.is_full(capacity) {
            return (ready, false);
        }
        if self.waiting.is_empty() {
            // A few that weigh so much do not wait for the next batch as well.
            let urgent = self.filling.len() < SMALLEST && self.is_heavy(capacity / SHARE);
            self.close(grace);
            return (ready, urgent);
        }
        self.be_patient(capacity);
        (ready, true)
    }

    fn be_patient(&mut self, capacity: u64) {
        let slots = (batch(capacity) << self.tries).min(AGAIN);
        let weight = capacity / (SHARE >> self.tries).max(AGAIN_SHARE);
        self.patience = (self.filling.len() + slots, self.weight + weight);
        self.tries = (self.tries + 1).min(MOST_TRIES);
    }

    /// Ends the filling batch, if the one before is done.
    fn close(&mut self, grace: &Grace) {
        std::mem::swap(&mut self.filling, &mut self.waiting);
        self.stamp = grace.stamp();
        self.weight = 0;
        (self.patience, self.tries) = ((0, 0), 0);
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

    /// All of them.
    fn into_slots(self) -> Vec<Slot> {
        let Self { filling: mut slots, waiting: mut fewer, .. } = self;
        if slots.len() < fewer.len() {
            std::mem::swap(&mut slots, &mut fewer);
        }
        slots.append(&mut fewer);
        slots
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new())
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.filling.iter().chain(&self.waiting).copied()
    }
}

/// So many of the last, or all.
fn split_off(slots: &mut Vec<Slot>, most: usize) -> Vec<Slot> {
    if slots.len() > most { slots.split_off(slots.len() - most) } else { std::mem::take(slots) }
}

/// When writes ask again for the end of a grace period that a reader holds up: after 1, 2, 4 … writes, and then each 256. A barrier for each would
/// make all of them as slow as it is.
pub(super) struct Patience {
    left: u32,
    next: u32,
}

impl Patience {
    const LONGEST: u32 = 256;

    /// For something that has begun to wait.
    pub(super) fn new() -> Self {
        Self { left: 0, next: 1 }
    }

    /// Counts a write. Whether it is to ask.
    pub(super) fn is_over(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = self.next;
        self.next = (2 * self.next).min(Self::LONGEST);
        true
    }
}

/// What a panic carried.
pub(super) type Payload = Box<dyn Any + Send>;

/// Of several panics the first one goes on. To drop the payload of another could panic again: what that carries is forgotten.
pub(super) fn keep_first(first: &mut Option<Payload>, next: Option<Payload>) {
    match first {
        None => *first = next,
        Some(_) => catch_unwind(AssertUnwindSafe(|| drop(next))).unwrap_or_else(std::mem::forget),
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
    /// Slots that had left the index before.
    retired: Vec<Slot>,
    stamp: u64,
    /// Buckets before it are done.
    next: usize,
    books: Option<Books>,
}

/// What the writer had of a table that was cleared: the policy, free slots, and which were linked. It may be large, so it is not freed under the
/// lock.
pub(super) type Books = (Policy, Vec<Slot>, Vec<u64>);

// SAFETY: it owns the table and what is in it.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Grave<K, V> {}

/// Who is told of the entries in a grave.
pub(super) type Tell<'a, K, V> = dyn Fn(&K, &V) + 'a;

/// What one write takes apart of graves: so many entries and buckets together. That is about 80 entries, or ten small tables with few.
pub(super) const BUDGET: usize = 96;

impl<K, V> Grave<K, V> {
    /// # Safety
    /// The table is no shard's any more, and nobody else frees it.
    pub(super) unsafe fn new(table: *mut Table<K, V>, retired: Retired, books: Option<Books>, grace: &Grace) -> Self {
        Self { table, retired: retired.into_slots(), stamp: grace.stamp(), next: 0, books }
    }

    pub(super) fn is_over(&self, grace: &Grace) -> bool {
        grace.is_over(self.stamp)
    }

    /// Tells of and drops its entries, as far as the budget goes, which shrinks by what was done; `true` when that is all. Its grace period must be
    /// over.
    pub(super) fn dismantle(&mut self, budget: &mut usize, tell: Option<&Tell<'_, K, V>>) -> (bool, Option<Payload>) {
        // SAFETY: it owns the table, and nobody reads it any more.
        let table = unsafe { &*self.table };
        if !needs_drop::<K, V>() && tell.is_none() {
            return (true, None);
        }
        let mut first = None;
        while self.next < table.index.buckets() && *budget > 0 {
            let bucket = self.next;
            self.next += 1;
            *budget -= 1;
            for slot in table.index.slots_in(bucket) {
                *budget = budget.saturating_sub(1);
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
        let retired = split_off(&mut self.retired, *budget);
        *budget -= retired.len();
        // SAFETY: retired slots left the index before the table left its shard, so their nodes were written, and each is in one list.
        keep_first(&mut first, unsafe { drop_nodes(&table.slab, retired.into_iter()) });
        (self.next == table.index.buckets() && self.retired.is_empty(), first)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
impl<K, V> Grave<K, V> {
    /// How many entries are in it still.
    pub(super) fn len(&self) -> usize {
        // SAFETY: it owns the table.
        let index = unsafe { &(*self.table).index };
        (self.next..index.buckets()).map(|bucket| index.slots_in(bucket).count()).sum::<usize>() + self.retired.len()
    }

    pub(super) fn has_books(&self) -> bool {
        self.books.as_ref().is_some_and(|books| books.0.len() > 0 && !books.2.is_empty())
    }
}

impl<K, V> Drop for Grave<K, V> {
    /// Drops what is left. Whoever drops a grave knows that nobody reads it.
    fn drop(&mut self) {
        let mut all = usize::MAX;
        let (_, first) = self.dismantle(&mut all, None);
        // SAFETY: it was made from a box, and nobody else has it.
        drop(unsafe { Box::from_raw(self.table) });
        drop(self.books.take());
        if let Some(payload) = first
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(payload);
        }
    }
}
