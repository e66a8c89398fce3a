use super::*;
use crate::policy::tests::{mix as hash, web07};
use cache_core::testing::local_suite;
use proptest::prelude::*;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

mod faults;
mod model;

impl<K, V> MemoryTier<K, V> {
    fn check(&self) {
        self.shards.iter().for_each(|shard| shard.read().check());
    }
}

fn until(last: u64) -> Stamp {
    let last = Moment::from_nanos(last);
    Stamp { created: Moment::from_nanos(0), soft: last, hard: last, last, version: 0 }
}

const LONG: u64 = 1 << 60;

fn put<V: Clone + Send + Sync + 'static>(tier: &MemoryTier<u64, V>, key: u64, value: V) -> bool {
    tier.insert(hash(key), key, value, until(LONG), &|| true)
}

fn read<V: Clone + Send + Sync + 'static>(tier: &MemoryTier<u64, V>, key: u64) -> Option<V> {
    tier.get(hash(key), &key, Moment::from_nanos(1)).map(|local| local.value)
}

fn len(tier: &MemoryTier<u64, impl Clone + Send + Sync + 'static>) -> u64 {
    LocalTier::<u64, _>::len(tier)
}

#[test]
fn conforms_to_the_local_tier_suite() {
    for seed in 0..5 {
        local_suite(&MemoryTier::new(1_000), seed);
        local_suite(&MemoryTier::new(100_000), seed);
    }
}

/// Lets another thread invalidate while an insert is being admitted, and gives it time to get through if nothing holds it.
fn overtaken_by(invalidate: impl Fn(&MemoryTier<u64, u64>) + Sync) {
    let tier = MemoryTier::new(100);
    let (done, wait) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let (tier, done, invalidate) = (&tier, &done, &invalidate);
        tier.insert(hash(1), 1, 1, until(LONG), &|| {
            scope.spawn(move || {
                invalidate(tier);
                done.send(()).unwrap();
            });
            assert!(wait.recv_timeout(Duration::from_millis(50)).is_err(), "an invalidation got past an admission");
            true
        });
    });
    assert_eq!(read(&tier, 1), None, "the entry outlived an invalidation that began before it was stored");
}

#[test]
fn a_removal_waits_for_an_insert_under_admission_and_finds_its_entry() {
    overtaken_by(|tier| assert!(tier.remove(hash(1), &1, None)));
}

#[test]
fn a_clear_waits_for_an_insert_under_admission_and_finds_its_entry() {
    overtaken_by(LocalTier::<u64, u64>::clear);
}

/// A key whose comparison, when it is the one stored, does something first.
struct Slow(u64, Option<Box<dyn Fn() + Send + Sync>>);

impl PartialEq for Slow {
    fn eq(&self, other: &Self) -> bool {
        self.1.iter().for_each(|act| act());
        self.0 == other.0
    }
}

impl Eq for Slow {}

impl Hash for Slow {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// A tier that holds `first`; while that is compared, the tier is cleared and `second` stored, in the same slot.
fn tier_that_changes(first: u64, second: u64) -> Arc<MemoryTier<Slow, u64>> {
    let tier = Arc::new(MemoryTier::new(10));
    let behind: Weak<MemoryTier<Slow, u64>> = Arc::downgrade(&tier);
    let change = move || {
        let tier = behind.upgrade().unwrap();
        tier.clear();
        tier.insert(7, Slow(second, None), 100 + second, until(LONG), &|| true);
    };
    tier.insert(7, Slow(first, Some(Box::new(change))), 0, until(LONG), &|| true);
    tier
}

fn read_slow(tier: &MemoryTier<Slow, u64>, key: u64) -> Option<u64> {
    tier.get(7, &Slow(key, None), Moment::from_nanos(1)).map(|local| local.value)
}

#[test]
fn an_insert_replaces_the_entry_of_its_key_that_came_while_it_compared() {
    for first in [1, 2] {
        let tier = tier_that_changes(first, 1);
        assert!(tier.insert(7, Slow(1, None), 3, until(LONG), &|| true));
        tier.check();
        assert_eq!((tier.len(), read_slow(&tier, 1)), (1, Some(3)));
    }
}

#[test]
fn a_write_leaves_alone_what_took_the_place_of_the_entry_it_compared() {
    let tier = tier_that_changes(1, 2);
    assert!(!tier.remove(7, &Slow(1, None), None), "it had gone");
    assert_eq!((tier.len(), read_slow(&tier, 2)), (1, Some(102)));
    let tier = tier_that_changes(1, 2);
    assert!(tier.insert(7, Slow(1, None), 3, until(LONG), &|| true));
    assert_eq!((tier.len(), read_slow(&tier, 1), read_slow(&tier, 2)), (2, Some(3), Some(102)));
    tier.check();
}
