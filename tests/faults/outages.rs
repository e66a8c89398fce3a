//! Redis away, without memory, or making room.

use crate::{AMPLE, Bare, Counting, Raw, doubling, tier, until};
use cache_core::layers::{BreakerState, Guarded};
use cachestack::{ErrorKind, MemoryTier, RedisTier, Tier, TieredCache};
use std::io;
use std::time::Duration;
use test_servers::Redis;
use tokio::task::JoinSet;

/// All at once, 50 callers a key. Each gets its value, and each key is loaded once.
async fn stampede(cache: &TieredCache<u64, u64>, origin: &Counting, keys: std::ops::Range<u64>) {
    let before = origin.loads();
    let mut callers = JoinSet::new();
    for key in keys.clone().flat_map(|key| std::iter::repeat_n(key, 50)) {
        let cache = cache.clone();
        callers.spawn(async move { assert_eq!(cache.load(&key).await.expect("the origin is well"), key * 2) });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("not one failed request");
    }
    assert_eq!(origin.loads() - before, keys.end - keys.start, "one load a key, whatever L2 does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_redis_that_refuses_at_start_and_later_costs_one_load_a_key_and_opens_the_breaker_until_it_is_back() {
    let mut redis = Redis::start();
    redis.kill();
    let l2 = Guarded::builder(RedisTier::connect(&redis.url()).await.unwrap()).timeout(AMPLE).build();
    let origin = Counting::default();
    let cache = {
        let origin = origin.clone();
        TieredCache::<u64, u64>::builder("t")
            .l1(MemoryTier::new(10_000))
            .l2(l2.clone())
            .origin(move |key| origin.clone().load(key))
    };
    let cache = cache.build().unwrap();
    for outage in 0..2 {
        let opened = l2.reads().opened;
        let first = outage * 1_000;
        stampede(&cache, &origin, first..first + 40).await;
        assert!(l2.reads().opened > opened, "outage {outage}: {:?}", l2.reads());
        // What was served is kept, and asks for nothing.
        stampede_of_hits(&cache, &origin, first).await;
        assert!(cache.invalidate(&first).await.is_err(), "which nobody may take for done");

        redis.restart();
        let mut key = first + 100;
        until("what is loaded is stored in Redis, and both circuits are closed", async || {
            key += 1;
            cache.load(&key).await.unwrap();
            let is_closed = [l2.reads(), l2.changes()].iter().all(|circuit| circuit.state == BreakerState::Closed);
            is_closed && doubling(l2.inner().clone()).get(&key).await.is_some()
        })
        .await;
        cache.invalidate(&first).await.unwrap();
        redis.kill();
        until("the loss is noticed", async || !l2.inner().is_connected()).await;
    }
}

async fn stampede_of_hits(cache: &TieredCache<u64, u64>, origin: &Counting, key: u64) {
    let before = origin.loads();
    for key in key..key + 40 {
        assert_eq!(cache.load_cached(&key).await.unwrap().tier, Tier::L1);
    }
    assert_eq!(origin.loads(), before);
}

#[tokio::test]
async fn c4_without_memory_reads_go_on_fills_and_inserts_are_refused_visibly_and_invalidations_work() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let (l2, origin) = (tier(&redis.url()).await, Counting::default());
    let cache = {
        let origin = origin.clone();
        TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(100)).l2(l2.clone()).origin(move |key| origin.clone().load(key))
    };
    let cache = cache.build().unwrap();
    // The first poll suspects what was loaded before it, whenever it comes.
    assert!(cache.ready(AMPLE).await);
    cache.load(&1).await.unwrap();
    raw.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;

    let other = doubling(l2.clone());
    assert_eq!(other.load_cached(&1).await.unwrap().tier, Tier::L2);
    assert_eq!(other.stats().l2.errors, 0);
    assert_eq!(cache.load_cached(&2).await.unwrap().tier, Tier::Origin);
    assert_eq!(cache.load_cached(&2).await.unwrap().tier, Tier::L1, "this node has it all the same");
    assert!(cache.stats().l2.errors > 0, "{:?}", cache.stats());
    let err = cache.insert(&3, 6).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    assert!(err.to_string().contains("out of memory"), "{err}");
    cache.invalidate(&1).await.unwrap();
    assert_eq!((cache.get(&1).await, other.get(&1).await), (None, None), "the old value is nowhere");

    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(cache.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(other.load_cached(&1).await.unwrap().tier, Tier::L2, "and it is stored again");
    assert_eq!(cache.stats().invalidation_errors, 0);
}

#[tokio::test]
async fn c4_values_that_redis_evicts_are_misses_and_nothing_else() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    raw.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "8mb"]).await;
    let load = |key: u64| async move { Ok::<_, io::Error>(key.to_string().repeat(2_000)) };
    let cache: Bare<u64, String> =
        cache_core::TieredCache::<u64, String>::builder("t").l2(l2.clone()).origin(load).build().unwrap();
    // Four times what there is room for.
    for key in (10_000..14_000).chain(10_000..10_100) {
        assert_eq!(cache.load(&key).await.unwrap(), key.to_string().repeat(2_000));
    }
    let evicted = l2.server_info().await.remove(0).unwrap().evicted.unwrap();
    assert!(evicted > 1_000, "{evicted}");
    assert_eq!(cache.load_cached(&10_099).await.unwrap().tier, Tier::L2, "what was used last is there");
    cache.invalidate(&10_099).await.unwrap();
    assert_eq!(cache.get(&10_099).await, None);
    let stats = cache.stats();
    assert_eq!((stats.l2.errors, stats.l2.unreadable, stats.load_errors), (0, 0, 0), "{stats:?}");
}

/// A server that hangs, and then answers what nobody waits for any more: once on the connection that is kept, once on one that was given up.
#[tokio::test]
async fn c2_answers_that_come_after_a_hang_belong_to_nobody_and_the_stack_goes_on() {
    let redis = Redis::start();
    let timeout = Duration::from_millis(50);
    let l2 = RedisTier::builder(&redis.url()).timeout(timeout).connect_timeout(AMPLE).connect().await.unwrap();
    let cache = doubling(l2.clone());
    let is_used = async |keys: std::ops::Range<u64>| {
        for key in keys {
            until("Redis is used", async || {
                let loaded = cache.load_cached(&key).await.unwrap();
                assert_eq!(loaded.value, key * 2);
                loaded.tier == Tier::L2
            })
            .await;
        }
    };
    is_used(0..40).await;
    // Five in a row are what a connection is given up for.
    for hung in [3, 3, 20] {
        redis.pause();
        let errors = cache.stats().l2.errors;
        for key in 0..hung {
            assert_eq!(cache.load(&key).await.unwrap(), key * 2);
        }
        assert!(cache.stats().l2.errors - errors >= hung, "{:?}", cache.stats());
        redis.resume();
        is_used(20..40).await;
    }
    assert_eq!(cache.stats().l2.unreadable, 0, "a reply went to another call");
}
