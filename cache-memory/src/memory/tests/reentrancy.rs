//! Code of users that uses the tier it is called by. Fault A5.

use super::{Cause, LocalTier, MemoryTier, NOW, Partition, after, endless, until};
use crate::memory::Change;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::Duration;

thread_local! {
    /// Keeps a use within a use from going on for ever.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Which code uses the tier, and how often: a write begins again when what it compared has changed.
    static WHOSE: Cell<(&'static str, u64)> = const { Cell::new(("", 0)) };
}

type Tier = MemoryTier<Nosy, Nosy>;

/// The tier, and how often each kind of code has used it.
#[derive(Default)]
struct Scene {
    tier: OnceLock<Weak<Tier>>,
    uses: Mutex<BTreeMap<&'static str, u64>>,
}

impl Scene {
    fn meddle(self: &Arc<Self>, from: &'static str) {
        let Some(tier) = self.tier.get().and_then(Weak::upgrade) else { return };
        let (whose, left) = WHOSE.get();
        if whose != from || left == 0 || INSIDE.replace(true) {
            return;
        }
        WHOSE.set((whose, left - 1));
        *self.uses.lock().unwrap().entry(from).or_default() += 1;
        for id in [1, 2] {
            let key = || Nosy { id, scene: self.clone() };
            drop(tier.get(7, &key(), NOW));
            tier.insert(7, key(), key(), &endless(), NOW, &|| true);
            _ = tier.compute(7, key(), || NOW, |_| Change::Put(key(), endless()));
            tier.remove(7, &key(), Some(9), &|| ());
        }
        tier.suspect(Partition::default());
        tier.resize(3);
        tier.sweep(NOW);
        drop(tier.snapshot(0, NOW));
        tier.clear();
        tier.insert(7, Nosy { id: 3, scene: self.clone() }, Nosy { id: 3, scene: self.clone() }, &endless(), NOW, &|| true);
        assert!(tier.len() == 1 && tier.weight() == 1);
        INSIDE.set(false);
    }
}

/// Uses the tier from everything that is asked of a key or a value.
struct Nosy {
    id: u64,
    scene: Arc<Scene>,
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        self.scene.meddle("eq");
        self.id == other.id
    }
}

impl Eq for Nosy {}

impl Hash for Nosy {
    fn hash<H: Hasher>(&self, _: &mut H) {
        unreachable!("the stack hashes, not the tier");
    }
}

impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.scene.meddle("clone");
        Self { id: self.id, scene: self.scene.clone() }
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.scene.meddle("drop");
    }
}

/// Runs in a thread of its own, which stays behind if it stands still.
fn within_a_minute(act: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        act();
        _ = done.send(());
    });
    let waited = wait.recv_timeout(Duration::from_secs(60));
    assert_ne!(waited, Err(mpsc::RecvTimeoutError::Timeout), "a use of the tier waits for itself");
    thread.join().unwrap();
}

const KINDS: [&str; 7] = ["eq", "clone", "drop", "weigher", "listener", "with", "compute"];

fn use_all(tier: &Tier, scene: &Arc<Scene>, round: u64) {
    WHOSE.set((KINDS[round as usize % KINDS.len()], 1 + round % 20));
    let nosy = |id| Nosy { id, scene: scene.clone() };
    let (id, now) = (round % 5, after(round / 10));
    let terms = if round.is_multiple_of(2) { until(after(round / 10 + 1)) } else { endless() };
    tier.insert(7, nosy(id), nosy(id), &terms, now, &|| !round.is_multiple_of(9));
    drop(tier.get(7, &nosy(id), now));
    tier.with(7, &nosy(id), now, |_| scene.meddle("with"));
    tier.remove(7, &nosy(round % 3), None, &|| ());
    _ = tier.compute(
        7,
        nosy(id),
        || now,
        |_| {
            scene.meddle("compute");
            if round.is_multiple_of(4) { Change::Remove } else { Change::Put(nosy(round), terms) }
        },
    );
    drop(tier.snapshot(0, now));
    match round % 50 {
        0 => tier.clear(),
        10 => tier.resize(1 + round % 4),
        20 => tier.sweep(now),
        _ => {}
    }
}

