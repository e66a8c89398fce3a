//! Lives that change while others read: fault A9.

use super::census::Census;
use super::{LocalTier, MemoryTier, Moment, TICK, Terms, after, endless, hash, until};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const KEYS: u64 = 6;

/// The life of a value, by its number.
fn terms(number: u64, now: u64) -> Terms {
    match number % 4 {
        0 => endless(),
        1 => until(after(now + 3)),
        2 => until(after(now + 400)),
        _ => Terms { idle: Some(Duration::from_nanos(4 * TICK)), ..until(after(now + 30)) },
    }
}

/// The tick from which on nobody may read a value that was stored at `stored`.
fn end(number: u64, stored: u64) -> u64 {
    [u64::MAX, stored + 3, stored + 400, stored + 30][number as usize % 4]
}

#[test]
fn a9_ends_and_idle_times_that_come_and_go_under_readers_count_at_once() {
    let rounds = if cfg!(miri) { 30 } else { 20_000 };
    let census = Census::default();
    let tier = MemoryTier::builder(100).shards(1).build();
    // Moved by the writers, so that lives end all the time.
    let (hands, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let at = |tick: u64| -> Moment { after(tick) };
    // The value that a key has, and since when: its writer's alone, for each has its own keys.
    let write = |first: u64| {
        for round in 0..rounds {
            let (key, now) = (first + 2 * (round % (KEYS / 2)), hands.fetch_add(u64::from(round % 3 == 0), Ordering::AcqRel));
            let number = hash(round ^ (first << 40));
            if number >> 61 == 0 {
                tier.remove(hash(key), &key, None, &|| ());
                assert!(!tier.holds(hash(key), &key, at(now)), "removed, and nobody else writes it");
                continue;
            }
            let value = census.value((now << 2) | (number % 4), 1);
            assert!(tier.insert(hash(key), key, value, &terms(number, now), at(now), &|| true));
            let read = |tick| tier.with(hash(key), &key, at(tick), |local| local.value.id);
            // Unless it has ended by the others' time, and a sweep was there: not because the value before it had a shorter life.
            let mine = Some((now << 2) | (number % 4));
            let (found, may_end) = (read(now), [u64::MAX, now + 3, now + 400, now + 4][number as usize % 4]);
            assert!(found == mine || found.is_none() && hands.load(Ordering::Acquire) >= may_end, "{found:?}, not {mine:?}");
            if number % 4 == 3 {
                // Nobody has read it that late, so it lay idle: unless somebody has.
                assert!(read(now + 29).is_none() || hands.load(Ordering::Acquire) >= now + 25, "{mine:?} is not idle");
            }
            let last = end(number, now);
            if last != u64::MAX {
                assert_eq!(read(last), None, "past its end, though the value before it may have had a longer life");
            }
        }
    };
    let read = |state: u64| {
        for round in 0..u64::MAX {
            if ended.load(Ordering::Acquire) {
                return;
            }
            let (key, now) = (hash(round ^ state) % KEYS, hands.load(Ordering::Acquire));
            let found = tier.with(hash(key), &key, at(now), |local| (local.value.id, local.stamp.last));
            if let Some((id, last)) = found {
                assert!(now < end(id % 4, id >> 2) && at(now) < last, "{key} read at {now}, stored at {}", id >> 2);
            }
        }
    };
    let sweep = || {
        while !ended.load(Ordering::Acquire) {
            tier.sweep(at(hands.load(Ordering::Acquire)));
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        let writers = [0, 1].map(|first| scope.spawn(move || write(first)));
        scope.spawn(|| read(1 << 50));
        scope.spawn(|| read(1 << 51));
        scope.spawn(sweep);
        let written = writers.map(std::thread::ScopedJoinHandle::join);
        ended.store(true, Ordering::Release);
        assert!(written.iter().all(Result::is_ok));
    });
    tier.drain(after(u64::from(u32::MAX)));
    assert_eq!(census.living(), tier.len(), "each value is dropped once");
    assert!(tier.len() <= KEYS);
    drop(tier);
    assert_eq!(census.living(), 0);
}
