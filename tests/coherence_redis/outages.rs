//! Group C: Redis down, silent, forgetful or busy, and a node that is cut off from it.

use crate::nodes::{BOUND, KEYS, Node, TIMEOUT, World, eventually, remote};
use crate::on_both;
use crate::servers::{Network, Servers, words_of};
use cachestack::testing::Chaos;
use cachestack::{ErrorKind, Freshness, Tier};
use redis::cmd;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What a busy machine adds.
const MARGIN: Duration = Duration::from_secs(2);

on_both! {
    Servers::one;
    c1_invalidations_that_a_dead_redis_did_not_hear_are_told_when_it_is_back;
    c1_nodes_that_were_there_before_redis_follow_each_other_once_it_is_up;
    c2_hits_go_on_marked_while_redis_is_stopped_and_are_verified_when_it_goes_on;
    c2_an_invalidation_that_a_stopped_redis_does_not_answer_is_an_error_in_time_and_owed;
    c3_a_subscription_that_is_cut_in_silence_costs_hits_of_l1_and_nothing_else;
    c9_scripts_that_redis_has_forgotten_are_loaded_again_and_nobody_notices;
    c11_more_than_can_be_remembered_ends_in_a_clear_that_all_nodes_follow;
    c12_a_busy_redis_has_nothing_told_and_nothing_taken_for_a_value;
}

async fn has_all(node: &Node) {
    for key in KEYS {
        assert_eq!(node.read(key).await, 0);
    }
}

async fn c1_invalidations_that_a_dead_redis_did_not_hear_are_told_when_it_is_back(mut servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    has_all(&a).await;
    has_all(&b).await;
    KEYS.for_each(|key| world.commit(key, 7));
    servers.kill_all();
    for key in KEYS {
        let err = a.cache.invalidate(&key).await.unwrap_err();
        assert!(matches!(err.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{err}");
        assert_eq!(a.read(key).await, 7, "the node that wrote never reads the older value again");
    }
    assert_eq!(a.cache.stats().coherence.owed, KEYS.end);
    servers.restart_all();
    eventually("all are told", async || a.cache.stats().coherence.owed == 0).await;
    b.follows_within_the_bound(&world, KEYS).await;
}

async fn c1_nodes_that_were_there_before_redis_follow_each_other_once_it_is_up(mut servers: Servers) {
    let world = World::over(&servers);
    servers.kill_all();
    let (a, b) = (world.new_node().await, world.new_node().await);
    has_all(&a).await;
    has_all(&b).await;
    assert_eq!(b.cache.stats().coherence.unverified_partitions, 256);
    servers.restart_all();
    for node in [&a, &b] {
        eventually("it is verified", async || node.cache.stats().coherence.unverified_partitions == 0).await;
        has_all(node).await;
    }
    for key in KEYS {
        world.commit(key, 7);
        a.cache.invalidate(&key).await.unwrap();
    }
    b.follows_within_the_bound(&world, KEYS).await;
    assert!(b.l2.messages() >= KEYS.end, "and by messages");
}

async fn c2_hits_go_on_marked_while_redis_is_stopped_and_are_verified_when_it_goes_on(servers: Servers) {
    let world = World::over(&servers);
    let node = world.node().await;
    has_all(&node).await;
    servers.pause_all();
    let cached = async || node.cache.load_cached(&1).await.unwrap();
    eventually("nobody can verify it", async || cached().await.freshness == Freshness::Unverified).await;
    assert_eq!((cached().await.tier, cached().await.value), (Tier::L1, 0));
    let queries = world.queries();
    has_all(&node).await;
    assert_eq!(world.queries(), queries, "the database is not asked instead");
    servers.resume_all();
    // Each node of a cluster may think for a moment that the others are dead.
    eventually("it is verified", async || node.cache.ready(Duration::from_secs(1)).await).await;
    eventually("nothing marks it", async || cached().await.freshness == Freshness::Fresh).await;
}

async fn c2_an_invalidation_that_a_stopped_redis_does_not_answer_is_an_error_in_time_and_owed(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    has_all(&a).await;
    has_all(&b).await;
    servers.pause_all();
    let mut calls = JoinSet::new();
    for key in KEYS {
        world.commit(key, 7);
        let cache = a.cache.clone();
        calls.spawn(async move {
            let began = Instant::now();
            let err = cache.invalidate(&key).await.unwrap_err();
            (err.kind(), began.elapsed())
        });
    }
    while let Some(call) = calls.join_next().await {
        let (kind, took) = call.unwrap();
        assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout), "{kind:?}");
        assert!(took < TIMEOUT + MARGIN, "{took:?}");
    }
    assert_eq!(a.cache.stats().coherence.owed, KEYS.end);
    for key in KEYS {
        assert_eq!(a.read(key).await, 7, "the node that wrote never reads the older value again");
    }
    servers.resume_all();
    eventually("all are told", async || a.cache.stats().coherence.owed == 0).await;
    b.follows_within_the_bound(&world, KEYS).await;
}

/// The data's connections work, so that nothing but silence tells. Where all that is lost are messages, the database need not be asked.
async fn c3_a_subscription_that_is_cut_in_silence_costs_hits_of_l1_and_nothing_else(servers: Servers) {
    let network = Network::before(&servers).await;
    let world = World::by(network.way.clone());
    let (a, b) = (world.node().await, world.node().await);
    has_all(&b).await;
    network.stall_subscriptions();
    let messages = b.l2.messages();
    for key in KEYS {
        world.commit(key, 7);
        a.cache.invalidate(&key).await.unwrap();
    }
    b.follows_within_the_bound(&world, KEYS).await;
    assert_eq!(b.l2.messages(), messages, "none of them has come");
    eventually("the silence is noticed", async || b.cache.stats().coherence.unverified_partitions == 256).await;
    let queries = world.queries();
    eventually("L1 is passed by", async || b.cache.get_local(&1).is_none()).await;
    for key in KEYS {
        let cached = b.cache.load_cached(&key).await.unwrap();
        assert_eq!((cached.value, cached.freshness), (7, Freshness::Fresh), "Redis answers: there is nothing to mark");
    }
    assert_eq!(world.queries(), queries, "L2 has it");
    network.forward();
    eventually("it is heard again", async || b.cache.stats().coherence.unverified_partitions == 0).await;
    b.read(1).await;
    assert_eq!(b.cache.load_cached(&1).await.unwrap().tier, Tier::L1);
}

