//! How a tier is made.

use super::epochs::Epochs;
use super::gone::Cause;
use super::shard::Shard;
use super::upkeep::shares;
use super::{Listener, MemoryTier, Weigher};
use crate::Policy;
use crate::grace::Grace;
use crate::sync::AtomicU64;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Shards have room for at least so much: the entries of a smaller one would spread too unevenly over them, and one shard would evict what the whole
/// has room for.
const SMALLEST_SHARD: u64 = 2_048;

const MOST_SHARDS: usize = 64;

/// How a [`MemoryTier`] is made. Defaults: entries weigh 1 each, [`Policy::Adaptive`], no listener, 4 shards a core.
pub struct MemoryTierBuilder<K, V> {
    capacity: u64,
    policy: Policy,
    shards: Option<usize>,
    weigher: Option<Arc<Weigher<K, V>>>,
    listener: Option<Arc<Listener<K, V>>>,
}

impl<K, V> MemoryTierBuilder<K, V> {
    pub(super) fn new(capacity: u64) -> Self {
        Self { capacity, policy: Policy::default(), shards: None, weigher: None, listener: None }
    }

    pub(crate) fn capacity(mut self, capacity: u64) -> Self {
        self.capacity = capacity;
        self
    }

    /// Which entries go when room is needed.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The capacity is of weights, and this tells an entry's: its bytes, say. It is asked once an entry, before it is stored.
    ///
    /// An entry of weight 0 is pinned: it is never evicted, though it expires and can be removed. Each shard has an even part of the capacity, and an entry
    /// heavier than that is not kept: where entries are large, ask for fewer [shards](Self::shards).
    ///
    /// ```
    /// use cache_memory::MemoryCache;
    ///
    /// let bytes = |_: &u64, page: &String| u32::try_from(page.len()).unwrap_or(u32::MAX);
    /// let pages = MemoryCache::builder().capacity(1_000_000).shards(1).weigher(bytes).build();
    /// assert!(pages.insert(1, "hello".to_owned()));
    /// assert_eq!(pages.stats().weight, 5);
    /// assert!(!pages.insert(1, " ".repeat(1_000_001)) && pages.is_empty());
    /// ```
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// Is told of every entry that leaves, and why, by the write that made it leave, outside of every lock; of a cleared tier's entries by the
    /// writes and clears after it. Dropping the tier tells nothing. Costs a write some nanoseconds, and its own time.
    ///
    /// ```
    /// use cache_memory::{Cause, MemoryCache};
    /// use std::sync::mpsc;
    ///
    /// let (left, told) = mpsc::channel();
    /// let tell = move |user: &&'static str, _: &u64, cause: Cause| drop(left.send((*user, cause)));
    /// let sessions = MemoryCache::builder().listener(tell).build();
    /// sessions.insert("ada", 1);
    /// sessions.insert("ada", 2);
    /// sessions.remove("ada");
    /// assert_eq!(told.try_iter().collect::<Vec<_>>(), [("ada", Cause::Replaced), ("ada", Cause::Removed)]);
    /// ```
    pub fn listener(mut self, listener: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// How many parts there are with a lock and a policy each, rounded up to a power of two, at most 64. Default: 4 for each core, fewer where a part would have room
    /// for less than 2,048. More parts let more threads write at once; fewer evict more exactly.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Makes the tier. It takes memory as it fills.
    pub fn build(self) -> MemoryTier<K, V> {
        let cores = std::thread::available_parallelism().map_or(4, NonZeroUsize::get);
        let most = usize::try_from(self.capacity / SMALLEST_SHARD).unwrap_or(MOST_SHARDS).max(1);
        // The largest power of two that leaves each shard its room.
        let fitting = 1 << most.min(MOST_SHARDS).ilog2();
        let shards = self.shards.unwrap_or(4 * cores).clamp(1, MOST_SHARDS).next_power_of_two();
        let shards = if self.shards.is_some() { shards } else { shards.min(fitting) };
        let weighted = self.weigher.is_some();
        let kind = self.policy;
        MemoryTier {
            shards: shares(self.capacity, shards as u64).map(|share| Shard::new(kind, share, weighted)).collect(),
            shift: 32 - shards.trailing_zeros(),
            epochs: Epochs::new(),
            capacity: AtomicU64::new(self.capacity),
            weigher: self.weigher,
            listener: self.listener,
            grace: Grace::global(),
        }
    }
}

impl<K, V> fmt::Debug for MemoryTierBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTierBuilder")
            .field("capacity", &self.capacity)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
