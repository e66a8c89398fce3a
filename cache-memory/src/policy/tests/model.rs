//! Random operations, checked after each one.

use super::{Kind, Marks, Policy, Table, mix};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::HashMap;

#[derive(Debug, Clone)]
enum Step {
    Get(u64),
    Put(u64, u32),
    Remove(u64),
    Resize(u64),
}

fn steps(keys: u64, weights: std::ops::Range<u32>) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..keys).prop_map(Step::Get),
        10 => (0..keys, weights).prop_map(|(key, weight)| Step::Put(key, weight)),
        1 => (0..keys).prop_map(Step::Remove),
        1 => (1..60_u64).prop_map(Step::Resize),
    ];
    prop::collection::vec(step, 1..600)
}

/// What every policy owes, whatever its order.
fn run(kind: Kind, capacity: u64, steps: Vec<Step>) {
    let mut table = Table::new(kind, capacity);
    let mut weights: HashMap<u64, u32> = HashMap::new();
    for step in steps {
        let gone = match step {
            Step::Get(key) => {
                assert_eq!(table.get(key), weights.contains_key(&key));
                Vec::new()
            }
            Step::Put(key, weight) => {
                let gone = table.put(key, weight);
                weights.insert(key, weight);
                gone
            }
            Step::Remove(key) => {
                table.remove(key);
                weights.remove(&key);
                Vec::new()
            }
            Step::Resize(capacity) => {
                table.policy.resize(capacity);
                table.shrink(0)
            }
        };
        for key in gone {
            assert_ne!(weights.remove(&key), Some(0), "key {key} was pinned");
        }
        table.policy.check();
        assert_eq!(table.policy.len() as usize, weights.len());
        assert_eq!(table.policy.weight(), weights.values().map(|weight| u64::from(*weight)).sum::<u64>());
        assert_eq!(weights.len(), table.held.len());
    }
    // Whatever happened, all that is not pinned can go.
    table.policy.resize(0);
    table.shrink(0);
    table.policy.check();
    assert_eq!(table.policy.weight(), 0);
    assert_eq!(table.held.len(), weights.values().filter(|weight| **weight == 0).count());
}

/// LRU as one would first write it: keys and the pulse of their last use.
#[derive(Default)]
struct Naive {
    used: HashMap<u64, u32>,
}

impl Naive {
    /// Panics unless nothing held was used before this key, which goes.
    fn evict(&mut self, key: u64) {
        let used = self.used.remove(&key).expect("a victim was held");
        let oldest = self.used.values().min().copied().unwrap_or(used);
        assert!(used <= oldest, "key {key} was used at {used}, another at {oldest}");
    }
}

proptest! {
    #[test]
    fn adaptive_keeps_its_books_with_unit_weights(capacity in 1..60_u64, steps in steps(100, 1..2)) {
        run(Kind::Adaptive, capacity, steps);
    }

    #[test]
    fn adaptive_keeps_its_books_with_weights_and_pins(capacity in 1..60_u64, steps in steps(40, 0..9)) {
        run(Kind::Adaptive, capacity, steps);
    }

    #[test]
    fn lru_keeps_its_books(capacity in 1..60_u64, steps in steps(60, 0..5)) {
        run(Kind::Lru, capacity, steps);
    }

    #[test]
    fn lru_evicts_what_was_used_least_recently(capacity in 1..60_u64, steps in steps(80, 1..3)) {
        let mut table = Table::new(Kind::Lru, capacity);
        let mut naive = Naive::default();
        for step in steps {
            let gone = match step {
                Step::Get(key) => {
                    if table.get(key) {
                        naive.used.insert(key, table.policy.pulse());
                    }
                    Vec::new()
                }
                Step::Put(key, weight) => {
                    let now = table.policy.pulse();
                    let held = table.held.contains_key(&key);
                    if held {
                        naive.used.insert(key, now);
                    }
                    for gone in table.put(key, weight) {
                        naive.evict(gone);
                    }
                    if !held {
                        naive.used.insert(key, now);
                    }
                    continue;
                }
                Step::Remove(key) => {
                    table.remove(key);
                    naive.used.remove(&key);
                    Vec::new()
                }
                Step::Resize(capacity) => {
                    table.policy.resize(capacity);
                    table.shrink(0)
                }
            };
            for gone in gone {
                naive.evict(gone);
            }
        }
    }
}

#[test]
fn an_eviction_among_entries_that_are_all_used_takes_bounded_work() {
    /// Counts the marks that are looked at.
    struct Counted(Vec<Cell<u16>>, Cell<usize>);

    impl Marks for Counted {
        fn mark(&self, slot: u32) -> u16 {
            self.1.set(self.1.get() + 1);
            self.0.mark(slot)
        }

        fn set_mark(&self, slot: u32, mark: u16) {
            self.0.set_mark(slot, mark);
        }
    }

    for kind in [Kind::Adaptive, Kind::Lru] {
        let mut policy = Policy::new(kind, 100_000);
        let marks = Counted(vec![Cell::new(0); 200_000], Cell::new(0));
        for slot in 0..100_000 {
            marks.1.set(0);
            policy.insert(slot, mix(slot.into()) as u32, 1, &marks);
            assert!(marks.1.get() < 100, "an insert takes bounded work");
        }
        // So that there is a new pulse to be used in.
        (100_000..104_000).for_each(|slot| _ = policy.insert(slot, mix(slot.into()) as u32, 1, &marks));
        for slot in 0..104_000 {
            let mark = Policy::touched(kind, marks.0.mark(slot), policy.pulse());
            marks.0.set_mark(slot, mark.unwrap_or(marks.0.mark(slot)));
        }
        for _ in 0..200 {
            marks.1.set(0);
            assert!(policy.evict(&marks).is_some());
            assert!(marks.1.get() < 3_000, "{} marks looked at", marks.1.get());
        }
        policy.check();
    }
}

#[test]
fn a_key_hit_by_all_is_written_once_a_pulse() {
    for kind in [Kind::Adaptive, Kind::Lru] {
        let table = {
            let mut table = Table::new(kind, 1_000);
            table.hit_ratio(0..500);
            table
        };
        table.get(7);
        let mark = table.marks.mark(table.held[&7]);
        assert_eq!(Policy::touched(kind, mark, table.policy.pulse()), None);
    }
}

#[test]
fn a_policy_without_capacity_or_slots_evicts_nobody() {
    for kind in [Kind::Adaptive, Kind::Lru] {
        let marks = vec![Cell::new(0); 2];
        let mut policy = Policy::new(kind, 0);
        assert_eq!(policy.evict(&marks), None);
        policy.insert(0, 7, 0, &marks);
        assert_eq!((policy.evict(&marks), policy.len(), policy.weight()), (None, 1, 0));
        policy.replace(0, 1, 3, &marks);
        assert_eq!((policy.evict(&marks), policy.len(), policy.weight()), (Some(1), 0, 0));
    }
}
