//! Suspicion: a counter a partition, of which entries keep the low byte.
//!
//! An entry of another byte than its partition's is suspect. Bytes come round, so nothing may be left by then that lies far behind: what 32 suspicions did not make anybody
//! load anew is taken out by a walk through the tier, which serves all partitions, once one of them was suspected 128 times since the last.
//!
//! ```text
//!  last walk                                                          no further
//!      │◀ 32 ▶│                                                            │
//!  ────┼──────┼───────────────── … ───────────────┼───────── … ────────────┼──▶ suspicions of a partition
//!   nothing is                                   128: a walk              192: a second one, if the first has not ended
//!   left of before
//! ```
//!
//! So what is there is 225 behind at most, and its byte tells.

use super::life::Life;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};

const PARTITIONS: usize = 256;

/// Beside the count: something was stored under it.
const USED: u32 = 1 << 31;

/// So far behind, an entry is taken out by a walk.
const ANCIENT: u8 = 32;
/// So many suspicions after a walk the next one is due.
const DUE: u64 = 128;
/// And so many after it nobody goes on without one of his own.
const MOST: u64 = 192;

/// How often a partition had been suspected.
#[derive(Clone, Copy)]
pub(super) struct Epoch(u32);

impl Epoch {
    pub(super) fn byte(self) -> u8 {
        self.0 as u8
    }
}

pub(super) struct Epochs {
    now: Box<[AtomicU32; PARTITIONS]>,
    books: Mutex<Books>,
}

/// What only suspicions look at.
struct Books {
    /// Empty before the first one.
    counts: Vec<Count>,
    /// Walks that have not ended.
    walks: u32,
}

#[derive(Clone, Copy, Default)]
struct Count {
    suspicions: u64,
    /// As many of them as there had been when the last walk began that has ended.
    walked: u64,
}

/// A walk that is to be made: how many suspicions there had been of each partition when it began.
#[must_use]
pub(super) struct Walk(Vec<u64>);

impl Epochs {
    pub(super) fn new() -> Self {
        let books = Books { counts: Vec::new(), walks: 0 };
        Self { now: Box::new(std::array::from_fn(|_| AtomicU32::new(0))), books: Mutex::new(books) }
    }

    #[inline]
    fn now(&self, partition: u8) -> u32 {
        // Ordering: acquire pairs with the release in `suspect`.
        self.now[usize::from(partition)].load(Ordering::Acquire) & !USED
    }

    #[inline]
    pub(super) fn is_suspect(&self, life: &Life) -> bool {
        self.now(life.partition()) as u8 != life.epoch()
    }

    /// The epoch of an entry that is about to be stored: a suspicion that comes from now on makes it suspect.
    #[inline]
    pub(super) fn enter(&self, partition: u8) -> Epoch {
        let word = &self.now[usize::from(partition)];
        // Ordering: acquire pairs with the release in `suspect`. Relaxed were enough for the mark: who is to suspect what was stored here has heard so from
        // whoever has stored it, and finds this word no older than here.
        let mut now = word.load(Ordering::Acquire);
        if now & USED == 0 {
            now = word.fetch_or(USED, Ordering::AcqRel);
        }
        Epoch(now & !USED)
    }

    /// Under the lock under which walks will find the entry: one that has been overtaken since it [entered](Self::enter), however often, is suspect and lies no further behind than it must.
    #[inline]
    pub(super) fn settle(&self, life: &mut Life, entered: Epoch) {
        let now = self.now(life.partition());
        if now != entered.0 {
            life.set_epoch((now as u8).wrapping_sub(1));
        }
    }

    /// Whether a walk takes it out.
    pub(super) fn is_ancient(&self, life: &Life) -> bool {
        (self.now(life.partition()) as u8).wrapping_sub(life.epoch()) >= ANCIENT
    }

    /// Makes suspect what is there of a partition, unless a walk has to come first: then this is to be called again after it.
    pub(super) fn suspect(&self, partition: u8) -> Option<Walk> {
        let word = &self.now[usize::from(partition)];
        // Nothing was stored since the last suspicion. Ordering: relaxed; see `enter`.
        if word.load(Ordering::Relaxed) & USED == 0 {
            return None;
        }
        let mut books = lock(&self.books);
        books.counts.resize(PARTITIONS, Count::default());
        let Count { suspicions, walked } = books.counts[usize::from(partition)];
        // A walk runs code of the user's, which may suspect something: it must not wait for that walk.
        if suspicions - walked >= if books.walks == 0 { DUE } else { MOST } {
            books.walks += 1;
            return Some(Walk(books.counts.iter().map(|count| count.suspicions).collect()));
        }
        books.counts[usize::from(partition)].suspicions += 1;
        // No other suspicion gets between. A mark may, and is lost: it was of an entry that is suspect now. Ordering: release pairs with the acquire of whoever
        // compares epochs.
        word.store((word.load(Ordering::Relaxed) + 1) & !USED, Ordering::Release);
        None
    }

    pub(super) fn walked(&self, Walk(began): Walk) {
        let mut books = lock(&self.books);
        books.walks -= 1;
        for (count, began) in books.counts.iter_mut().zip(began) {
            count.walked = count.walked.max(began);
        }
    }
}
