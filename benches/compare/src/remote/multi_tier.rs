//! multi-tier-cache over Redis, its first level without room: every read is one of its second level.

use std::sync::Arc;

use bytes::Bytes;
use multi_tier_cache::{CacheManager, CacheStrategy, CacheTier, MokaCache, MokaCacheConfig, RedisCache};

use super::value::owner;
use super::{Client, Failure, HOUR, text_key};

/// `CacheManager` over moka and Redis, set up as its builder does but for the room of the first level. A read is a GET and a PTTL in one
/// pipeline, and one hit in ten is offered to the first level.
#[derive(Clone)]
pub(crate) struct MultiTierL2(Arc<CacheManager>);

impl MultiTierL2 {
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        let no_room = MokaCacheConfig { max_capacity: 0, time_to_live: HOUR, time_to_idle: HOUR };
        let (l1, l2) = (Arc::new(MokaCache::new(no_room)?), Arc::new(RedisCache::with_url(url).await?));
        let tiers = vec![CacheTier::new(l1, 1, false, 1, 1.0), CacheTier::new(l2, 2, true, 10, 1.0)];
        Ok(Self(Arc::new(CacheManager::new_with_tiers(tiers, None)?)))
    }
}

impl Client for MultiTierL2 {
    type Key = String;

    fn key(&self, id: u64) -> String {
        text_key(id)
    }

    fn bytes(key: &String) -> &[u8] {
        key.as_bytes()
    }

    async fn get(&self, key: &String) -> Result<Option<u64>, Failure> {
        Ok(self.0.get(key).await?.map(|value| owner(&value)))
    }

    /// Only stores: it is filled before it is read, and its own loads are not measured.
    async fn fill(&self, key: &String, value: Vec<u8>) -> Result<(), Failure> {
        Ok(self.0.set_with_strategy(key, Bytes::from(value), CacheStrategy::Custom(HOUR)).await?)
    }
}
