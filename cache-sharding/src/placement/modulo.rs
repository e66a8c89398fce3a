//! Modulo: the remainder decides.

use std::sync::Arc;

use super::members::check_count;
use super::{Placement, ShardIndex};
use crate::error::BuildError;

/// The remainder of the hash by the number of shards.
///
/// The plainest rule, and one that any SQL dialect can repeat. It is for a number of shards that never changes: when a shard joins `n` others,
/// `n / (n + 1)` of all keys move (94 % of them from 16 to 17), where the other placements move `1 / (n + 1)`. Going from `n` to `2 n`
/// shards moves half of the keys, each from shard `i` to shard `i + n`.
#[derive(Clone, Copy, Debug)]
pub struct Modulo {
    shards: u16,
}

impl Modulo {
    /// A placement on `shards` shards.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoShards`] and [`BuildError::TooManyShards`].
    pub fn new(shards: usize) -> Result<Self, BuildError> {
        Ok(Self { shards: check_count(shards)? })
    }
}

impl Placement for Modulo {
    fn shards(&self) -> usize {
        usize::from(self.shards)
    }

    fn names(&self) -> Option<&[Arc<str>]> {
        None
    }

    #[inline]
    fn place(&self, hash: u64) -> ShardIndex {
        ShardIndex::new((hash % u64::from(self.shards)) as u16)
    }
}
