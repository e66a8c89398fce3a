//! What must be true of a shard whenever its lock is free.

use super::Writer;
use crate::memory::shard::Table;
use crate::policy::Slot;

impl<K, V> Writer<K, V> {
    /// Panics where index, policy and slots contradict each other. How many entries have left and are not dropped yet.
    pub(in crate::memory) fn check(&self, table: &Table<K, V>) -> usize {
        self.policy.check();
        assert!(self.policy.weight() <= self.policy.capacity(), "more is held than fits");
        let mut uses = vec![0; self.next as usize];
        let mut count = |slots: &mut dyn Iterator<Item = Slot>| slots.for_each(|slot| uses[slot as usize] += 1);
        count(&mut self.free.iter().copied());
        count(&mut self.retired.slots());
        count(&mut self.linked_slots());
        let owned = uses.iter().all(|uses| *uses == 1);
        assert!(owned, "a slot is in the index, retired, or free, and no two of these: {uses:?}");
        let mut indexed = table.index.check(|slot| self.policy.hash(slot));
        indexed.sort_unstable();
        assert_eq!(indexed, self.linked_slots().collect::<Vec<_>>(), "the index has the slots that are marked so");
        assert_eq!(indexed.len() as u64, self.len(), "the policy has as many");
        self.retired.slots().count() + self.graves.iter().map(super::Grave::len).sum::<usize>()
    }

    /// How many tables were outgrown and are not freed yet.
    pub(in crate::memory) fn outgrown(&self) -> usize {
        self.outgrown.len()
    }

    /// How many cleared tables are not taken apart yet.
    pub(in crate::memory) fn graves(&self) -> usize {
        self.graves.len()
    }

    /// Whether policy and slots of what was cleared wait with it.
    pub(in crate::memory) fn graves_have_books(&self) -> bool {
        !self.graves.is_empty() && self.graves.iter().all(super::Grave::has_books)
    }

    /// Has it run out of slots sooner.
    pub(in crate::memory) fn limit_slots(&mut self, most: Slot) {
        self.most = most;
    }

    pub(in crate::memory) fn capacity(&self) -> u64 {
        self.policy.capacity()
    }
}
