//! L2 away: grace, what is owed to it, and what a failover has lost.

use super::nodes::{BOUND, Cache, GRACE, Node, World};
use super::support::until;
use cache_core::Replicated;
use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{Coherence, Freshness, Namespace, Tier};
use futures_util::FutureExt;
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
async fn what_a_poll_has_shown_to_be_missed_has_no_grace_and_what_was_loaded_since_has() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.polled().await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    // Its lease stands, so this is nothing yet but no extension of that.
    b.polled().await;
    b.l2.set(Chaos::Down);
    world.hands.advance(BOUND);
    b.polled().await;
    assert_eq!(b.read(1).await, (7, Tier::Origin, Freshness::Fresh), "this node knows that it missed something");
    world.hands.advance(BOUND);
    b.polled().await;
    assert_eq!(b.read(1).await, (7, Tier::L1, Freshness::Unverified));
}

#[tokio::test]
async fn c4_a_store_that_answers_and_refuses_reads_leaves_no_grace() {
    for refusal in [Chaos::RefusedOf("get"), Chaos::ReplyLostOf("get"), Chaos::RefusedOf("get_many")] {
        let world = World::new();
        // Nothing is verified here, though polls are answered.
        let (node, l2) = world.deaf_node();
        node.insert(&1, 0).await.unwrap();
        world.hands.advance(BOUND);
        let polls = node.stats().coherence.polls;
        until("a poll has ended", || node.stats().coherence.polls > polls).await;
        tokio::task::yield_now().await;
        l2.set(refusal);
        if refusal == Chaos::RefusedOf("get_many") {
            assert_eq!(node.get_many(&[1]).await, [None]);
        } else {
            assert!(node.get_cached(&1).await.is_err());
            assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::Origin);
        }
        assert_eq!(node.stats().coherence.unverified_hits, 0);
    }
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
async fn c6_more_than_a_server_does_in_one_call_is_told_again_all_the_same() {
    let world = World::new();
    let node = world.node();
    node.polled().await;
    let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition();
    let keys: Vec<u64> = (1..).filter(|key| partition(*key) == partition(1)).take(600).collect();
    for key in [keys[0], keys[599]] {
        node.read(key).await;
        world.commit(key, 7);
    }
    let replica = world.store.replicate();
    assert!(node.cache.invalidate_many(&keys).await.iter().all(Result::is_ok));
    node.l2.set(Chaos::TooSlowFor(500));
    world.store.promote(replica);
    node.polled().await;
    node.polled().await;
    for key in [keys[0], keys[599]] {
        assert_eq!(world.node().read(key).await.0, 7);
    }
}

#[tokio::test]
async fn c6_what_is_answered_when_the_failover_was_noticed_already_is_told_again() {
    let (world, [a, _b], replica) = before_a_failover().await;
    a.l2.set(Chaos::HeldAnswersOf("invalidate"));
    let (cache, _) = (a.cache.clone(), a.l2.take_verbs());
    let invalidates = tokio::spawn(async move { cache.invalidate(&1).await });
    until("it is told, and its answer on its way", || a.l2.take_verbs().contains(&"invalidate")).await;
    world.store.promote(replica);
    a.polled().await;
    a.polled().await;
    a.l2.set(Chaos::Calm);
    invalidates.await.unwrap().unwrap();
    a.polled().await;
    a.polled().await;
    assert_eq!(world.node().read(1).await.0, 7, "a node without L1 finds no older value in L2 either");
}

#[tokio::test]
async fn c6_what_was_told_before_any_poll_was_answered_is_told_again() {
    let world = World::new();
    world.node().read(1).await;
    let replica = world.store.replicate();
    let l2 = ChaosTier::new(world.store.as_another_node());
    l2.set(Chaos::RefusedOf("poll"));
    let a = Node { cache: world.cache(l2.clone(), Coherence::default()), l2 };
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.store.promote(replica);
    a.l2.set(Chaos::Calm);
    a.polled().await;
    a.polled().await;
    assert_eq!(world.node().read(1).await.0, 7);
}

