//! A hand-made floor: the least that a concurrent table with expiry, a visited bit and a hit count can cost.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::coarse;
use crate::subject::Subject;

const VISITED: u64 = 1;

thread_local! {
    static HITS: Cell<u64> = const { Cell::new(0) };
}

/// Open addressing over slots of half a cache line, each guarded by a sequence lock, `u64` to `u64`. It evicts nothing: the visited bit is
/// kept up so that its cost shows.
#[derive(Debug)]
pub(crate) struct SeqlockTable {
    slots: Box<[Slot]>,
    hasher: RandomState,
    ttl: u64,
}

#[derive(Debug, Default)]
#[repr(align(32))]
struct Slot {
    /// Zero: never used. Odd: being written. Even: holds an entry.
    sequence: AtomicU64,
    key: AtomicU64,
    value: AtomicU64,
    /// Twice the deadline in nanoseconds, plus [`VISITED`].
    life: AtomicU64,
}

impl SeqlockTable {
    fn slot(&self, index: usize) -> &Slot {
        &self.slots[index & (self.slots.len() - 1)]
    }

    fn home(&self, key: u64) -> usize {
        self.hasher.hash_one(key) as usize
    }
}

impl Subject<u64, u64> for SeqlockTable {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        // At most half full, or the floor would measure its own clustering.
        let slots = (0..(2 * capacity).next_power_of_two()).map(|_| Slot::default()).collect();
        let forever = u64::MAX / 4;
        Self { slots, hasher: RandomState::default(), ttl: ttl.map_or(forever, |ttl| ttl.as_nanos() as u64) }
    }

    #[inline]
    fn get(&self, key: &u64) -> Option<u64> {
        let mut index = self.home(*key);
        loop {
            let slot = self.slot(index);
            // Ordering: acquire pairs with the writer's release of the even number, so that what it wrote before is seen.
            let before = slot.sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let found = slot.key.load(Ordering::Relaxed);
            let value = slot.value.load(Ordering::Relaxed);
            let life = slot.life.load(Ordering::Relaxed);
            // Ordering: the fence keeps the loads above from moving below the second look at the sequence.
            fence(Ordering::Acquire);
            if before % 2 == 1 || slot.sequence.load(Ordering::Relaxed) != before {
                std::hint::spin_loop();
                continue;
            }
            if found != *key {
                index += 1;
                continue;
            }
            if life / 2 <= coarse::nanos() {
                return None;
            }
            if life & VISITED == 0 {
                slot.life.fetch_or(VISITED, Ordering::Relaxed);
            }
            HITS.with(|hits| hits.set(hits.get() + 1));
            return Some(value);
        }
    }

    fn insert(&self, key: u64, value: u64) {
        let mut index = self.home(key);
        loop {
            let slot = self.slot(index);
            let before = slot.sequence.load(Ordering::Acquire);
            if before % 2 == 1 {
                std::hint::spin_loop();
                continue;
            }
            if before != 0 && slot.key.load(Ordering::Relaxed) != key {
                // Keys never leave their slot, so a stable foreign key stays foreign.
                index += 1;
                continue;
            }
            if slot.sequence.compare_exchange(before, before + 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            // Ordering: the fence keeps the stores below from showing before the odd number does.
            fence(Ordering::Release);
            slot.key.store(key, Ordering::Relaxed);
            slot.value.store(value, Ordering::Relaxed);
            slot.life.store(2 * (coarse::nanos() + self.ttl), Ordering::Relaxed);
            slot.sequence.store(before + 2, Ordering::Release);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn it_returns_what_was_inserted_last_and_nothing_else() {
        let table = SeqlockTable::new(100, None);
        for key in 0..100 {
            table.insert(key, key + 1);
        }
        table.insert(7, 700);
        assert_eq!(table.get(&7), Some(700));
        assert_eq!((0..100).filter(|key| *key != 7 && table.get(key) == Some(key + 1)).count(), 99);
        assert_eq!(table.get(&100), None);
    }

    #[test]
    fn an_expired_entry_is_not_returned() {
        let table = SeqlockTable::new(1, Some(Duration::ZERO));
        table.insert(1, 1);
        assert_eq!(table.get(&1), None);
    }

    #[test]
    fn a_reader_under_a_writer_misses_nothing_and_never_goes_back() {
        let table = SeqlockTable::new(1, None);
        table.insert(1, 0);
        let done = AtomicBool::new(false);
        let (mut misses, mut steps_back, mut last) = (0, 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut value = 0;
                while !done.load(Ordering::Relaxed) {
                    value += 1;
                    table.insert(1, value);
                }
            });
            while table.get(&1) == Some(0) {}
            for _ in 0..200_000 {
                match table.get(&1) {
                    None => misses += 1,
                    Some(value) if value < last => steps_back += 1,
                    Some(value) => last = value,
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!((misses, steps_back), (0, 0));
    }
}
