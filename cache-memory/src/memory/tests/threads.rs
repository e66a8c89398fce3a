//! Real threads on one tier. Values tell their key, so that a wrong one shows.

use super::census::Census;
use super::{Cause, LocalTier, MemoryTier, NOW, POLICIES, Partition, Terms, after, endless, hash, until};
use crate::memory::{Change, Computed};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

const ROUNDS: u64 = if cfg!(miri) { 20 } else { 10_000 };

/// A fast, poor source of numbers.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash(*state)
}

/// Lets each of the workers run to its end, and the watchers until then.
fn run(workers: &[&(dyn Fn(u64) + Sync)], watcher: &(dyn Fn() + Sync)) {
    let (barrier, left) = (Barrier::new(workers.len() + 1), AtomicU64::new(workers.len() as u64));
    std::thread::scope(|scope| {
        for (number, worker) in workers.iter().enumerate() {
            let (barrier, left) = (&barrier, &left);
            scope.spawn(move || {
                /// Counted also where the worker panics, so that the watcher ends.
                struct Ended<'a>(&'a AtomicU64);
                impl Drop for Ended<'_> {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, Ordering::Release);
                    }
                }
                let _ended = Ended(left);
                barrier.wait();
                worker(number as u64);
            });
        }
        barrier.wait();
        while left.load(Ordering::Acquire) > 0 {
            watcher();
        }
    });
}

#[test]
fn whatever_threads_do_a_read_is_of_its_key_and_nothing_leaks() {
    const KEYS: u64 = 200;
    for kind in POLICIES {
        let census = Census::default();
        let left = Arc::new(AtomicU64::new(0));
        let count = left.clone();
        let listener = move |key: &u64, value: &super::census::Value, _: Cause| {
            assert_eq!(*key, value.id);
            count.fetch_add(1, Ordering::Relaxed);
        };
        let builder = MemoryTier::builder(120).shards(2).policy(kind).listener(listener);
        let tier = builder.weigher(|_: &u64, value: &super::census::Value| value.weight).build();
        let stored = AtomicU64::new(0);
        let value = |key, random| census.value(key, (random >> 32) as u32 % 4);
        let write = |number| {
            let mut state = number;
            for round in 0..ROUNDS / 4 {
                let (random, now) = (random(&mut state), after(round));
                let key = random % KEYS;
                let terms = if random & 1 << 20 == 0 { until(after(round + 20)) } else { Terms { version: round, ..endless() } };
                let done = match random >> 60 {
                    0..8 => tier.insert(hash(key), key, value(key, random), &terms, now, &|| random & 1 << 21 == 0),
                    8..12 => {
                        Computed::Stored
                            == tier.compute(
                                hash(key),
                                key,
                                || now,
                                |held| {
                                    assert!(held.is_none_or(|local| local.value.id == key));
                                    Change::Put(value(key, random), terms)
                                },
                            )
                    }
                    _ => {
                        tier.remove(hash(key), &key, (random & 1 << 22 == 0).then_some(round), &|| ());
                        false
                    }
                };
                stored.fetch_add(done.into(), Ordering::Relaxed);
            }
        };
        let read = |number| {
            let mut state = number;
            for round in 0..ROUNDS {
                let key = random(&mut state) % KEYS;
                let found = tier.with(hash(key), &key, after(round / 4), |local| local.value.id);
                assert!(found.is_none_or(|id| id == key), "{key} is {found:?}");
                if round % 500 == 0 {
                    tier.snapshot(0, NOW).into_iter().for_each(|(key, value)| assert_eq!(key, value.id));
                }
            }
        };
        let upkeep = |number| {
            let mut state = number;
            for round in 0..ROUNDS / 100 {
                match random(&mut state) % 8 {
                    0 => tier.clear(),
                    1 => tier.sweep(after(round * 25)),
                    2 => tier.resize(100 + state % 20),
                    _ => tier.suspect(Partition::default()),
                }
                std::thread::yield_now();
            }
        };
        run(&[&write, &write, &write, &read, &upkeep], &|| assert!(tier.weight() <= 120));
        tier.drain(NOW);
        assert_eq!(stored.into_inner(), left.load(Ordering::Relaxed) + tier.len(), "each left once, or is held");
        assert_eq!(census.living(), tier.len());
        drop(tier);
        assert_eq!(census.living(), 0);
    }
}

