//! Tracking: what foreign programs do to records is heard beside the messages, and what may have been done unseen is said.

use crate::common::{AMPLE, Raw, until};
use crate::ears::{Ears, all, alone, keys_of_one_partition};
use cache_core::{Namespace, RemoteKey};
use cache_redis::{RedisTier, RedisTierBuilder};
use test_servers::{Redis, RedisCluster};

async fn tracking(builder: RedisTierBuilder) -> RedisTier {
    builder.timeout(AMPLE).connect_timeout(AMPLE).tracking().connect().await.expect("the server runs")
}

async fn until_told_of(ears: &Ears, key: &RemoteKey) {
    until("the change is told", async || ears.state().changed.iter().any(|changed| changed == key.as_bytes())).await;
}

#[tokio::test]
async fn what_a_foreign_program_writes_is_told_by_its_key_and_nobody_else_s_keys_are() {
    let redis = Redis::start();
    let tier = tracking(RedisTier::builder(&redis.url())).await;
    let raw = Raw::connect(&redis.url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let (key, other) = (namespace.key(&1), Namespace::new(&format!("{}x", namespace.prefix()), "n").unwrap().key(&1));
    raw.run::<()>(&["SET", &String::from_utf8_lossy(other.as_bytes()), "x"]).await;
    raw.run::<()>(&["SET", &String::from_utf8_lossy(key.as_bytes()), "x"]).await;
    until_told_of(&ears, &key).await;
    ears.state().changed.clear();
    raw.run::<()>(&["DEL", &String::from_utf8_lossy(key.as_bytes())]).await;
    until_told_of(&ears, &key).await;
    assert_eq!(ears.state().changed, [key.as_bytes()]);
    // Messages come as ever.
    ears.nothing_but(&tier, &namespace, &key).await;
}

#[tokio::test]
async fn before_each_listening_all_may_have_changed_and_after_a_flush() {
    let redis = Redis::start();
    let tier = tracking(RedisTier::builder(&redis.url())).await;
    let raw = Raw::connect(&redis.url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    assert_eq!(ears.state().may_have_changed.len(), 256);
    raw.run::<()>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    ears.until_deaf_and_back().await;
    assert_eq!(ears.state().may_have_changed.len(), 512);
    // The connection that took its place tracks, too.
    raw.run::<()>(&["SET", &String::from_utf8_lossy(namespace.key(&1).as_bytes()), "x"]).await;
    until_told_of(&ears, &namespace.key(&1)).await;
    raw.run::<()>(&["FLUSHALL"]).await;
    until("the flush is told", async || ears.state().may_have_changed.len() == 768).await;
    assert!(ears.is_listening_to_all());
}

#[tokio::test]
async fn a_tier_that_was_not_told_to_tracks_nothing() {
    let redis = Redis::start();
    let tier = RedisTier::builder(&redis.url()).timeout(AMPLE).connect().await.unwrap();
    let raw = Raw::connect(&redis.url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    raw.run::<()>(&["SET", &String::from_utf8_lossy(namespace.key(&1).as_bytes()), "x"]).await;
    ears.nothing_but(&tier, &namespace, &namespace.key(&2)).await;
    assert!(ears.state().changed.is_empty() && ears.state().may_have_changed.is_empty());
}

#[tokio::test]
async fn a_user_who_may_not_track_is_never_said_to_listen() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    raw.run::<()>(&["ACL", "SETUSER", "service", "reset", "on", ">pw", "~*", "&*", "+@all", "-client|tracking"]).await;
    let tier = tracking(RedisTier::builder(&redis.url().replace("redis://", "redis://service:pw@"))).await;
    let namespace = alone();
    let (ears, _listening) = Ears::begin(&tier, namespace.prefix());
    until("it was refused", async || {
        let log: redis::Value = raw.run(&["ACL", "LOG"]).await;
        format!("{log:?}").contains("client|tracking")
    })
    .await;
    assert!(ears.state().listening.is_empty());
    raw.run::<()>(&["ACL", "SETUSER", "service", "+client|tracking"]).await;
    ears.until_all().await;
}

/// Tracking is each node's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_master_tells() {
    let cluster = tokio::task::block_in_place(RedisCluster::start);
    let urls: Vec<_> = cluster.nodes().iter().map(Redis::url).collect();
    let tier = tracking(RedisTier::cluster(&urls)).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    assert_eq!(ears.state().may_have_changed.len(), 256);
    let raws = [Raw::connect(&urls[0]).await, Raw::connect(&urls[1]).await, Raw::connect(&urls[2]).await];
    for key in all().into_iter().flat_map(|partition| keys_of_one_partition(&namespace, partition, 1)) {
        let mut written = 0;
        for raw in &raws {
            let set: redis::RedisResult<()> =
                redis::cmd("SET").arg(key.as_bytes()).arg("x").query_async(&mut raw.0.clone()).await;
            written += u32::from(set.is_ok());
        }
        assert_eq!(written, 1, "one of the masters has it");
        until_told_of(&ears, &key).await;
    }
}
