//! When a node does not hear, it knows, and begins anew by itself.

use crate::common::{AMPLE, Raw, tier, until};
use crate::ears::{Ears, alone, notice, tell};
use cache_core::RemoteTier;
use cache_redis::RedisTier;
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis, RedisSentinel};

/// Two missed pings, and what a busy machine adds.
const SOON: Duration = Duration::from_secs(6);
const TIMEOUT: Duration = Duration::from_millis(250);

async fn quick(url: &str) -> RedisTier {
    RedisTier::builder(url).timeout(TIMEOUT).connect().await.unwrap()
}

#[tokio::test]
async fn a_subscription_that_is_killed_is_begun_anew() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    for _ in 0..3 {
        raw.run::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        ears.until_deaf_and_back().await;
        ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_at_start_is_listened_to_once_it_is_up() {
    let mut redis = Redis::start();
    tokio::task::block_in_place(|| redis.kill());
    let tier = quick(&redis.url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::begin(&tier, namespace.prefix());
    assert!(tier.get(&namespace.key(&1)).await.is_err());
    tokio::task::block_in_place(|| redis.restart());
    ears.until_all().await;
    crate::common::until_back(&tier).await;
    ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_not_taken_for_one_with_nothing_to_say() {
    let redis = Redis::start();
    let tier = quick(&redis.url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let start = Instant::now();
    redis.pause();
    ears.until_deaf().await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    redis.resume();
    ears.until_all().await;
    crate::common::until_back(&tier).await;
    ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
}

/// The half-open socket: what is sent is swallowed, and nothing is closed.
#[tokio::test]
async fn a_connection_that_swallows_everything_is_given_up() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = quick(&proxy.url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let start = Instant::now();
    proxy.stall();
    ears.until_deaf().await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    proxy.forward();
    ears.until_all().await;
    // The old connections are dead for good; those to come work.
    let start = Instant::now();
    proxy.strand();
    until("every partition was lost", async || ears.state().losses.len() == 512).await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    ears.until_all().await;
    proxy.reset();
    proxy.forward();
    until("every partition was lost", async || ears.state().losses.len() == 768).await;
    ears.until_all().await;
    crate::common::until_back(&tier).await;
    ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
}

/// Nobody says anything for longer than it takes to give a silent server up.
#[tokio::test]
async fn a_server_with_nothing_to_say_is_listened_to_on() {
    let redis = Redis::start();
    let tier = quick(&redis.url()).await;
    let (ears, _listening) = Ears::on(&tier, alone().prefix()).await;
    let raw = Raw::connect(&redis.url()).await;
    let pings = async || {
        let stats: String = raw.run(&["INFO", "commandstats"]).await;
        let pings =
            stats.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls=")?.split(',').next()?.parse::<u64>().ok());
        pings.unwrap_or(0)
    };
    let before = pings().await;
    until("four pings were answered", async || pings().await >= before + 4).await;
    assert!(ears.state().losses.is_empty());
}

#[tokio::test]
async fn messages_that_no_node_would_send_end_the_connection_or_are_handed_on() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let key = namespace.key(&1);
    let channel = format!("{}{{{}}}:!0", namespace.prefix(), key.partition().tag());
    let publish = async |message: &[u8]| raw.query::<u64>(redis::cmd("PUBLISH").arg(&channel).arg(message)).await;
    // What it says is the ear's to judge.
    publish(&[0; 16]).await;
    publish(&vec![b'x'; 1 << 19]).await;
    assert_eq!(ears.take(2).await[1].frame.len(), (1 << 19) - 16);
    publish(&vec![b'x'; 2 << 20]).await;
    ears.until_deaf_and_back().await;
    ears.nothing_but(&tier, &namespace, &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_the_subscription_follows_the_master_that_sentinels_name() {
    let mut group = RedisSentinel::start();
    let urls: Vec<_> = group.sentinels().iter().map(Redis::url).collect();
    let tier = RedisTier::sentinel(RedisSentinel::SERVICE, urls).timeout(TIMEOUT).connect().await.unwrap();
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let before = crate::ears::poll(&tier, namespace.prefix()).await;
    let old = group.master();
    tokio::task::block_in_place(|| {
        group.server_mut(old).kill();
        group.await_failover(old);
    });
    ears.until_deaf_and_back().await;
    crate::common::until_back(&tier).await;
    let after = crate::ears::poll(&tier, namespace.prefix()).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before.incarnation != after.incarnation));
    ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
    // In order, with the old master alive: polls are refused there, and lead to the new one.
    tokio::task::block_in_place(|| group.server_mut(old).restart());
    tokio::task::block_in_place(|| group.await_settled());
    tokio::task::block_in_place(|| group.failover());
    until("polls are answered by the new master", async || {
        let polled = tier.poll(namespace.prefix(), &crate::ears::all()).await.unwrap();
        polled.iter().all(|meta| meta.as_ref().is_ok_and(|meta| meta.history != after[0].history))
    })
    .await;
    ears.until_deaf_and_back().await;
    ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
}

/// The other server has all that the first one has, so nothing but its name tells them apart.
#[tokio::test]
async fn behind_an_address_that_leads_elsewhere_the_subscription_goes_along_with_the_data() {
    let (one, two) = (Redis::start(), Redis::start());
    let relay = crate::common::relay::Relay::start(one.port()).await;
    let tier = RedisTier::builder(&relay.url()).timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    relay.point_to(two.port());
    // Only the data's connection ends.
    let raw = Raw::connect(&one.url()).await;
    raw.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    ears.until_deaf_and_back().await;
    tell(&tier, &notice(&namespace), &[namespace.key(&1)]).await;
    ears.take(1).await;
}
