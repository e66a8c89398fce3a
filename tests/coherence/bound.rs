//! What holds though messages are lost: the bound, and suspicion.

use super::nodes::{BOUND, MOMENT, World, two_of_a_partition};
use super::slow::Slow;
use super::support::until;
use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{Freshness, MemoryTier, Tier, TieredCache, Ttl};
use std::io;
use std::time::Duration;

#[tokio::test]
async fn d1_with_every_message_lost_no_hit_is_older_than_the_bound() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.read(2).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.read(1).await, (0, Tier::L1, Freshness::Fresh), "within the bound, for nobody has told this node");
    world.hands.advance(BOUND);
    let queries = world.queries();
    assert_eq!(b.read(1).await.0, 7);
    // What else L1 has of the partition is asked of L2, and of no database.
    assert_eq!(b.read(2).await.0, 0);
    assert_eq!(world.queries() - queries, 1, "the invalidated key's");
    assert!(b.cache.stats().coherence.suspicions > a.cache.stats().coherence.suspicions);
    assert_eq!(b.read(1).await.1, Tier::L1);
}

#[tokio::test]
async fn one_message_lost_and_the_next_one_heard_is_a_message_lost() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let [one, other] = two_of_a_partition();
    b.read(one).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(one, 7);
    a.cache.invalidate(&one).await.unwrap();
    b.l2.set_messages(Messages::Delivered);
    a.cache.invalidate(&other).await.unwrap();
    world.hands.advance(BOUND);
    assert_eq!(b.read(one).await.0, 7);
}

/// Its clock stands still meanwhile: by that, all is as young as before.
#[tokio::test]
async fn f1_a_machine_that_was_suspended_asks_before_it_serves() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for round in 1..=3 {
        b.read(1).await;
        b.read(2).await;
        b.l2.set_messages(Messages::Lost);
        world.commit(1, round);
        a.cache.invalidate(&1).await.unwrap();
        world.hands.suspend(Duration::from_secs(600));
        if round == 1 {
            // A poll comes first.
            b.cache.ready(Duration::from_secs(5)).await;
            b.polled().await;
        } else {
            assert_eq!(b.cache.get_local(&1), None);
            assert_eq!(b.cache.get(&1).await, None, "and L2 has none");
        }
        assert_eq!(b.read(1).await.0, round);
        assert_eq!(b.read(2).await, (0, Tier::L2, Freshness::Fresh), "not even what nobody has changed is taken for granted");
        assert_eq!(b.read(2).await.1, Tier::L1);
        b.l2.set_messages(Messages::Delivered);
    }
}

#[tokio::test]
async fn f1_there_is_no_grace_for_what_is_from_before_a_suspension() {
    let world = World::new();
    let node = world.node();
    node.read(1).await;
    world.hands.suspend(Duration::from_secs(600));
    node.l2.set(Chaos::Down);
    world.commit(1, 7);
    assert_eq!(node.read(1).await, (7, Tier::Origin, Freshness::Fresh));
}

/// What a load falls back to was verified when the load began. Who has joined it since may come later than that allows.
#[tokio::test]
async fn the_last_resort_of_a_flight_is_not_given_to_who_comes_a_bound_after_it_was_overwritten() {
    let world = World::new();
    let (a, l2) = (world.node(), ChaosTier::new(world.store.as_another_node()));
    let builder = TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(10)).l2(l2.clone()).clock(world.hands.clock());
    let b = builder.ttl(Ttl::seconds(60).stale_if_error(Duration::from_secs(3_600))).build().unwrap();
    b.get_or_load(&1, || async { Ok::<_, io::Error>(0) }).await.unwrap();
    world.hands.advance(Duration::from_secs(61));
    let polls = b.stats().coherence.polls;
    until("a poll has ended", || b.stats().coherence.polls > polls).await;
    l2.set_messages(Messages::Lost);
    l2.set(Chaos::Down);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND.saturating_sub(MOMENT * 10));
    let slow = Slow::new();
    let (held, cache) = (slow.clone(), b.clone());
    let leader = tokio::spawn(async move {
        let load = || async move {
            held.load(0).await?;
            Err::<u64, _>(io::Error::other("the database is away"))
        };
        cache.get_or_load(&1, load).await
    });
    slow.has_begun().await;
    world.hands.advance(BOUND.saturating_sub(MOMENT));
    let coalesced = b.stats().coalesced;
    let cache = b.clone();
    let follower = tokio::spawn(async move { cache.get_or_load(&1, || async { Ok::<_, io::Error>(7) }).await });
    until("it waits for the load", || b.stats().coalesced > coalesced).await;
    let unverified = b.stats().coherence.unverified_hits;
    slow.let_go();
    let (leader, follower) = (leader.await.unwrap(), follower.await.unwrap());
    let marked = b.stats().coherence.unverified_hits > unverified;
    assert!(marked || (leader.is_err() && follower.is_err()), "{leader:?}, {follower:?}");
}

