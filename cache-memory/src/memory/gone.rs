//! What has left during a write, for the listener.

use crate::policy::Slot;

/// Why an entry left. One that is past its life and was not met yet leaves by what meets it: a new value of its key replaces it, a removal removes it, and a
/// [`resize`](super::MemoryTier::resize), which knows no time, evicts it for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Others needed the room.
    Size,
    /// Its life ended, or nobody read it for as long as it may lie idle. Also if it was found when others needed the room.
    Expired,
    /// A new value of its key came.
    Replaced,
    /// It was removed, or all were; or its partition was suspected many times, and nobody had it loaded anew.
    Removed,
}

/// Slots that have left, if anyone wants to know.
pub(super) struct Gone {
    wanted: bool,
    slots: Vec<(Slot, Cause)>,
}

impl Gone {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, slots: Vec::new() }
    }

    pub(super) fn note(&mut self, slot: Slot, cause: Cause) {
        if self.wanted {
            self.slots.push((slot, cause));
        }
    }

    pub(super) fn into_slots(self) -> Vec<(Slot, Cause)> {
        self.slots
    }
}
