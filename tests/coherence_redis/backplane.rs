//! Group D: messages that are lost, doubled, out of order or of another version.

use crate::nodes::{BOUND, KEYS, World, eventually, remote};
use crate::on_both;
use crate::servers::Servers;
use cachestack::testing::Messages;
use cachestack::{Freshness, KeyPrefix, Tier};

on_both! {
    Servers::one;
    d1_no_hit_is_older_than_the_bound_though_every_message_is_lost;
    d3_messages_tripled_and_reversed_are_idempotent;
    d4_one_message_for_an_invalidation_and_none_for_reads;
    d5_a_node_that_may_not_subscribe_is_never_ready_and_asks_l2;
    d6_a_message_of_a_later_version_has_its_partition_asked_about;
    a_prefix_is_followed_like_a_key_though_every_message_is_lost;
    suspects_are_asked_of_redis_and_not_of_the_database;
    a_read_given_a_write_is_no_older_on_any_node;
    an_invalidation_whose_caller_went_away_is_followed;
}

async fn d1_no_hit_is_older_than_the_bound_though_every_message_is_lost(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::Lost);
    for round in 1..=3 {
        for key in KEYS {
            b.read(key).await;
            world.commit(key, round);
        }
        for key in KEYS {
            a.cache.invalidate(&key).await.unwrap();
        }
        b.follows_within_the_bound(&world, KEYS).await;
    }
    assert!(b.cache.stats().coherence.suspicions > 0);
}

async fn a_prefix_is_followed_like_a_key_though_every_message_is_lost(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    let begins_so = |key: &u64| key.to_string().starts_with('1');
    for (round, fate) in [(1, Messages::Delivered), (2, Messages::Lost)] {
        for key in KEYS {
            a.read(key).await;
            b.read(key).await;
        }
        b.l2.set_messages(fate);
        KEYS.filter(begins_so).for_each(|key| world.commit(key, round));
        let queries = world.queries();
        a.cache.invalidate_prefix(&KeyPrefix::text("1")).await.unwrap();
        assert_eq!(a.read(1).await, round, "this node at once");
        b.follows_within_the_bound(&world, KEYS).await;
        assert_eq!(world.queries() - queries, KEYS.filter(begins_so).count() as u64, "all else is in Redis still");
    }
}

async fn d3_messages_tripled_and_reversed_are_idempotent(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::HeldAndJumbled);
    for row in 1..=100 {
        world.commit(1, row);
        a.cache.invalidate(&1).await.unwrap();
        a.read(1).await;
    }
    b.l2.set_messages(Messages::Delivered);
    world.commit(1, 1_000);
    a.cache.invalidate(&1).await.unwrap();
    eventually("all have come", async || b.l2.messages() == 101).await;
    assert_eq!((b.read(1).await, a.read(1).await), (1_000, 1_000));
}

async fn d4_one_message_for_an_invalidation_and_none_for_reads(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
        world.commit(key, 7);
    }
    for key in KEYS {
        a.cache.invalidate(&key).await.unwrap();
    }
    for key in KEYS {
        eventually("the message has come", async || b.cache.get_local(&key) != Some(0)).await;
        assert_eq!((b.read(key).await, a.read(key).await), (7, 7));
    }
    assert_eq!(b.l2.messages(), KEYS.end, "one each, and none for reads and fills");
    a.cache.clear().await.unwrap();
    eventually("the clear has come", async || KEYS.clone().all(|key| b.cache.get_local(&key).is_none())).await;
}

/// The start-up's own test fails loudly: nobody is told that this node is ready, and it rests nothing on L1.
async fn d5_a_node_that_may_not_subscribe_is_never_ready_and_asks_l2(servers: Servers) {
    let world = World::over(&servers);
    let a = world.node().await;
    servers.each(&["ACL", "SETUSER", "default", "resetchannels"]).await;
    let b = world.new_node().await;
    for key in KEYS {
        assert_eq!(b.read(key).await, 0);
    }
    eventually("it polls all the same", async || b.cache.stats().coherence.polls > 3).await;
    assert_eq!(b.cache.stats().coherence.unverified_partitions, 256);
    for key in KEYS {
        world.commit(key, 7);
        a.cache.invalidate(&key).await.unwrap();
    }
    b.follows_within_the_bound(&world, KEYS).await;
    eventually("what it has loaded is no younger than the bound", async || b.cache.get_local(&1).is_none()).await;
    let cached = b.cache.load_cached(&1).await.unwrap();
    assert_eq!((cached.value, cached.tier, cached.freshness), (7, Tier::L2, Freshness::Fresh));
    assert!(!b.cache.ready(BOUND).await);
    servers.each(&["ACL", "SETUSER", "default", "allchannels"]).await;
    eventually("it may listen now", async || b.cache.stats().coherence.unverified_partitions == 0).await;
}

async fn d6_a_message_of_a_later_version_has_its_partition_asked_about(servers: Servers) {
    let world = World::over(&servers);
    let node = world.node().await;
    node.read(1).await;
    // Another format, and another kind of news in this one's.
    for news in [&b"\xffwho knows"[..], b"\x01\0\0\0\0\0\0\0\x01?\x01t"] {
        eventually("L1 has it", async || {
            node.read(1).await;
            node.cache.get_local(&1).is_some()
        })
        .await;
        let suspicions = node.cache.stats().coherence.suspicions;
        assert_eq!(servers.publish(&remote(1), &[&[0; 16], news].concat()).await, 1);
        eventually("it is suspected", async || node.cache.get_local(&1).is_none()).await;
        assert_eq!(node.cache.stats().coherence.suspicions, suspicions + 1, "one partition is");
        assert_eq!(node.cache.load_cached(&1).await.unwrap().tier, Tier::L2);
    }
}

async fn suspects_are_asked_of_redis_and_not_of_the_database(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
    }
    b.l2.set_messages(Messages::Lost);
    for key in KEYS {
        // Keys that nobody reads, of all partitions.
        a.cache.invalidate(&(key + 10_000)).await.unwrap();
    }
    let suspicions = b.cache.stats().coherence.suspicions;
    eventually("the loss is known", async || b.cache.stats().coherence.suspicions > suspicions + 80).await;
    tokio::time::sleep(BOUND).await;
    let queries = world.queries();
    for key in KEYS {
        b.read(key).await;
    }
    assert_eq!(world.queries(), queries, "L2 was asked");
}

async fn a_read_given_a_write_is_no_older_on_any_node(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::Lost);
    for key in KEYS {
        b.read(key).await;
        world.commit(key, 7);
        let token = a.cache.invalidate(&key).await.unwrap().to_string().parse().unwrap();
        assert_eq!(b.cache.load_after(&key, &token).await.unwrap().value, 7);
    }
}

/// A node that goes away in the middle of its writes leaves no key that others could not follow.
async fn an_invalidation_whose_caller_went_away_is_followed(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    b.read(1).await;
    world.commit(1, 7);
    let writer = a.cache.clone();
    drop(tokio::spawn(async move { writer.invalidate(&1).await }));
    drop(a);
    eventually("it is followed", async || b.read(1).await == 7).await;
}
