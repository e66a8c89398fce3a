//! What a node counts itself, whatever its cache counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that goes up.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    // Ordering: relaxed; a sum that is read on its own.
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
