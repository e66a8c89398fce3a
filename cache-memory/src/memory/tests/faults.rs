//! Faults of other caches, each by what goes wrong.

use super::census::{Census, Key};
use super::{LocalTier, MemoryTier, NOW, Terms, endless, hash, put, read, take};
use crate::memory::{Change, Computed};
use cache_core::Local;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Lets another thread invalidate while an insert is being admitted. What each did, in order.
fn overtaken_by(invalidate: impl Fn(&MemoryTier<u64, u64>, &dyn Fn()) + Sync) {
    let tier = MemoryTier::new(100);
    let (log, started) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (tier, invalidate, log, started) = (&tier, &invalidate, &log, &started);
        tier.insert(hash(1), 1, 1, &endless(), NOW, &|| {
            log.lock().unwrap().push("admission begins");
            scope.spawn(move || {
                started.store(true, Ordering::Release);
                invalidate(tier, &|| log.lock().unwrap().push("invalidated"));
            });
            while !started.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            // Time enough for whom nothing holds.
            (0..1_000).for_each(|_| std::thread::yield_now());
            log.lock().unwrap().push("admission ends");
            true
        });
    });
    assert_eq!(*log.lock().unwrap(), ["admission begins", "admission ends", "invalidated"]);
    assert_eq!(read(&tier, 1), None, "the entry outlived an invalidation that began before it was stored");
}

#[test]
fn a1_a_removal_during_an_admission_finds_the_entry() {
    overtaken_by(|tier, bump| assert!(tier.remove(hash(1), &1, None, bump)));
}

#[test]
fn a1_a_fill_whose_ticket_was_poisoned_by_a_removal_is_not_stored() {
    let tier = MemoryTier::new(100);
    let poisoned = AtomicBool::new(false);
    assert!(!tier.remove(hash(1), &1, None, &|| poisoned.store(true, Ordering::Release)));
    assert!(!tier.insert(hash(1), 1, 1, &endless(), NOW, &|| !poisoned.load(Ordering::Acquire)));
    assert_eq!(read(&tier, 1), None);
    tier.insert(hash(1), 1, 1, &endless(), NOW, &|| true);
    assert!(!tier.insert(hash(1), 1, 2, &endless(), NOW, &|| false));
    assert_eq!(read(&tier, 1), Some(1), "a refusal changes nothing");
}

#[test]
fn a2_a_clear_during_an_admission_finds_the_entry() {
    overtaken_by(|tier, done| {
        tier.clear();
        done();
    });
}

#[test]
fn a2_what_came_right_before_a_clear_is_gone() {
    let tier = MemoryTier::builder(1_000).shards(8).build();
    for round in 0..if cfg!(miri) { 1 } else { 100 } {
        (0..50).for_each(|key| _ = put(&tier, key, round));
        tier.clear();
        assert!((0..50).all(|key| read(&tier, key).is_none()) && tier.is_empty());
    }
    tier.check();
}

#[test]
fn a3_computes_on_one_key_lose_no_update() {
    let (threads, times) = if cfg!(miri) { (2, 5) } else { (4, 5_000) };
    let tier = MemoryTier::new(100);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..times {
                    let next = |held: Option<Local<&u64>>| Change::Put(held.map_or(1, |local| *local.value + 1), endless());
                    assert_eq!(tier.compute(hash(1), 1, || NOW, next), Computed::Stored);
                }
            });
        }
    });
    assert_eq!(read(&tier, 1), Some(threads * times));
}

type Interference = fn(&MemoryTier<u64, u64>);

