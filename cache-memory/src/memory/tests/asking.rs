//! How often writes ask for the end of a grace period.

use super::{LocalTier, MemoryTier, NOW, hash, put};
use crate::grace::check::advances;

const WRITES: u64 = if cfg!(miri) { 100 } else { 10_000 };

/// What `act` does while this thread stays in a region.
fn under_a_reader(act: impl FnOnce()) {
    let other = MemoryTier::<u64, u64>::new(10);
    put(&other, 1, 1);
    other.with(hash(1), &1, NOW, |_| act());
}

#[test]
fn a_reader_that_stays_after_a_clear_costs_few_writes_a_barrier() {
    let tier = MemoryTier::<u64, u64>::builder(10 * WRITES).shards(1).build();
    (0..WRITES).for_each(|key| assert!(put(&tier, key, key)));
    under_a_reader(|| {
        tier.clear();
        let before = advances();
        (0..WRITES).for_each(|key| assert!(put(&tier, key, key)));
        let asked = advances() - before;
        // After 1, 3, 7, … writes, and then each 256; and from the beginning when the index grows.
        assert!(asked <= 50 + WRITES / 256, "{asked} times for {WRITES} writes");
        assert!(asked >= WRITES.ilog2().into(), "{asked}: the reader may have left at any time");
    });
}

#[test]
fn a_reader_that_stays_while_entries_leave_costs_few_writes_a_barrier() {
    let tier = MemoryTier::<u64, u64>::builder(100).shards(1).build();
    under_a_reader(|| {
        let before = advances();
        (0..WRITES).for_each(|key| assert!(put(&tier, key, key)));
        let asked = advances() - before;
        // For what was evicted, and for the table that was outgrown.
        assert!(asked <= 20 + 2 * WRITES / 256, "{asked} times for {WRITES} writes");
        assert!(asked >= WRITES / 300, "{asked}: the reader may have left at any time");
    });
}

#[test]
fn tables_that_were_outgrown_go_though_nothing_leaves() {
    let tier = MemoryTier::<u64, u64>::builder(u64::MAX / 4).shards(1).weigher(|_, _| 1).build();
    let outgrown = || tier.shards[0].writer.lock().outgrown();
    let before = advances();
    let first = if cfg!(miri) { 300 } else { 5_000 };
    (0..first).for_each(|key| assert!(put(&tier, key, key)));
    let asked = advances() - before;
    assert!((2..=100).contains(&asked), "{asked} times: once when it grows, and more only while some reader holds it up");
    // A reader of another test may.
    let mut keys = first..100 * first;
    while outgrown() > 0 {
        assert!(put(&tier, keys.next().expect("the tables stay"), 0));
        std::thread::yield_now();
    }
}
