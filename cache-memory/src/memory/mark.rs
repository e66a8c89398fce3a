//! What readers tell the policy of an entry.

use crate::sync::{AtomicU16, Ordering};

/// Shared by all readers of an entry, so each store takes a line from the others: see [`Settled`](crate::policy::Settled) for when there is none.
///
/// Ordering: relaxed throughout. It guards nothing, and of two uses at once one may be lost.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Mark(AtomicU16);

impl Mark {
    pub(super) fn new() -> Self {
        Self(AtomicU16::new(0))
    }

    #[inline]
    pub(super) fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set(&self, mark: u16) {
        #[cfg(all(test, not(any(loom, shuttle))))]
        check::count();
        self.0.store(mark, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
pub(super) mod check {
    use std::cell::Cell;

    thread_local! {
        static STORES: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        STORES.set(STORES.get() + 1);
    }

    /// Stores to marks by this thread.
    pub(in crate::memory) fn stores() -> u64 {
        STORES.get()
    }
}
