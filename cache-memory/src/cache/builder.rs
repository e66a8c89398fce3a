//! How a memory cache is made.

use super::MemoryCache;
use super::counts::Counts;
use crate::memory::{Cause, MemoryTier, MemoryTierBuilder};
use crate::policy::Kind as Policy;
use cache_core::Clock;
use foldhash::quality::RandomState;
use std::time::Duration;

/// When an entry ends. Default: never, but for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expiry {
    /// So long after it was stored.
    pub time_to_live: Option<Duration>,
    /// So long after it was stored or read last.
    pub time_to_idle: Option<Duration>,
}

/// How a [`MemoryCache`] is made. Defaults: 10,000 entries, no expiry, and those of [`MemoryTierBuilder`].
#[derive(Debug)]
pub struct MemoryCacheBuilder<K, V> {
    tier: MemoryTierBuilder<K, V>,
    expiry: Expiry,
    clock: Clock,
}

const DEFAULT_CAPACITY: u64 = 10_000;

impl<K, V> MemoryCacheBuilder<K, V> {
    pub(super) fn new() -> Self {
        Self { tier: MemoryTier::builder(DEFAULT_CAPACITY), expiry: Expiry::default(), clock: Clock::default() }
    }

    /// The most it will hold, in entries, or in weight with a [weigher](Self::weigher).
    pub fn capacity(mut self, capacity: u64) -> Self {
        self.tier = self.tier.capacity(capacity);
        self
    }

    /// How long an entry lives after it was stored; 4 ms coarse. [`MemoryCache::insert_for`] gives one another life.
    pub fn time_to_live(mut self, life: Duration) -> Self {
        self.expiry.time_to_live = Some(life);
        self
    }

    /// How long an entry lives after it was stored or read last. Costs each entry 40 bytes, and a read one more cache line.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.expiry.time_to_idle = Some(idle);
        self
    }

    /// See [`MemoryTierBuilder::policy`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.tier = self.tier.policy(policy);
        self
    }

    /// See [`MemoryTierBuilder::weigher`].
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.tier = self.tier.weigher(weigher);
        self
    }

    /// See [`MemoryTierBuilder::listener`].
    pub fn listener(mut self, listener: impl Fn(&K, &V, Cause) + Send + Sync + 'static) -> Self {
        self.tier = self.tier.listener(listener);
        self
    }

    /// See [`MemoryTierBuilder::shards`].
    pub fn shards(mut self, shards: usize) -> Self {
        self.tier = self.tier.shards(shards);
        self
    }

    /// Another clock, for tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the cache.
    pub fn build(self) -> MemoryCache<K, V> {
        MemoryCache {
            tier: self.tier.build(),
            hasher: RandomState::default(),
            clock: self.clock,
            expiry: self.expiry,
            counts: Counts::new(),
        }
    }
}
