//! What a tier keeps alive, and for how long.

mod common;

use cache_core::{ErrorKind, RemoteTier};
use cache_redis::RedisTier;
use common::{AMPLE, Raw, key, store, tier, until};
use test_servers::Redis;

/// How many connections of tiers the server sees.
async fn connections(raw: &Raw) -> usize {
    raw.run::<String>(&["CLIENT", "LIST"]).await.lines().filter(|line| line.contains(" name=cachestack-")).count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn clones_share_a_connection_and_dropping_the_last_leaks_nothing() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let before = tasks();
    let tier = tier(&redis.url()).await;
    let clones: Vec<RedisTier> = (0..10).map(|_| tier.clone()).collect();
    for clone in &clones {
        store(clone, &key(), "x").await;
    }
    assert_eq!(connections(&raw).await, 1);
    drop(tier);
    assert!(clones[0].get(&key()).await.is_ok(), "a clone is as good as the original");
    drop(clones);
    until("the connection is closed", async || connections(&raw).await == 0).await;
    until("the tasks have ended", async || tasks() == before).await;
}

#[tokio::test]
async fn a_tier_dropped_while_redis_is_away_leaks_nothing() {
    let mut redis = Redis::start();
    redis.kill();
    let before = tasks();
    let tier = tier(&redis.url()).await;
    drop(tier);
    until("the tasks have ended", async || tasks() == before).await;
}

#[tokio::test]
async fn close_ends_what_runs_behind_for_all_clones() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let before = tasks();
    let tier = tier(&redis.url()).await;
    let clone = tier.clone();
    tier.close().await;
    tier.close().await;
    until("the connection is closed", async || connections(&raw).await == 0).await;
    until("the tasks have ended", async || tasks() == before).await;
    assert_eq!(clone.get(&key()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(!clone.is_connected());
}

#[tokio::test]
async fn close_before_the_first_call_is_fine() {
    let tier = RedisTier::lazy("redis://127.0.0.1:1/").unwrap();
    tier.close().await;
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_tier_outlives_the_runtime_it_was_first_used_on() {
    let redis = Redis::start();
    let tier = RedisTier::builder(&redis.url()).timeout(AMPLE).lazy().unwrap();
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // The first call may still find the connection of the runtime before.
        runtime.block_on(until("the tier answers", async || tier.get(&key()).await.is_ok()));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_will_do() {
    let path = std::env::temp_dir().join(format!("cache-redis-{}.sock", std::process::id()));
    let _redis = Redis::builder().arg("--unixsocket").arg(&path).start();
    let tier = tier(&format!("unix://{}", path.display())).await;
    assert!(tier.get(&key()).await.is_ok());
    std::fs::remove_file(path).expect("the socket's file");
}
