//! A real Redis that is down, hangs or comes back: reads go on, writes say so.
#![cfg(unix)]

use cachestack::{ErrorKind, MemoryTier, RedisTier, Tier, TieredCache, Ttl};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis, RedisCluster};

type Cache = TieredCache<u64, u64>;

async fn cache(url: &str) -> Cache {
    let redis = RedisTier::connect(url).await.unwrap();
    let cache = Cache::builder("t").l1(MemoryTier::new(50)).l2(redis).ttl(Ttl::minutes(5)).origin(load).build().unwrap();
    cache.ready(Duration::from_secs(2)).await;
    cache
}

async fn load(key: u64) -> Result<u64, io::Error> {
    Ok(key * 2)
}

/// Waits for the tier's supervisor to have done its work: a real server's time.
async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn two_nodes_share_values_through_a_real_redis() {
    let redis = Redis::start();
    let [a, b] = [cache(&redis.url()).await, cache(&redis.url()).await];
    assert_eq!(a.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(b.load_cached(&1).await.unwrap().tier, Tier::L2);
    a.invalidate(&1).await.unwrap();
    eventually("the other node has heard of it", async || b.get_local(&1).is_none()).await;
    assert_eq!(a.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(b.load_cached(&1).await.unwrap().tier, Tier::L2);
    a.insert(&2, 9).await.unwrap();
    assert_eq!(b.get_many(&[2, 3]).await, [Some(9), None]);
    b.clear().await.unwrap();
    assert_eq!(b.get(&2).await, None);
}

#[tokio::test]
async fn c1_a_redis_that_is_down_at_start_is_a_counter_and_comes_up_by_itself() {
    let mut redis = Redis::start();
    redis.kill();
    let cache = cache(&redis.url()).await;
    assert_eq!(cache.load(&1).await.unwrap(), 2);
    assert_eq!(cache.get(&2).await, None);
    assert_eq!(cache.get_cached(&2).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(cache.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(cache.stats().l2.errors >= 3);
    redis.restart();
    eventually("Redis is told what it could not be told", async || cache.stats().coherence.owed == 0).await;
    cache.load(&1).await.unwrap();
    assert_eq!(self::cache(&redis.url()).await.load_cached(&1).await.unwrap().tier, Tier::L2);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_redis_killed_and_restarted_in_the_middle_of_traffic_fails_no_request() {
    let mut redis = Redis::start();
    let cache = cache(&redis.url()).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16 {
        let (cache, stop, served) = (cache.clone(), stop.clone(), served.clone());
        clients.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(client);
            while !stop.load(Ordering::Relaxed) {
                let key = rng.u64(0..1_000);
                assert_eq!(cache.load(&key).await.unwrap(), key * 2);
                served.fetch_add(1, Ordering::Relaxed);
                // On a busy machine the other side of the socket wants its turn.
                tokio::task::yield_now().await;
            }
        });
    }
    let go_on = async |cache: &Cache, calm: bool| {
        let (before, hits, errors) = (served.load(Ordering::Relaxed), cache.stats().l2.hits, cache.stats().l2.errors);
        eventually("traffic goes on", async || {
            let stats = cache.stats();
            let seen = if calm { stats.l2.hits > hits + 100 } else { stats.l2.errors > errors };
            seen && served.load(Ordering::Relaxed) > before + 1_000
        })
        .await;
    };
    go_on(&cache, true).await;
    for _ in 0..3 {
        redis.kill();
        go_on(&cache, false).await;
        redis.restart();
        go_on(&cache, true).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("not one failed request");
    }
}

#[tokio::test]
async fn c2_a_redis_that_hangs_costs_a_read_no_more_than_its_timeouts() {
    let redis = Redis::start();
    let cache = cache(&redis.url()).await;
    cache.load(&1).await.unwrap();
    redis.pause();
    let began = Instant::now();
    assert_eq!(cache.load(&2).await.unwrap(), 4);
    // One timed-out get; the acquire is not even tried. The rest is the machine's.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(cache.load_cached(&1).await.unwrap().tier, Tier::L1, "hits go on");
    redis.resume();
    eventually("Redis is used again", async || cache.invalidate(&1).await.is_ok()).await;
}

#[tokio::test]
async fn c2_a_connection_that_is_open_and_dead_is_replaced() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let cache = cache(&proxy.url()).await;
    cache.load(&1).await.unwrap();
    proxy.strand();
    let mut key = 100;
    eventually("a new connection", async || {
        key += 1;
        assert_eq!(cache.load(&key).await.unwrap(), key * 2);
        cache.invalidate(&key).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn h3_wrong_urls_and_passwords_are_errors_when_the_tier_is_made() {
    let redis = Redis::builder().password("right").start();
    let wrong = format!("redis://:wrong-secret@127.0.0.1:{}/", redis.port());
    let err = RedisTier::connect(&wrong).await.map(drop).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Credentials);
    assert!(!format!("{err:?} {err}").contains("wrong-secret"));
    for url in ["", "http://localhost/", "redis://", "redis://localhost:notaport/"] {
        let err = RedisTier::connect(url).await.map(drop).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Config, "{url}: {err}");
    }
    let right = format!("redis://:right@127.0.0.1:{}/", redis.port());
    assert!(RedisTier::connect(&right).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_master_of_a_cluster_costs_many_reads_its_own_keys_and_one_error() {
    let mut cluster = RedisCluster::builder().partial_coverage().start();
    let urls: Vec<_> = (0..3).map(|node| cluster.node(node).url()).collect();
    let tier = RedisTier::cluster(urls).timeout(Duration::from_millis(200)).connect().await.unwrap();
    let [writer, reader] = std::array::from_fn(|_| TieredCache::<u64, u64>::builder("n").l2(tier.clone()).build().unwrap());
    let ids: Vec<_> = (0..60).collect();
    for id in &ids {
        writer.insert(id, id * 2).await.unwrap();
    }
    tokio::task::block_in_place(|| cluster.node_mut(0).kill());
    eventually("the dead master is seen to be gone", async || !tier.is_connected()).await;
    let errors = reader.stats().l2.errors;
    let read = reader.get_many(&ids).await;
    assert!(ids.iter().zip(&read).all(|(id, read)| read.is_none_or(|read| read == id * 2)));
    let found = read.iter().flatten().count();
    assert!((20..60).contains(&found), "{found} of 60 keys, a third of which is away");
    assert_eq!(reader.stats().l2.errors, errors + 1);
}
