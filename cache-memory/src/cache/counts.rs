//! Hits and misses, counted without a line that two threads write.

use crate::grace::Region;
use crate::sync::{AtomicU64, Ordering};
use std::num::NonZeroUsize;

/// Threads with cells of their own, 128 bytes each: so many a core, and so many at least. More threads at a time share one more set.
const PER_CORE: usize = 4;
const FEWEST: usize = 64;

/// What one thread has counted. On lines of its own: two, since CPUs prefetch in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Cells {
    hits: AtomicU64,
    misses: AtomicU64,
}

pub(super) struct Counts {
    own: Box<[Cells]>,
    shared: Cells,
}

impl Counts {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let own = (0..FEWEST.max(PER_CORE * cores)).map(|_| Cells::default()).collect();
        Self { own, shared: Cells::default() }
    }

    /// Counts a read that found something.
    #[inline]
    pub(super) fn hit(&self, region: &Region) {
        self.count(region, |cells| &cells.hits);
    }

    /// Counts one that did not.
    #[inline]
    pub(super) fn miss(&self, region: &Region) {
        self.count(region, |cells| &cells.misses);
    }

    /// A region's thread has its number for itself, so that a load and a store do.
    #[inline]
    fn count(&self, region: &Region, of: impl Fn(&Cells) -> &AtomicU64) {
        if let Some(own) = self.own.get(region.thread()) {
            let count = of(own);
            // Ordering: relaxed. Only this thread writes it; a thread that gets the number later acquired the record that it comes with.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        } else {
            of(&self.shared).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hits and misses of all threads: exact while none is reading.
    pub(super) fn sum(&self) -> (u64, u64) {
        self.own.iter().chain([&self.shared]).fold((0, 0), |(hits, misses), cells| {
            (hits + cells.hits.load(Ordering::Relaxed), misses + cells.misses.load(Ordering::Relaxed))
        })
    }
}