#[tokio::test]
async fn a_prefix_that_could_not_be_told_is_owed_as_a_clear() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    world.commit(1, 7);
    a.l2.set(Chaos::RefusedOf("invalidate_prefix"));
    a.cache.invalidate_prefix(&cachestack::KeyPrefix::text("1")).await.unwrap_err();
    until("it is cleared instead", || a.cache.stats().coherence.owed == 0).await;
    assert_eq!((a.read(1).await.0, b.read(1).await.0), (7, 7));
}

#[tokio::test]
async fn c6_polls_go_on_while_a_clear_is_told_again() {
    let (world, [a, _b], replica) = before_a_failover().await;
    a.cache.clear().await.unwrap();
    a.l2.set(Chaos::HeldAnswersOf("clear"));
    a.l2.take_verbs();
    world.store.promote(replica);
    until("it is told again", || a.l2.take_verbs().contains(&"clear")).await;
    for _ in 0..3 {
        a.polled().await;
    }
    assert!(!a.l2.take_verbs().contains(&"clear"), "one at a time");
    a.l2.set(Chaos::Calm);
    a.polled().await;
    assert_eq!(world.node().read(1).await.0, 7);
}

#[tokio::test]
async fn c6_a_clear_that_the_store_had_no_memory_to_tell_of_is_told_again() {
    let (world, [a, _b], replica) = before_a_failover().await;
    a.l2.set(Chaos::NoReceipts);
    a.cache.clear().await.unwrap();
    a.l2.set(Chaos::Calm);
    world.store.promote(replica);
    a.polled().await;
    a.polled().await;
    assert_eq!(world.node().read(1).await.0, 7);
}

/// Reads a key at the very moment at which it is said that L2 has failed.
struct ReadsWhenL2Fails(Cache);

impl tracing::Subscriber for ReadsWhenL2Fails {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().fields().field("verb").is_some() {
            let _ = self.0.get(&1).now_or_never();
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn who_reads_while_a_clear_fails_keeps_nothing_that_is_owed() {
    let world = World::new();
    let node = world.node();
    node.read(1).await;
    world.commit(1, 7);
    node.l2.set(Chaos::RefusedOf("clear"));
    {
        let _reads = tracing::subscriber::set_default(ReadsWhenL2Fails(node.cache.clone()));
        node.cache.clear().await.unwrap_err();
    }
    assert_eq!(node.cache.get_local(&1), None);
    assert_eq!(node.read(1).await, (7, Tier::Origin, Freshness::Fresh));
    node.l2.set(Chaos::Calm);
    until("it is cleared", || node.cache.stats().coherence.owed == 0).await;
    node.read(1).await;
    assert_eq!(node.cache.get_local(&1), Some(7), "nothing blocks it any more");
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

/// Its messages are told the new master, and its receipts are of those.
#[tokio::test]
async fn c6_a_clear_whose_scan_a_failover_has_lost_is_repeated_though_that_was_noticed_before_its_messages() {
    let (world, [a, b], replica) = before_a_failover().await;
    a.l2.set(Chaos::HeldMessagesOfClears);
    a.l2.take_verbs();
    let cache = a.cache.clone();
    let clear = tokio::spawn(async move { cache.clear().await });
    until("it is scanned", || a.l2.take_verbs().contains(&"clear")).await;
    world.store.promote(replica);
    a.polled().await;
    a.polled().await;
    a.l2.set(Chaos::Calm);
    clear.await.unwrap().unwrap();
    until("it is cleared again", || a.l2.take_verbs().contains(&"clear")).await;
    a.polled().await;
    assert_eq!(world.node().read(1).await.0, 7, "a node without L1 finds no older value in L2");
    assert_eq!(b.read(1).await.0, 7);
}
