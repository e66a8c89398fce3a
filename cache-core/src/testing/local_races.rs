//! The races of a local tier's inserts with invalidations.

use super::local_suite::{Scene, hash};
use crate::local::{LocalTier, Stamp, Terms};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Invalidates the key, and poisons on the way.
type Invalidate<'a> = &'a (dyn Fn(&dyn Fn()) + Sync);

pub(super) fn local_races<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    // A removal poisons in its bump, a clear before.
    let by_remove = |poison: &dyn Fn()| _ = scene.remove(KEY, None, poison);
    let by_clear = |poison: &dyn Fn()| {
        poison();
        scene.tier.clear();
    };
    let cases: [(&str, Invalidate<'_>); 2] = [("a removal", &by_remove), ("a clear", &by_clear)];
    for (what, invalidate) in cases {
        lets_an_invalidation_win_that_comes_while_admit_is_asked(scene, what, invalidate);
        never_keeps_a_value_that_an_invalidation_overtook(scene, what, invalidate);
    }
    lets_a_removal_win_over_an_insert_that_comes_in_its_bump(scene);
    shows_a_reader_whole_entries_only(scene);
}

/// A tier with a lock lets the other side wait for it in vain; this long, once.
const IN_VAIN: Duration = Duration::from_millis(100);

const KEY: &str = "raced";

fn insert<T: LocalTier<String, u64>>(scene: &Scene<'_, T>, value: u64, admit: &dyn Fn() -> bool) {
    scene.insert(KEY, value, &scene.terms(), admit);
}

/// The worst moment, made to happen: `admit` has read a live ticket, and before it returns the ticket is poisoned and the
/// key invalidated. A tier with a lock holds the invalidation up until the entry is in; one without must ask once more.
fn lets_an_invalidation_win_that_comes_while_admit_is_asked<T: LocalTier<String, u64>>(
    scene: &Scene<'_, T>,
    what: &str,
    invalidate: Invalidate<'_>,
) {
    let (poisoned, asked) = (AtomicBool::new(false), AtomicBool::new(false));
    let (go, wait) = mpsc::channel();
    let (done, answer) = mpsc::channel();
    std::thread::scope(|scope| {
        let poisoned = &poisoned;
        scope.spawn(move || {
            if wait.recv().is_ok() {
                invalidate(&|| poisoned.store(true, Ordering::SeqCst));
                let _ = done.send(());
            }
        });
        let admit = || {
            let live = !poisoned.load(Ordering::SeqCst);
            if !asked.swap(true, Ordering::SeqCst) {
                let _ = go.send(());
                let _ = answer.recv_timeout(IN_VAIN);
            }
            live
        };
        insert(scene, 1, &admit);
        drop(go);
    });
    assert_eq!(scene.read(KEY, 0), None, "the value outlived {what} that began before it was stored");
}

/// The other worst moment: a removal is about to poison when an insert asks. A tier with a lock holds the insert up until
/// the entry is gone; one without must let the removal find it.
fn lets_a_removal_win_over_an_insert_that_comes_in_its_bump<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    for present in [false, true] {
        if present {
            insert(scene, 1, &|| true);
        }
        let poisoned = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (done, wait) = mpsc::channel();
            let bump = || {
                let (poisoned, done) = (&poisoned, done.clone());
                scope.spawn(move || {
                    insert(scene, 2, &|| !poisoned.load(Ordering::SeqCst));
                    let _ = done.send(());
                });
                let _ = wait.recv_timeout(IN_VAIN);
                poisoned.store(true, Ordering::SeqCst);
            };
            scene.remove(KEY, None, &bump);
        });
        assert_eq!(scene.read(KEY, 0), None, "a value was admitted before the bump, and is there after the removal");
    }
}

/// Fills race with invalidations of one key. Truth only grows; a fill reads it, then inserts under a ticket; the
/// invalidator raises it, poisons the ticket and invalidates. What is readable after that must be the truth.
fn never_keeps_a_value_that_an_invalidation_overtook<T: LocalTier<String, u64>>(
    scene: &Scene<'_, T>,
    what: &str,
    invalidate: Invalidate<'_>,
) {
    const ROUNDS: u64 = 3_000;
    let truth = AtomicU64::new(0);
    let ticket_poisoned = AtomicBool::new(true);
    let (begun, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let wait_for = |round: &AtomicU64, at_round| {
        while round.load(Ordering::Acquire) < at_round {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at_round in 1..=ROUNDS {
                wait_for(&begun, at_round);
                let value = truth.load(Ordering::SeqCst);
                insert(scene, value, &|| !ticket_poisoned.load(Ordering::SeqCst));
                ended.store(at_round, Ordering::Release);
            }
        });
        for at_round in 1..=ROUNDS {
            ticket_poisoned.store(false, Ordering::SeqCst);
            begun.store(at_round, Ordering::Release);
            let new_truth = truth.fetch_add(1, Ordering::SeqCst) + 1;
            invalidate(&|| ticket_poisoned.store(true, Ordering::SeqCst));
            wait_for(&ended, at_round);
            let found = scene.read(KEY, 0);
            assert!(
                found.is_none_or(|value| value == new_truth),
                "round {at_round}: {found:?} outlived {what} of what is now {new_truth}"
            );
        }
    });
}

/// Values race with reads of them. A value is told by its version and by when it was made; a reader must not find the
/// one of one entry beside the other of another.
fn shows_a_reader_whole_entries_only<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    const WRITES: u64 = 20_000;
    let (over, now) = (AtomicBool::new(false), scene.at(50));
    // Seconds apart: no tier is as coarse as that.
    let made = |number| scene.at(number % 50);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let value = scene.tier.with(hash(KEY), KEY, now, |local| (*local.value, local.stamp.created));
                let terms = scene.tier.terms(hash(KEY), KEY, now).map(|terms| (terms.version, terms.stamp.created));
                for (number, created) in [value, terms].into_iter().flatten() {
                    assert!(made(number).since(created) < Duration::from_millis(500), "an entry in parts: {number}, {created:?}");
                }
            }
        });
        for number in 0..WRITES {
            let stamp = Stamp { created: made(number), ..scene.stamp() };
            let terms = Terms { version: number, ..stamp.into() };
            scene.tier.insert(hash(KEY), KEY.to_owned(), number, &terms, now, &|| true);
            if number % 3 == 0 {
                scene.remove(KEY, None, &|| ());
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    scene.remove(KEY, None, &|| ());
}
