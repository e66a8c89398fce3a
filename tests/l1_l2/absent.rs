//! Set if absent, and what many keys are answered with one by one.

use super::*;
use cache_core::testing::Chaos;
use cachestack::{ErrorKind, Tier};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn of_many_nodes_that_insert_what_is_absent_one_stores() {
    let world = World::new();
    let mut callers = JoinSet::new();
    for value in 0..50 {
        let node = world.node();
        callers.spawn(async move { (node.insert_absent(&1, value).await.unwrap().then_some(value), node) });
    }
    let (mut stored, mut nodes) = (Vec::new(), Vec::new());
    while let Some(done) = callers.join_next().await {
        let (value, node) = done.unwrap();
        stored.extend(value);
        nodes.push((value, node));
    }
    assert_eq!(stored.len(), 1);
    for (value, node) in nodes {
        assert_eq!(node.get_local(&1), value, "L1 has what this node has stored, and nothing else");
        assert_eq!(node.get(&1).await, Some(stored[0]));
    }
    world.node().invalidate(&1).await.unwrap();
    assert!(world.node().insert_absent(&1, 99).await.unwrap(), "what is invalidated is absent");
}

#[tokio::test]
async fn what_a_load_is_about_to_bring_is_not_absent() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let caller = tokio::spawn({
        let (a, slow) = (a.clone(), slow.clone());
        async move { a.get_or_load(&1, move || slow.load(7)).await.unwrap() }
    });
    slow.has_begun().await;
    assert!(!b.insert_absent(&1, 8).await.unwrap());
    assert!(!a.insert_absent(&1, 8).await.unwrap());
    slow.let_go();
    assert_eq!(caller.await.unwrap(), 7);
    assert_eq!((a.get_local(&1), b.get(&1).await), (Some(7), Some(7)), "and the load's value is kept");
}

#[tokio::test]
async fn what_could_not_be_stored_if_absent_is_in_no_tier() {
    let world = World::new();
    let node = world.node();
    for chaos in [Chaos::Down, Chaos::ReplyLostOf("acquire"), Chaos::RefusedOf("fill")] {
        world.l2.set(chaos);
        assert!(node.insert_absent(&1, 8).await.is_err(), "{chaos:?}");
        assert_eq!(node.get_local(&1), None, "{chaos:?}");
        world.l2.set(Chaos::Calm);
        until("the lease is given back", || world.l2.take_verbs().contains(&"release")).await;
        assert_eq!(node.load(&1).await.unwrap(), 1, "{chaos:?}: nobody waits for a lease");
        node.invalidate(&1).await.unwrap();
    }
    let alone = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    assert_eq!(alone.insert_absent(&1, 8).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn many_keys_have_an_answer_each_and_one_that_could_not_be_asked_for_is_no_miss() {
    let world = World::new();
    let node = world.node();
    world.node().insert(&1, 10).await.unwrap();
    node.insert(&2, 20).await.unwrap();
    let ask = async || {
        let found = node.get_many_cached(&[1, 2, 3]).await;
        found
            .into_iter()
            .map(|one| one.map(|one| one.map(|one| (one.value, one.tier))).map_err(|err| err.kind()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ask().await, [Ok(Some((10, Tier::L2))), Ok(Some((20, Tier::L1))), Ok(None)]);
    world.l2.set(Chaos::Down);
    assert_eq!(ask().await, [Ok(Some((10, Tier::L1))), Ok(Some((20, Tier::L1))), Err(ErrorKind::Unavailable)]);
    assert_eq!(node.get_many(&[1, 2, 3]).await, [Some(10), Some(20), None]);
    node.close(Duration::from_secs(1)).await;
    assert_eq!(node.get_many_cached(&[1]).await[0].as_ref().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_key_s_name_in_l2_is_told_to_who_asks_the_tier_itself() {
    let world = World::new();
    assert_eq!(world.node().remote_key(&1), Some(key()));
    assert_eq!(Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap().remote_key(&1), None);
}
