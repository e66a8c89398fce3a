//! multi-tier-cache with two tiers, both in memory. Its values are bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use multi_tier_cache::{CacheManager, CacheStrategy, CacheTier, MokaCache, MokaCacheConfig};

use crate::ready::ready;
use crate::subject::{Shared, Subject};

/// `CacheManager` over two of its moka tiers, L1 as its builder sets it up (no promotion out of L1), L2 promoting. It is given the bytes
/// as they are: a typed value would be decoded on every hit besides.
pub(crate) struct MultiTier {
    cache: CacheManager,
    strategy: CacheStrategy,
}

impl Subject<String, Shared> for MultiTier {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let ttl = ttl.expect("only measured where entries expire");
        let config = MokaCacheConfig { max_capacity: capacity as u64, time_to_live: ttl, time_to_idle: ttl };
        let tier = || Arc::new(MokaCache::new(config).expect("the configuration is valid"));
        let tiers = vec![CacheTier::new(tier(), 1, false, 1, 1.0), CacheTier::new(tier(), 2, true, 10, 1.0)];
        let cache = CacheManager::new_with_tiers(tiers, None).expect("the tiers are in order");
        Self { cache, strategy: CacheStrategy::Custom(ttl) }
    }

    #[inline]
    fn get(&self, key: &String) -> Option<u64> {
        let value = ready(self.cache.get(key)).ok().flatten()?;
        Some(u64::from(value[0]))
    }

    fn insert(&self, key: String, value: Shared) {
        let value = Bytes::copy_from_slice(&*value);
        ready(self.cache.set_with_strategy(&key, value, self.strategy.clone())).expect("both tiers are in memory");
    }
}
