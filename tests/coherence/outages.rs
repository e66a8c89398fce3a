//! L2 away: grace, what is owed to it, and what a failover has lost.

use super::nodes::{BOUND, GRACE, Node, World};
use super::support::until;
use cache_core::Replicated;
use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{Coherence, Freshness, Namespace, Tier};
use std::time::Duration;

#[tokio::test]
async fn c2_with_the_store_away_l1_goes_on_marked_and_for_no_longer_than_its_grace() {
    let world = World::new();
    let node = world.node();
    node.read(1).await;
    let queries = world.queries();
    node.l2.set(Chaos::Down);
    assert_eq!(node.read(1).await, (0, Tier::L1, Freshness::Fresh), "nobody had reason to doubt it so far");
    world.hands.advance(BOUND);
    node.polled().await;
    assert_eq!(node.read(1).await, (0, Tier::L1, Freshness::Unverified));
    assert_eq!(node.cache.get_cached(&1).await.unwrap().unwrap().freshness, Freshness::Unverified);
    assert_eq!(node.cache.get_many(&[1]).await, [Some(0)]);
    assert_eq!(node.cache.get_local(&1), None, "which cannot mark it");
    assert_eq!((world.queries(), node.cache.stats().coherence.unverified_hits), (queries, 3));
    assert_eq!(node.cache.stats().coherence.unverified_partitions, 256);
    world.commit(1, 7);
    world.hands.advance(GRACE);
    assert_eq!(node.read(1).await, (7, Tier::Origin, Freshness::Fresh));
    // What was loaded a moment ago is younger than the bound, whoever is away.
    assert_eq!(node.read(1).await, (7, Tier::L1, Freshness::Fresh));
    world.hands.advance(BOUND);
    assert_eq!(node.read(1).await.2, Freshness::Unverified);
    node.l2.set(Chaos::Calm);
    node.polled().await;
    assert_eq!(node.read(1).await, (7, Tier::L1, Freshness::Fresh), "nothing was missed, and nothing asked again");
    assert_eq!(node.cache.stats().coherence.unverified_partitions, 0);
}

#[tokio::test]
async fn without_grace_l1_serves_nothing_that_nobody_can_verify() {
    let world = World::new();
    let node = world.node_with(Coherence::new().grace(Duration::ZERO));
    node.read(1).await;
    node.l2.set(Chaos::Down);
    world.commit(1, 7);
    world.hands.advance(BOUND);
    node.polled().await;
    assert_eq!(node.read(1).await, (7, Tier::Origin, Freshness::Fresh));
}

#[tokio::test]
async fn a_suspect_entry_has_no_grace() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    b.polled().await;
    b.l2.set(Chaos::Down);
    world.hands.advance(BOUND);
    b.polled().await;
    assert_eq!(b.read(1).await, (7, Tier::Origin, Freshness::Fresh), "this node knows that it missed something");
}

#[tokio::test]
async fn c4_a_store_that_answers_and_refuses_polls_is_asked_for_values_and_leaves_no_grace() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.l2.set(Chaos::RefusedOf("poll"));
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    b.polled().await;
    assert_eq!(b.read(1).await, (7, Tier::Origin, Freshness::Fresh));
}

#[tokio::test]
async fn what_could_not_be_told_is_blocked_and_told_later() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.read(1).await;
    b.read(1).await;
    a.l2.set(Chaos::Down);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap_err();
    assert_eq!(a.cache.stats().coherence.owed, 1);
    a.l2.set(Chaos::HeldWrites);
    assert_eq!(a.read(1).await, (7, Tier::Origin, Freshness::Fresh), "L2 can be read, and has the older value");
    assert_eq!(a.cache.get(&1).await, None);
    assert_eq!(a.cache.get_many(&[1]).await, [None]);
    a.l2.set(Chaos::Calm);
    until("it is told", || a.cache.stats().coherence.owed == 0).await;
    assert_eq!(b.read(1).await.0, 7);
    assert_eq!((a.read(1).await.0, a.cache.stats().coherence.recovered), (7, 1));
    assert_eq!(a.cache.get_local(&1), Some(7), "and the key is like any other again");
}

#[tokio::test]
async fn who_invalidates_again_settles_what_was_owed() {
    let world = World::new();
    let node = world.node();
    node.read(1).await;
    node.l2.set(Chaos::Down);
    node.cache.invalidate(&1).await.unwrap_err();
    node.l2.set(Chaos::Calm);
    node.cache.invalidate(&1).await.unwrap();
    assert_eq!(node.cache.stats().coherence.owed, 0, "at once, and not when it is tried again");
    node.read(1).await;
    assert_eq!(node.cache.get_local(&1), Some(0), "nothing blocks the key any more");
}

#[tokio::test]
async fn what_is_told_does_not_settle_a_failure_that_came_after_it_was_sent() {
    let world = World::new();
    let answers = ChaosTier::new(world.store.as_another_node());
    let requests = ChaosTier::new(answers.clone());
    let cache = world.cache(requests.clone(), Coherence::default());
    world.commit(1, 1);
    cache.load(&1).await.unwrap();
    answers.set(Chaos::HeldAnswersOf("invalidate"));
    answers.take_verbs();
    let invalidates = cache.clone();
    let early = tokio::spawn(async move { invalidates.invalidate(&1).await });
    until("it is told, and its answer on its way", || answers.take_verbs().contains(&"invalidate")).await;
    // Another node has loaded the row when it is written once more.
    assert_eq!(world.node().read(1).await.0, 1);
    world.commit(1, 2);
    requests.set(Chaos::Down);
    cache.invalidate(&1).await.unwrap_err();
    requests.set(Chaos::DownFor(Namespace::new("cs", "t").unwrap().key(&1_u64).partition()));
    answers.set(Chaos::Calm);
    early.await.unwrap().unwrap();
    assert_eq!(cache.stats().coherence.owed, 1, "the later one");
    requests.set(Chaos::Calm);
    until("it is told", || cache.stats().coherence.owed == 0).await;
    assert_eq!(world.node().read(1).await.0, 2);
}

