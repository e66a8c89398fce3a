//! Keys that users choose: each is itself, and none chooses where it lies.

use crate::{AMPLE, Bare, Raw, tier};
use cachestack::{PARTITIONS, RedisTier, Tier};
use std::collections::HashSet;
use std::io;
use test_servers::Redis;

type Key = (String, String);

#[tokio::test]
async fn h1_no_two_keys_of_hostile_parts_share_a_value_in_redis() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let load = |key: Key| async move { Ok::<_, io::Error>(told(&key)) };
    let cache: Bare<Key, (Key, u64)> = {
        let builder = cache_core::TieredCache::<Key, (Key, u64)>::builder("t").l2(l2).max_value_bytes(8 << 20);
        builder.origin(load).build().unwrap()
    };
    let parts = ["", " ", ":", "a", "a:", ":a", "1:a", "(", "(1:a", "{", "}", "{a}", "a{b}c", "\0", "\r\n", "*", "ключ", "#"];
    let mut keys: Vec<Key> = parts.iter().flat_map(|a| parts.map(|b| (String::from(*a), b.to_owned()))).collect();
    let long = "k".repeat(1 << 20);
    // Long ones that differ in one byte, or in where their parts end.
    keys.extend([(long.clone(), String::new()), (String::new(), long.clone()), (format!("{long}k"), String::new())]);
    keys.push((format!("{}l", &long[1..]), String::new()));
    for key in &keys {
        let loaded = cache.load_cached(key).await.unwrap();
        assert_eq!(loaded.tier, Tier::Origin, "somebody else's: {:?}", short(key));
    }
    for key in &keys {
        let found = cache.load_cached(key).await.unwrap();
        assert_eq!(found.tier, Tier::L2, "{:?}", short(key));
        assert!(found.value == told(key), "{:?}", short(key));
    }
    // And a key of its own for each partition.
    assert_eq!(raw.run::<usize>(&["DBSIZE"]).await, keys.len() + PARTITIONS);
    assert_eq!((cache.stats().l2.unreadable, cache.stats().l2.errors), (0, 0));
}

/// A value that tells its key.
fn told(key: &Key) -> (Key, u64) {
    (key.clone(), (key.0.len() + key.1.len()) as u64)
}

fn short(key: &Key) -> (&str, &str) {
    (key.0.get(..20).unwrap_or(&key.0), key.1.get(..20).unwrap_or(&key.1))
}

#[tokio::test]
async fn h2_a_tag_in_a_user_s_key_does_not_choose_its_slot() {
    // One node that has all slots.
    let redis = Redis::builder().arg("--cluster-enabled").arg("yes").start();
    let raw = Raw::connect(&redis.url()).await;
    raw.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    crate::until("the cluster is up", async || raw.run::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok")).await;
    let l2 = RedisTier::cluster([redis.url()]).timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
    let load = |key: String| async move { Ok::<_, io::Error>(key) };
    let cache: Bare<String, String> =
        cache_core::TieredCache::<String, String>::builder("t").l2(l2).origin(load).build().unwrap();
    // All of them would lie in one slot if their tag counted.
    for id in 0..300 {
        cache.load(&format!("{{evil}}:{id}")).await.unwrap();
        cache.load(&format!("}}{{evil}}:{id}")).await.unwrap();
    }
    let keys: Vec<Vec<u8>> = raw.query(redis::cmd("KEYS").arg("*")).await.unwrap();
    let keys: Vec<_> = keys.into_iter().filter(|key| !key.ends_with(b"}:!m")).collect();
    assert_eq!(keys.len(), 600);
    let mut slots = HashSet::new();
    for key in &keys {
        let slot: u16 = raw.query(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)).await.unwrap();
        let tag = key.split(|byte| *byte == b'}').next().unwrap();
        let ours: u16 = raw.query(redis::cmd("CLUSTER").arg("KEYSLOT").arg([tag, b"}"].concat())).await.unwrap();
        assert_eq!(slot, ours, "our own tag, the first one, says where it lies");
        slots.insert(slot);
    }
    assert!(slots.len() > 200, "of 256 partitions {} are used", slots.len());
}
