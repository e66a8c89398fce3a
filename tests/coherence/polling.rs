//! The task behind it: it begins and ends with its caches.

use super::nodes::{BOUND, Cache, World};
use super::support::until;
use cachestack::testing::Chaos;
use cachestack::{EmbeddedTier, Freshness, MemoryTier, Tier};
use std::time::Duration;

#[tokio::test]
async fn the_task_that_polls_ends_with_the_last_cache() {
    let world = World::new();
    let node = world.node();
    let metrics = tokio::runtime::Handle::current().metrics();
    until("it polls", || node.cache.stats().coherence.polls > 1).await;
    assert_eq!(metrics.num_alive_tasks(), 1);
    drop(node);
    until("no task is left", || metrics.num_alive_tasks() == 0).await;
}

#[tokio::test]
async fn the_task_that_polls_ends_with_the_last_close() {
    let store = EmbeddedTier::new();
    let cache = || Cache::builder("t").l1(MemoryTier::new(10)).l2(store.clone()).build().unwrap();
    let [one, other] = [cache(), cache()];
    let metrics = tokio::runtime::Handle::current().metrics();
    one.insert(&1, 1).await.unwrap();
    one.close(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    assert_eq!(metrics.num_alive_tasks(), 1, "the other one goes on");
    other.close(Duration::from_secs(1)).await;
    until("no task is left", || metrics.num_alive_tasks() == 0).await;
    let third = cache();
    assert_eq!(third.get(&1).await, Some(1));
    assert_eq!(third.get_local(&1), Some(1), "who comes after starts anew");
}

#[tokio::test]
async fn the_task_that_tells_a_new_server_again_ends_with_the_last_cache() {
    let world = World::new();
    let node = world.node();
    node.polled().await;
    let replica = world.store.replicate();
    node.cache.clear().await.unwrap();
    node.cache.invalidate(&1).await.unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    node.l2.set(Chaos::HeldAnswersOf("invalidate"));
    node.l2.take_verbs();
    world.store.promote(replica);
    until("it tells again", || node.l2.take_verbs().contains(&"invalidate")).await;
    assert_eq!(metrics.num_alive_tasks(), 2, "beside the one that polls");
    let l2 = node.l2.clone();
    node.cache.close(Duration::from_secs(1)).await;
    l2.set(Chaos::Calm);
    until("no task is left", || metrics.num_alive_tasks() == 0).await;
    assert!(!l2.take_verbs().contains(&"clear"), "what was left to tell is left");
}

#[test]
fn a_cache_outlives_the_runtime_that_it_polled_in() {
    let world = World::new();
    let node = world.node();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(node.read(1));
    world.hands.advance(BOUND);
    runtime().block_on(async {
        assert_eq!(node.read(1).await, (0, Tier::L1, Freshness::Fresh));
    });
}
