//! Code of users that panics, wherever it is called: the tier stays usable, nothing leaks, nothing is dropped twice. Fault A6.

use super::census::{Census, Citizen};
use super::{LocalTier, MemoryTier, NOW, after, endless, hash, panics, quiet_panic, until};
use crate::memory::gone::Gone;
use crate::memory::writer::Writer;
use crate::memory::{Cause, Change, Locked};
use std::cell::Cell;

thread_local! {
    /// So many calls of a user's code until one panics.
    static FUSE: Cell<u64> = const { Cell::new(u64::MAX) };
}

fn burn() {
    FUSE.with(|fuse| match fuse.get() {
        0 => {
            fuse.set(u64::MAX);
            quiet_panic()
        }
        left => fuse.set(left - 1),
    });
}

/// A key or a value of which everything may panic.
struct Fragile(u64, Citizen);

impl Fragile {
    fn new(census: &Census, number: u64) -> Self {
        Self(number, census.citizen())
    }
}

impl PartialEq for Fragile {
    fn eq(&self, other: &Self) -> bool {
        burn();
        self.0 == other.0
    }
}

impl Eq for Fragile {}

impl std::hash::Hash for Fragile {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
        unreachable!("the stack hashes, not the tier");
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        burn();
        Self(self.0, self.1.clone())
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        // Two panics at once abort, whoever makes them.
        if !std::thread::panicking() {
            burn();
        }
    }
}

type Tier = MemoryTier<Fragile, Fragile>;

fn tier(capacity: u64) -> Tier {
    let builder = MemoryTier::builder(capacity).shards(1);
    let weigher = |_: &Fragile, value: &Fragile| {
        burn();
        1 + u32::from(value.0 % 5 == 4)
    };
    builder.weigher(weigher).listener(|_: &Fragile, _: &Fragile, _: Cause| burn()).build()
}

/// Something of everything, on few keys whose hashes collide.
fn use_all(tier: &Tier, census: &Census, round: u64) {
    let fragile = |number| Fragile::new(census, number);
    let (id, hash) = (round % 13, hash(round % 13 % 4));
    let terms = if round.is_multiple_of(3) { until(after(round / 20)) } else { endless() };
    let now = after(round / 20);
    match round % 8 {
        0..3 => _ = tier.insert(hash, fragile(id), fragile(round), &terms, now, &|| !round.is_multiple_of(7)),
        3 => {
            let key = fragile(id);
            _ = tier.with(hash, &key, now, |local| {
                burn();
                local.value.0
            });
        }
        4 => {
            let key = fragile(id);
            _ = tier.get(hash, &key, now);
        }
        5 => {
            let key = fragile(id);
            _ = tier.remove(hash, &key, None, &|| ());
        }
        6 => {
            _ = tier.compute(
                hash,
                fragile(id),
                || now,
                |held| {
                    burn();
                    match held.map(|local| local.value.0 % 3) {
                        Some(0) => Change::Remove,
                        Some(1) => Change::Keep,
                        _ => Change::Put(fragile(round), terms),
                    }
                },
            );
        }
        _ => match round / 8 % 5 {
            0 => tier.clear(),
            1 => tier.resize(5 + round % 9),
            2 => tier.sweep(now),
            _ => drop(tier.snapshot(0, now)),
        },
    }
}

#[test]
fn a6_a_panic_in_any_call_of_users_code_leaves_the_tier_usable() {
    let census = Census::default();
    let tier = tier(9);
    let (mut panicked, rounds) = (0, if cfg!(miri) { 40 } else { 12_000 });
    for round in 0..rounds {
        FUSE.set(round % 11);
        panicked += u64::from(panics(|| use_all(&tier, &census, round)));
        FUSE.set(u64::MAX);
        let waiting = tier.check();
        assert_eq!(census.living(), 2 * (tier.len() + waiting), "round {round}");
        assert!(tier.weight() <= tier.capacity().unwrap());
    }
    assert!(panicked > rounds / 20, "{panicked} times something panicked");
    assert!(tier.insert(1, Fragile::new(&census, 1), Fragile::new(&census, 1), &endless(), NOW, &|| true));
    FUSE.set(5);
    panics(|| drop(tier));
    assert_eq!(census.living(), 0);
    FUSE.set(u64::MAX);
}

