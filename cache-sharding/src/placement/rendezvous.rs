//! Rendezvous: every slot goes to the shard that scores best for it.

use std::fmt;
use std::sync::Arc;

use super::{Members, Placement, ShardIndex};
use crate::error::BuildError;
use crate::hash;

/// Slots a placement decides on: the top 16 bits of a hash. Fixed for ever.
///
/// With this many, the chance of the draw moves a share by less than one percent of all keys, whatever the number of shards (its standard
/// deviation is `sqrt(p (1 - p) / 65,536)`, at most 0.2 %).
const SLOTS: usize = 1 << 16;

/// Weighted rendezvous hashing: each shard scores on each key, and the best score wins. (Thaler and Ravishankar, "Using name-based mappings
/// to increase hit rates", 1998; the weights by Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005, logarithmic method.)
///
/// The default choice. A shard is known by its **name**: the order of listing decides nothing, any shard can join or leave, and then only its
/// own keys move. A shard's share is its weight's part of all weights, and raising one weight only moves keys to that shard.
///
/// Scoring every shard for every key costs too much on a hot path (a logarithm a shard), so the competition is held once: the hash's top 16 bits
/// are its slot, the 65,536 slots are given out when the placement is built, and a lookup is one load from a table of 128 KiB. Moving a shard
/// therefore moves whole slots. Building takes 25 ms for 16 shards.
///
/// With `n` equal shards, a share lies within `5 sqrt(n / 65,536)` of even, relatively: 8 % for 16 shards and 20 % for 100; the chance that
/// some shard lies outside is below one in ten thousand for up to 100 of them.
#[derive(Clone)]
pub struct Rendezvous {
    members: Members,
    owners: Box<[u16; SLOTS]>,
}

impl Rendezvous {
    /// A placement on shards of equal weight, known by name.
    ///
    /// # Errors
    ///
    /// No shard, too many, an empty or a repeated name.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, BuildError> {
        Self::weighted(names.into_iter().map(|name| (name, 1)))
    }

    /// A placement on shards of these weights: 2 holds twice the keys of 1. Only their ratios matter.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and a weight that is zero or above [`MAX_WEIGHT`](crate::MAX_WEIGHT).
    pub fn weighted<N: AsRef<str>>(shards: impl IntoIterator<Item = (N, u32)>) -> Result<Self, BuildError> {
        Members::new(shards).map(Self::over)
    }

    pub(crate) fn over(members: Members) -> Self {
        let listed: Vec<_> = members.iter().map(|(name, weight)| (hash::of(name.as_bytes()), u64::from(weight))).collect();
        // Candidates compete in the order of their names and the first of equals wins.
        let candidates: Vec<_> = members.by_name().into_iter().map(|index| (index, listed[usize::from(index)])).collect();
        let owners: Box<[u16]> = (0..SLOTS as u64).map(|slot| best(&candidates, slot)).collect();
        Self { members, owners: owners.try_into().expect("one owner a slot") }
    }
}

/// The candidate whose exponential waiting time `-log2(u) / weight` is the shortest, `u` being its draw for this slot.
fn best(candidates: &[(u16, (u64, u64))], slot: u64) -> u16 {
    let mut winner = 0;
    let mut shortest = LONGEST + 1;
    let mut heaviness = 1;
    for &(index, (sequence, weight)) in candidates {
        let draw = hash::draw(sequence, slot);
        // -log2(u) > 1 - u: most candidates lose by this bound already, without a logarithm.
        let bound = !draw >> 32;
        if shorter((shortest, heaviness), (bound, weight)) {
            continue;
        }
        let time = waiting_time(draw);
        if shorter((time, weight), (shortest, heaviness)) {
            (winner, shortest, heaviness) = (index, time, weight);
        }
    }
    winner
}

/// Whether one time is shorter than another once each is divided by its weight. The products are exact: 39 bits by 21.
fn shorter((one, one_weight): (u64, u64), (other, other_weight): (u64, u64)) -> bool {
    one * other_weight < other * one_weight
}

/// The waiting time of the worst draw, `log2(2^64)`, with 32 fractional bits.
const LONGEST: u64 = 64 << 32;

/// `-log2(u)` for `u = (draw + 1/2) / 2^64`, as a fixed-point number with 32 fractional bits, never below the true value.
///
/// Integers only: a `ln` of the platform's mathematics library differs between hosts in the last bit, and a key that lands elsewhere on another
/// host is a lost row. The logarithm comes bit by bit: squaring a mantissa doubles its logarithm, and an overflow past two is the next bit.
/// Every step rounds down, so the logarithm is never above the true one, and the bound in `best` is safe.
fn waiting_time(draw: u64) -> u64 {
    let draw = draw | 1;
    // In [1, 2), with 63 fractional bits.
    let mut mantissa = draw << draw.leading_zeros();
    let mut logarithm = u64::from(draw.ilog2());
    for _ in 0..32 {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let past_two = square >> 127 == 1;
        mantissa = (square >> if past_two { 64 } else { 63 }) as u64;
        logarithm = logarithm << 1 | u64::from(past_two);
    }
    LONGEST - logarithm
}

impl Placement for Rendezvous {
    fn shards(&self) -> usize {
        self.members.names().len()
    }

    fn names(&self) -> Option<&[Arc<str>]> {
        Some(self.members.names())
    }

    #[inline]
    fn place(&self, hash: u64) -> ShardIndex {
        ShardIndex::new(self.owners[(hash >> 48) as usize])
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("members", &self.members).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: f64 = (1_u64 << 32) as f64;

    #[test]
    fn waiting_times_of_powers_of_two_are_exact_from_above() {
        assert_eq!(waiting_time(1 << 63 | 1), 1 << 32);
        assert_eq!(waiting_time(1), 64 << 32);
        assert_eq!(waiting_time(0), 64 << 32);
        assert!(waiting_time(u64::MAX) <= 1);
    }

    proptest! {
        #[test]
        fn waiting_time_is_the_logarithm_and_never_below_the_bound(draw: u64) {
            let exact = -(((draw | 1) as f64) / 2_f64.powi(64)).log2();
            prop_assert!((waiting_time(draw) as f64 / ONE - exact).abs() < 1e-8);
            prop_assert!(waiting_time(draw) >= !draw >> 32);
        }

        /// The bound saves time and decides nothing.
        #[test]
        fn the_best_candidate_is_the_one_with_the_shortest_time(weights in prop::collection::vec(1_u64..50, 1..12), slot: u64) {
            let candidates: Vec<_> = weights.iter().enumerate().map(|(i, &weight)| (i as u16, (hash::draw(9, i as u64), weight))).collect();
            let by_definition = candidates
                .iter()
                .map(|&(index, (sequence, weight))| (waiting_time(hash::draw(sequence, slot)) as f64 / weight as f64, index))
                .min_by(|one, other| one.partial_cmp(other).unwrap())
                .unwrap();
            prop_assert_eq!(best(&candidates, slot), by_definition.1);
        }
    }
}
