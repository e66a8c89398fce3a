//! The index alone: one writer, who would hold the lock, and readers.

use crate::grace::Grace;
use crate::memory::index::{Index, Place};
use crate::policy::Slot;
use crate::sync::explore;
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;

const UNWRITTEN: u64 = u64::MAX;

/// An index with nodes, which are keys. A node that is read and written at once, or read before it was written, fails the model.
struct Keys {
    index: Index,
    nodes: [UnsafeCell<u64>; 3],
}

// SAFETY: loom's cells are for sharing; that is what they check.
unsafe impl Sync for Keys {}
// SAFETY: as above.
unsafe impl Send for Keys {}

/// All keys have one home.
fn place(key: u64) -> Place {
    Place::of(1 + key % 250)
}

fn spread(key: u64) -> u32 {
    place(key).spread()
}

impl Keys {
    fn new(room: usize) -> Self {
        Self { index: Index::new(room), nodes: std::array::from_fn(|_| UnsafeCell::new(UNWRITTEN)) }
    }

    fn write(&self, slot: Slot, key: u64) {
        // SAFETY: loom proves that nobody reads it meanwhile, or panics.
        self.nodes[slot as usize].with_mut(|node| unsafe { *node = key });
    }

    fn insert(&self, slot: Slot, key: u64) {
        self.write(slot, key);
        self.index.insert(place(key), slot);
    }

    fn find(&self, key: u64) -> Option<Slot> {
        let is_it = |slot: Slot| {
            // SAFETY: as in `write`.
            let found = self.nodes[slot as usize].with(|node| unsafe { *node });
            assert_ne!(found, UNWRITTEN, "the index led to a node that is not written");
            found == key
        };
        self.index.find(place(key), is_it)
    }
}

/// Runs `write` beside a thread that runs `read`.
fn beside(keys: Keys, read: impl Fn(&Keys) + Send + Sync + 'static, write: impl Fn(&Keys)) {
    let keys = Arc::new(keys);
    let reads = thread::spawn({
        let keys = keys.clone();
        move || read(&keys)
    });
    write(&keys);
    reads.join().unwrap();
}

/// Tags of the first eight cells are in one word, those of the last four in another.
#[test]
fn a_slot_that_is_found_has_a_written_node() {
    for before in [0, 8] {
        explore(None, move || {
            let keys = Keys::new(4);
            // Of other tags, so that nobody follows them.
            (20..20 + before).for_each(|key| keys.index.insert(place(key), 0));
            // Not slot 0, which is what an empty cell has.
            beside(keys, |keys| assert!(matches!(keys.find(7), None | Some(1))), |keys| keys.insert(1, 7));
        });
    }
}

#[test]
fn a_key_whose_slot_is_replaced_is_never_missed() {
    explore(None, || {
        let keys = Keys::new(4);
        keys.insert(1, 7);
        let replace = |keys: &Keys| {
            keys.write(2, 7);
            keys.index.replace(place(7), 1, 2);
        };
        beside(keys, |keys| assert!(keys.find(7).is_some()), replace);
    });
}

#[test]
fn a_cell_that_is_used_again_leads_to_a_written_node() {
    explore(None, || {
        let keys = Keys::new(4);
        keys.insert(1, 7);
        // A reader may still see the tag of the key before, and then the slot of the one after.
        let read = |keys: &Keys| {
            assert!(matches!(keys.find(7), None | Some(1)));
            assert!(matches!(keys.find(8), None | Some(2)));
        };
        let write = |keys: &Keys| {
            keys.index.remove(spread(7), 1);
            keys.insert(2, 8);
        };
        beside(keys, read, write);
    });
}

#[test]
fn a_slot_that_is_used_again_is_not_under_a_reader() {
    explore(None, || {
        let keys = Keys::new(4);
        keys.insert(1, 7);
        let read = |keys: &Keys| {
            for _ in 0..2 {
                let _region = Grace::global().enter();
                keys.find(7);
            }
        };
        let write = |keys: &Keys| {
            let grace = Grace::global();
            keys.index.remove(spread(7), 1);
            let stamp = grace.stamp();
            grace.advance();
            if grace.is_over(stamp) {
                keys.insert(1, 8);
            }
        };
        beside(keys, read, write);
    });
}

/// A bucket has 12 cells, so the 13th key of a home is further on.
#[test]
fn a_key_beyond_its_home_is_found_while_others_come_and_go() {
    explore(None, || {
        let keys = Keys::new(16);
        keys.insert(1, 7);
        for key in 20..31 {
            // Of other tags, so that nobody follows them.
            keys.index.insert(place(key), 0);
        }
        keys.insert(2, 8);
        let write = |keys: &Keys| {
            keys.index.insert(place(40), 100);
            keys.index.remove(spread(7), 1);
            keys.index.remove(spread(40), 100);
        };
        beside(keys, |keys| assert_eq!(keys.find(8), Some(2)), write);
    });
}
