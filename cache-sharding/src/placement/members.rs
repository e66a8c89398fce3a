//! The shards a placement was given, checked once.

use std::collections::HashSet;
use std::sync::Arc;

use super::MAX_SHARDS;
use crate::error::BuildError;

/// The largest weight of a shard, 1,048,576: room to weigh by gigabytes, small enough that comparing weighted scores cannot overflow.
pub const MAX_WEIGHT: u32 = 1 << 20;

/// Names and weights by index: at least one shard, names unique and not empty, weights from 1 to [`MAX_WEIGHT`].
#[derive(Clone, Debug)]
pub(crate) struct Members {
    names: Box<[Arc<str>]>,
    weights: Box<[u32]>,
}

impl Members {
    pub(crate) fn new<N: AsRef<str>>(shards: impl IntoIterator<Item = (N, u32)>) -> Result<Self, BuildError> {
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut weights = Vec::new();
        let mut seen = HashSet::new();
        for (position, (name, weight)) in shards.into_iter().enumerate() {
            let name: Arc<str> = name.as_ref().into();
            if name.is_empty() {
                return Err(BuildError::EmptyName { position });
            }
            if !(1..=MAX_WEIGHT).contains(&weight) {
                return Err(BuildError::WeightOutOfRange { name: (&*name).into(), weight, most: MAX_WEIGHT });
            }
            if !seen.insert(Arc::clone(&name)) {
                return Err(BuildError::DuplicateName { name: (&*name).into() });
            }
            names.push(name);
            weights.push(weight);
        }
        check_count(names.len())?;
        Ok(Self { names: names.into(), weights: weights.into() })
    }

    pub(crate) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Name and weight of each shard, by index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.names.iter().map(|name| &**name).zip(self.weights.iter().copied())
    }

    /// The index of every shard, in the order of their names: ties are broken in it, so that the order of listing decides nothing.
    pub(crate) fn by_name(&self) -> Vec<u16> {
        let mut order: Vec<u16> = (0..self.names.len() as u16).collect();
        order.sort_unstable_by_key(|&index| &self.names[usize::from(index)]);
        order
    }
}

/// Refuses a number of shards that no placement can have.
pub(super) fn check_count(shards: usize) -> Result<u16, BuildError> {
    match u16::try_from(shards) {
        Ok(0) => Err(BuildError::NoShards),
        Ok(count) => Ok(count),
        Err(_) => Err(BuildError::TooManyShards { given: shards, most: MAX_SHARDS }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_broken_in_the_order_of_names_however_they_are_listed() {
        let members = Members::new([("c", 1), ("a", 1), ("b", 1)]).unwrap();
        assert_eq!(members.by_name(), [1, 2, 0]);
    }
}
