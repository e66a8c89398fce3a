//! What a policy keeps of each slot in use, whatever its order: the weight.

use super::Slot;

/// Weights by slot. Where each is 1 none is stored.
#[derive(Debug)]
pub(super) struct Held {
    /// Empty until a weight is not 1; then of every slot.
    weights: Vec<u32>,
    weight: u64,
    len: u32,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { weights: Vec::new(), weight: 0, len: 0 }
    }

    pub(super) fn admit(&mut self, slot: Slot, weight: u32) {
        let at = slot as usize;
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