#[test]
fn a6_a_panic_under_admission_leaves_the_tier_usable() {
    let census = Census::default();
    let tier = tier(9);
    let insert =
        |admit: &dyn Fn() -> bool| tier.insert(1, Fragile::new(&census, 1), Fragile::new(&census, 1), &endless(), NOW, admit);
    assert!(panics(|| _ = insert(&|| quiet_panic())) && insert(&|| true));
    let key = Fragile::new(&census, 1);
    assert!(panics(|| _ = tier.remove(1, &key, None, &|| quiet_panic())));
    assert!(tier.remove(1, &key, None, &|| ()));
    drop(key);
    tier.drain(NOW);
    assert_eq!((tier.len(), census.living()), (0, 0));
}

#[test]
fn a6_a_write_that_fails_halfway_is_seen_by_a_search_of_before() {
    let tier = MemoryTier::<u64, u64>::builder(10).shards(1).build();
    tier.insert(7, 1, 1, &endless(), NOW, &|| true);
    let key = |key: &u64, found: &u64| found == key;
    // A search finds the key, and before it has the lock a write takes the key out and fails.
    let overtaken = |sought: &u64, found: &u64| {
        let fail = |_, (), locked: &Locked<'_, u64, u64>, writer: &mut Writer<u64, u64>, held: Option<u32>, gone: &mut Gone| {
            writer.unlink(locked.table, held.unwrap(), Cause::Removed, gone);
            quiet_panic();
        };
        assert!(panics(|| tier.change(tier.enter(), 7, 1, key, |_, _| (), fail)));
        sought == found
    };
    assert_eq!(tier.change(tier.enter(), 7, 1, overtaken, |_, held| held, |_, held, _, _, _, _| held), None);
    tier.check();
    assert!(tier.is_empty());
}

#[test]
fn a6_a_listener_that_panics_stops_no_resize_and_no_sweep() {
    let tier = MemoryTier::builder(1_000).shards(8).listener(|_: &u64, _: &u64, _: Cause| quiet_panic()).build();
    let left = if cfg!(miri) { 5 } else { 100 };
    (0..9 * left).for_each(|key| _ = tier.insert(hash(key), key, key, &until(after(1)), NOW, &|| true));
    assert!(panics(|| tier.resize(left)) && tier.len() == left);
    assert!(panics(|| tier.sweep(after(1))) && tier.is_empty());
}

#[test]
fn a6_a_listener_that_panics_is_told_of_the_rest() {
    use std::sync::{Arc, Mutex};
    let some = if cfg!(miri) { 4 } else { 100 };
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let listener = move |key: &u64, _: &u64, _: Cause| {
        tell.lock().unwrap().push(*key);
        if key % 10 == 3 {
            quiet_panic();
        }
    };
    let tier = MemoryTier::builder(1_000).shards(1).listener(listener).build();
    (0..5 * some as u64).for_each(|key| _ = tier.insert(hash(key), key, key, &endless(), NOW, &|| true));
    assert!(panics(|| tier.resize(4 * some as u64)), "evictions, all of which one write tells");
    assert_eq!(told.lock().unwrap().len(), some);
    tier.clear();
    for _ in 0..10_000 {
        panics(|| tier.sweep(NOW));
        if told.lock().unwrap().len() >= 5 * some {
            break;
        }
        // A reader of another test may hold it up.
        std::thread::yield_now();
    }
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort_unstable();
    assert_eq!(told, (0..5 * some as u64).collect::<Vec<_>>(), "each of a cleared tier's entries, once");
}
