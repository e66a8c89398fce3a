//! From a key to the shard that holds it.

use std::fmt;
use std::sync::Arc;

use crate::builder::ShardRouterBuilder;
use crate::key::ShardKey;
use crate::placement::{Placement, Rendezvous};
use crate::scatter::Scatter;
use crate::shard::Shard;

/// Routes keys to shards. `H` is whatever reaches a shard: a connection pool, a client, an address.
///
/// A clone is the same router, with the same turns of the replicas, and costs one counter. Routing takes no lock and allocates nothing.
pub struct ShardRouter<H, P = Rendezvous> {
    inner: Arc<Inner<H, P>>,
}

struct Inner<H, P> {
    shards: Box<[Shard<H>]>,
    placement: P,
}

/// The keys of one shard, in the order they were given. Made by [`ShardRouter::route_many`].
#[derive(Debug)]
pub struct ShardBatch<'a, H, K> {
    /// The shard that holds them.
    pub shard: &'a Shard<H>,
    /// The keys, at least one; a key given twice is here twice.
    pub keys: Vec<K>,
}

impl<H> ShardRouter<H> {
    /// Begins to describe a router.
    pub fn builder() -> ShardRouterBuilder<H> {
        ShardRouterBuilder::new()
    }
}

impl<H, P: Placement> ShardRouter<H, P> {
    /// As many shards as the placement has, by index.
    pub(crate) fn new(shards: Vec<Shard<H>>, placement: P) -> Self {
        Self { inner: Arc::new(Inner { shards: shards.into(), placement }) }
    }

    /// The shard that holds `key`.
    ///
    /// # Panics
    ///
    /// Where a placement of one's own answers with an index that it has not: the shards of this crate's placements always exist.
    #[inline]
    pub fn route<K: ShardKey + ?Sized>(&self, key: &K) -> &Shard<H> {
        &self.inner.shards[self.inner.placement.place(key.shard_hash()).get()]
    }

    /// Groups keys by the shard that holds them, in the order of the shards; shards without a key are left out.
    pub fn route_many<K: ShardKey>(&self, keys: impl IntoIterator<Item = K>) -> Vec<ShardBatch<'_, H, K>> {
        let mut grouped: Vec<Vec<K>> = self.inner.shards.iter().map(|_| Vec::new()).collect();
        for key in keys {
            grouped[self.inner.placement.place(key.shard_hash()).get()].push(key);
        }
        let batches = self.inner.shards.iter().zip(grouped).map(|(shard, keys)| ShardBatch { shard, keys });
        batches.filter(|batch| !batch.keys.is_empty()).collect()
    }

    /// Begins a scatter over all shards or over those of some keys.
    pub fn scatter(&self) -> Scatter<'_, H, P> {
        Scatter::new(self)
    }

    /// All shards, by index.
    pub fn shards(&self) -> &[Shard<H>] {
        &self.inner.shards
    }

    /// The shard of this name. Compares name after name: for configuration and repair, not for a hot path.
    pub fn shard(&self, name: &str) -> Option<&Shard<H>> {
        self.inner.shards.iter().find(|shard| shard.name() == name)
    }

    /// The placement, for instance to compare with the one that shall replace it.
    pub fn placement(&self) -> &P {
        &self.inner.placement
    }
}

impl<H, P> Clone for ShardRouter<H, P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<H, P: fmt::Debug> fmt::Debug for ShardRouter<H, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardRouter").field("shards", &self.inner.shards).field("placement", &self.inner.placement).finish()
    }
}
