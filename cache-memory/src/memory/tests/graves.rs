//! What clears leave behind: no more than a few tables, however they come.

use super::census::{Census, Value};
use super::{LocalTier, MemoryTier, NOW, hash, put};

const SHARDS: usize = 8;

fn tier<V: Send + Sync + 'static>() -> MemoryTier<u64, V> {
    MemoryTier::builder(100_000).shards(SHARDS).build()
}

fn graves<V>(tier: &MemoryTier<u64, V>) -> usize {
    tier.shards.iter().map(|shard| shard.writer.lock().graves()).sum()
}

/// Keys of which each is in another shard.
fn spread() -> [u64; SHARDS] {
    std::array::from_fn(|shard| (0..1_000).find(|key| hash(*key) >> 61 == shard as u64).unwrap())
}

#[test]
fn clears_of_an_empty_tier_leave_nothing() {
    let tier = tier::<u64>();
    for key in 0..100 {
        (0..10).for_each(|_| tier.clear());
        put(&tier, key, 0);
    }
    // A shard's that had an entry, each time.
    assert!(graves(&tier) <= 100, "{} graves of 1,000 clears", graves(&tier));
}

/// The keys that are written before the clear of a round.
type Pattern = fn(u64, &[u64; SHARDS]) -> Vec<u64>;

/// Little is written between the clears, by a pattern: no more than a few graves are left, once no reader of another test holds them up.
fn few_are_left<V: Send + Sync + 'static>(value: impl Fn() -> V) {
    let keys = spread();
    let patterns: [Pattern; 4] = [
        |_, keys| vec![keys[0]],
        |round, keys| vec![keys[round as usize % SHARDS]],
        |_, keys| keys.to_vec(),
        |round, keys| if round % 10 == 0 { keys.to_vec() } else { Vec::new() },
    ];
    for (at, pattern) in patterns.iter().enumerate() {
        let tier = tier::<V>();
        let cycle = |round| {
            for key in pattern(round, &keys) {
                assert!(put(&tier, key, value()));
            }
            tier.clear();
        };
        let rounds = if cfg!(miri) { 20 } else { 500 };
        (0..rounds).for_each(cycle);
        // Nor does a pile stay that a reader held up.
        let other = MemoryTier::<u64, u64>::new(10);
        put(&other, 1, 1);
        other.with(hash(1), &1, NOW, |_| (0..rounds).for_each(cycle));
        let mut more = 0..20_000;
        while graves(&tier) > 2 * SHARDS {
            let Some(round) = more.next() else { panic!("pattern {at}: {} graves stay", graves(&tier)) };
            cycle(round);
            std::thread::yield_now();
        }
    }
}

#[test]
fn little_that_is_cleared_often_leaves_few_graves() {
    few_are_left(|| 0);
    few_are_left(|| Box::new(0));
}

#[test]
fn a_clear_takes_apart_what_another_one_left() {
    let census = Census::default();
    let tier = tier::<Value>();
    (0..1_000).for_each(|key| assert!(put(&tier, key, census.value(key, 1))));
    for _ in 0..100_000 {
        tier.clear();
        if census.living() == 0 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{} values stay though nobody has seen them for long", census.living());
}

#[test]
fn a_write_takes_several_small_graves() {
    let tier = tier::<Box<u64>>();
    let key = spread()[0];
    let other = MemoryTier::<u64, u64>::new(10);
    put(&other, 1, 1);
    other.with(hash(1), &1, NOW, |_| {
        for _ in 0..40 {
            put(&tier, key, Box::new(0));
            tier.clear();
        }
        assert_eq!(graves(&tier), 40);
    });
    for writes in 0..1_000_000 {
        let before = graves(&tier);
        put(&tier, key, Box::new(writes));
        if graves(&tier) < before {
            assert!(graves(&tier) <= before - 5, "{before} and then {}", graves(&tier));
            return;
        }
        std::thread::yield_now();
    }
    panic!("{} graves stay", graves(&tier));
}

#[test]
fn what_a_clear_leaves_is_taken_along_and_not_freed_under_the_lock() {
    let tier = tier::<u64>();
    (0..1_000).for_each(|key| assert!(put(&tier, key, key)));
    let other = MemoryTier::<u64, u64>::new(10);
    put(&other, 1, 1);
    other.with(hash(1), &1, NOW, |_| {
        tier.clear();
        assert!(tier.shards.iter().all(|shard| shard.writer.lock().graves_have_books()));
    });
}
