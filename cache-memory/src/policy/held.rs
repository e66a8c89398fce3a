//! What a policy keeps of each slot in use, whatever its order: hash and weight.

use super::Slot;

/// Hashes and weights by slot. Where every weight is 1 none is stored.
#[derive(Debug)]
pub(super) struct Held {
    hashes: Vec<u32>,
    /// Empty until a weight is not 1; then of every slot.
    weights: Vec<u32>,
    weight: u64,
    len: u32,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { hashes: Vec::new(), weights: Vec::new(), weight: 0, len: 0 }
    }

    pub(super) fn reserve(&mut self, slots: usize) {
        self.hashes.reserve_exact(slots.saturating_sub(self.hashes.len()));
    }

    pub(super) fn admit(&mut self, slot: Slot, hash: u32, weight: u32) {
        let at = slot as usize;
        if at >= self.hashes.len() {
            self.hashes.resize(at + 1, 0);
        }
        self.hashes[at] = hash;
        if weight != 1 && self.weights.is_empty() {
            self.weights = vec![1; at + 1];
        }
        if !self.weights.is_empty() {
            if at >= self.weights.len() {
                self.weights.resize(at + 1, 1);
            }
            self.weights[at] = weight;
        }
        self.weight += u64::from(weight);
        self.len += 1;
    }

    pub(super) fn release(&mut self, slot: Slot) {
        self.weight -= self.weight_of(slot);
        self.len -= 1;
    }

    pub(super) fn hash(&self, slot: Slot) -> u32 {
        self.hashes[slot as usize]
    }

    pub(super) fn weight_of(&self, slot: Slot) -> u64 {
        self.weights.get(slot as usize).map_or(1, |weight| u64::from(*weight))
    }

    /// Of all slots in use.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }
}
