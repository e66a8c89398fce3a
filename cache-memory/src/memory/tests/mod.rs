use super::{Cause, MemoryTier};
use crate::Policy;
use cache_core::testing::{local_reentrancy_suite, local_suite};
use cache_core::{LocalTier, Moment, Partition, Stamp, Terms};
use std::sync::Arc;
use std::time::Duration;

mod admission;
mod asking;
mod census;
mod changing;
mod drops;
mod faults;
mod graves;
mod hits;
mod late_threads;
mod lives;
mod model;
mod panics;
mod reentrancy;
mod room;
mod suspicion;
mod threads;

/// The unit in which nodes keep the end of a life, so that ends in whole ticks are exact.
const TICK: u64 = 1 << 20;

const NOW: Moment = Moment::ORIGIN;

const POLICIES: [Policy; 2] = [Policy::Adaptive, Policy::Lru];

fn hash(key: u64) -> u64 {
    // The finalizer of splitmix64: every bit of the key moves half the bits of the hash.
    let mut hash = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

fn after(ticks: u64) -> Moment {
    NOW.after(Duration::from_nanos(ticks * TICK))
}

fn endless() -> Terms {
    until(Moment::NEVER)
}

fn until(last: Moment) -> Terms {
    Stamp { created: NOW, soft: last, hard: last, last }.into()
}

fn put<V: Send + Sync + 'static>(tier: &MemoryTier<u64, V>, key: u64, value: V) -> bool {
    tier.insert(hash(key), key, value, &endless(), NOW, &|| true)
}

fn read<V: Clone + Send + Sync + 'static>(tier: &MemoryTier<u64, V>, key: u64) -> Option<V> {
    tier.get(hash(key), &key, NOW).map(|local| local.value)
}

fn take<V: Send + Sync + 'static>(tier: &MemoryTier<u64, V>, key: u64) -> bool {
    tier.remove(hash(key), &key, None, &|| ())
}

/// A panic that leaves nothing on the terminal.
fn quiet_panic() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

/// Whether `act` panics.
fn panics(act: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err()
}

impl<K: Eq + Send + Sync + 'static, V: Send + Sync + 'static> MemoryTier<K, V> {
    /// Panics where a shard contradicts itself. How many entries have left and are not dropped yet. For a tier that no other thread uses.
    fn check(&self) -> u64 {
        let region = self.enter();
        let waiting = self.shards.iter().map(|shard| shard.writer.lock().check(shard.table(&region)));
        waiting.sum::<usize>() as u64
    }

