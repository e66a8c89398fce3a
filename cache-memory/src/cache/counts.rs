//! Hits and misses, counted without a line that two threads write.

use crate::grace::Region;
use crate::sync::{AtomicU64, Ordering};
use std::num::NonZeroUsize;

/// Threads with cells of their own, 128 bytes each: so many a core, and so many at least.
const PER_CORE: usize = 4;
const FEWEST: usize = 64;

/// Cells for those beyond, who share them.
const SHARED: usize = 16;

/// What one thread has counted, or a few. On lines of its own: two, since CPUs prefetch in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Cells {
    hits: AtomicU64,
    misses: AtomicU64,
}

pub(super) struct Counts {
    own: Box<[Cells]>,
    shared: Box<[Cells]>,
}

impl Counts {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of(FEWEST.max(PER_CORE * cores), SHARED)
    }

    fn of(own: usize, shared: usize) -> Self {
        let cells = |number| (0..number).map(|_| Cells::default()).collect();
        Self { own: cells(own), shared: cells(shared) }
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
            self.count_shared(region, of);
        }
    }

    /// Of a thread that came when all cells were others'.
    #[cold]
    fn count_shared(&self, region: &Region, of: impl Fn(&Cells) -> &AtomicU64) {
        of(&self.shared[region.thread() % self.shared.len()]).fetch_add(1, Ordering::Relaxed);
    }

    /// Hits and misses of all threads: exact while none is reading.
    pub(super) fn sum(&self) -> (u64, u64) {
        self.own.iter().chain(&self.shared).fold((0, 0), |(hits, misses), cells| {
            (hits + cells.hits.load(Ordering::Relaxed), misses + cells.misses.load(Ordering::Relaxed))
        })
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Counts;
    use crate::grace::Grace;
    use crate::sync::explore;
    use loom::thread;
    use std::sync::Arc;

    /// A count is a load and a store: whoever gets a number, and its cells with it, must see what its last thread counted.
    #[test]
    fn a_count_that_is_handed_on_loses_nothing() {
        explore(Some(3), || {
            let counts = Arc::new(Counts::of(1, 1));
            let count = || {
                let counts = counts.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        let region = Grace::global().enter();
                        counts.hit(&region);
                    }
                })
            };
            // The one that comes second has the first one's number if that has ended, and else none of its own.
            for thread in [count(), count()] {
                thread.join().unwrap();
            }
            assert_eq!(counts.sum(), (4, 0));
        });
    }

    /// As by threads past their destructors, which have a record for a region.
    #[test]
    fn a_count_of_a_lent_record_loses_nothing() {
        explore(Some(3), || {
            let counts = Arc::new(Counts::of(1, 1));
            let count = || {
                let counts = counts.clone();
                thread::spawn(move || {
                    for _ in 0..2 {
                        counts.miss(&Grace::global().borrow());
                    }
                })
            };
            for thread in [count(), count()] {
                thread.join().unwrap();
            }
            assert_eq!(counts.sum(), (0, 4));
        });
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::grace::Grace;
    use std::sync::Barrier;

    /// Counts by so many threads at once. The cells that were used, of each kind.
    fn used(counts: &Counts, threads: usize) -> (usize, usize) {
        let all = Barrier::new(threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    // Each has a record from its first region on.
                    drop(Grace::global().enter());
                    all.wait();
                    let region = Grace::global().enter();
                    counts.hit(&region);
                    counts.miss(&region);
                    drop(region);
                    all.wait();
                });
            }
        });
        let used = |cells: &[Cells]| cells.iter().filter(|cells| cells.hits.load(Ordering::Relaxed) > 0).count();
        assert_eq!(counts.sum(), (threads as u64, threads as u64));
        (used(&counts.own), used(&counts.shared))
    }

    #[test]
    fn threads_count_in_cells_of_their_own() {
        // As many as the highest number that other tests' threads may have left to these.
        let counts = Counts::of(10_000, 16);
        assert_eq!(used(&counts, 2), (2, 0));
    }

    #[test]
    fn threads_beyond_those_with_cells_spread_over_the_shared_ones() {
        let threads = if cfg!(miri) { 5 } else { 64 };
        let (own, shared) = used(&Counts::of(1, 16), threads);
        assert!(own <= 1 && shared >= threads.min(16) / 2, "{own} and {shared}");
    }
}
