//! What one node stores another finds.

use super::*;
use cache_core::testing::Chaos;
use cachestack::{ErrorKind, Freshness, Tier, Why};

#[tokio::test]
async fn another_node_finds_in_l2_what_one_has_loaded() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.load(&1).await.unwrap();
    let found = b.load_cached(&1).await.unwrap();
    assert_eq!((found.value, found.tier), (1, Tier::L2));
    assert_eq!(b.load_cached(&1).await.unwrap().tier, Tier::L1);
    assert_eq!((b.stats().loads, b.stats().l2.hits), (0, 1));
    let c = world.node();
    assert_eq!(c.get_many(&[1, 2]).await, [Some(1), None]);
    assert_eq!(c.get_cached(&1).await.unwrap().unwrap().tier, Tier::L1, "get_many keeps what it finds");
}

#[tokio::test]
async fn l1_never_outlives_l2() {
    let world = World::new();
    let [a, b] = [world.node_with(Ttl::seconds(100)), world.node_with(Ttl::seconds(100))];
    a.load(&1).await.unwrap();
    world.hands.advance(seconds(60));
    assert_eq!(b.get_cached(&1).await.unwrap().unwrap().age, seconds(60));
    world.hands.advance(seconds(40));
    assert_eq!((a.get(&1).await, b.get(&1).await), (None, None));
}

