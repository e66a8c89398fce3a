//! Programs that know nothing of caches and write to Redis themselves: with tracking they are followed.

use crate::nodes::{BOUND, KEYS, World, eventually, remote};
use crate::on_both;
use crate::servers::{Network, Servers};
use cachestack::Freshness;
use cachestack::testing::Messages;

on_both! {
    Servers::one;
    with_tracking_foreign_writers_are_followed;
    what_a_foreign_program_did_while_a_node_was_cut_off_is_followed_when_it_is_back;
}

async fn remove(servers: &Servers, key: u64) {
    let key = remote(key);
    assert_eq!(servers.at(&key).await.delete(key.as_bytes()).await, 1);
}

async fn with_tracking_foreign_writers_are_followed(servers: Servers) {
    let world = World::over(&servers).tracking();
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        // The second read is the one that L1 keeps, if what the store says of the first one's lease and fill has come by then.
        eventually("both have it", async || {
            a.read(key).await;
            b.read(key).await;
            a.cache.get_local(&key).is_some() && b.cache.get_local(&key).is_some()
        })
        .await;
    }
    for key in KEYS {
        world.commit(key, 7);
        remove(&servers, key).await;
    }
    for key in KEYS {
        eventually("it is followed", async || a.cache.get_local(&key) != Some(0) && b.cache.get_local(&key) != Some(0)).await;
        assert_eq!((a.read(key).await, b.read(key).await), (7, 7));
    }
    // What nodes tell each other stays as it is.
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 9);
    a.cache.invalidate(&1).await.unwrap();
    tokio::time::sleep(BOUND).await;
    assert_eq!(b.read(1).await, 9);
}

/// What is pushed has no sequence: what came while nobody listened is made good by asking about everything.
async fn what_a_foreign_program_did_while_a_node_was_cut_off_is_followed_when_it_is_back(servers: Servers) {
    let network = Network::before(&servers).await;
    let world = World::by(network.way.clone()).tracking();
    let node = world.node().await;
    eventually("L1 has it", async || {
        node.read(1).await;
        node.cache.get_local(&1).is_some()
    })
    .await;
    network.stall();
    world.commit(1, 7);
    remove(&servers, 1).await;
    eventually("the silence is noticed", async || node.cache.load_cached(&1).await.unwrap().freshness == Freshness::Unverified)
        .await;
    // What was pushed meanwhile never comes.
    let suspicions = node.cache.stats().coherence.suspicions;
    network.strand();
    // Only once the silence is noticed: until then nothing tells that there was something to push.
    eventually("everything is suspected", async || node.cache.stats().coherence.suspicions >= suspicions + 256).await;
    eventually("it is verified", async || node.cache.stats().coherence.unverified_partitions == 0).await;
    assert_eq!(node.read(1).await, 7);
}
