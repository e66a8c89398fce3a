//! Jump: no memory, perfectly even, and only the last shard can go.

use std::sync::Arc;

use super::members::check_count;
use super::{Placement, ShardIndex};
use crate::error::BuildError;

/// The authors' linear congruential generator: one draw of 31 bits a jump.
const MULTIPLIER: u64 = 2_862_933_555_777_941_757;
const DRAWS: f64 = (1_u64 << 31) as f64;

/// Jumps taken between two looks at whether the end was passed. A key needs `1 + 1/2 + … + 1/n` on average, 3.4 for 16 shards, and a branch after
/// each would be mispredicted once a key, which costs more than the jumps that are not needed.
const JUMPS: usize = 5;

/// Jump consistent hashing (Lamping and Veach, "A fast, minimal memory, consistent hash algorithm", 2014).
///
/// When a shard joins `n` others, `1 / (n + 1)` of the keys move, all of them to the new one. Shards are numbered: one can be added at the
/// end, and only the last can be removed; to replace a server, put the new one at the old one's position. All shares are equal.
///
/// Positions are those of the published algorithm, so other implementations agree. It multiplies and divides in `f64`: IEEE 754 fixes these
/// operations to the last bit, so hosts agree as well.
#[derive(Clone, Copy, Debug)]
pub struct Jump {
    shards: u16,
}

impl Jump {
    /// A placement on `shards` shards.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoShards`] and [`BuildError::TooManyShards`].
    pub fn new(shards: usize) -> Result<Self, BuildError> {
        Ok(Self { shards: check_count(shards)? })
    }
}

impl Placement for Jump {
    fn shards(&self) -> usize {
        usize::from(self.shards)
    }

    fn names(&self) -> Option<&[Arc<str>]> {
        None
    }

    #[inline]
    fn place(&self, mut hash: u64) -> ShardIndex {
        let shards = f64::from(self.shards);
        // Positions are counted from one, because a jump multiplies by that count. They only grow, so those past the end stay there.
        let mut landed = 1.0;
        let mut position = 1.0;
        while position <= shards {
            let mut stretches = [0.0; JUMPS];
            for stretch in &mut stretches {
                hash = hash.wrapping_mul(MULTIPLIER).wrapping_add(1);
                *stretch = DRAWS / (to_f64(hash >> 33) + 1.0);
            }
            for stretch in stretches {
                position = floor_plus_one(position * stretch);
                landed = if position <= shards { position } else { landed };
            }
        }
        ShardIndex::new((landed as i32 - 1) as u16)
    }
}

/// 2⁵², from where on `f64` holds whole numbers only.
const WHOLE: f64 = (1_u64 << 52) as f64;

/// A number below 2⁵² as a float: its bits become the mantissa of 2⁵² and more. Cheaper than a conversion.
#[inline]
fn to_f64(number: u64) -> f64 {
    f64::from_bits(WHOLE.to_bits() | number) - WHOLE
}

/// `floor(x) + 1` of a positive number below 2⁵², and some number not less than `x` beyond. Cheaper than a conversion to an integer and back.
#[inline]
fn floor_plus_one(x: f64) -> f64 {
    let nearest = (x + WHOLE) - WHOLE;
    nearest + if nearest <= x { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The algorithm as the paper prints it.
    fn as_published(mut key: u64, shards: usize) -> usize {
        let (mut landed, mut next) = (0, 0);
        while next < shards {
            landed = next;
            key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
            next = ((landed + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as usize;
        }
        landed
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn places_as_published(hash: u64, shards in prop_oneof![1_usize..40, 1_usize..=usize::from(u16::MAX)]) {
            prop_assert_eq!(Jump::new(shards).unwrap().place(hash).get(), as_published(hash, shards));
        }
    }

    /// The one hash whose next draw, of 31 bits, is `draw` and whose generator's other bits are `rest`.
    fn hash_that_draws(draw: u64, rest: u64) -> u64 {
        // Newton's iteration doubles the correct bits of the inverse modulo 2^64, from three.
        let inverse =
            (0..5).fold(MULTIPLIER, |inverse: u64, _| inverse.wrapping_mul(2_u64.wrapping_sub(MULTIPLIER.wrapping_mul(inverse))));
        (draw << 33 | rest).wrapping_sub(1).wrapping_mul(inverse)
    }

    /// Rounding matters only there, and a random hash is there once in 2^31.
    #[test]
    fn places_as_published_where_a_jump_lands_on_a_whole_number() {
        for power in 0..31 {
            for rest in [0, 1, 12_345, (1 << 33) - 1] {
                let hash = hash_that_draws((1 << power) - 1, rest);
                for shards in [2, 16, 17, 31, 32, 33, 1024, 65_535] {
                    assert_eq!(
                        Jump::new(shards).unwrap().place(hash).get(),
                        as_published(hash, shards),
                        "2^{power}, {shards} shards"
                    );
                }
            }
        }
    }

    /// Known answers that the other public implementations of the paper share.
    #[test]
    fn agrees_with_other_implementations() {
        for (key, shards, landed) in [(1, 1, 0), (42, 57, 43), (0xDEAD_10CC, 1, 0), (0xDEAD_10CC, 666, 361), (256, 1024, 520)] {
            assert_eq!(Jump::new(shards).unwrap().place(key).get(), landed, "key {key} over {shards} shards");
        }
    }
}
