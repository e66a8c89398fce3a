//! Against a map: what the tier shows, holds, tells of and drops after every step.

use super::census::{Census, Key, Value};
use super::{Cause, LocalTier, Moment, NOW, Partition, Stamp, TICK, Terms, hash};
use crate::Policy;
use crate::memory::{Change, Computed, MemoryTier, upkeep};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    Put { key: u64, life: Option<u64>, idle: Option<u64>, weight: u32, partition: u8, version: u64 },
    Refused { key: u64 },
    Read { key: u64 },
    Terms { key: u64 },
    Remove { key: u64, version: Option<u64> },
    Compute { key: u64, verb: Verb, weight: u32 },
    Suspect(u8),
    Wait(u64),
    Clear,
    Resize(u64),
    Sweep,
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Keep,
    Put,
    Remove,
}

/// Keys of a trial are below it.
const KEYS: u64 = 60;

fn steps(keys: u64, capacities: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Step>> {
    let weight = || prop_oneof![6 => Just(1_u32), 1 => Just(0_u32), 3 => 1..12_u32];
    let some = |ticks| prop::option::weighted(0.3, 0..ticks);
    let put = (0..keys, some(40_u64), some(20_u64), weight(), 0..3_u8, 0..3_u64);
    let step = prop_oneof![
        10 => put.prop_map(|(key, life, idle, weight, partition, version)| Step::Put { key, life, idle, weight, partition, version }),
        1 => (0..keys).prop_map(|key| Step::Refused { key }),
        8 => (0..keys).prop_map(|key| Step::Read { key }),
        2 => (0..keys).prop_map(|key| Step::Terms { key }),
        2 => (0..keys, prop::option::of(0..4_u64)).prop_map(|(key, version)| Step::Remove { key, version }),
        3 => (0..keys, prop_oneof![Just(Verb::Keep), Just(Verb::Put), Just(Verb::Remove)], weight())
            .prop_map(|(key, verb, weight)| Step::Compute { key, verb, weight }),
        1 => (0..3_u8).prop_map(Step::Suspect),
        2 => (1..20_u64).prop_map(Step::Wait),
        1 => prop_oneof![3 => Just(Step::Sweep), 1 => Just(Step::Clear), 1 => capacities.prop_map(Step::Resize)],
    ];
    prop::collection::vec(step, 1..300)
}

/// What the map has of a key.
#[derive(Debug, Clone)]
struct Held {
    id: u64,
    weight: u64,
    terms: Terms,
    touched: Moment,
    suspect: bool,
}

impl Held {
    fn is_over(&self, now: Moment) -> bool {
        now >= self.terms.stamp.last || self.terms.idle.is_some_and(|idle| now.since(self.touched) >= idle)
    }
}

type Events = Arc<Mutex<Vec<(u64, u64, Cause)>>>;

struct Trial {
    tier: MemoryTier<Key, Value>,
    /// Where there is a listener: then the map has what the tier has, and otherwise what it would have without evictions.
    events: Option<Events>,
    census: Census,
    map: HashMap<u64, Held>,
    /// Keys of values that were cleared and not told of.
    cleared: HashMap<u64, u64>,
    now: Moment,
    capacity: u64,
    shards: u64,
    hash: fn(u64) -> u64,
    born: u64,
    size_events: u64,
}

impl Trial {
    fn new(kind: Policy, capacity: u64, shards: u64, told: bool, hash: fn(u64) -> u64) -> Self {
        let events = told.then(Events::default);
        let mut builder = MemoryTier::builder(capacity).policy(kind).shards(shards as usize);
        builder = builder.weigher(|_: &Key, value: &Value| value.weight);
        if let Some(events) = events.clone() {
            builder = builder.listener(move |key, value, cause| events.lock().unwrap().push((key.id, value.id, cause)));
        }
        Self {
            tier: builder.build(),
            events,
            census: Census::default(),
            map: HashMap::new(),
            cleared: HashMap::new(),
            now: NOW,
            capacity,
            shards,
            hash,
            born: 0,
            size_events: 0,
        }
    }

    fn value(&mut self, weight: u32) -> Value {
        self.born += 1;
        self.census.value(self.born, weight)
    }

    /// What a read must see, or may miss.
    fn expected(&self, key: u64) -> Option<&Held> {
        self.map.get(&key).filter(|held| !held.is_over(self.now))
    }

    /// Whether the map has exactly what lives in the tier.
    fn is_exact(&self) -> bool {
        self.events.is_some() || self.tier.evictions() == 0
    }

    /// Whether an entry of the map may have left without the map's knowing.
    fn may_have_left(&self, held: &Held) -> bool {
        self.events.is_none() && (held.is_over(self.now) || !self.is_exact())
    }

    fn saw(&mut self, key: u64, found: Option<(u64, bool)>) {
        let expected = self.expected(key).map(|held| (held.id, held.suspect));
        let excused = found.is_none() && !self.is_exact();
        assert!(found == expected || excused, "a read of {key} found {found:?}, not {expected:?}");
        if let (Some(_), Some(held)) = (found, self.map.get_mut(&key)) {
            held.touched = self.now;
        }
    }

    fn room_of(&self, key: u64) -> u64 {
        let shard = ((self.hash)(key) >> 32) >> (32 - self.shards.trailing_zeros());
        upkeep::shares(self.capacity, self.shards).nth(shard as usize).unwrap()
    }

    /// What the map does when a value is put in; the value that it replaces must be told of.
    fn stored(&mut self, key: u64, id: u64, weight: u32, terms: Terms, stored: bool, must_tell: &mut Vec<(u64, u64, Cause)>) {
        let fits = u64::from(weight) <= self.room_of(key);
        assert_eq!(stored, fits, "what fits is stored, and what does not is not");
        if let Some(old) = self.map.remove(&key) {
            must_tell.push((key, old.id, Cause::Replaced));
        }
        if stored {
            self.map.insert(key, Held { id, weight: weight.into(), terms, touched: self.now, suspect: false });
        }
    }

    fn step(&mut self, step: &Step) {
        let mut must_tell = Vec::new();
        let (tier, now, hash) = (&self.tier, self.now, self.hash);
        match *step {
            Step::Put { key, life, idle, weight, partition, version } => {
                let terms = Terms {
                    // No time at all is the shortest that there is.
                    idle: idle.map(|ticks| Duration::from_nanos((ticks * TICK).max(1))),
                    partition: Partition::from_index(partition),
                    version,
                    ..self.terms(life)
                };
                let value = self.value(weight);
                let id = value.id;
                let stored = self.tier.insert(hash(key), self.census.key(key), value, &terms, now, &|| true);
                self.stored(key, id, weight, terms, stored, &mut must_tell);
            }
            Step::Refused { key } => {
                let value = self.value(1);
                let terms = self.terms(None);
                assert!(!self.tier.insert(hash(key), self.census.key(key), value, &terms, now, &|| false));
            }
            Step::Read { key } => {
                let found = tier.with(hash(key), &key, now, |local| (local.value.id, local.suspect));
                self.saw(key, found);
            }
            Step::Terms { key } => {
                let found = tier.terms(hash(key), &key, now);
                if let (Some(found), Some(held)) = (&found, self.expected(key)) {
                    let mut exact = held.terms;
                    assert!(found.stamp.created <= exact.stamp.created && found.stamp.soft <= exact.stamp.soft);
                    assert!(found.stamp.hard <= exact.stamp.hard);
                    exact.stamp = Stamp { last: exact.stamp.last, ..found.stamp };
                    assert_eq!(found, &exact);
                }
                let expected = self.expected(key).map(|held| (held.id, held.suspect));
                self.saw(key, found.and(expected));
                assert!(found.is_none() || expected.is_some(), "terms of {key}, which is gone");
            }
            Step::Remove { key, version } => {
                let removed = tier.remove(hash(key), &key, version, &|| ());
                let removable = self.map.get(&key).filter(|held| version.is_none_or(|version| held.terms.version < version));
                assert_eq!(removed, removable.is_some_and(|held| removed || !self.may_have_left(held)));
                if let Some(id) = removable.map(|held| held.id) {
                    must_tell.push((key, id, Cause::Removed));
                    self.map.remove(&key);
                }
            }
            Step::Compute { key, verb, weight } => self.compute(key, verb, weight, &mut must_tell),
            Step::Suspect(partition) => {
                let partition = Partition::from_index(partition);
                tier.suspect(partition);
                self.map.values_mut().filter(|held| held.terms.partition == partition).for_each(|held| held.suspect = true);
            }
            Step::Wait(ticks) => self.now = now.after(Duration::from_nanos(ticks * TICK)),
            Step::Clear => {
                tier.clear();
                self.cleared.extend(self.map.drain().map(|(key, held)| (held.id, key)));
            }
            Step::Resize(capacity) => {
                self.capacity = capacity;
                tier.resize(capacity);
            }
            Step::Sweep => {
                tier.sweep(now);
                let dead: Vec<_> =
                    self.map.iter().filter(|(_, held)| held.is_over(now)).map(|(key, held)| (*key, held.id)).collect();
                for (key, id) in dead {
                    if self.events.is_none() {
                        self.map.remove(&key);
                    } else {
                        assert!(self.events.iter().any(|events| events.lock().unwrap().iter().any(|event| event.1 == id)));
                    }
                }
            }
        }
        self.settle_events(must_tell);
        self.check();
    }

    fn terms(&self, life: Option<u64>) -> Terms {
        let last = life.map_or(Moment::NEVER, |ticks| self.now.after(Duration::from_nanos(ticks * TICK)));
        Stamp { created: self.now, soft: last, hard: last, last }.into()
    }

    fn compute(&mut self, key: u64, verb: Verb, weight: u32, must_tell: &mut Vec<(u64, u64, Cause)>) {
        let (now, hash) = (self.now, self.hash);
        let (value, terms) = (self.value(weight), self.terms(Some(30)));
        let id = value.id;
        let had = self.map.get(&key).cloned();
        let mut value = Some(value);
        let mut found = None;
        let done = self.tier.compute(
            hash(key),
            self.census.key(key),
            || now,
            |local| {
                found = local.map(|local| (local.value.id, local.suspect));
                match verb {
                    Verb::Keep => Change::Keep,
                    Verb::Put => Change::Put(value.take().expect("nobody else writes, so it runs once"), terms),
                    Verb::Remove => Change::Remove,
                }
            },
        );
        drop(value);
        self.saw(key, found);
        match verb {
            Verb::Keep => assert_eq!(done, Computed::Kept),
            Verb::Put => {
                assert!(matches!(done, Computed::Stored | Computed::Refused), "{done:?} with nobody else there");
                self.stored(key, id, weight, terms, done == Computed::Stored, must_tell);
            }
            Verb::Remove => {
                let done = match done {
                    Computed::Removed => true,
                    Computed::Kept => false,
                    _ => panic!("{done:?} of a removal"),
                };
                assert_eq!(done, had.as_ref().is_some_and(|held| done || !self.may_have_left(held)), "whether one was removed");
                if let Some(old) = had {
                    must_tell.push((key, old.id, Cause::Removed));
                    self.map.remove(&key);
                }
            }
        }
    }

    /// Every value leaves once, with a cause that holds.
    fn settle_events(&mut self, mut must_tell: Vec<(u64, u64, Cause)>) {
        let Some(events) = self.events.clone() else { return };
        for (key, id, cause) in events.lock().unwrap().drain(..) {
            if let Some(at) = must_tell.iter().position(|event| *event == (key, id, cause)) {
                must_tell.swap_remove(at);
                continue;
            }
            if self.cleared.get(&id) == Some(&key) {
                assert_eq!(cause, Cause::Removed, "a cleared value");
                self.cleared.remove(&id);
                continue;
            }
            let held = self.map.remove(&key).filter(|held| held.id == id).expect("what leaves was held, and had not left before");
            match cause {
                Cause::Size => {
                    assert!(held.weight > 0, "a pinned entry was evicted");
                    self.size_events += 1;
                }
                Cause::Expired => assert!(held.is_over(self.now), "{key} is alive"),
                _ => panic!("{key}: {cause:?} of nobody's making"),
            }
        }
        assert_eq!(must_tell, [], "what left was told of");
        assert_eq!(self.size_events, self.tier.evictions());
    }

    /// The number of the value that a key has. No use of it.
    fn peek(&self, key: u64) -> Option<u64> {
        let (hash, region) = ((self.hash)(key), self.tier.enter());
        let table = self.tier.shard(hash).table(&region);
        let (address, node) = table.find(&region, hash, |found| found.id == key)?;
        (!table.is_dead(&region, address.slot(), self.now)).then_some(node.value.id)
    }

    fn check(&self) {
        let waiting = self.tier.check();
        for key in 0..KEYS {
            let (found, expected) = (self.peek(key), self.expected(key).map(|held| held.id));
            assert!(found == expected || found.is_none() && !self.is_exact(), "{key} has {found:?}, not {expected:?}");
            assert_eq!(self.tier.holds((self.hash)(key), &key, self.now), found.is_some());
        }
        let (len, weight) = (self.tier.len(), self.tier.weight());
        assert!(weight <= self.capacity, "{weight} is over {}", self.capacity);
        assert_eq!(self.census.living(), 2 * (len + waiting), "a key and a value live for each entry, held or waiting");
        if self.events.is_some() {
            assert_eq!(len, self.map.len() as u64);
            assert_eq!(weight, self.map.values().map(|held| held.weight).sum::<u64>());
        } else if self.is_exact() {
            let alive = self.map.values().filter(|held| !held.is_over(self.now)).count() as u64;
            assert!((alive..=self.map.len() as u64).contains(&len), "{len}, and {alive} of {} live", self.map.len());
        }
    }

    fn end(mut self) {
        self.tier.drain(self.now);
        self.settle_events(Vec::new());
        assert!(self.events.is_none() || self.cleared.is_empty(), "what was cleared is told of in the end: {:?}", self.cleared);
        assert_eq!(self.census.living(), 2 * self.tier.len());
        drop(self.tier);
        assert_eq!(self.census.living(), 0);
    }
}

fn run(mut trial: Trial, steps: Vec<Step>) {
    for step in steps {
        trial.step(&step);
    }
    trial.end();
}

fn kind() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Adaptive), Just(Policy::Lru)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
    fn agrees_with_a_map_while_evicting(kind in kind(), capacity in 0..60_u64, shards in 0..3_u32, told in any::<bool>(), steps in steps(KEYS, 0..80)) {
        run(Trial::new(kind, capacity, 1 << shards, told, hash), steps);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
    fn misses_nothing_with_room_for_all(kind in kind(), shards in 0..3_u32, told in any::<bool>(), steps in steps(KEYS, 5_000..9_000)) {
        let mut trial = Trial::new(kind, 6_000, 1 << shards, told, hash);
        for step in steps {
        trial.step(&step);
    }
        assert_eq!(trial.tier.evictions(), 0);
        trial.end();
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
    fn agrees_with_a_map_when_every_hash_is_the_same(kind in kind(), capacity in 1..40_u64, told in any::<bool>(), steps in steps(40, 0..80)) {
        run(Trial::new(kind, capacity, 1, told, |_| 7), steps);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
    fn agrees_with_a_map_when_hashes_share_a_bucket_or_a_tag(kind in kind(), capacity in 1..40_u64, told in any::<bool>(), steps in steps(40, 0..80)) {
        run(Trial::new(kind, capacity, 1, told, |key| ((key % 5) << 40) | (key / 5 % 3)), steps);
    }
}
