//! A tier in all layers: what it knows of its connections and its nodes is not lost in them.

mod common;

use cache_core::layers::{BreakerState, Guarded, Verb};
use cache_core::{Claim, ErrorKind, RemoteKey, RemoteTier, Token};
use cache_redis::RedisTier;
use common::{Raw, asks, key, namespace, until};
use futures_util::future::{join, join_all};
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis, RedisCluster};

/// Of a tier and of the layers around it, in the proportion of the defaults, and long enough for a busy machine.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(600));

fn urls(cluster: &RedisCluster) -> Vec<String> {
    cluster.nodes().iter().map(Redis::url).collect()
}

/// Keys of the first master, and as many of the others.
async fn keys(cluster: &RedisCluster, count: usize) -> (Vec<RemoteKey>, Vec<RemoteKey>) {
    let (node, namespace) = (Raw::connect(&cluster.node(1).url()).await, namespace());
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for id in 0_u64.. {
        let key = namespace.key(&id);
        let slot: u16 = node.query(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key.as_bytes())).await;
        let keys = if cluster.master_of(slot) == 0 { &mut own } else { &mut others };
        if keys.len() < count {
            keys.push(key);
        }
        if own.len() + others.len() == 2 * count {
            break;
        }
    }
    (own, others)
}

/// A cluster of which no replica takes over, and a tier in its layers.
async fn cluster_under_layers() -> (RedisCluster, Guarded<RedisTier>) {
    let cluster = RedisCluster::builder().partial_coverage().node_timeout(Duration::from_secs(60)).start();
    let (tier, layers) = TIMEOUTS;
    let tier = RedisTier::cluster(urls(&cluster)).timeout(tier).connect().await.expect("the cluster runs");
    until("every master is connected", async || tier.is_connected()).await;
    (cluster, Guarded::builder(tier).timeout(layers).build())
}

