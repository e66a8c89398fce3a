//! What users throw at a cache, all the way to a real Redis: nothing is lost and nothing fails for it.
#![cfg(unix)]

use cachestack::{MemoryTier, Namespace, NoLocal, RedisTier, RemoteTier, Tier, TieredCache, Ttl};
use std::io;
use test_servers::Redis;

/// Without an L1, so that every read goes to Redis.
async fn cache(redis: &Redis, ttl: Ttl) -> TieredCache<String, String, NoLocal> {
    let tier = RedisTier::connect(&redis.url()).await.unwrap();
    let load = |key: String| async move { Ok::<_, io::Error>(format!("{} bytes", key.len())) };
    cache_core::TieredCache::<String, String>::builder("t").l2(tier).ttl(ttl).origin(load).build().unwrap()
}

#[tokio::test]
async fn h1_any_key_is_a_key() {
    let redis = Redis::start();
    let cache = cache(&redis, Ttl::minutes(5)).await;
    let long = "k".repeat(1 << 20);
    for key in ["", " ", "\0", "\r\n", "{slot}:*?[a-z]\\", "ключ", "(1:a", &long] {
        let loaded = cache.load_cached(key).await.unwrap();
        assert_eq!((loaded.value, loaded.tier), (format!("{} bytes", key.len()), Tier::Origin));
        let found = cache.load_cached(key).await.unwrap();
        assert_eq!((found.value, found.tier), (format!("{} bytes", key.len()), Tier::L2));
    }
    cache.invalidate(&long).await.unwrap();
    assert_eq!(cache.get(&long).await, None);
    assert!(cache.get("{slot}:*?[a-z]\\").await.is_some());
    cache.clear().await.unwrap();
    assert_eq!(cache.get("").await, None);
}

#[tokio::test]
async fn a_life_of_a_thousand_years_reaches_redis() {
    let redis = Redis::start();
    let cache = cache(&redis, Ttl::hours(1_000 * 365 * 24)).await;
    cache.load("k").await.unwrap();
    assert_eq!(cache.load_cached("k").await.unwrap().tier, Tier::L2);
    assert_eq!(cache.stats().l2.errors, 0);
}

#[tokio::test]
async fn e2_a_record_cut_short_in_redis_is_a_miss_and_ends_with_an_invalidation() {
    let redis = Redis::start();
    let cache = cache(&redis, Ttl::minutes(5)).await;
    let tier = RedisTier::connect(&redis.url()).await.unwrap();
    cache.load("k").await.unwrap();
    let key = Namespace::new("cs", "t").unwrap().key("k");
    let whole = tier.get(&key).await.unwrap().record.unwrap();
    let mut driver = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    for len in [0, 1, 41, 42, 91, 92, whole.len() - 1] {
        let cut = whole.slice(..len).to_vec();
        redis::cmd("SET").arg(key.as_bytes()).arg(cut).query_async::<()>(&mut driver).await.unwrap();
        assert_eq!(cache.get("k").await, None, "{len} bytes");
        assert_eq!(cache.load("k").await.unwrap(), "1 bytes", "{len} bytes");
    }
    redis::cmd("DEL").arg(key.as_bytes()).query_async::<()>(&mut driver).await.unwrap();
    assert_eq!(cache.load_cached("k").await.unwrap().tier, Tier::Origin);
    assert_eq!(cache.load_cached("k").await.unwrap().tier, Tier::L2);
}

#[tokio::test]
async fn another_type_under_our_key_is_left_alone() {
    let redis = Redis::start();
    let tier = RedisTier::connect(&redis.url()).await.unwrap();
    let cache = TieredCache::<String, String>::builder("t").l1(MemoryTier::new(10)).l2(tier).build().unwrap();
    let key = Namespace::new("cs", "t").unwrap().key("k");
    let mut driver = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("HSET").arg(key.as_bytes()).arg("field").arg("precious").query_async::<()>(&mut driver).await.unwrap();
    assert_eq!(cache.get("k").await, None);
    assert_eq!(cache.get_or_load("k", || async { Ok::<_, io::Error>("v".to_owned()) }).await.unwrap(), "v");
    assert!(cache.insert("k", "w".to_owned()).await.is_err());
    assert!(cache.invalidate("k").await.is_err());
    let kept: String = redis::cmd("HGET").arg(key.as_bytes()).arg("field").query_async(&mut driver).await.unwrap();
    assert_eq!(kept, "precious");
    assert_eq!(cache.stats().l2.errors, 0, "foreign is no outage");
}