#[tokio::test]
async fn a_process_that_was_stopped_asks_before_it_serves() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.read(2).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    // Nothing of this node ran meanwhile.
    world.hands.advance(Duration::from_secs(600));
    assert_eq!(b.cache.get_local(&1), None);
    assert_eq!(b.cache.get(&1).await, None, "and L2 has none");
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn a_store_that_has_forgotten_its_sequences_is_asked_again_about_everything() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.store.forget_sequences();
    world.hands.advance(BOUND);
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn a_message_counts_under_a_new_incarnation_though_its_sequence_is_an_old_one() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for row in 1..=3 {
        world.commit(1, row);
        a.cache.invalidate(&1).await.unwrap();
    }
    b.polled().await;
    b.read(1).await;
    world.store.forget_sequences();
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.cache.get_local(&1), None);
}

#[tokio::test]
async fn before_the_store_has_confirmed_that_it_listens_nothing_is_verified() {
    let world = World::new();
    let (node, l2) = world.deaf_node();
    node.load(&1).await.unwrap();
    world.hands.advance(BOUND);
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L2);
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L2);
    l2.set_messages(Messages::Delivered);
    until("it is verified", || node.stats().coherence.unverified_partitions == 0).await;
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L2, "what it had before is asked about once more");
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L1);
}

#[tokio::test]
async fn a_load_that_began_before_a_lost_message_is_not_kept_once_the_loss_is_known() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    // It has no lease, whose loss would tell as well.
    b.l2.set(Chaos::Down);
    let (load, slow) = b.begin_load(1, 1).await;
    b.l2.set(Chaos::Calm);
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    b.polled().await;
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(b.cache.get_local(&1), None);
}

#[tokio::test]
async fn the_lease_counts_from_when_the_poll_was_sent_however_long_its_answer_takes() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.read(2).await;
    world.hands.advance(BOUND);
    b.polled().await;
    b.l2.set(Chaos::HeldAnswers);
    b.polled().await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND.saturating_sub(MOMENT * 2));
    // From now on no poll is answered but the one that is held.
    let polls = b.cache.stats().coherence.polls;
    b.l2.set(Chaos::Calm);
    tokio::task::yield_now().await;
    assert_eq!(b.cache.stats().coherence.polls, polls);
    world.hands.advance(MOMENT * 3);
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn an_insert_that_a_suspicion_meets_is_stored_and_no_error() {
    let world = World::new();
    let node = world.node();
    node.polled().await;
    node.l2.set(Chaos::HeldWrites);
    let writer = node.cache.clone();
    let insert = tokio::spawn(async move { writer.insert(&1, 5).await });
    until("it is under way", || node.l2.take_verbs().contains(&"acquire")).await;
    let suspicions = node.cache.stats().coherence.suspicions;
    world.store.forget_sequences();
    world.hands.advance(BOUND);
    until("everything is suspected", || node.cache.stats().coherence.suspicions > suspicions).await;
    node.l2.set(Chaos::Calm);
    insert.await.unwrap().unwrap();
    assert_eq!(world.node().cache.get(&1).await, Some(5));
}

#[tokio::test]
async fn a_flight_of_long_ago_is_joined_by_nobody_while_nothing_is_verified() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let (load, slow) = b.begin_load(1, 1).await;
    b.l2.set_messages(Messages::Lost);
    b.l2.set(Chaos::Down);
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    assert_eq!(b.read(1).await.0, 2, "whoever comes now loads anew");
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(b.cache.get_local(&1), Some(2), "and the older one is not kept");
}