#[test]
fn a3_a_compute_sees_what_a_write_in_between_has_left() {
    let tier = MemoryTier::<u64, u64>::new(100);
    let interferences: [Interference; 4] = [|tier| _ = put(tier, 1, 50), |tier| _ = take(tier, 1), |tier| tier.clear(), |_| ()];
    for interfere in interferences {
        put(&tier, 1, 7);
        let mut seen = Vec::new();
        let done = tier.compute(
            hash(1),
            1,
            || NOW,
            |held| {
                seen.push(held.map(|local| *local.value));
                if seen.len() == 1 {
                    interfere(&tier);
                }
                Change::Put(held.map_or(0, |local| *local.value) + 1, endless())
            },
        );
        let latest = *seen.last().unwrap();
        assert!(done == Computed::Stored && seen.len() <= 2 && seen[0] == Some(7));
        assert_eq!(read(&tier, 1), Some(latest.unwrap_or(0) + 1));
    }
    assert_eq!(read(&tier, 1), Some(8), "a compute that nobody disturbs runs once");
}

#[test]
fn a3_a_compute_that_removes_does_not_remove_what_came_meanwhile() {
    let tier = MemoryTier::<u64, u64>::new(100);
    for first in [None, Some(7)] {
        take(&tier, 1);
        first.map(|value| put(&tier, 1, value));
        let mut runs = 0;
        let removed = tier.compute(
            hash(1),
            1,
            || NOW,
            |held| {
                runs += 1;
                if runs == 1 {
                    put(&tier, 1, 50);
                }
                if held.is_some_and(|local| *local.value == 50) { Change::Keep } else { Change::Remove }
            },
        );
        assert_eq!((removed, runs, read(&tier, 1)), (Computed::Kept, 2, Some(50)));
        let remove = || tier.compute(hash(1), 1, || NOW, |_| Change::Remove);
        assert_eq!([remove(), remove()], [Computed::Removed, Computed::Kept]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
fn a3_a_compute_that_writes_its_own_key_gives_up() {
    let tier = MemoryTier::<u64, u64>::new(100);
    let changes: [fn() -> Change<u64>; 2] = [|| Change::Put(0, endless()), || Change::Remove];
    for change in changes {
        let mut runs = 0;
        let done = tier.compute(
            hash(1),
            1,
            || NOW,
            |_| {
                runs += 1;
                assert!(runs <= 100_000, "it runs for ever");
                put(&tier, 1, runs);
                change()
            },
        );
        assert_eq!((done, read(&tier, 1)), (Computed::Overtaken, Some(runs)), "what the others wrote stays");
    }
    assert_eq!(tier.compute(hash(1), 1, || NOW, |_| Change::Put(7, endless())), Computed::Stored);
    assert_eq!(read(&tier, 1), Some(7));
}

#[test]
fn a8_a_value_too_heavy_to_keep_takes_the_old_one_with_it() {
    let census = Census::default();
    let tier = MemoryTier::builder(10).shards(1).weigher(|_: &Key, value: &super::census::Value| value.weight).build();
    let put = |key, weight| tier.insert(hash(key), census.key(key), census.value(key, weight), &endless(), NOW, &|| true);
    assert!(put(1, 1) && put(2, 10) && !put(1, 11) && !put(3, u32::MAX));
    assert!(tier.with(hash(1), &1, NOW, |_| ()).is_none(), "the old value stayed");
    assert!(put(1, 3));
    let heavy = tier.compute(hash(1), census.key(1), || NOW, |_| Change::Put(census.value(1, 11), endless()));
    assert_eq!(heavy, Computed::Refused);
    assert_eq!((tier.len(), tier.weight()), (0, 0), "the second one had made room for the first");
    tier.drain(NOW);
    assert_eq!(census.living(), 0);
}

#[test]
fn a9_an_end_that_is_changed_counts_and_not_the_one_before() {
    let tier = MemoryTier::new(100);
    let (short, long) = (super::until(super::after(2)), super::until(super::after(9)));
    for (first, then, lives) in [(&short, &long, true), (&long, &short, false), (&short, &endless(), true)] {
        for terms in [first, then] {
            tier.insert(hash(1), 1, 1, terms, NOW, &|| true);
        }
        tier.sweep(super::after(2));
        assert_eq!(tier.get(hash(1), &1, super::after(2)).is_some(), lives);
        assert_eq!(tier.len(), u64::from(lives));
    }
}

#[test]
fn a11_keys_of_one_hash_are_told_apart() {
    let (keys, tier) = (if cfg!(miri) { 26 } else { 300 }, MemoryTier::builder(1_000).shards(1).build());
    let put = |key: u64| tier.insert(7, key, key, &endless(), NOW, &|| true);
    assert!((0..keys).all(put) && (0..keys).all(put));
    tier.check();
    assert!((0..keys).step_by(2).all(|key| tier.remove(7, &key, None, &|| ())));
    tier.check();
    for key in 0..keys {
        assert_eq!(tier.get(7, &key, NOW).map(|local| local.value), (key % 2 == 1).then_some(key));
    }
    assert_eq!(tier.len(), keys / 2);
}

#[test]
#[cfg_attr(miri, ignore = "of the time it takes")]
fn a11_a_write_that_is_overtaken_among_keys_of_one_hash_takes_little_longer() {
    const KEYS: u64 = 500;
    let tier = MemoryTier::<u64, u64>::builder(1_000).shards(1).build();
    let put = |hash, key| assert!(tier.insert(hash, key, 0, &endless(), NOW, &|| true));
    (0..KEYS).for_each(|key| put(7, key));
    let overtake = Cell::new(false);
    let is_key = |sought: &u64, found: &u64| {
        if overtake.take() {
            put(0x60_0003, KEYS + 1);
        }
        sought == found
    };
    // The fastest of some: of the others the machine may have taken its time.
    let fastest = |overtaken| {
        let times = (0..7).map(|_| {
            overtake.set(overtaken);
            let begin = Instant::now();
            // A key that is not there is compared with all that are.
            assert_eq!(tier.change(tier.enter(), 7, KEYS, is_key, |_, held| held, |_, held, _, _, _, _| held), None);
            begin.elapsed()
        });
        times.min().unwrap()
    };
    let (alone, overtaken) = (fastest(false), fastest(true));
    assert!(overtaken < 50 * alone, "{overtaken:?} instead of {alone:?}");
}

#[test]
fn a11_threads_on_hundreds_of_keys_of_one_hash_lose_none() {
    let (threads, keys, rounds) = if cfg!(miri) { (2, 8, 2) } else { (3, 100, 5) };
    let tier = MemoryTier::builder(1_000).shards(1).build();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let tier = &tier;
            scope.spawn(move || {
                for round in 0..rounds {
                    for key in (thread..threads * keys).step_by(threads as usize) {
                        assert!(tier.insert(7, key, (key, round), &endless(), NOW, &|| true));
                        assert_eq!(tier.get(7, &key, NOW).map(|local| local.value), Some((key, round)));
                        assert!(key % 3 > 0 || tier.remove(7, &key, None, &|| ()));
                    }
                }
            });
        }
    });
    tier.check();
    assert_eq!(tier.len(), (0..threads * keys).filter(|key| key % 3 > 0).count() as u64, "a key is held twice, or lost");
}

#[test]
fn a11_threads_on_keys_of_one_hash_see_their_own_values_only() {
    let tier = MemoryTier::builder(8).shards(1).build();
    let rounds = if cfg!(miri) { 10 } else { 3_000 };
    let stored = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (tier, stored) = (&tier, &stored);
            scope.spawn(move || {
                for round in 0..rounds {
                    let key = (round + thread) % 6;
                    let terms = Terms { version: round, ..endless() };
                    stored.fetch_add(tier.insert(7, key, (key, round), &terms, NOW, &|| true).into(), Ordering::Relaxed);
                    let other = (key + 1) % 6;
                    assert!(tier.get(7, &other, NOW).is_none_or(|local| local.value.0 == other));
                    if round % 7 == 0 {
                        tier.remove(7, &key, None, &|| ());
                    }
                    if round % 101 == 0 {
                        tier.clear();
                    }
                }
            });
        }
    });
    tier.check();
    assert_eq!(stored.into_inner(), 3 * rounds);
    let held = (0..6).filter(|key| tier.remove(7, key, None, &|| ())).count();
    assert!(tier.is_empty(), "{held} were found, and there were more: a key was held twice");
}