#[tokio::test]
async fn what_cannot_be_told_keeps_no_other_invalidation_waiting() {
    let world = World::new();
    let node = world.node();
    let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition();
    let stuck: Vec<u64> = (0..).filter(|key| partition(*key) == partition(0)).take(300).collect();
    node.l2.set(Chaos::Down);
    for key in &stuck {
        node.cache.invalidate(key).await.unwrap_err();
    }
    let others: Vec<u64> = (0..200).filter(|key| partition(*key) != partition(0)).collect();
    for key in &others {
        node.cache.invalidate(key).await.unwrap_err();
    }
    node.l2.set(Chaos::DownFor(partition(0)));
    until("the others are told", || node.cache.stats().coherence.owed == stuck.len() as u64).await;
    node.l2.set(Chaos::Calm);
    until("all are", || node.cache.stats().coherence.owed == 0).await;
}

#[test]
fn what_a_runtime_has_left_untold_is_told_in_the_next_one() {
    let world = World::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime().block_on(async {
        let node = world.node();
        node.read(1).await;
        node.l2.set(Chaos::Down);
        world.commit(1, 7);
        node.cache.invalidate(&1).await.unwrap_err();
        node
    });
    node.l2.set(Chaos::Calm);
    runtime().block_on(async {
        assert_eq!(node.read(1).await.0, 7);
        until("it is told", || node.cache.stats().coherence.owed == 0).await;
        assert_eq!(world.node().read(1).await.0, 7);
    });
}

#[tokio::test]
async fn c11_more_than_can_be_remembered_ends_in_a_clear() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for key in [1, 2, 77_777] {
        b.read(key).await;
        world.commit(key, 7);
    }
    a.l2.set(Chaos::Down);
    for key in 0..10_001 {
        a.cache.invalidate(&key).await.unwrap_err();
    }
    a.cache.invalidate(&77_777).await.unwrap_err();
    assert_eq!(a.cache.stats().coherence.owed, u64::MAX);
    assert_eq!(a.cache.close(Duration::ZERO).await.untold, usize::MAX);
    a.l2.set(Chaos::Calm);
    until("it is cleared", || a.cache.stats().coherence.owed == 0).await;
    for key in [1, 2, 77_777] {
        assert_eq!(b.read(key).await.0, 7);
    }
}

/// Two nodes that follow each other, and a replica that has the value of key 1 which is about to be invalidated.
async fn before_a_failover() -> (World, [Node; 2], Replicated) {
    let world = World::new();
    let nodes = [world.node(), world.node()];
    for node in &nodes {
        node.polled().await;
    }
    nodes[1].read(1).await;
    let replica = world.store.replicate();
    world.commit(1, 7);
    (world, nodes, replica)
}

#[tokio::test]
async fn c6_what_a_failover_has_lost_is_told_again() {
    let (world, [a, b], replica) = before_a_failover().await;
    a.cache.invalidate(&1).await.unwrap();
    world.store.promote(replica);
    let polls = a.cache.stats().coherence.polls;
    until("it has seen the new master", || a.cache.stats().coherence.polls > polls + 1).await;
    let fresh = world.node();
    assert_eq!(fresh.read(1).await.0, 7, "a node without L1 finds no older value in L2 either");
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn c6_what_is_lost_by_a_failover_that_takes_a_minute_to_come_is_told_again() {
    let (world, [a, _b], replica) = before_a_failover().await;
    a.cache.invalidate(&1).await.unwrap();
    a.l2.set(Chaos::Down);
    world.hands.advance(Duration::from_secs(60));
    a.polled().await;
    world.store.promote(replica);
    a.l2.set(Chaos::Calm);
    a.polled().await;
    a.polled().await;
    assert_eq!(world.node().read(1).await.0, 7, "a node without L1 finds no older value in L2 either");
}

#[tokio::test]
async fn c6_a_node_that_hears_nothing_tells_a_new_master_again_what_it_told_the_old_one() {
    let world = World::new();
    world.node().read(1).await;
    let (deaf, _) = world.deaf_node();
    deaf.get(&1).await;
    let polls = |cache: &super::nodes::Cache| cache.stats().coherence.polls;
    until("it has polled", || polls(&deaf) > 1).await;
    let replica = world.store.replicate();
    world.commit(1, 7);
    deaf.invalidate(&1).await.unwrap();
    world.store.promote(replica);
    let before = polls(&deaf);
    until("it has seen the new master", || polls(&deaf) > before + 1).await;
    assert_eq!(world.node().read(1).await.0, 7);
}

#[tokio::test]
async fn c6_a_clear_that_a_failover_has_lost_is_repeated() {
    let (world, [a, b], replica) = before_a_failover().await;
    a.cache.clear().await.unwrap();
    world.store.promote(replica);
    let polls = a.cache.stats().coherence.polls;
    until("it has seen the new master", || a.cache.stats().coherence.polls > polls + 1).await;
    let fresh = world.node();
    assert_eq!(fresh.read(1).await.0, 7, "a node without L1 finds no older value in L2 either");
    assert_eq!(b.read(1).await.0, 7);
}
