//! Hits and misses, counted without a line that two threads write.

use crate::grace::Region;
use crate::sync::{AtomicU64, Ordering};
use std::sync::OnceLock;

/// Threads with cells of their own; more threads at a time than this share one more set.
const OWN_CELLS: usize = 256;

/// What one thread has counted. On lines of its own: two, since CPUs prefetch in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Cells {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Cells {
    #[inline]
    fn of(&self, hit: bool) -> &AtomicU64 {
        if hit { &self.hits } else { &self.misses }
    }
}

pub(super) struct Counts {
    own: Box<[OnceLock<Box<Cells>>]>,
    shared: Cells,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self { own: (0..OWN_CELLS).map(|_| OnceLock::new()).collect(), shared: Cells::default() }
    }

    /// Counts a read. A region's thread has its number for itself, so that a load and a store do.
    #[inline]
    pub(super) fn read(&self, region: &Region, hit: bool) {
        if let Some(own) = self.own.get(region.thread()) {
            let cell = own.get_or_init(Box::default).of(hit);
            // Ordering: relaxed. Only this thread writes it; a thread that gets the number later acquired the record that it comes with.
            cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            self.shared.of(hit).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hits and misses of all threads: exact while none is reading.
    pub(super) fn sum(&self) -> (u64, u64) {
        let own = self.own.iter().filter_map(OnceLock::get).map(|cells| &**cells);
        own.chain([&self.shared]).fold((0, 0), |(hits, misses), cells| {
            (hits + cells.hits.load(Ordering::Relaxed), misses + cells.misses.load(Ordering::Relaxed))
        })
    }
}
