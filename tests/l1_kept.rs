//! A first level that is kept beside its cache: resized, swept and weighed while the cache runs.

use cachestack::{LocalTier, ManualClock, MemoryTier, TieredCache, Ttl};
use std::sync::Arc;
use std::time::Duration;

type Kept = Arc<MemoryTier<u64, u64>>;

/// A tier of one shard, so that its capacity is exact, and a cache over it.
fn cache(hands: &ManualClock, capacity: u64) -> (Kept, TieredCache<u64, u64, Kept>) {
    let tier = Arc::new(MemoryTier::builder(capacity).shards(1).build());
    let builder = TieredCache::<u64, u64>::builder("t").l1(tier.clone()).ttl(Ttl::seconds(60)).clock(hands.clock());
    (tier, builder.build().unwrap())
}

async fn held(cache: &TieredCache<u64, u64, Kept>, keys: u64) -> u64 {
    let mut held = 0;
    for key in 0..keys {
        held += u64::from(cache.get(&key).await.is_some_and(|value| value == key));
    }
    held
}

#[tokio::test]
async fn the_capacity_of_a_running_cache_changes() {
    let hands = ManualClock::new();
    let (tier, cache) = cache(&hands, 100);
    for key in 0..100 {
        cache.insert(&key, key).await.unwrap();
    }
    assert_eq!(held(&cache, 100).await, 100);
    tier.resize(30);
    assert_eq!((held(&cache, 100).await, tier.weight(), cache.stats().l1.evictions), (30, 30, 70));
    tier.resize(200);
    for key in 0..200 {
        cache.insert(&key, key).await.unwrap();
    }
    assert_eq!(held(&cache, 200).await, 200);
}

#[tokio::test]
async fn a_sweep_drops_what_has_expired_in_a_running_cache() {
    let hands = ManualClock::new();
    let (tier, cache) = cache(&hands, 100);
    for key in 0..100 {
        cache.insert(&key, key).await.unwrap();
    }
    hands.advance(Duration::from_secs(61));
    assert_eq!((held(&cache, 100).await, tier.len()), (0, 100), "nobody wrote");
    tier.sweep(hands.clock().now());
    assert_eq!(tier.len(), 0);
}