#[test]
fn a_reader_never_finds_an_older_version_than_a_writer_had_stored_before() {
    const KEYS: usize = 16;
    let tier = MemoryTier::builder(100).shards(2).build();
    let floors: [AtomicU64; KEYS] = Default::default();
    let removed: [AtomicU64; KEYS] = Default::default();
    // Each writer has its own keys, so that their versions only grow.
    let write = |number: u64| {
        for version in 1..ROUNDS {
            let key = 2 * (version % (KEYS as u64 / 2)) + number;
            tier.insert(hash(key), key, (key, version), &Terms { version, ..endless() }, NOW, &|| true);
            floors[key as usize].store(version, Ordering::Release);
            if version % 5 == 0 {
                tier.remove(hash(key), &key, None, &|| ());
                removed[key as usize].store(version, Ordering::Release);
            }
        }
    };
    let read = |number| {
        let mut state = number;
        for _ in 0..ROUNDS {
            let key = random(&mut state) % KEYS as u64;
            let floor = floors[key as usize].load(Ordering::Acquire);
            let removed = removed[key as usize].load(Ordering::Acquire);
            let found = tier.with(hash(key), &key, NOW, |local| *local.value);
            let Some((of, version)) = found else { continue };
            assert!(of == key && version >= floor && version > removed, "{version} after {floor}, {removed} removed");
        }
    };
    run(&[&write, &write, &read, &read], &std::thread::yield_now);
    assert_eq!(tier.evictions(), 0);
}

#[test]
fn a_key_is_found_by_readers_while_its_value_is_replaced_and_the_index_grows() {
    let tier = MemoryTier::builder(100_000).shards(1).build();
    let insert = |key: u64, value| assert!(tier.insert(hash(key), key, value, &endless(), NOW, &|| true));
    (0..50).for_each(|key| insert(key, 0));
    let grow = |_| (0..ROUNDS).for_each(|key| insert(1_000 + key, key));
    let replace = |_| (0..ROUNDS).for_each(|round| insert(round % 50, round));
    let read = |_| {
        for round in 0..4 * ROUNDS {
            assert!(tier.with(hash(round % 50), &(round % 50), NOW, |_| ()).is_some(), "a miss of what was there all the time");
        }
    };
    run(&[&grow, &replace, &read], &std::thread::yield_now);
    assert_eq!(tier.len(), 50 + ROUNDS);
    tier.check();
}

#[test]
fn computes_and_removals_of_many_keys_lose_no_update() {
    const KEYS: u64 = 8;
    let tier = MemoryTier::builder(1_000).shards(2).build();
    let taken = AtomicU64::new(0);
    let add = |number| {
        let mut state = number;
        for _ in 0..ROUNDS / 4 {
            let key = random(&mut state) % KEYS;
            let done =
                tier.compute(hash(key), key, || NOW, |held| Change::Put(held.map_or(0, |local| *local.value) + 1, endless()));
            assert_eq!(done, Computed::Stored);
        }
    };
    let take = |number| {
        let mut state = number;
        for _ in 0..ROUNDS / 8 {
            let key = random(&mut state) % KEYS;
            let mut there = 0;
            let done = tier.compute(
                hash(key),
                key,
                || NOW,
                |held| {
                    there = held.map_or(0, |local| *local.value);
                    Change::Remove
                },
            );
            taken.fetch_add(if done == Computed::Removed { there } else { 0 }, Ordering::Relaxed);
        }
    };
    run(&[&add, &add, &add, &take], &std::thread::yield_now);
    let left: u64 = (0..KEYS).filter_map(|key| tier.with(hash(key), &key, NOW, |local| *local.value)).sum();
    assert_eq!(taken.into_inner() + left, 3 * (ROUNDS / 4));
}

#[test]
fn no_instant_shows_more_than_the_capacity() {
    for shards in [1, 4] {
        let tier = MemoryTier::builder(64).shards(shards).weigher(|key: &u64, _: &u64| (key % 5) as u32).build();
        let seen = AtomicBool::new(false);
        let write = |number| {
            let mut state = number;
            for round in 0..ROUNDS {
                let key = random(&mut state) % 500;
                tier.insert(hash(key / 5), key, round, &endless(), NOW, &|| true);
            }
        };
        run(&[&write, &write, &write], &|| {
            seen.store(true, Ordering::Relaxed);
            assert!(tier.weight() <= 64);
        });
        assert!(seen.into_inner() && tier.evictions() > ROUNDS / 10);
        tier.check();
    }
}

#[test]
fn resizes_at_once_leave_the_capacity_of_the_last() {
    let (times, shards) = if cfg!(miri) { (2, 4) } else { (300, 64) };
    for _ in 0..times {
        let tier = MemoryTier::<u64, u64>::builder(64_000).shards(shards).build();
        let resize = |number| tier.resize(64 * (number + 1));
        run(&[&resize, &resize, &resize], &|| ());
        let parts: u64 = tier.shards.iter().map(|shard| shard.writer.lock().capacity()).sum();
        assert_eq!(tier.capacity(), Some(parts));
    }
}