#[tokio::test]
async fn f3_what_l2_has_is_as_old_as_the_start_of_its_load_or_as_its_insert() {
    let world = World::new();
    let (loads, reads) = (world.node(), world.node());
    let slow = Slow::new();
    let caller = tokio::spawn({
        let (loads, slow) = (loads.clone(), slow.clone());
        async move { loads.get_or_load(&1, move || slow.load(1)).await.unwrap() }
    });
    slow.has_begun().await;
    world.hands.advance(seconds(30));
    slow.let_go();
    caller.await.unwrap();
    assert_eq!(reads.get_cached(&1).await.unwrap().unwrap().age, seconds(30));

    loads.insert(&1, 2).await.unwrap();
    world.hands.advance(seconds(20));
    assert_eq!(world.node().get_cached(&1).await.unwrap().unwrap().age, seconds(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_many_keys_of_one_ttl_cost_one_load_each_when_they_end_and_do_not_end_together() {
    const KEYS: u64 = 2_000;
    let world = World::new();
    let ttl = || Ttl::seconds(100).jitter(0.1);
    let nodes = [world.node_with(ttl()), world.node_with(ttl())];
    let loads = || nodes.iter().map(|node| node.stats().loads).sum::<u64>();
    let read_all = async || {
        let mut readers = tokio::task::JoinSet::new();
        for key in 0..KEYS {
            for node in nodes.clone() {
                readers.spawn(async move { node.load(&key).await.unwrap() });
            }
        }
        readers.join_all().await;
    };
    read_all().await;
    assert_eq!(loads(), KEYS, "by two nodes at one time, one load a key");
    // The last tenth of their life is where jitter ends them.
    let mut before = KEYS;
    for second in [91, 93, 95, 97, 99] {
        world.hands.advance(seconds(if second == 91 { 91 } else { 2 }));
        read_all().await;
        let ended = loads() - before;
        assert!((KEYS / 20..KEYS / 2).contains(&ended), "{ended} of {KEYS} ended by {second} s");
        before = loads();
    }
    world.hands.advance(seconds(1));
    read_all().await;
    assert!(loads() <= 2 * KEYS, "{}: none was loaded twice for one end", loads());
}

#[tokio::test]
async fn a_lease_whose_reply_was_lost_is_given_back() {
    let world = World::new();
    for verb in ["acquire", "fill"] {
        world.node().invalidate(&1).await.unwrap();
        world.l2.set(Chaos::ReplyLostOf(verb));
        world.l2.take_verbs();
        let a = world.node();
        assert_eq!(a.load(&1).await.unwrap(), 1, "{verb}");
        assert_eq!(a.stats().l2.errors, 1, "{verb}");
        until("the lease is given back", || world.l2.take_verbs().contains(&"release")).await;
        world.l2.set(Chaos::Calm);
        // The clock stands still: a lease that was kept would never end.
        assert_eq!(world.node().load(&1).await.unwrap(), 1, "{verb}");
    }
}

#[tokio::test]
async fn an_insert_whose_lease_it_was_not_told_of_gives_that_back() {
    let world = World::new();
    let a = world.node();
    world.l2.set(Chaos::ReplyLostOf("acquire"));
    assert_eq!(a.insert(&1, 7).await.unwrap_err().kind(), ErrorKind::Unavailable);
    world.l2.set(Chaos::Calm);
    // The clock stands still: a lease that was kept would never end.
    world.l2.take_verbs();
    assert_eq!(world.node().load(&1).await.unwrap(), 1);
    assert_eq!(world.l2.take_verbs().iter().filter(|verb| **verb == "acquire").count(), 1, "nobody had to wait");
}

#[tokio::test]
async fn a_value_older_than_this_machines_uptime_is_as_old_as_it_is() {
    let world = World::new();
    let old = Ttl::hours(24 * 365);
    world.node_with(old).load(&1).await.unwrap();
    world.hands.advance(seconds(300 * 86_400));
    // Another node's clock began just now.
    let young = ManualClock::new();
    let b = Cache::builder("t").l1(MemoryTier::new(10)).l2(world.l2.clone()).clock(young.clock()).build().unwrap();
    assert_eq!(b.get_cached(&1).await.unwrap().unwrap().age, seconds(300 * 86_400));
    young.advance(seconds(66 * 86_400));
    assert_eq!(b.get_local(&1), None);
}

#[tokio::test]
async fn a_stale_value_without_an_l1_is_refreshed_by_the_closure_that_was_not_needed() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    world.hands.advance(seconds(105));
    let b = cache_core::TieredCache::<u64, u64>::builder("t").l2(world.l2.clone()).clock(world.hands.clock()).build().unwrap();
    let stale = b.get_or_load(&1, || async { Ok::<_, io::Error>(2) }).await.unwrap();
    assert_eq!(stale, 1);
    until("the refresh has filled L2", || world.l2.take_verbs().contains(&"fill")).await;
    assert_eq!(b.get(&1).await, Some(2));
}

#[tokio::test]
async fn a_refresh_that_another_node_runs_is_not_asked_about_by_every_hit() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    a.load(&1).await.unwrap();
    b.load(&1).await.unwrap();
    world.hands.advance(seconds(105));
    let slow = Slow::new();
    let held = slow.clone();
    assert_eq!(a.get_or_load(&1, move || held.load(2)).await.unwrap(), 1);
    slow.has_begun().await;
    world.l2.take_verbs();
    for _ in 0..1_000 {
        assert_eq!(b.load(&1).await.unwrap(), 1);
        tokio::task::yield_now().await;
    }
    assert!(world.l2.take_verbs().len() < 5, "a hot stale key asks L2 now and then");
    slow.let_go();
}

#[tokio::test]
async fn an_insert_is_seen_by_all_and_reports_what_it_did_not_do() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.insert(&1, 9).await.unwrap();
    assert_eq!((a.get(&1).await, b.get(&1).await), (Some(9), Some(9)));
    world.l2.set(Chaos::Down);
    assert_eq!(a.insert(&1, 10).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(a.get(&1).await, Some(10), "this node has it all the same");
}

#[tokio::test]
async fn a_stale_value_in_l2_is_served_and_refreshed_once_for_all_nodes() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    world.hands.advance(seconds(105));
    world.row.store(2, Ordering::SeqCst);
    let [a, b] = [world.node(), world.node()];
    let stale = a.load_cached(&1).await.unwrap();
    assert_eq!((stale.value, stale.freshness), (1, Freshness::Stale { why: Why::Refreshing }));
    until("the refresh has landed", || a.get_local(&1) == Some(2)).await;
    assert_eq!(b.load_cached(&1).await.unwrap().value, 2);
    assert_eq!((a.stats().loads, b.stats().loads), (1, 0));
}

#[tokio::test]
async fn a_value_in_l2_is_the_last_resort_of_a_node_that_never_saw_it() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    world.hands.advance(seconds(500));
    world.row.store(0, Ordering::SeqCst);
    let a = world.node();
    let last = a.load_cached(&1).await.unwrap();
    assert_eq!((last.value, last.freshness), (1, Freshness::Stale { why: Why::OriginFailed }));
    world.hands.advance(seconds(700));
    assert_eq!(a.load(&1).await.unwrap_err().kind(), ErrorKind::Origin);
}
