//! Event counters whose increments share no cache line between threads.

use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted. `L2Forged` and `L2UnknownKey` are not counted as `L2Unreadable` as well: stats add them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Event {
    L1Hit,
    L1Miss,
    L2Hit,
    L2Replica,
    L2Miss,
    L2Error,
    L2Unreadable,
    L2Forged,
    L2UnknownKey,
    L2Refused,
    L2Unstorable,
    Load,
    LoadError,
    LoadRefused,
    Coalesced,
    Refresh,
    Stale,
    StaleIfError,
    Unverified,
    Insert,
    Write,
    Invalidation,
    InvalidationError,
    Recovered,
    Checked,
    Violation,
}

const EVENTS: usize = Event::Violation as usize + 1;

/// Threads with cells of their own; more threads than this share one more set.
const OWN_CELLS: usize = 256;

/// On lines of its own, in pairs, because the neighbouring line is prefetched with the one that is touched.
#[derive(Debug)]
#[repr(align(128))]
struct Cells([AtomicU64; EVENTS]);

impl Cells {
    fn new() -> Self {
        Self([const { AtomicU64::new(0) }; EVENTS])
    }
}

/// Counts of one cache. An increment is a load and a store of a line that only this thread writes: about a nanosecond.
#[derive(Debug)]
pub(crate) struct Counters {
    own: Box<[OnceLock<Box<Cells>>]>,
    shared: Cells,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self { own: (0..OWN_CELLS).map(|_| OnceLock::new()).collect(), shared: Cells::new() }
    }

    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    #[inline]
    pub(crate) fn add(&self, event: Event, n: u64) {
        let index = thread_index();
        if let Some(cells) = self.own.get(index) {
            let cell = &cells.get_or_init(|| Box::new(Cells::new())).0[event as usize];
            // Ordering: relaxed, and not a read-modify-write: no other live thread has this index, and an index passes to
            // a later thread through the mutex in `FREE`.
            cell.store(cell.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        } else {
            self.shared.0[event as usize].fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The sum over all threads: exact when no thread is counting, otherwise it may miss what is being counted.
    pub(crate) fn sum(&self, event: Event) -> u64 {
        let own = self.own.iter().filter_map(OnceLock::get).map(|cells| cells.0[event as usize].load(Ordering::Relaxed));
        own.sum::<u64>() + self.shared.0[event as usize].load(Ordering::Relaxed)
    }
}

/// Indices that no live thread has, and the next one that no thread ever had.
static FREE: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

const UNSET: usize = usize::MAX;
const SHARED: usize = usize::MAX - 1;

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(UNSET) };
    static RETURN: ReturnIndex = const { ReturnIndex };
}

/// Gives the thread's index back when the thread ends.
struct ReturnIndex;

impl Drop for ReturnIndex {
    fn drop(&mut self) {
        // Destructors of other thread-locals may still count: from here on into the shared cells.
        let index = INDEX.replace(SHARED);
        if index < OWN_CELLS {
            FREE.lock().0.push(index);
        }
    }
}

#[inline]
fn thread_index() -> usize {
    let index = INDEX.get();
    if index == UNSET { claim_index() } else { index }
}

#[cold]
fn claim_index() -> usize {
    // Registers the destructor; in a thread that is past its destructors nothing would return the index.
    if RETURN.try_with(|_| ()).is_err() {
        INDEX.set(SHARED);
        return SHARED;
    }
    let mut free = FREE.lock();
    let index = free.0.pop().unwrap_or_else(|| {
        let next = free.1;
        free.1 = (next + 1).min(OWN_CELLS);
        if next < OWN_CELLS { next } else { SHARED }
    });
    INDEX.set(index);
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_many_short_threads_add_up_exactly() {
        let counters = Counters::new();
        for _ in 0..8 {
            std::thread::scope(|scope| {
                for _ in 0..2 * OWN_CELLS / 8 {
                    scope.spawn(|| (0..100).for_each(|_| counters.count(Event::L1Hit)));
                }
            });
        }
        assert_eq!(counters.sum(Event::L1Hit), 8 * 2 * (OWN_CELLS as u64) / 8 * 100);
        assert_eq!(counters.sum(Event::L1Miss), 0);
    }

    #[test]
    fn more_threads_than_cells_still_add_up() {
        let counters = Counters::new();
        let all_alive = std::sync::Barrier::new(OWN_CELLS + 50);
        std::thread::scope(|scope| {
            for _ in 0..OWN_CELLS + 50 {
                scope.spawn(|| {
                    counters.count(Event::Load);
                    all_alive.wait();
                    counters.count(Event::Load);
                });
            }
        });
        assert_eq!(counters.sum(Event::Load), 2 * (OWN_CELLS as u64 + 50));
    }
}