#[tokio::test]
async fn c2_calls_that_a_layer_gives_up_before_the_tier_does_have_a_dead_connection_replaced_as_soon() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = RedisTier::connect(&proxy.url()).await.expect("it runs");
    // A call has four fifths of it, which is less than the tier's own 100 ms.
    let guarded = Guarded::builder(tier).timeout(Duration::from_millis(100)).build();
    let key = key();
    until("it is connected", async || guarded.get(&key).await.is_ok()).await;
    let before = proxy.accepted();
    proxy.strand();
    let start = Instant::now();
    // Fewer than would open the breaker.
    let ended = join_all((0..8).map(|_| guarded.get(&key))).await;
    assert!(ended.iter().all(|ended| ended.as_ref().is_err_and(|err| err.kind() == ErrorKind::Timeout)), "{ended:?}");
    until("it is dialled anew", async || proxy.accepted() > before).await;
    // The probes, of which the first comes after two seconds, have not done it.
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    until("calls succeed", async || guarded.get(&key).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_defaults_a_master_that_hangs_keeps_no_values_of_the_others_from_a_get_many() {
    let cluster = RedisCluster::builder().partial_coverage().node_timeout(Duration::from_secs(60)).start();
    let tier = RedisTier::cluster(urls(&cluster)).connect().await.expect("the cluster runs");
    let guarded = Guarded::new(tier.clone());
    let (own, others) = keys(&cluster, 1).await;
    until("every master is connected", async || tier.is_connected()).await;
    cluster.node(0).pause();
    let mut late = 0;
    // The fifth call in vain has the connection given up. One in time is enough, on a busy machine.
    for _ in 0..4 {
        if let Ok(fetched) = guarded.get_many(&[own[0].clone(), others[0].clone()]).await
            && fetched[0].as_ref().is_err_and(|err| err.kind() == ErrorKind::Timeout)
            && fetched[1].is_ok()
        {
            late += 1;
        }
    }
    assert!(late > 0, "no get_many gave the values that came: {:?}", guarded.calls().of(Verb::GetMany));
    cluster.node(0).resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_dead_master_opens_no_breaker_for_the_keys_of_the_others_and_all_of_them_dead_do() {
    let (mut cluster, guarded) = cluster_under_layers().await;
    let (own, others) = keys(&cluster, 30).await;
    tokio::task::block_in_place(|| cluster.node_mut(0).kill());
    for other in &others {
        for own in &own {
            let err = guarded.get(own).await.expect_err("its master is dead");
            assert!(err.is_transient() && err.is_partial(), "{err:?}");
        }
        assert!(guarded.acquire(&own[0], &asks(Token::unique(), Claim::Vacant)).await.is_err());
        guarded.get(other).await.expect("a key of a living master");
        guarded.acquire(other, &asks(Token::unique(), Claim::Vacant)).await.expect("a key of a living master");
    }
    assert_eq!((guarded.reads().opened, guarded.changes().opened), (0, 0));

    tokio::task::block_in_place(|| (1..6).for_each(|node| cluster.node_mut(node).kill()));
    until("the breaker is open", async || {
        let _ = guarded.get(&others[0]).await;
        guarded.reads().state == BreakerState::Open
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_hanging_master_opens_no_breaker_for_the_keys_of_the_others() {
    let (cluster, guarded) = cluster_under_layers().await;
    let (own, others) = keys(&cluster, 64).await;
    cluster.node(0).pause();
    // All at one time: they are late at one time as well.
    for _ in 0..3 {
        let (hanging, fine) =
            join(join_all(own.iter().map(|key| guarded.get(key))), join_all(others.iter().map(|key| guarded.get(key)))).await;
        assert!(hanging.iter().all(Result::is_err));
        assert!(fine.iter().all(Result::is_ok), "{fine:?}");
        for key in &others {
            guarded.get(key).await.expect("a key of a living master");
        }
    }
    assert_eq!(guarded.reads().opened, 0);
    cluster.node(0).resume();
}

/// Has a server run a script that does not end, and waits until it says so to others.
async fn make_busy(url: &str) -> tokio::task::JoinHandle<()> {
    let (runs, asks) = (Raw::connect(url).await, Raw::connect(url).await);
    let script = tokio::spawn(async move {
        let _ = redis::cmd("EVAL").arg("while true do end").arg(0).query_async::<()>(&mut runs.0.clone()).await;
    });
    until("it is busy", async || {
        let reply = redis::cmd("PING").query_async::<()>(&mut asks.0.clone()).await;
        reply.is_err_and(|err| err.code() == Some("BUSY"))
    })
    .await;
    script
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_master_that_is_busy_opens_no_breaker_for_the_keys_of_the_others_and_all_of_them_busy_do() {
    let cluster = RedisCluster::builder().partial_coverage().node_timeout(Duration::from_secs(60));
    let cluster = cluster.arg("--lua-time-limit").arg("5").start();
    let tier = RedisTier::cluster(urls(&cluster)).timeout(TIMEOUTS.0).connect().await.expect("the cluster runs");
    until("every master is connected", async || tier.is_connected()).await;
    let guarded = Guarded::builder(tier).timeout(TIMEOUTS.1).build();
    let (own, others) = keys(&cluster, 30).await;
    let mut scripts = vec![make_busy(&cluster.node(0).url()).await];
    for (own, other) in own.iter().zip(&others) {
        for _ in 0..3 {
            let err = guarded.get(own).await.expect_err("its master is busy");
            assert!(err.kind() == ErrorKind::Unavailable && err.is_partial(), "{err:?}");
            assert!(guarded.acquire(own, &asks(Token::unique(), Claim::Vacant)).await.is_err_and(|err| err.is_partial()));
        }
        guarded.get(other).await.expect("a key of a master that is well");
        guarded.acquire(other, &asks(Token::unique(), Claim::Vacant)).await.expect("a key of a master that is well");
    }
    assert_eq!((guarded.reads().opened, guarded.changes().opened), (0, 0));

    for node in 1..3 {
        scripts.push(make_busy(&cluster.node(node).url()).await);
    }
    until("the breaker is open", async || {
        let all = own.iter().chain(&others).map(|key| guarded.get(key));
        drop(join_all(all).await);
        guarded.reads().state == BreakerState::Open
    })
    .await;
    for node in 0..3 {
        Raw::connect(&cluster.node(node).url()).await.run::<()>(&["SCRIPT", "KILL"]).await;
    }
    for script in scripts {
        script.await.expect("it was ended");
    }
}
