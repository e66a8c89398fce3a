//! The one hash of this crate: 64-bit XXH3 with a seed that never changes.

use twox_hash::XxHash3_64;

/// The seed of every hash in this crate: the ASCII bytes `sharding`, read as a little-endian integer.
///
/// It is fixed for ever. Rows lie in databases at the places it decided, so another seed is another data set. It is public so that
/// another program (a bulk loader, a migration in another language) can compute the same places:
/// `XXH3_64bits_withSeed(bytes, SEED)` in the reference implementation.
pub const SEED: u64 = u64::from_le_bytes(*b"sharding");

/// Hashes bytes as every placement sees them.
#[inline]
pub(crate) fn of(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(SEED, bytes)
}

/// Draws number `n` (from zero) of the `SplitMix64` sequence that starts at `state`, at random access.
///
/// A shard's points and scores are drawn from the sequence that its name's hash starts. (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014; the constants are theirs.)
pub(crate) fn draw(state: u64, n: u64) -> u64 {
    let mut z = state.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published outputs of `SplitMix64` for the seed 1234567.
    #[test]
    fn draws_are_those_of_splitmix64() {
        let drawn: Vec<u64> = (0..5).map(|n| draw(1_234_567, n)).collect();
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }
}
