//! Group H: who can write to Redis, and users who choose keys.

use crate::nodes::{BOUND, KEYS, World, eventually, remote};
use crate::on_both;
use crate::servers::{Servers, meta_key};
use cachestack::{Coherence, Invalidation, MemoryTier, Namespace, Notice, TieredCache, Ttl};
use std::io;

on_both! {
    Servers::one;
    h1_keys_of_any_bytes_are_told_and_no_others_are_concerned;
    h5_forged_messages_cost_misses_and_show_no_value;
    h5_forged_messages_hide_no_true_one;
}

/// And H2: none of them chooses the channel that it is told on.
async fn h1_keys_of_any_bytes_are_told_and_no_others_are_concerned(servers: Servers) {
    type Key = (String, String);
    let world = World::over(&servers);
    let node = async || {
        let load = |key: Key| async move { Ok::<_, io::Error>(key.0.len() as u64) };
        let cache = TieredCache::<Key, u64>::builder("t").l1(MemoryTier::new(1_000)).l2(world.tier().await).ttl(Ttl::minutes(60));
        let cache = cache.coherence(Coherence::new().bound(BOUND)).origin(load).build().unwrap();
        assert!(cache.ready(std::time::Duration::from_secs(10)).await);
        cache
    };
    let (a, b) = (node().await, node().await);
    let parts = ["", ":", "a", "a:", ":a", "1:a", "(", "{", "}", "{a}", "{a}b", "{b}", "\0", "\r\n", "*", "ключ", "!m", "!0"];
    let mut keys: Vec<Key> = parts.iter().flat_map(|a| parts.map(|b| (String::from(*a), b.to_owned()))).collect();
    // Longer than what a message names.
    let long = "k".repeat(1 << 20);
    keys.extend([(long.clone(), String::new()), (String::new(), long)]);
    for key in &keys {
        b.load(key).await.unwrap();
    }
    let partition = |key: &Key| Namespace::new("cs", "t").unwrap().key(key).partition();
    let (last, named) = (keys.len() - 2, &keys[..keys.len() - 2]);
    for (place, key) in named.iter().enumerate() {
        assert!(b.get_local(key).is_some(), "{key:?} is gone with another");
        a.invalidate(key).await.unwrap();
        eventually("it is followed", async || b.get_local(key).is_none()).await;
        if let Some(next) = keys.get(place + 1) {
            assert!(b.get_local(next).is_some(), "{next:?} is gone with {key:?}");
        }
    }
    for key in &keys[last..] {
        a.invalidate(key).await.unwrap();
        eventually("its partition is suspected", async || b.get_local(key).is_none()).await;
    }
    let told: std::collections::HashSet<_> = keys.iter().map(partition).collect();
    assert!(told.len() > 64, "tags choose neither slot nor partition: {}", told.len());
}

async fn h5_forged_messages_cost_misses_and_show_no_value(servers: Servers) {
    let world = World::over(&servers);
    let node = world.node().await;
    assert_eq!(node.read(1).await, 0);
    let queries = world.queries();
    for length in 0..200_usize {
        let noise: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
        servers.publish(&remote(1), &noise).await;
        assert_eq!(node.read(1).await, 0);
    }
    for message in forgeries(&servers).await {
        assert_eq!(servers.publish(&remote(1), &message).await, 1);
        assert_eq!(node.read(1).await, 0);
    }
    eventually("all have come", async || node.l2.messages() >= 200).await;
    assert_eq!(node.read(1).await, 0);
    assert_eq!(world.queries(), queries, "what is lost so in L1 is in L2 still");
    eventually("it is verified", async || node.cache.stats().coherence.unverified_partitions == 0).await;
}

/// The sequence that the true message will have is told before it: who would take that for the true one, and the store's word for it, would miss it.
async fn h5_forged_messages_hide_no_true_one(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    for row in 1..=3 {
        for key in KEYS.step_by(4) {
            eventually("L1 has it", async || {
                b.read(key).await;
                b.cache.get_local(&key).is_some()
            })
            .await;
            let partition = remote(key).partition();
            let meta = servers.at_meta(partition).await.get(meta_key(partition)).await.unwrap();
            let sequence = u64::from_be_bytes(meta[8..16].try_into().unwrap()) + 1;
            let notice = Notice { node: fastrand::u64(..), namespace: Namespace::new("cs", "t").unwrap() };
            let messages = b.l2.messages();
            servers.publish(&remote(key), &[&meta[..8], &sequence.to_be_bytes(), &notice.frame([].iter())].concat()).await;
            eventually("it has come", async || b.l2.messages() > messages).await;
            world.commit(key, row);
            a.cache.invalidate(&key).await.unwrap();
        }
        b.follows_within_the_bound(&world, KEYS.step_by(4)).await;
    }
}

/// As the nodes themselves would write them, of key 1's partition, with the true incarnation and sequences to come; and others.
async fn forgeries(servers: &Servers) -> Vec<Vec<u8>> {
    let partition = remote(1).partition();
    let meta = servers.at_meta(partition).await.get(meta_key(partition)).await.unwrap();
    let (incarnation, sequence) = (&meta[..8], u64::from_be_bytes(meta[8..16].try_into().unwrap()));
    let name = |name| Namespace::new("cs", name).unwrap();
    let other = KEYS.start + 1_000;
    let mut forged = Vec::new();
    for namespace in [name("t"), name("other")] {
        let notice = Notice { node: fastrand::u64(..), namespace: namespace.clone() };
        let key = |key: u64, version| Invalidation { key: namespace.key(&key), version };
        let frames = [
            notice.frame_of_all(),
            notice.frame([key(1, None)].iter()),
            notice.frame([key(1, Some(u64::MAX)), key(other, Some(0))].iter()),
            notice.frame([].iter()),
        ];
        for frame in frames {
            for sequence in [0, 1, sequence, sequence + 1, sequence + 2, sequence + 3, 1 << 53, u64::MAX] {
                forged.push([incarnation, &sequence.to_be_bytes(), &frame].concat());
            }
            forged.push([&[0; 16][..], &frame].concat());
            forged.push([&[0xff; 16][..], &frame].concat());
        }
    }
    forged
}
