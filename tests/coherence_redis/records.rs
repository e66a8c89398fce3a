//! Group E: what stands in Redis is another version's, damaged, or something else altogether.

use crate::nodes::{BOUND, KEYS, World, eventually, remote};
use crate::on_both;
use crate::servers::{Servers, meta_key};
use cachestack::testing::Messages;
use cachestack::{Coherence, MemoryTier, Partition, Tier, TieredCache, Ttl};
use redis::cmd;
use std::io;
use std::time::Instant;

on_both! {
    Servers::one;
    e1_old_and_new_code_follow_each_other_and_do_not_overwrite_each_other_in_turns;
    e2_a_suspect_entry_is_not_confirmed_by_a_damaged_record;
    e2_a_damaged_meta_key_vouches_for_nothing;
}

async fn e1_old_and_new_code_follow_each_other_and_do_not_overwrite_each_other_in_turns(servers: Servers) {
    let world = World::over(&servers);
    // Of the same cache, and of another shape.
    let old = world.node().await;
    let rows = world.clone();
    let load = move |key: u64| {
        let row = rows.row(key);
        async move { Ok::<_, io::Error>(format!("row {row}")) }
    };
    let new = TieredCache::<u64, String>::builder("t").l1(MemoryTier::new(1_000)).l2(world.tier().await).ttl(Ttl::minutes(60));
    let new = new.coherence(Coherence::new().bound(BOUND)).schema(2).origin(load).build().unwrap();
    assert!(new.ready(std::time::Duration::from_secs(10)).await);
    for (row, told_by_old) in [(1, true), (2, false)] {
        for key in KEYS {
            old.read(key).await;
            new.load(&key).await.unwrap();
            world.commit(key, row);
            if told_by_old {
                old.cache.invalidate(&key).await.unwrap();
            } else {
                new.invalidate(&key).await.unwrap();
            }
        }
        let told = Instant::now();
        while told.elapsed() < BOUND * 2 {
            let late = told.elapsed() > BOUND;
            for key in KEYS {
                let (one, other) = (old.read(key).await, new.load(&key).await.unwrap());
                assert!(!late || (one, &other) == (row, &format!("row {row}")), "{one} and {other} of {row}");
            }
        }
        // A node of old code that has nothing in L1 loads, and leaves the newer record as it is.
        let older = world.node().await;
        for key in KEYS.step_by(8) {
            let (raw, remote) = (servers.at(&remote(key)).await, remote(key));
            eventually("L2 has it", async || {
                new.load(&key).await.unwrap();
                raw.get(remote.as_bytes()).await.is_some_and(|record| record[1] == b'V')
            })
            .await;
            let stored = raw.get(remote.as_bytes()).await;
            for _ in 0..2 {
                assert_eq!(older.cache.load_cached(&key).await.unwrap().value, row);
            }
            assert_eq!(raw.get(remote.as_bytes()).await, stored);
        }
        assert!(older.cache.stats().l2.unreadable > 0, "which is counted");
        assert_eq!(older.cache.stats().l2.errors, 0);
    }
    assert_eq!((old.cache.stats().l2.errors, new.stats().l2.errors), (0, 0));
}

/// A way to spoil a record of Redis': the record, and another one's.
type Spoil = fn(&mut Vec<u8>, &[u8]);

/// Suspicion asks L2 again: what cannot be read there is a miss, and not a yes.
async fn e2_a_suspect_entry_is_not_confirmed_by_a_damaged_record(servers: Servers) {
    const SPOILS: &[Spoil] = &[
        |record, _| *record.last_mut().unwrap() ^= 1,
        |record, _| record.truncate(record.len() - 1),
        |record, _| record.truncate(40),
        |record, _| record.clear(),
        |record, _| record[0] ^= 0x10,
        |record, other| *record = other.to_vec(),
        |record, _| *record = b"who knows".to_vec(),
    ];
    let world = World::over(&servers);
    let node = world.node().await;
    for key in KEYS {
        node.read(key).await;
    }
    eventually("L1 has them", async || KEYS.clone().all(|key| node.cache.get_local(&key).is_some())).await;
    let other = servers.at(&remote(KEYS.end)).await;
    assert_eq!(node.read(KEYS.end).await, 0);
    let other = other.get(remote(KEYS.end).as_bytes()).await.unwrap();
    // Another server's sequences, and so of everything it may be that it was missed.
    let suspicions = node.cache.stats().coherence.suspicions;
    for key in KEYS {
        // A row that nobody was told of: whoever confirms the older one shows it.
        world.commit(key, 7);
        let remote = remote(key);
        let raw = servers.at(&remote).await;
        if let Some(spoil) = SPOILS.get(key as usize % (SPOILS.len() + 1)) {
            let mut record = raw.get(remote.as_bytes()).await.unwrap();
            spoil(&mut record, &other);
            raw.set(remote.as_bytes(), &record).await;
        } else {
            raw.delete(remote.as_bytes()).await;
            raw.run::<u64>(cmd("HSET").arg(remote.as_bytes()).arg("field").arg("foreign")).await;
        }
    }
    for index in 0..=u8::MAX {
        let partition = Partition::from_index(index);
        servers.at_meta(partition).await.delete(meta_key(partition)).await;
    }
    eventually("everything is suspected", async || node.cache.stats().coherence.suspicions >= suspicions + 256).await;
    for key in KEYS {
        let cached = node.cache.load_cached(&key).await.unwrap();
        assert_eq!((cached.value, cached.tier), (7, Tier::Origin), "{key}");
    }
    assert!(node.cache.stats().l2.unreadable > 0);
}

