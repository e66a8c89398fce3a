//! Describing a router: its shards, then the placement.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::BuildError;
use crate::placement::{Jump, Members, Modulo, Placement, Rendezvous, Ring, ShardIndex};
use crate::router::ShardRouter;
use crate::shard::Shard;

/// A shard as a router is told of it: a name, a primary, replicas, a weight.
pub struct ShardSpec<H> {
    name: String,
    weight: u32,
    primary: H,
    replicas: Vec<H>,
}

impl<H> ShardSpec<H> {
    /// A shard of weight 1 without replicas.
    ///
    /// With rendezvous and ring placement the name decides which keys the shard holds: give it once and keep it, whatever server it lies on.
    pub fn new(name: impl Into<String>, primary: H) -> Self {
        Self { name: name.into(), weight: 1, primary, replicas: Vec::new() }
    }

    /// Adds a replica to read from.
    pub fn replica(mut self, handle: H) -> Self {
        self.replicas.push(handle);
        self
    }

    /// Its part of the keys, relative to the weights of the others. 1 unless said otherwise.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }
}

impl<H> fmt::Debug for ShardSpec<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardSpec")
            .field("name", &self.name)
            .field("weight", &self.weight)
            .field("replicas", &self.replicas.len())
            .finish_non_exhaustive()
    }
}

/// Collects shards; the call that names the placement builds the router. Made by [`ShardRouter::builder`].
///
/// Every build refuses an empty list, more than [`MAX_SHARDS`](crate::MAX_SHARDS), empty and repeated names, and weights out of range.
#[derive(Debug)]
#[must_use = "a builder does nothing until a placement is chosen"]
pub struct ShardRouterBuilder<H> {
    shards: Vec<ShardSpec<H>>,
}

impl<H> ShardRouterBuilder<H> {
    pub(crate) fn new() -> Self {
        Self { shards: Vec::new() }
    }

    /// Adds a shard of weight 1 without replicas.
    pub fn shard(self, name: impl Into<String>, primary: H) -> Self {
        self.spec(ShardSpec::new(name, primary))
    }

    /// Adds a shard with replicas or a weight.
    pub fn spec(mut self, shard: ShardSpec<H>) -> Self {
        self.shards.push(shard);
        self
    }

    /// Adds shards in order.
    pub fn shards<N: Into<String>>(mut self, shards: impl IntoIterator<Item = (N, H)>) -> Self {
        self.shards.extend(shards.into_iter().map(|(name, primary)| ShardSpec::new(name, primary)));
        self
    }

    /// Builds with [`Rendezvous`] placement: the choice where nothing speaks for another.
    ///
    /// # Errors
    ///
    /// What every build refuses.
    pub fn rendezvous(self) -> Result<ShardRouter<H, Rendezvous>, BuildError> {
        let placement = Rendezvous::over(self.members()?);
        self.placed_by(placement)
    }

    /// Builds with [`Ring`] placement.
    ///
    /// # Errors
    ///
    /// What every build refuses, and weights that sum to more than 512.
    pub fn ring(self) -> Result<ShardRouter<H, Ring>, BuildError> {
        let placement = Ring::of_default_points(self.members()?)?;
        self.placed_by(placement)
    }

    /// Builds with [`Jump`] placement: the **order** of the shards decides, a new one goes to the end.
    ///
    /// # Errors
    ///
    /// What every build refuses, and a weight other than 1.
    pub fn jump(self) -> Result<ShardRouter<H, Jump>, BuildError> {
        self.unweighted("jump")?;
        let placement = Jump::new(self.shards.len())?;
        self.placed_by(placement)
    }

    /// Builds with [`Modulo`] placement: the **order** and the **number** of the shards decide, for ever.
    ///
    /// # Errors
    ///
    /// What every build refuses, and a weight other than 1.
    pub fn modulo(self) -> Result<ShardRouter<H, Modulo>, BuildError> {
        self.unweighted("modulo")?;
        let placement = Modulo::new(self.shards.len())?;
        self.placed_by(placement)
    }

    /// Builds with a placement of one's own, which alone decides: weights given here are not read.
    ///
    /// Where the placement knows names, each shard takes the index of its name; otherwise the order of listing counts.
    ///
    /// # Errors
    ///
    /// What every build refuses, a placement for another number of shards, and one with a name that no shard has.
    pub fn placed_by<P: Placement>(self, placement: P) -> Result<ShardRouter<H, P>, BuildError> {
        let members = self.members()?;
        if placement.shards() != self.shards.len() {
            return Err(BuildError::ShardCount { placement: placement.shards(), router: self.shards.len() });
        }
        let names = placement.names().unwrap_or(members.names());
        let mut by_name: HashMap<String, ShardSpec<H>> =
            self.shards.into_iter().map(|shard| (shard.name.clone(), shard)).collect();
        let mut shards = Vec::with_capacity(names.len());
        for (index, name) in (0..).zip(names) {
            let Some(spec) = by_name.remove(&**name) else {
                return Err(BuildError::UnknownName { name: (&**name).into() });
            };
            shards.push(Shard::new(ShardIndex::new(index), Arc::clone(name), spec.primary, spec.replicas));
        }
        Ok(ShardRouter::new(shards, placement))
    }

    fn members(&self) -> Result<Members, BuildError> {
        Members::new(self.shards.iter().map(|shard| (&shard.name, shard.weight)))
    }

    fn unweighted(&self, placement: &'static str) -> Result<(), BuildError> {
        match self.members()?.iter().find(|(_, weight)| *weight != 1) {
            Some((name, _)) => Err(BuildError::CannotWeigh { placement, name: name.into() }),
            None => Ok(()),
        }
    }
}