#[test]
#[cfg_attr(miri, ignore = "slow: each kind of code has its turn in a few hundred rounds only")]
fn a5_users_code_may_use_the_tier_that_calls_it() {
    within_a_minute(|| {
        let scene = Arc::new(Scene::default());
        let (weigher, listener) = (Arc::downgrade(&scene), Arc::downgrade(&scene));
        let meddle = |scene: &Weak<Scene>, from| scene.upgrade().iter().for_each(|scene| scene.meddle(from));
        let builder = MemoryTier::builder(3).shards(1).weigher(move |_: &Nosy, _: &Nosy| {
            meddle(&weigher, "weigher");
            1
        });
        let tier = Arc::new(builder.listener(move |_: &Nosy, _: &Nosy, _: Cause| meddle(&listener, "listener")).build());
        scene.tier.set(Arc::downgrade(&tier)).unwrap();
        for round in 0..1_000 {
            use_all(&tier, &scene, round);
            tier.check();
        }
        INSIDE.set(true);
        tier.drain(NOW);
        INSIDE.set(false);
        drop(tier);
        let uses = std::mem::take(&mut *scene.uses.lock().unwrap());
        for from in KINDS {
            assert!(uses.get(from).is_some_and(|uses| *uses >= 10), "{from} of {uses:?}");
        }
    });
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
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A tier that holds `first`; while that is compared, it goes, by a clear or alone, and `second` comes.
fn tier_that_changes(first: u64, second: u64, clear: bool) -> Arc<MemoryTier<Slow, u64>> {
    let tier = Arc::new(MemoryTier::builder(10).shards(1).build());
    let behind: Weak<MemoryTier<Slow, u64>> = Arc::downgrade(&tier);
    let change = move || {
        let tier = behind.upgrade().unwrap();
        if clear {
            tier.clear();
        } else if !INSIDE.replace(true) {
            tier.remove(7, &Slow(first, None), None, &|| ());
            INSIDE.set(false);
        } else {
            return;
        }
        tier.insert(7, Slow(second, None), 100 + second, &endless(), NOW, &|| true);
    };
    tier.insert(7, Slow(first, Some(Box::new(change))), 0, &endless(), NOW, &|| true);
    tier
}

fn value_of(tier: &MemoryTier<Slow, u64>, key: u64) -> Option<u64> {
    tier.get(7, &Slow(key, None), NOW).map(|local| local.value)
}

#[test]
fn an_insert_replaces_the_entry_of_its_key_that_came_while_it_compared() {
    for (first, clear) in [(1, true), (2, true), (1, false), (2, false)] {
        let tier = tier_that_changes(first, 1, clear);
        assert!(tier.insert(7, Slow(1, None), 3, &endless(), NOW, &|| true));
        tier.check();
        assert_eq!((tier.len(), value_of(&tier, 1)), (1, Some(3)), "from {first}, cleared: {clear}");
    }
}

#[test]
fn a_write_leaves_alone_what_took_the_place_of_the_entry_it_compared() {
    for clear in [true, false] {
        let tier = tier_that_changes(1, 2, clear);
        assert!(!tier.remove(7, &Slow(1, None), None, &|| ()), "it had gone");
        assert_eq!((tier.len(), value_of(&tier, 2)), (1, Some(102)));
        let tier = tier_that_changes(1, 2, clear);
        assert!(tier.insert(7, Slow(1, None), 3, &endless(), NOW, &|| true));
        assert_eq!((tier.len(), value_of(&tier, 1), value_of(&tier, 2)), (2, Some(3), Some(102)));
        tier.check();
    }
}

#[test]
fn a_write_that_compared_with_what_is_cleared_before_it_writes_finds_nothing() {
    let held = || {
        let tier = Arc::new(MemoryTier::builder(10).shards(1).build());
        let behind: Weak<MemoryTier<Slow, u64>> = Arc::downgrade(&tier);
        tier.insert(7, Slow(1, Some(Box::new(move || behind.upgrade().unwrap().clear()))), 0, &endless(), NOW, &|| true);
        tier
    };
    let tier = held();
    assert!(!tier.remove(7, &Slow(1, None), None, &|| ()));
    tier.check();
    let tier = held();
    assert!(tier.insert(7, Slow(1, None), 3, &endless(), NOW, &|| true));
    tier.check();
    assert_eq!((tier.len(), value_of(&tier, 1)), (1, Some(3)));
}

/// A value that clears its tier when it is dropped.
struct Clearing(Weak<MemoryTier<u64, Self>>);

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.upgrade().iter().for_each(LocalTier::clear);
    }
}

#[test]
fn slots_that_are_dropped_while_the_tier_is_cleared_are_not_used_again() {
    let tier = Arc::new(MemoryTier::builder(100).shards(1).build());
    let (rounds, keys, sweeps) = if cfg!(miri) { (3, 12, 4) } else { (5, 200, 20) };
    for round in 0..rounds {
        for key in 0..keys {
            let value = Clearing(if key == 0 { Arc::downgrade(&tier) } else { Weak::new() });
            tier.insert(key, key, value, &endless(), NOW, &|| true);
            tier.check();
        }
        for _ in 0..sweeps {
            tier.sweep(NOW);
            tier.check();
        }
        assert!(tier.len() <= 100, "round {round}");
    }
}