/// On one node alone: the nodes of a cluster name the same addresses to everybody, so that nobody is cut off by himself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_network_that_stops_in_silence_ends_in_grace_and_heals() {
    let servers = Servers::one();
    let network = Network::before(&servers).await;
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.reached_by(network.way.clone()).node().await);
    b.read(1).await;
    network.stall();
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    let told = Instant::now();
    while told.elapsed() < BOUND * 3 {
        let late = told.elapsed() > BOUND;
        let cached = b.cache.load_cached(&1).await.unwrap();
        let known = cached.freshness == Freshness::Fresh;
        assert!(!late || cached.value == 7 || !known, "old and unmarked {:?} later", told.elapsed());
    }
    network.forward();
    eventually("it is followed", async || b.read(1).await == 7).await;
}

async fn c9_scripts_that_redis_has_forgotten_are_loaded_again_and_nobody_notices(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    has_all(&a).await;
    has_all(&b).await;
    let begun = (a.cache.stats(), b.cache.stats());
    for key in KEYS.step_by(8) {
        world.commit(key, 7);
        servers.each(&["SCRIPT", "FLUSH"]).await;
        a.cache.invalidate(&key).await.unwrap();
        eventually("the message has come", async || b.cache.get_local(&key) != Some(0)).await;
        servers.each(&["SCRIPT", "FLUSH"]).await;
        assert_eq!((b.read(key).await, b.cache.load_cached(&key).await.unwrap().tier), (7, Tier::L1));
        assert_eq!(a.cache.load_cached(&key).await.unwrap().tier, Tier::L2, "it was filled");
    }
    for (node, begun) in [(&a, &begun.0), (&b, &begun.1)] {
        let since = node.cache.stats().since(begun);
        assert_eq!((since.l2.errors, since.invalidation_errors, since.coherence.poll_errors), (0, 0, 0));
    }
}

/// This node is away, and the others are not: what it forgets, they could never make good.
async fn c11_more_than_can_be_remembered_ends_in_a_clear_that_all_nodes_follow(servers: Servers) {
    const REMEMBERED: u64 = 10_000;
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    has_all(&b).await;
    a.l2.set(Chaos::Down);
    KEYS.for_each(|key| world.commit(key, 7));
    // What others have cached comes last, when there is no more room.
    for keys in [(1_000_000..1_000_000 + REMEMBERED).collect::<Vec<_>>(), KEYS.collect()] {
        assert!(a.cache.invalidate_many(&keys).await.iter().all(Result::is_err));
    }
    assert_eq!(a.cache.stats().coherence.owed, u64::MAX, "all, and no list of keys");
    assert_eq!(a.read(1).await, 7, "the node that wrote never reads the older value again");
    a.l2.set(Chaos::Calm);
    eventually("it is cleared", async || a.cache.stats().coherence.owed == 0).await;
    b.follows_within_the_bound(&world, KEYS).await;
    for key in KEYS {
        assert_eq!(a.read(key).await, 7);
    }
}

/// Each master runs a script that does not end, and answers everything else with an error.
async fn c12_a_busy_redis_has_nothing_told_and_nothing_taken_for_a_value(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    has_all(&a).await;
    has_all(&b).await;
    servers.each(&["CONFIG", "SET", "lua-time-limit", "1"]).await;
    let mut masters = Vec::new();
    for key in KEYS {
        masters.push(servers.master_of(&remote(key)).await);
    }
    masters.sort_unstable();
    masters.dedup();
    let mut stuck = JoinSet::new();
    let mut others = Vec::new();
    for master in masters {
        let (endless, other) = (servers.number(master).await, servers.number(master).await);
        stuck.spawn(async move { endless.try_run::<()>(cmd("EVAL").arg("while true do end").arg(0)).await });
        eventually("the server is busy", async || {
            other.try_run::<()>(&cmd("PING")).await.is_err_and(|err| err.code() == Some("BUSY"))
        })
        .await;
        others.push(other);
    }
    KEYS.for_each(|key| world.commit(key, 7));
    let mut calls = JoinSet::new();
    for key in KEYS {
        let cache = a.cache.clone();
        calls.spawn(async move { cache.invalidate(&key).await.map_err(|err| err.kind()).unwrap_err() });
    }
    assert!(calls.join_all().await.iter().all(|kind| matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)));
    let failed = Instant::now();
    while failed.elapsed() < BOUND * 2 {
        let late = failed.elapsed() > BOUND;
        let cached = b.cache.load_cached(&1).await.unwrap();
        assert!(matches!(cached.value, 0 | 7), "{cached:?}");
        assert!(!late || cached.value == 7 || cached.freshness == Freshness::Unverified, "{cached:?}");
    }
    for other in others {
        // It may have ended by itself: a node that others take for dead is a replica then.
        let _ = other.try_run::<()>(&words_of(&["SCRIPT", "KILL"])).await;
    }
    assert!(stuck.join_all().await.iter().all(Result::is_err));
    eventually("all are told", async || a.cache.stats().coherence.owed == 0).await;
    b.follows_within_the_bound(&world, KEYS).await;
}
