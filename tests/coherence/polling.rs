//! The task behind it: it begins and ends with its caches.

use super::nodes::{BOUND, Cache, World};
use super::support::until;
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
