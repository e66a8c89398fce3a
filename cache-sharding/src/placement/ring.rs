//! Ring: many points a shard on a circle; a key belongs to the next point.

use std::fmt;
use std::sync::Arc;

use super::{Members, Placement, ShardIndex};
use crate::error::BuildError;
use crate::hash;

/// Points per unit of weight unless said otherwise.
const POINTS: u32 = 8192;

/// The most points of a ring: about 32 MiB. With many more, too many of the 2³² positions would be taken twice.
const MAX_POINTS: u64 = 1 << 22;

/// Points compared at once in a lookup. A sector has one or two on average, so a second step is rare and the branch is predicted.
const STEP: usize = 4;

/// A hash ring with virtual nodes (Karger et al., "Consistent hashing and random trees", 1997).
///
/// Each shard puts points on a circle of 2³² positions, 8,192 of them per unit of weight, drawn from its **name**; a key belongs to the shard of
/// the first point at or after the top 32 bits of its hash. Any shard can join or leave, the order of listing decides nothing, and only keys of
/// the shard that joined or left move. Raising one weight only moves keys to that shard.
///
/// The number of points buys evenness with memory. A share varies by `1 / sqrt(points)` of itself (standard deviation), so a shard of weight 1
/// holds its fair share within 5.5 % of it, five deviations. The fraction of keys that a joining shard takes deviates from the ideal by at most
/// 0.4 % of all keys (from one shard to two) and by less with every further shard: 0.06 % from 16 to 17, also standard deviations. A point takes
/// 6 bytes and its part of the lookup table 2 to 4 more: 1 MiB for 16 shards. Building takes 3 ms for them.
///
/// [`Rendezvous`](crate::Rendezvous) is faster and smaller. The ring has one thing for it: its shares stay as even however many shards there
/// are, where those of rendezvous vary more than a ring's from about ten shards of equal weight.
#[derive(Clone)]
pub struct Ring {
    members: Members,
    /// The circle is cut into a power of two of sectors; each begins its search at this point.
    starts: Box<[u32]>,
    /// How far to shift a position to the right for its sector.
    sector_shift: u32,
    /// The points' positions, sorted, and `STEP` more that no key has passed.
    positions: Box<[u32]>,
    /// The shard of each point, and once more that of the first: the circle closes there.
    owners: Box<[u16]>,
}

impl Ring {
    /// A ring of shards of equal weight, known by name.
    ///
    /// # Errors
    ///
    /// No shard, too many, an empty or a repeated name; more than 4,194,304 points in all (512 shards).
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, BuildError> {
        Self::weighted(names.into_iter().map(|name| (name, 1)))
    }

    /// A ring of shards of these weights: 2 puts twice the points of 1. Keep them small (1, 2, 3): each unit costs about
    /// 64 KiB, and they can sum to 512.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and a weight that is zero or above [`MAX_WEIGHT`](crate::MAX_WEIGHT).
    pub fn weighted<N: AsRef<str>>(shards: impl IntoIterator<Item = (N, u32)>) -> Result<Self, BuildError> {
        Self::with_points(POINTS, shards)
    }

    /// A ring with this many points per unit of weight: fewer take less memory and vary more. It is a part of the placement as the names are:
    /// another number moves keys.
    ///
    /// # Errors
    ///
    /// As [`weighted`](Self::weighted), and zero points.
    pub fn with_points<N: AsRef<str>>(per_weight: u32, shards: impl IntoIterator<Item = (N, u32)>) -> Result<Self, BuildError> {
        Self::over(per_weight, Members::new(shards)?)
    }

    pub(crate) fn of_default_points(members: Members) -> Result<Self, BuildError> {
        Self::over(POINTS, members)
    }

    fn over(per_weight: u32, members: Members) -> Result<Self, BuildError> {
        let asked = members.iter().map(|(_, weight)| u64::from(weight) * u64::from(per_weight)).sum();
        if per_weight == 0 || asked > MAX_POINTS {
            return Err(BuildError::RingPoints { asked, most: MAX_POINTS });
        }

        let listed: Vec<_> = members.iter().collect();
        let by_name = members.by_name();
        // Position above, rank by name below: where two points meet, the first name keeps the place.
        let mut drawn: Vec<u64> = Vec::with_capacity(asked as usize);
        for (rank, &index) in by_name.iter().enumerate() {
            let (name, weight) = listed[usize::from(index)];
            let sequence = hash::of(name.as_bytes());
            let points = u64::from(weight) * u64::from(per_weight);
            drawn.extend((0..points).map(|n| hash::draw(sequence, n) >> 32 << 32 | rank as u64));
        }
        drawn.sort_unstable();
        drawn.dedup_by_key(|point| *point >> 32);

        let sectors = (drawn.len().next_power_of_two() / 2).max(2);
        let sector_shift = 32 - sectors.ilog2();
        let mut positions: Vec<u32> = drawn.iter().map(|point| (point >> 32) as u32).collect();
        let mut owners: Vec<u16> = drawn.iter().map(|point| by_name[*point as u32 as usize]).collect();
        let first_at = |sector| positions.partition_point(|&at| ((at >> sector_shift) as usize) < sector) as u32;
        let starts = (0..sectors).map(first_at).collect();
        positions.extend([u32::MAX; STEP]);
        owners.push(owners[0]);
        Ok(Self { members, starts, sector_shift, positions: positions.into(), owners: owners.into() })
    }
}

impl Placement for Ring {
    fn shards(&self) -> usize {
        self.members.names().len()
    }

    fn names(&self) -> Option<&[Arc<str>]> {
        Some(self.members.names())
    }

    #[inline]
    fn place(&self, hash: u64) -> ShardIndex {
        let at = (hash >> 32) as u32;
        let mut next = self.starts[(at >> self.sector_shift) as usize] as usize;
        loop {
            // Every point of the step is compared, whether or not an earlier one stopped the key: that costs less than a branch that nothing
            // can predict.
            let step = &self.positions[next..next + STEP];
            let passed = step.iter().filter(|&&position| position < at).count();
            next += passed;
            if passed < STEP {
                return ShardIndex::new(self.owners[next]);
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("members", &self.members).field("points", &(self.owners.len() - 1)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The table of sectors against the definition: a sorted map of points, and the first at or after the key, else the first of all.
        #[test]
        fn a_key_belongs_to_the_next_point_and_the_circle_closes(
            per_weight in prop_oneof![1_u32..4, 500_u32..600],
            weights in prop::collection::vec(1_u32..5, 1..6),
            hashes in prop::collection::vec(any::<u64>(), 100),
        ) {
            let shards: Vec<_> = weights.iter().enumerate().map(|(i, &weight)| (format!("shard-{i}"), weight)).collect();
            let ring = Ring::with_points(per_weight, shards.clone()).unwrap();
            let mut circle = BTreeMap::new();
            for (index, (name, weight)) in shards.iter().enumerate() {
                for n in 0..u64::from(weight * per_weight) {
                    circle.entry((hash::draw(hash::of(name.as_bytes()), n) >> 32) as u32).or_insert(index);
                }
            }
            let edges = circle.keys().flat_map(|&at| [u64::from(at) << 32, u64::from(at.wrapping_add(1)) << 32]);
            for hash in hashes.into_iter().chain(edges).chain([0, u64::MAX]) {
                let next = circle.range((hash >> 32) as u32..).next().or_else(|| circle.iter().next()).unwrap();
                prop_assert_eq!(ring.place(hash).get(), *next.1, "hash {:#x}", hash);
            }
        }
    }
}
