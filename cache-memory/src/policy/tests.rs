use super::{S3Fifo, Slot};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Read;

pub(crate) fn mix(key: u64) -> u64 {
    // The finalizer of splitmix64: every bit of the key moves half the bits of the hash.
    let mut hash = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

/// Views of the product pages of a web shop; `examples/data/README.md` has their source.
pub(crate) fn web07() -> Vec<u64> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/web07.u64.zst");
    let file = std::fs::File::open(path).expect("the trace is in the repository");
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut bytes).unwrap();
    bytes.chunks_exact(8).map(|key| u64::from_le_bytes(key.try_into().unwrap())).collect()
}

/// The share of requests that find their key when every miss inserts it.
fn hit_ratio(trace: &[u64], capacity: usize) -> f64 {
    let mut policy = S3Fifo::new(capacity as u32);
    let mut held: HashMap<u64, Slot> = HashMap::new();
    let mut hits = 0_u64;
    for &key in trace {
        let hash = mix(key);
        if let Some(&slot) = held.get(&hash) {
            policy.mark(slot);
            hits += 1;
            continue;
        }
        if policy.is_full() {
            let victim = policy.evict().unwrap();
            held.remove(&policy.hash(victim)).expect("a victim was held");
        }
        held.insert(hash, policy.insert(hash).unwrap());
    }
    100.0 * hits as f64 / trace.len() as f64
}

#[test]
fn a_web_trace_hits_as_often_as_the_papers_policy_simulated() {
    let trace = web07();
    let distinct = trace.iter().collect::<HashSet<_>>().len();
    let (tenth, hundredth) = (hit_ratio(&trace, distinct / 10), hit_ratio(&trace, distinct / 100));
    assert!(tenth >= 57.5 && hundredth >= 43.0, "{tenth:.2} at 10 %, {hundredth:.2} at 1 %");
}

#[derive(Debug, Clone)]
enum Step {
    /// Read a key, and insert it when it is not held.
    Ask(u64),
    Remove(u64),
}

fn steps(keys: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![9 => (0..keys).prop_map(Step::Ask), 1 => (0..keys).prop_map(Step::Remove)];
    prop::collection::vec(step, 1..400)
}

/// The policy as one would first write it: queues of keys and their uses, and a list of what was evicted.
struct Naive {
    capacity: usize,
    small: VecDeque<(u64, u8)>,
    main: VecDeque<(u64, u8)>,
    ghost: VecDeque<Option<u64>>,
}

impl Naive {
    /// Whether the key was held, and who had to go if not.
    fn ask(&mut self, key: u64) -> (bool, Option<u64>) {
        if let Some(held) = self.small.iter_mut().chain(&mut self.main).find(|held| held.0 == key) {
            held.1 = 3.min(held.1 + 1);
            return (true, None);
        }
        let victim = (self.small.len() + self.main.len() == self.capacity).then(|| self.evict());
        let ghost = self.ghost.iter_mut().find(|ghost| **ghost == Some(key));
        if ghost.is_some_and(|ghost| ghost.take().is_some()) {
            self.main.push_back((key, 0));
        } else {
            self.small.push_back((key, 0));
        }
        (false, victim)
    }

    fn evict(&mut self) -> u64 {
        let share = (self.capacity / 10).max(1);
        loop {
            if self.small.len() >= share || self.main.is_empty() {
                let (key, uses) = self.small.pop_front().unwrap();
                if uses < 2 {
                    self.ghost.push_back(Some(key));
                    if self.ghost.len() > (self.capacity - share).max(1) {
                        self.ghost.pop_front();
                    }
                    return key;
                }
                self.main.push_back((key, 0));
            } else {
                let (key, uses) = self.main.pop_front().unwrap();
                if uses == 0 {
                    return key;
                }
                self.main.push_back((key, uses - 1));
            }
        }
    }
}

proptest! {
    /// Up to nine places: the ghost of so few is one bucket or two that cannot overflow, so it forgets exactly.
    #[test]
    fn evicts_whom_a_naive_s3_fifo_evicts(capacity in 1..10_u32, steps in steps(25)) {
        let mut policy = S3Fifo::new(capacity);
        let mut slots: HashMap<u64, Slot> = HashMap::new();
        let no = VecDeque::new;
        let mut naive = Naive { capacity: capacity as usize, small: no(), main: no(), ghost: VecDeque::new() };
        for step in steps {
            match step {
                Step::Ask(key) => {
                    let (held, victim) = naive.ask(key);
                    assert_eq!(slots.contains_key(&key), held);
                    if let Some(slot) = slots.get(&key) {
                        policy.mark(*slot);
                        continue;
                    }
                    assert_eq!(policy.is_full(), victim.is_some());
                    if let Some(victim) = victim {
                        let slot = policy.evict().unwrap();
                        assert_eq!(slots.remove(&victim), Some(slot), "the victim of both is key {victim}");
                        assert_eq!(policy.hash(slot), mix(victim));
                    }
                    assert!(slots.insert(key, policy.insert(mix(key)).unwrap()).is_none());
                }
                Step::Remove(key) => {
                    naive.small.retain(|held| held.0 != key);
                    naive.main.retain(|held| held.0 != key);
                    if let Some(slot) = slots.remove(&key) {
                        policy.remove(slot);
                    }
                }
            }
            policy.check();
            assert_eq!(policy.len() as usize, slots.len());
        }
    }
}

#[test]
fn a_full_policy_gives_no_slot_and_an_empty_one_evicts_nobody() {
    let mut policy = S3Fifo::new(2);
    assert_eq!(policy.evict(), None);
    assert!(policy.insert(1).is_some() && policy.insert(2).is_some());
    assert_eq!(policy.insert(3), None);
    let mut none = S3Fifo::new(0);
    assert_eq!((none.insert(1), none.evict()), (None, None));
}

#[test]
fn an_eviction_among_entries_that_are_all_used_takes_bounded_work() {
    let mut policy = S3Fifo::new(100_000);
    let slots: Vec<_> = (0..100_000).map(|key| policy.insert(mix(key)).unwrap()).collect();
    for slot in slots {
        (0..3).for_each(|_| policy.mark(slot));
    }
    // The oldest 1,000 are given their chance, and the next goes.
    assert_eq!(policy.evict().map(|slot| policy.hash(slot)), Some(mix(1_000)));
    policy.check();
}

#[test]
fn the_ghost_remembers_as_many_as_it_spans_and_no_more() {
    let span = 1_000;
    let mut ghost = super::ghost::Ghost::new(span);
    for key in 0..5_000 {
        ghost.remember(mix(key));
    }
    let remembered = (4_000..5_000).filter(|key| ghost.recall(mix(*key))).count();
    assert!(remembered > 950, "{remembered} of the last 1,000");
    assert_eq!((0..4_000).filter(|key| ghost.recall(mix(*key))).count(), 0);
    assert!(!ghost.recall(mix(4_999)), "a recall takes the trace away");
}
