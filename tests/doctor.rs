//! The doctor: what it says of set-ups that are well, and of those that are not.
#![cfg(feature = "redis")]

use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{Diagnosis, EmbeddedTier, MemoryTier, RedisTier, RemoteTier, Severity, TieredCache, Ttl};
use std::time::Duration;
use test_servers::{Redis, RedisCluster};

type Cache = TieredCache<u64, u64>;

const AMPLE: Duration = Duration::from_secs(5);

fn over(tier: impl RemoteTier) -> Cache {
    Cache::builder("t").l1(MemoryTier::new(100)).l2(tier).build().unwrap()
}

async fn redis(url: &str) -> RedisTier {
    RedisTier::builder(url).timeout(AMPLE).connect().await.unwrap()
}

/// The texts of what matters this much, about this.
fn texts(diagnosis: &Diagnosis, severity: Severity, about: &str) -> Vec<String> {
    let found = diagnosis.findings().iter().filter(|finding| finding.severity == severity && finding.about == about);
    found.map(|finding| finding.text.clone()).collect()
}

fn says(diagnosis: &Diagnosis, severity: Severity, about: &str, words: &str) {
    let texts = texts(diagnosis, severity, about);
    assert!(texts.iter().any(|text| text.contains(words)), "{diagnosis}");
}

async fn set(redis: &Redis, option: &str, value: &str) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CONFIG").arg("SET").arg(option).arg(value).exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_well_is_said_to_be_and_nothing_stays_behind_in_l1() {
    let server = Redis::start();
    set(&server, "maxmemory", "100mb").await;
    set(&server, "maxmemory-policy", "volatile-lru").await;
    let cache = over(redis(&server.url()).await);
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    for (about, words) in [
        ("L2", "written and read back"),
        ("messages", "published and received"),
        ("bound", "verified"),
        ("memory", "spares"),
        ("nodes", "one version"),
    ] {
        says(&diagnosis, Severity::Fine, about, words);
    }
    says(&diagnosis, Severity::Note, "replicas", "none");
    assert_eq!(cache.stats().l1.entries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_well_is_said_to_be_and_one_with_a_gap_is_not() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    let urls: Vec<_> = cluster.nodes().iter().map(Redis::url).collect();
    let cache = over(RedisTier::cluster(&urls).timeout(AMPLE).connect().await.unwrap());
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    says(&diagnosis, Severity::Fine, "cluster", "3 masters");
    says(&diagnosis, Severity::Note, "replicas", "min-replicas-to-write");
    tokio::task::block_in_place(|| (0..6).for_each(|node| cluster.node_mut(node).kill()));
    let diagnosis = cache.doctor().await;
    assert_eq!(diagnosis.worst(), Severity::Fault, "{diagnosis}");
}

#[tokio::test]
async fn policies_that_evict_what_counts_invalidations_or_nothing_are_warned_of() {
    let server = Redis::start();
    let cache = over(redis(&server.url()).await);
    set(&server, "maxmemory", "100mb").await;
    for (policy, words) in [("allkeys-lru", "may evict the keys that count"), ("noeviction", "nothing new is stored")] {
        set(&server, "maxmemory-policy", policy).await;
        says(&cache.doctor().await, Severity::Warning, "memory", words);
    }
    set(&server, "maxmemory", "0").await;
    says(&cache.doctor().await, Severity::Note, "memory", "maxmemory is not set");
}

#[tokio::test]
async fn a_user_without_channels_is_told_what_is_missing() {
    let server = Redis::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let rules = ["reset", "on", ">pw", "~*", "+@all", "resetchannels", "-client|list"];
    redis::cmd("ACL").arg("SETUSER").arg("service").arg(&rules[..]).exec_async(&mut connection).await.unwrap();
    let cache = over(redis(&server.url().replace("redis://", "redis://service:pw@")).await);
    let diagnosis = cache.doctor().await;
    says(&diagnosis, Severity::Fault, "messages", "nobody can listen");
    says(&diagnosis, Severity::Fault, "bound", "256 of 256 partitions");
    says(&diagnosis, Severity::Note, "nodes", "CLIENT LIST");
    assert!(!diagnosis.to_string().contains("service") && !diagnosis.to_string().contains("pw"), "{diagnosis}");
}

#[tokio::test]
async fn messages_that_are_lost_and_a_store_that_is_away_are_faults() {
    let tier = ChaosTier::new(EmbeddedTier::new());
    let cache = over(tier.clone());
    assert!(cache.doctor().await.is_well());
    tier.set_messages(Messages::Lost);
    says(&cache.doctor().await, Severity::Fault, "messages", "does not come");
    tier.set(Chaos::Down);
    let diagnosis = cache.doctor().await;
    says(&diagnosis, Severity::Fault, "L2", "cannot be written");
    assert_eq!(diagnosis.findings()[0].severity, Severity::Fault, "the worst comes first");
}

#[tokio::test]
async fn options_that_do_nothing_are_warned_of() {
    let minute = Duration::from_secs(60);
    for (ttl, words) in [
        (Ttl::seconds(9).l1_at_most(minute), "l1_at_most does nothing: values"),
        (Ttl::seconds(9).time_to_idle(minute), "time_to_idle does nothing: values"),
        (Ttl::seconds(9).stale_for(minute), "without an origin"),
    ] {
        let cache = Cache::builder("t").l1(MemoryTier::new(10)).l2(EmbeddedTier::new()).ttl(ttl).build().unwrap();
        says(&cache.doctor().await, Severity::Warning, "options", words);
    }
    let without_l1 = Cache::builder("t").l2(EmbeddedTier::new()).ttl(Ttl::minutes(9).l1_at_most(minute)).build().unwrap();
    says(&without_l1.doctor().await, Severity::Warning, "options", "there is no L1");
    let without_l2 = Cache::builder("t").l1(MemoryTier::new(10)).versioned(|row| *row).build().unwrap();
    let diagnosis = without_l2.doctor().await;
    says(&diagnosis, Severity::Warning, "options", "versioned does nothing");
    says(&diagnosis, Severity::Note, "L2", "there is none");
    let alone = Cache::builder("t").l1(MemoryTier::new(10)).l2(EmbeddedTier::new()).incoherent().build().unwrap();
    says(&alone.doctor().await, Severity::Note, "coherence", "does not follow other nodes");
}
