//! How much of the capacity the small queue has.

use super::history::SPAN;

/// At the start, as in S3-FIFO.
const FIRST: f64 = 0.1;

/// Of the capacity, what each queue has at least.
const LEAST: f64 = 0.01;

/// Weight that the small queue gives up for each unit of weight that it evicts.
///
/// Where no ghost speaks for either queue, as in a loop longer than they remember, the main queue is the better use of room. Where the small
/// queue needs its room, this costs one hit in 256 evictions.
const LEAK: f64 = 1.0 / 256.0;

/// A return within so many generations of evictions counts in full: an eighth.
const SOON: f64 = 0.125;

/// Evictions over which the share of the main queue is averaged.
const AVERAGED: f64 = 256.0;

/// See [`Boundary::rounds`].
const MOST_ROUNDS: u16 = 3;

/// The boundary between the queues.
///
/// A key that returns after its eviction would have been a hit if its queue had been longer, by as many entries as the queue has evicted
/// since. Each return moves the boundary in favour of its queue, the less the longer that would have had to be; so the boundary rests where
/// more room would bring as many hits for its size in either queue. After ARC (Megiddo and Modha, FAST 2003), which weighs the two kinds of
/// ghost hits by the number of ghosts, whatever their age.
#[derive(Debug)]
pub(super) struct Boundary {
    capacity: u64,
    small: f64,
    /// Of late evictions, the part from the main queue.
    from_main: f64,
}

impl Boundary {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, small: capacity as f64 * FIRST, from_main: 0.0 }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The weight that the small queue should have.
    pub(super) fn small(&self) -> u64 {
        (self.small as u64).max(1)
    }

    pub(super) fn resize(&mut self, capacity: u64) {
        let part = if self.capacity == 0 { FIRST } else { self.small / self.capacity as f64 };
        (self.capacity, self.small) = (capacity, capacity as f64 * part);
    }

    /// A key evicted from the small queue returned, so many generations of such evictions later.
    pub(super) fn missed_by_small(&mut self, gone: f64, weight: u32) {
        // The main queue evicts more slowly than traces are forgotten. Where its returns would be forgotten, the small queue's do not count.
        if gone <= SOON.max(SPAN * self.from_main) {
            let most = self.capacity as f64 - self.least();
            self.small = (self.small + Self::step(gone, weight)).min(most);
        }
    }

    /// The same for the main queue.
    pub(super) fn missed_by_main(&mut self, gone: f64, weight: u32) {
        self.small = (self.small - Self::step(gone, weight)).max(self.least());
    }

    fn step(gone: f64, weight: u32) -> f64 {
        f64::from(weight) * SOON / gone.max(SOON)
    }

    /// So much was evicted from one of the queues.
    pub(super) fn evicted(&mut self, main: bool, weight: u64) {
        self.from_main += (f64::from(u8::from(main)) - self.from_main) / AVERAGED;
        if !main {
            self.small = (self.small - weight as f64 * LEAK).max(self.least());
        }
    }

    /// Rounds that an entry may go in the main queue for uses that it has, one for each.
    ///
    /// Where the small queue needs much room, keys are used soon after they come and then no more: what was used long ago is no reason to
    /// keep one. With three rounds everywhere, traces that suit LRU get up to 3 points less than from LRU; with one, others lose 1.
    pub(super) fn rounds(&self) -> u16 {
        // Saturating: of a capacity near 2^64 the rounds are a few more.
        let fifths = self.small().saturating_mul(5) / self.capacity.max(1);
        MOST_ROUNDS - fifths.min(2) as u16
    }

    fn least(&self) -> f64 {
        (self.capacity as f64 * LEAST).max(1.0)
    }
}
