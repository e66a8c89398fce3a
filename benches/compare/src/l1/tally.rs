//! What one sample counted.

use std::iter::Sum;
use std::ops::AddAssign;
use std::time::Duration;

/// Operations and the time they took, summed over the threads that ran them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) reads: u64,
    pub(crate) misses: u64,
    pub(crate) elapsed: Duration,
}

impl Tally {
    /// Thread time by operations: equal figures at one and two threads mean that they do not hinder each other.
    pub(crate) fn ns_per_op(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.operations as f64
    }

    /// Of the reads; one where there were none.
    pub(crate) fn hit_ratio(&self) -> f64 {
        1.0 - self.misses as f64 / self.reads.max(1) as f64
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.reads += other.reads;
        self.misses += other.misses;
        self.elapsed += other.elapsed;
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut total, tally| {
            total += tally;
            total
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_that_do_not_hinder_each_other_cost_as_much_as_one() {
        let one = Tally { operations: 1_000, reads: 1_000, misses: 10, elapsed: Duration::from_micros(20) };
        let two: Tally = [one, one].into_iter().sum();
        assert!((two.ns_per_op() - 20.0).abs() < 1e-9);
        assert!((two.hit_ratio() - 0.99).abs() < 1e-9);
    }
}
