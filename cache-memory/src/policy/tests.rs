mod hit_ratio;
mod model;
mod parts;

use super::{Kind, Marks, Policy, Slot};
use std::cell::Cell;
use std::collections::HashMap;

fn mix(key: u64) -> u64 {
    // The finalizer of splitmix64: every bit of the key moves half the bits of the hash.
    let mut hash = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

impl Marks for Vec<Cell<u16>> {
    fn mark(&self, slot: Slot) -> u16 {
        self[slot as usize].get()
    }

    fn set_mark(&self, slot: Slot, mark: u16) {
        self[slot as usize].set(mark);
    }
}

/// A table as simple as can be over a policy: keys, their slots and weights.
struct Table {
    kind: Kind,
    policy: Policy,
    marks: Vec<Cell<u16>>,
    held: HashMap<u64, Slot>,
    keys: HashMap<Slot, u64>,
    free: Vec<Slot>,
}

impl Table {
    fn new(kind: Kind, capacity: u64) -> Self {
        let (policy, marks) = (Policy::new(kind, capacity), Vec::new());
        Self { kind, policy, marks, held: HashMap::new(), keys: HashMap::new(), free: Vec::new() }
    }

    /// Whether the key is held. It is used if it is.
    fn get(&self, key: u64) -> bool {
        let Some(slot) = self.held.get(&key) else { return false };
        if let Some(mark) = Policy::touched(self.kind, self.marks.mark(*slot), self.policy.pulse()) {
            self.marks.set_mark(*slot, mark);
        }
        true
    }

    fn slot(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.marks.push(Cell::new(0xAAAA));
            self.marks.len() as Slot - 1
        })
    }

    /// Readers are told of a pulse when the policy says that there is a new one: so it must.
    fn told_of_pulses(&mut self, act: impl FnOnce(&mut Self) -> bool) {
        let before = self.policy.settled();
        let told = act(self);
        assert_eq!(told, before != self.policy.settled(), "a new pulse is told of, and nothing else is");
    }

    /// The keys that had to go.
    fn put(&mut self, key: u64, weight: u32) -> Vec<u64> {
        let slot = self.slot();
        if let Some(old) = self.held.insert(key, slot) {
            self.told_of_pulses(|table| table.policy.replace(old, slot, weight, &table.marks));
            self.keys.remove(&old);
            self.free.push(old);
            self.keys.insert(slot, key);
            return self.shrink(0);
        }
        self.held.remove(&key);
        let gone = self.shrink(weight);
        self.told_of_pulses(|table| table.policy.insert(slot, mix(key) as u32, weight, &table.marks));
        self.held.insert(key, slot);
        self.keys.insert(slot, key);
        gone
    }

    /// Evicts until so much more has room, or only what is pinned is left.
    fn shrink(&mut self, more: u32) -> Vec<u64> {
        let mut gone = Vec::new();
        while self.policy.weight() + u64::from(more) > self.policy.capacity() {
            let Some(slot) = self.policy.evict(&self.marks) else { break };
            let key = self.keys.remove(&slot).expect("a victim was held");
            assert_eq!(self.policy.hash(slot), mix(key) as u32);
            assert_eq!(self.held.remove(&key), Some(slot));
            self.free.push(slot);
            gone.push(key);
        }
        gone
    }

    fn remove(&mut self, key: u64) {
        if let Some(slot) = self.held.remove(&key) {
            self.policy.remove(slot);
            self.keys.remove(&slot);
            self.free.push(slot);
        }
    }

    /// Reads a key and puts it in when it is missed. Whether it was held.
    fn ask(&mut self, key: u64) -> bool {
        let hit = self.get(key);
        if !hit {
            self.put(key, 1);
        }
        hit
    }

    /// Hits among these requests, in percent.
    fn hit_ratio(&mut self, keys: impl Iterator<Item = u64>) -> f64 {
        let (mut hits, mut all) = (0_u64, 0_u64);
        for key in keys {
            hits += u64::from(self.ask(key));
            all += 1;
        }
        100.0 * hits as f64 / all as f64
    }
}