    /// Sweeps until all that has left is dropped. Grace periods are the process's, so a reader of another test may hold them up for a while.
    fn drain(&self, now: Moment) {
        for _ in 0..1_000_000 {
            self.sweep(now);
            if self.check() == 0 {
                return;
            }
            std::thread::yield_now();
        }
        panic!("{} entries have left and are never dropped", self.check());
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
fn the_conformance_suite_passes_with_one_shard_and_with_many() {
    for shards in [1, 8] {
        local_suite(&MemoryTier::builder(100_000).shards(shards).build(), 7);
    }
    local_suite(&MemoryTier::builder(1_000).policy(Policy::Lru).build(), 7);
    // One that is kept beside its cache.
    local_suite(&Arc::new(MemoryTier::builder(1_000).build()), 7);
}

#[test]
#[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
fn user_code_may_use_the_tier_from_anywhere() {
    local_reentrancy_suite(Arc::new(MemoryTier::new(1_000)));
}

#[test]
#[cfg_attr(miri, ignore = "arithmetic")]
fn shards_hold_the_capacity_together_and_no_more() {
    for capacity in (0..300).chain([511, 2_047, 2_048, 4_095, 4_096, 32_767, 1 << 20, u64::MAX]) {
        for shards in [None, Some(1), Some(3), Some(64), Some(1_000)] {
            let builder = MemoryTier::<u64, ()>::builder(capacity);
            let tier = shards.into_iter().fold(builder, super::MemoryTierBuilder::shards).build();
            let parts: Vec<_> = tier.shards.iter().map(|shard| shard.writer.lock().capacity()).collect();
            assert_eq!(parts.iter().sum::<u64>(), capacity);
            assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1, "an even part each");
            let expected = shards.map(|shards| shards.next_power_of_two().min(64));
            assert_eq!(parts.len(), expected.unwrap_or(parts.len()));
            assert!(expected.is_some() || parts.len() == 1 || parts[0] >= 2_048, "too small to spread evenly");
        }
    }
}

#[test]
fn a_tier_of_the_largest_capacity_takes_no_memory_for_it() {
    let tier = MemoryTier::new(u64::MAX);
    assert!(put(&tier, 1, 1) && read(&tier, 1) == Some(1));
    assert_eq!(tier.capacity(), Some(u64::MAX));
}

#[test]
fn a_tier_of_no_capacity_stores_nothing() {
    let tier = MemoryTier::new(0);
    assert!(!put(&tier, 1, 1));
    assert_eq!((read(&tier, 1), tier.len(), tier.capacity()), (None, 0, Some(0)));
}

#[test]
fn every_entry_that_came_is_held_or_was_evicted() {
    let (capacity, keys) = if cfg!(miri) { (10, 20) } else { (3_000, 10_000) };
    for kind in POLICIES {
        for shards in [1, 8] {
            let tier = MemoryTier::builder(capacity).policy(kind).shards(shards).build();
            for key in 0..keys {
                assert!(put(&tier, key, key));
                assert!(tier.len() <= capacity && tier.weight() == tier.len());
            }
            assert_eq!(tier.len() + tier.evictions(), keys);
            assert!(tier.len() >= capacity - 10, "every shard is full: {}", tier.len());
            tier.check();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "of the policies, which have no unsafe code")]
fn keys_that_are_read_or_written_again_survive_a_scan() {
    for kind in POLICIES {
        let tier = MemoryTier::builder(500).shards(1).policy(kind).build();
        (0..100).for_each(|key| _ = put(&tier, key, key));
        for key in 1_000..10_000 {
            put(&tier, key, key);
            let again = key % 100;
            assert_eq!(read(&tier, again), Some(again));
            if again < 50 {
                put(&tier, again, again);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "of the policies, which have no unsafe code")]
fn a_write_is_a_use() {
    for kind in POLICIES {
        let tier = MemoryTier::builder(500).shards(1).policy(kind).build();
        (0..50).for_each(|key| _ = put(&tier, key, key));
        (1_000..10_000).for_each(|key| _ = (put(&tier, key, key), put(&tier, key % 50, key % 50)));
        // A key that had been evicted would have come back by its write, and cost another its place.
        assert_eq!(tier.evictions(), 9_000 + 50 - 500);
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow, and others resize as well")]
fn a_smaller_capacity_holds_when_resize_returns_and_a_larger_one_is_used() {
    for shards in [1, 8] {
        let tier = MemoryTier::builder(5_000).shards(shards).build();
        (0..5_000).for_each(|key| _ = put(&tier, key, key));
        for capacity in [3_000, 7, 0, 4_000, 8_000] {
            tier.resize(capacity);
            assert!(tier.len() <= capacity && tier.capacity() == Some(capacity));
            tier.check();
            (0..20_000).for_each(|key| _ = put(&tier, key, key));
            assert!(tier.len() <= capacity && tier.len() >= capacity - capacity / 10, "{} of {capacity}", tier.len());
        }
    }
}

#[test]
fn an_entry_of_a_snapshot_is_of_its_moment() {
    let tier = MemoryTier::<u64, u64>::builder(100).shards(1).build();
    (0..50).for_each(|key| _ = put(&tier, key, key));
    tier.insert(hash(99), 99, 99, &until(after(5)), NOW, &|| true);
    let mut seen = tier.snapshot(0, after(4));
    seen.sort_unstable();
    assert_eq!(seen, (0..50).chain([99]).map(|key| (key, key)).collect::<Vec<_>>());
    assert_eq!(tier.snapshot(0, after(5)).len(), 50, "the dead are not in it");
}
