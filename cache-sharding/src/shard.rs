//! One shard: its name, its primary, its replicas.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::placement::ShardIndex;

/// Which shard: its position in the placement and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShardId {
    index: ShardIndex,
    name: Arc<str>,
}

impl ShardId {
    /// The position in the placement.
    pub fn index(&self) -> ShardIndex {
        self.index
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A shard of a router: handles of type `H` to its primary and to its replicas. A clone is the same shard and costs one counter.
pub struct Shard<H> {
    inner: Arc<Inner<H>>,
}

struct Inner<H> {
    id: ShardId,
    primary: H,
    replicas: Box<[H]>,
    /// Readers handed out; the replica of the next is this number modulo their count.
    readers: AtomicUsize,
}

impl<H> Shard<H> {
    pub(crate) fn new(index: ShardIndex, name: Arc<str>, primary: H, replicas: Vec<H>) -> Self {
        let id = ShardId { index, name };
        Self { inner: Arc::new(Inner { id, primary, replicas: replicas.into(), readers: AtomicUsize::new(0) }) }
    }

    /// Which shard this is, to keep or to report.
    pub fn id(&self) -> &ShardId {
        &self.inner.id
    }

    /// The position in the placement.
    pub fn index(&self) -> ShardIndex {
        self.inner.id.index
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.id.name
    }

    /// The handle for writes, and for reads that must see the writes before them.
    #[inline]
    pub fn primary(&self) -> &H {
        &self.inner.primary
    }

    /// A handle for reads that may lag: the replicas in turn, over all callers; the primary where there is no replica.
    ///
    /// A replica lags behind its primary, so a value read here can be older than the last write. Do not fill a cache from it after an
    /// invalidation: the old value would be stored as new. Costs one shared counter; nothing where there is at most one replica.
    #[inline]
    pub fn reader(&self) -> &H {
        match &*self.inner.replicas {
            [] => &self.inner.primary,
            [only] => only,
            // Ordering: the counter publishes nothing; the turns need to be even, not ordered.
            several => &several[self.inner.readers.fetch_add(1, Ordering::Relaxed) % several.len()],
        }
    }

    /// The replicas, in the order they were given.
    pub fn replicas(&self) -> &[H] {
        &self.inner.replicas
    }
}

impl<H> Clone for Shard<H> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// Without the handles: a pool prints its address, and an address can hold a password.
impl<H> fmt::Debug for Shard<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("index", &self.index().get())
            .field("name", &self.name())
            .field("replicas", &self.inner.replicas.len())
            .finish_non_exhaustive()
    }
}
