//! The conformance suite of a local tier.

use crate::clock::Moment;
use crate::local::{LocalTier, Stamp};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Checks a tier of strings to numbers: random operations against a map, and the rule of [`LocalTier::insert`] under
/// concurrent removals. The tier must be empty, hold at least 1,000 entries, and serve nothing else meanwhile.
///
/// # Panics
/// On the first fault, saying which.
pub fn local_suite<T: LocalTier<String, u64>>(tier: &T, seed: u64) {
    assert!(tier.capacity().is_some_and(|capacity| capacity >= 1_000), "the suite needs room for 1,000 entries");
    agrees_with_a_map(tier, seed);
    expires_at_last(tier);
    refuses_what_is_not_admitted(tier);
    keeps_newer_versions(tier);
    forgets_all_when_cleared(tier);
    lets_an_invalidation_win_that_comes_while_admit_is_asked(tier);
    never_keeps_a_value_that_an_invalidation_overtook(tier);
}

fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(key)
}

fn at(seconds: u64) -> Moment {
    Moment::from_nanos(0).after(Duration::from_secs(1_000 + seconds))
}

fn stamp(version: u64) -> Stamp {
    Stamp { created: at(0), soft: at(60), hard: at(120), last: at(180), version }
}

fn put<T: LocalTier<String, u64>>(tier: &T, key: &str, value: u64, version: u64) -> bool {
    tier.insert(hash(key), key.to_owned(), value, stamp(version), &|| true)
}

fn read<T: LocalTier<String, u64>>(tier: &T, key: &str, seconds: u64) -> Option<u64> {
    tier.get(hash(key), key, at(seconds)).map(|local| local.value)
}

fn agrees_with_a_map<T: LocalTier<String, u64>>(tier: &T, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut model = HashMap::new();
    for step in 0..5_000 {
        let key = format!("k{}", rng.u32(0..200));
        match rng.u8(0..10) {
            0..=3 => {
                let value = rng.u64(..);
                assert!(put(tier, &key, value, 0), "an admitted insert is stored");
                model.insert(key, value);
            }
            4..=5 => {
                let removed = tier.remove(hash(&key), key.as_str(), None);
                assert_eq!(removed, model.remove(&key).is_some(), "step {step}: remove says whether there was an entry");
            }
            _ => assert_eq!(read(tier, &key, 0), model.get(&key).copied(), "step {step}: get"),
        }
    }
}

fn expires_at_last<T: LocalTier<String, u64>>(tier: &T) {
    put(tier, "life", 1, 0);
    for (second, found) in [(0, Some(1)), (59, Some(1)), (61, Some(1)), (179, Some(1)), (180, None), (181, None)] {
        assert_eq!(read(tier, "life", second), found, "second {second} of an entry whose last is 180");
    }
    let found = tier.get(hash("life"), "life", at(61));
    assert!(found.is_none_or(|local| local.stamp == stamp(0)), "an entry keeps its stamp");
}

fn refuses_what_is_not_admitted<T: LocalTier<String, u64>>(tier: &T) {
    let stored = tier.insert(hash("refused"), "refused".to_owned(), 1, stamp(0), &|| false);
    assert!(!stored && read(tier, "refused", 0).is_none(), "an insert that is not admitted is not readable");
}

fn keeps_newer_versions<T: LocalTier<String, u64>>(tier: &T) {
    put(tier, "row", 1, 5);
    assert!(!tier.remove(hash("row"), "row", Some(5)), "an entry of the version stays");
    assert!(!tier.remove(hash("row"), "row", Some(4)), "a newer entry stays");
    assert_eq!(read(tier, "row", 0), Some(1));
    assert!(tier.remove(hash("row"), "row", Some(6)), "an older entry goes");
    assert_eq!(read(tier, "row", 0), None);
}

fn forgets_all_when_cleared<T: LocalTier<String, u64>>(tier: &T) {
    for round in 0..50 {
        // The last insert comes right before the clear: moka #155 lost the race of equal timestamps.
        for key in 0..20 {
            put(tier, &format!("c{key}"), round, 0);
        }
        tier.clear();
        for key in 0..20 {
            assert_eq!(read(tier, &format!("c{key}"), 0), None, "round {round}: an entry outlived a clear");
        }
        put(tier, "after", round, 0);
        assert_eq!(read(tier, "after", 0), Some(round), "what is inserted after a clear stays");
    }
}

/// The worst moment, made to happen: `admit` has read a live ticket, and before it returns the ticket is poisoned and the
/// key removed. A tier with a lock holds the removal up until the entry is in; one without must ask once more.
fn lets_an_invalidation_win_that_comes_while_admit_is_asked<T: LocalTier<String, u64>>(tier: &T) {
    let key = "overtaken";
    let (poisoned, asked) = (AtomicBool::new(false), AtomicBool::new(false));
    let (go, wait) = mpsc::channel();
    let (done, answer) = mpsc::channel();
    std::thread::scope(|scope| {
        let poisoned = &poisoned;
        scope.spawn(move || {
            if wait.recv().is_ok() {
                poisoned.store(true, Ordering::SeqCst);
                tier.remove(hash(key), key, None);
                let _ = done.send(());
            }
        });
        let admit = || {
            let live = !poisoned.load(Ordering::SeqCst);
            if !asked.swap(true, Ordering::SeqCst) {
                let _ = go.send(());
                // A tier with a lock makes this wait in vain, once.
                let _ = answer.recv_timeout(Duration::from_millis(100));
            }
            live
        };
        tier.insert(hash(key), key.to_owned(), 1, stamp(0), &admit);
        drop(go);
    });
    assert_eq!(read(tier, key, 0), None, "the value outlived an invalidation that began before it was stored");
}

/// Fills race with invalidations of one key. Truth only grows; a fill reads it, then inserts under a ticket; the
/// invalidator raises it, poisons the ticket and removes. What is readable after that must be the truth.
fn never_keeps_a_value_that_an_invalidation_overtook<T: LocalTier<String, u64>>(tier: &T) {
    const ROUNDS: u64 = 5_000;
    let key = "raced";
    let truth = AtomicU64::new(0);
    let ticket_poisoned = AtomicBool::new(true);
    let round = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at_round in 1..=ROUNDS {
                while round.load(Ordering::Acquire) < at_round {
                    std::thread::yield_now();
                }
                let value = truth.load(Ordering::SeqCst);
                tier.insert(hash(key), key.to_owned(), value, stamp(0), &|| !ticket_poisoned.load(Ordering::SeqCst));
                round.fetch_add(1 << 32, Ordering::Release);
            }
        });
        for at_round in 1..=ROUNDS {
            ticket_poisoned.store(false, Ordering::SeqCst);
            round.fetch_add(1, Ordering::Release);
            let new_truth = truth.fetch_add(1, Ordering::SeqCst) + 1;
            ticket_poisoned.store(true, Ordering::SeqCst);
            tier.remove(hash(key), key, None);
            while round.load(Ordering::Acquire) >> 32 < at_round {
                std::thread::yield_now();
            }
            let found = read(tier, key, 0);
            assert!(
                found.is_none_or(|value| value == new_truth),
                "round {at_round}: {found:?} outlived the invalidation of {new_truth}"
            );
        }
    });
}