/// Each of another partition. What cannot be told because of it is owed until it can be.
async fn e2_a_damaged_meta_key_vouches_for_nothing(servers: Servers) {
    const SPOILS: &[Spoil] = &[
        |_, _| (),
        |meta, _| *meta = b"who knows".to_vec(),
        |meta, _| meta.truncate(23),
        |meta, _| meta.clear(),
        |meta, other| *meta = other.to_vec(),
        // Another incarnation, none, and another history.
        |meta, _| meta[0] ^= 1,
        |meta, _| meta[0..8].copy_from_slice(&[0; 8]),
        |meta, _| meta[23] ^= 1,
        // Sequences that are behind, ahead, where a script's numbers end, and where all numbers do.
        |meta, _| meta[8..16].copy_from_slice(&[0; 8]),
        |meta, _| meta[8..16].copy_from_slice(&1_000_000_u64.to_be_bytes()),
        |meta, _| meta[8..16].copy_from_slice(&(1_u64 << 53).to_be_bytes()),
        |meta, _| meta[8..16].copy_from_slice(&[0xff; 8]),
    ];
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    let partition = |key: u64| remote(key).partition();
    // The first is spared, the last one becomes of another type.
    let mut keys: Vec<u64> = Vec::new();
    for key in 0..1_000 {
        if keys.len() < SPOILS.len() + 2 && keys.iter().all(|known| partition(*known) != partition(key)) {
            keys.push(key);
        }
    }
    for key in &keys {
        // So that there is a sequence to be behind of.
        a.cache.invalidate(key).await.unwrap();
        eventually("L1 has it", async || {
            b.read(*key).await;
            b.cache.get_local(key).is_some()
        })
        .await;
    }
    b.l2.set_messages(Messages::Lost);
    let other = servers.at_meta(partition(keys[0])).await.get(meta_key(partition(keys[0]))).await.unwrap();
    for (place, key) in keys[1..].iter().enumerate() {
        let (raw, meta) = (servers.at_meta(partition(*key)).await, meta_key(partition(*key)));
        let mut spoilt = raw.get(&meta).await.unwrap();
        raw.delete(&meta).await;
        if let Some(spoil) = SPOILS.get(place) {
            spoil(&mut spoilt, &other);
            raw.set(&meta, &spoilt).await;
        } else {
            raw.run::<u64>(cmd("HSET").arg(&meta).arg("field").arg("foreign")).await;
        }
    }
    // What is put back and moved on to where it was, all between two polls, nobody can see.
    let polls = b.cache.stats().coherence.polls;
    eventually("the damage is seen", async || b.cache.stats().coherence.polls > polls + 1).await;
    // The second time sequences have been taken from what was damaged.
    for row in [7, 8] {
        eventually("L1 has what it may have", async || {
            let unverified = b.cache.stats().coherence.unverified_partitions as usize;
            for key in &keys {
                b.read(*key).await;
            }
            keys.iter().filter(|key| b.cache.get_local(key).is_some()).count() + unverified >= keys.len()
        })
        .await;
        let (mut told, mut owed) = (Vec::new(), 0);
        for key in &keys {
            world.commit(*key, row);
            match a.cache.invalidate(key).await {
                Ok(_) => told.push(*key),
                Err(_) => owed += 1,
            }
        }
        assert_eq!((a.cache.stats().coherence.owed, owed), (4, 4), "what is no meta key is left alone");
        b.follows_within_the_bound(&world, told).await;
        for key in &keys {
            assert_eq!(a.read(*key).await, row, "{key}: the node that wrote never reads the older value again");
        }
    }
    for key in &keys[1..] {
        servers.at_meta(partition(*key)).await.delete(meta_key(partition(*key))).await;
    }
    eventually("nothing is owed", async || a.cache.stats().coherence.owed == 0).await;
    b.follows_within_the_bound(&world, keys).await;
    b.l2.set_messages(Messages::Delivered);
    eventually("it is verified again", async || b.cache.stats().coherence.unverified_partitions == 0).await;
}
