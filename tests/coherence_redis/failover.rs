//! Masters that die, are replaced, or lose slots: what they had acknowledged, and who listens to them.

use crate::nodes::{KEYS, Node, World, eventually, remote};
use crate::on_both;
use crate::servers::Servers;
use cachestack::testing::Messages;
use std::time::Duration;
use tokio::task::block_in_place;

on_both! {
    Servers::watched;
    c6_an_invalidation_that_a_failover_loses_is_told_again;
    c6_a_clear_that_a_failover_loses_is_repeated;
    d2_after_a_failover_all_channels_are_listened_to_again;
}

async fn c6_an_invalidation_that_a_failover_loses_is_told_again(servers: Servers) {
    is_made_good(servers, async |node, keys| {
        for key in keys {
            node.cache.invalidate(key).await.unwrap();
        }
    })
    .await;
}

async fn c6_a_clear_that_a_failover_loses_is_repeated(servers: Servers) {
    is_made_good(servers, async |node, _| {
        node.cache.clear().await.unwrap();
    })
    .await;
}

/// The replica that takes a master's place has the older values, and has never heard of their invalidation, which was acknowledged.
async fn is_made_good(mut servers: Servers, invalidate: impl AsyncFn(&Node, &[u64])) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    let master = servers.master_of(&remote(KEYS.start)).await;
    let mut keys = Vec::new();
    for key in KEYS {
        assert_eq!(b.read(key).await, 0);
        if servers.master_of(&remote(key)).await == master {
            keys.push(key);
        }
    }
    let (old, new) = (servers.number(master).await, servers.replica_of(master).await);
    for key in &keys {
        let key = remote(*key);
        let record = old.get(key.as_bytes()).await;
        eventually("it is replicated", async || new.get(key.as_bytes()).await == record).await;
    }
    servers.stop_replication_from(master).await;
    for key in &keys {
        world.commit(*key, 7);
    }
    invalidate(&a, &keys).await;
    for key in &keys {
        let record = new.get(remote(*key).as_bytes()).await.unwrap();
        assert_eq!(record[1], b'V', "or nothing would be lost");
    }
    // Whatever it finds in L2 meanwhile, this node keeps in L1.
    let (cache, read) = (b.cache.clone(), keys.clone());
    let reader = tokio::spawn(async move {
        loop {
            for key in &read {
                cache.load(key).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    servers.kill(master);
    servers.await_failover(master);
    let new = world.node().await;
    for key in &keys {
        eventually("L2 is told again", async || new.cache.get(key).await != Some(0)).await;
    }
    eventually("all are verified", async || b.cache.ready(Duration::from_secs(1)).await).await;
    b.follows_within_the_bound(&world, keys.iter().copied()).await;
    reader.abort();
    new.follows_within_the_bound(&world, keys.iter().copied()).await;
    for key in &keys {
        assert_eq!(a.read(*key).await, 7);
    }
}

async fn d2_after_a_failover_all_channels_are_listened_to_again(mut servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
    }
    let master = servers.master_of(&remote(KEYS.start)).await;
    let suspicions = b.cache.stats().coherence.suspicions;
    servers.kill(master);
    servers.await_failover(master);
    eventually("the new master is found", async || {
        b.cache.stats().coherence.suspicions > suspicions
            && a.cache.ready(Duration::from_secs(1)).await
            && b.cache.ready(Duration::from_secs(1)).await
    })
    .await;
    for key in KEYS {
        b.read(key).await;
        world.commit(key, 7);
        a.cache.invalidate(&key).await.unwrap();
        eventually("the message has come", async || b.cache.get_local(&key) != Some(0)).await;
        assert_eq!(b.read(key).await, 7);
    }
}

/// Its new master knows nothing of its keys, nor of what was told of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_a_slot_that_was_given_away_without_its_keys_is_suspect() {
    let servers = Servers::cluster();
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    b.read(1).await;
    let suspicions = b.cache.stats().coherence.suspicions;
    let (slot, from) = (servers.slot_of(&remote(1)).await, servers.master_of(&remote(1)).await);
    let Servers::Cluster(cluster) = &servers else { unreachable!() };
    block_in_place(|| cluster.set_slot_without_migrate(slot, from, (from + 1) % 3));
    // Past the cache, and told on a channel that the old master may have.
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    eventually("its partition is suspect", async || b.cache.stats().coherence.suspicions > suspicions).await;
    assert_eq!(b.read(1).await, 7);
    b.l2.set_messages(Messages::Delivered);
    world.commit(1, 8);
    eventually("it is told at its new master", async || a.cache.invalidate(&1).await.is_ok()).await;
    eventually("it is heard from its new master", async || b.read(1).await == 8).await;
}

/// Answers that send nodes elsewhere, and scripts of two keys that no server runs meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_invalidations_hold_while_their_slots_are_on_the_move() {
    let servers = Servers::cluster();
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::Lost);
    let mut slots = Vec::new();
    for key in KEYS.step_by(8) {
        slots.push((key, servers.slot_of(&remote(key)).await));
    }
    let Servers::Cluster(cluster) = &servers else { unreachable!() };
    for (key, slot) in &slots {
        assert_eq!(b.read(*key).await, 0);
        let (from, slot) = (block_in_place(|| cluster.master_of(*slot)), *slot);
        let to = (from + 1) % 3;
        block_in_place(|| cluster.begin_migration(slot, from, to));
        for row in 1..=6 {
            world.commit(*key, row);
            a.cache.invalidate(key).await.unwrap();
            assert_eq!(a.read(*key).await, row);
            match row {
                // The record and the meta key: on this side, on both, on that.
                2 | 3 => _ = block_in_place(|| cluster.migrate_keys(slot, from, to, 1)),
                4 => block_in_place(|| while cluster.migrate_keys(slot, from, to, 10) > 0 {}),
                5 => block_in_place(|| cluster.finish_migration(slot, from, to)),
                _ => {}
            }
        }
    }
    b.follows_within_the_bound(&world, slots.iter().map(|(key, _)| *key)).await;
}
