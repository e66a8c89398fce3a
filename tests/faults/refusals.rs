//! Replies that are errors: none of them is a value, and none is kept.

use crate::{Raw, doubling, tier, until};
use cachestack::{ErrorKind, MemoryTier, RedisTier, Tier, TieredCache};
use std::io;
use test_servers::Redis;

type Cache = TieredCache<u64, u64>;

fn node(l2: &RedisTier) -> Cache {
    let load = |key: u64| async move { Ok::<_, io::Error>(key * 2) };
    Cache::builder("t").l1(MemoryTier::new(100)).l2(l2.clone()).origin(load).build().unwrap()
}

/// While every reply of Redis is an error: what was loaded is the origin's, and nothing else is kept.
async fn answers_from_the_origin_alone(cache: &Cache, kind: ErrorKind) {
    assert_eq!(cache.get(&1).await, None);
    assert_eq!(cache.get_many(&[1, 2, 3]).await, [None, None, None]);
    assert_eq!(cache.get_cached(&1).await.unwrap_err().kind(), kind);
    assert_eq!((cache.get_local(&1), cache.get_local(&2)), (None, None), "an error was kept");
    let loaded = cache.load_cached(&1).await.unwrap();
    assert_eq!((loaded.value, loaded.tier), (2, Tier::Origin));
    assert_eq!(cache.get_local(&1), Some(2));
    assert_eq!(cache.invalidate(&1).await.unwrap_err().kind(), kind);
    assert_eq!(cache.get_local(&1), None);
    assert_eq!(cache.stats().l2.hits, 0);
}

#[tokio::test]
async fn c12_a_busy_server_s_replies_are_never_values() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    node(&l2).load(&1).await.unwrap();
    raw.run::<()>(&["CONFIG", "SET", "lua-time-limit", "1"]).await;
    let stuck = raw.clone();
    let stuck = tokio::spawn(async move { stuck.query::<()>(redis::cmd("EVAL").arg("while true do end").arg(0)).await });
    let other = Raw::connect(&redis.url()).await;
    until("the server is busy", async || {
        other.query::<()>(&redis::cmd("PING")).await.is_err_and(|err| err.code() == Some("BUSY"))
    })
    .await;

    answers_from_the_origin_alone(&node(&l2), ErrorKind::Unavailable).await;

    other.run::<()>(&["SCRIPT", "KILL"]).await;
    assert!(stuck.await.unwrap().is_err());
    let found = node(&l2).load_cached(&1).await.unwrap();
    assert_eq!((found.value, found.tier), (2, Tier::L2), "what was there before");
}

#[tokio::test]
async fn c12_a_refused_permission_is_never_a_value() {
    let redis = Redis::builder().user("stranger", "pw", "~other* +@all").start();
    let stranger = tier(&redis.url().replace("//", "//stranger:pw@")).await;
    let ours = tier(&redis.url()).await;
    node(&ours).load(&1).await.unwrap();
    answers_from_the_origin_alone(&node(&stranger), ErrorKind::Credentials).await;
    assert_eq!(doubling(ours).load_cached(&1).await.unwrap().tier, Tier::L2);
}

#[tokio::test]
async fn c12_the_replies_of_a_cluster_that_is_down_are_never_values() {
    let redis = Redis::builder().arg("--cluster-enabled").arg("yes").start();
    // As one node: CLUSTERDOWN is then an error like any other.
    answers_from_the_origin_alone(&node(&tier(&redis.url()).await), ErrorKind::Unavailable).await;
    // And as a cluster, of which no node has a slot.
    let cluster = RedisTier::cluster([redis.url()]).timeout(crate::AMPLE).connect_timeout(crate::AMPLE).connect().await.unwrap();
    answers_from_the_origin_alone(&node(&cluster), ErrorKind::Unavailable).await;
}
