//! What services do with a cache's Redis besides caching, on one server and on a cluster of six.

mod common;

use cache_core::record::Life;
use cache_core::{Acquired, Claim, ErrorKind, Filled, Invalidated, Namespace, Put, PutOutcome, RemoteKey, RemoteTier, Token};
use cache_redis::{KeyPrefix, RedisTier, Role, Swept};
use common::{AMPLE, HOUR, Raw, asks, body, fills, invalidation, key, local_ms, namespace, shared, store, store_version, tier};
use std::sync::OnceLock;
use std::time::Duration;
use test_servers::{Redis, RedisCluster};

const MINUTE: Duration = Duration::from_secs(60);

/// One cluster for all tests that do it no harm.
fn cluster() -> &'static RedisCluster {
    static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
    CLUSTER.get_or_init(RedisCluster::start)
}

async fn cluster_tier(cluster: &RedisCluster) -> RedisTier {
    let urls = cluster.nodes().iter().map(Redis::url);
    RedisTier::cluster(urls).timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("the cluster runs")
}

/// A tier on one server and one on the cluster.
async fn both() -> [RedisTier; 2] {
    [tier(&shared().url()).await, cluster_tier(cluster()).await]
}

fn put(key: &RemoteKey, version: u64) -> Put {
    Put { token: Token::unique(), version, age: Duration::ZERO, body: body(key, "put", HOUR) }
}

async fn found(tier: &RedisTier, key: &RemoteKey) -> bool {
    tier.exists(key).await.unwrap()
}

/// The Redis key of a key's counter.
fn counter_key(key: &RemoteKey) -> String {
    String::from_utf8(key.as_bytes().to_vec()).unwrap().replacen("}:", "}+", 1)
}

#[tokio::test]
async fn a_counter_sums_what_it_is_given_in_64_bits() {
    for tier in both().await {
        let key = key();
        assert_eq!(tier.counter(&key).await.unwrap(), None);
        assert_eq!(tier.increment(&key, 5, HOUR).await.unwrap(), 5);
        assert_eq!(tier.increment(&key, -7, HOUR).await.unwrap(), -2);
        // Beyond what a Lua number holds exactly.
        assert_eq!(tier.increment(&key, i64::MAX, HOUR).await.unwrap(), i64::MAX - 2);
        assert_eq!(tier.counter(&key).await.unwrap(), Some(i64::MAX - 2));
        assert_eq!(tier.increment(&key, 3, HOUR).await.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(tier.increment(&key, 2, HOUR).await.unwrap(), i64::MAX, "what did not fit was not added");
    }
}

#[tokio::test]
async fn concurrent_increments_are_all_counted() {
    for tier in both().await {
        let key = key();
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                let (tier, key) = (tier.clone(), key.clone());
                tokio::spawn(async move { tier.increment(&key, 1, HOUR).await.unwrap() })
            })
            .collect();
        let mut sums = Vec::new();
        for task in tasks {
            sums.push(task.await.unwrap());
        }
        sums.sort_unstable();
        assert!(sums.into_iter().eq(1..=200), "each saw a sum of its own");
    }
}

#[tokio::test]
async fn the_first_increment_alone_sets_the_ttl() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let key = key();
    let name = counter_key(&key);
    tier.increment(&key, 1, HOUR).await.unwrap();
    let expires: i64 = raw.run(&["PEXPIRETIME", &name]).await;
    let now = i64::try_from(raw.time_us().await / 1_000).unwrap();
    assert!((now + 3_590_000..=now + 3_600_000).contains(&expires));
    tier.increment(&key, 1, 24 * HOUR).await.unwrap();
    tier.increment(&key, 1, Duration::ZERO).await.unwrap();
    assert_eq!(raw.run::<i64>(&["PEXPIRETIME", &name]).await, expires);

    raw.run::<()>(&["PERSIST", &name]).await;
    assert_eq!(tier.increment(&key, 1, HOUR).await.unwrap(), 4);
    assert!(raw.run::<i64>(&["PEXPIRETIME", &name]).await > 0, "no counter stays for ever");
    let long = namespace().key(&2);
    assert_eq!(tier.increment(&long, 1, Duration::MAX).await.unwrap(), 1);
    assert!(raw.run::<i64>(&["PEXPIRETIME", &counter_key(&long)]).await > now + 1_000_000_000_000);
}

#[tokio::test]
async fn many_counters_each_have_a_result_of_their_own() {
    for tier in both().await {
        let namespace = namespace();
        let mut counts: Vec<_> = (0..300).map(|n: i64| (namespace.key(&n), n)).collect();
        tier.increment(&counts[7].0, i64::MAX, HOUR).await.unwrap();
        counts.push(counts[3].clone());
        let sums = tier.increment_many(&counts, HOUR).await;
        assert_eq!(sums.len(), 301);
        for (at, sum) in sums.into_iter().enumerate() {
            match at {
                7 => assert_eq!(sum.unwrap_err().kind(), ErrorKind::TooLarge),
                300 => {}
                _ => assert!([at as i64, 6].contains(&sum.unwrap()), "{at}"),
            }
        }
        let keys: Vec<_> = (0..301).map(|n: i64| namespace.key(&n)).collect();
        let stand = tier.counters(&keys).await;
        assert_eq!((*stand[3].as_ref().unwrap(), *stand[299].as_ref().unwrap()), (Some(6), Some(299)));
        assert_eq!(*stand[300].as_ref().unwrap(), None);
        assert_eq!(tier.increment_many(&[], HOUR).await.len() + tier.counters(&[]).await.len(), 0);
    }
}

#[tokio::test]
async fn a_reset_gives_what_there_was_and_the_next_begins_anew() {
    for tier in both().await {
        let key = key();
        assert_eq!(tier.reset_counter(&key).await.unwrap(), None);
        tier.increment(&key, i64::MIN, HOUR).await.unwrap();
        assert_eq!(tier.reset_counter(&key).await.unwrap(), Some(i64::MIN));
        assert_eq!(tier.counter(&key).await.unwrap(), None);
        assert_eq!(tier.increment(&key, 1, HOUR).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_counter_and_a_record_of_one_key_know_nothing_of_each_other() {
    for tier in both().await {
        let namespace = namespace();
        for key in [namespace.key(&1), namespace.key(&"long".repeat(100))] {
            tier.increment(&key, 41, HOUR).await.unwrap();
            assert_eq!(tier.get(&key).await.unwrap().record, None);
            assert!(!found(&tier, &key).await);
            store(&tier, &key, "value").await;
            assert_eq!(tier.increment(&key, 1, HOUR).await.unwrap(), 42);
            assert!(found(&tier, &key).await);
            assert_eq!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap().outcome, [Invalidated::Tombstoned]);
            assert_eq!(tier.counter(&key).await.unwrap(), Some(42));
        }
        tier.clear(&namespace, HOUR, None).await.unwrap();
        assert_eq!(tier.counter(&namespace.key(&1)).await.unwrap(), Some(42), "a clear is of records");
    }
}

#[tokio::test]
async fn what_is_no_counter_is_foreign_and_stays_as_it_is() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let namespace = namespace();
    let (text, list) = (namespace.key(&1), namespace.key(&2));
    raw.run::<()>(&["SET", &counter_key(&text), "many"]).await;
    raw.run::<()>(&["RPUSH", &counter_key(&list), "1"]).await;
    for key in [&text, &list] {
        assert_eq!(tier.increment(key, 1, HOUR).await.unwrap_err().kind(), ErrorKind::Foreign);
        assert_eq!(tier.counter(key).await.unwrap_err().kind(), ErrorKind::Foreign);
        assert_eq!(tier.reset_counter(key).await.unwrap_err().kind(), ErrorKind::Foreign);
    }
    assert_eq!(raw.run::<String>(&["GET", &counter_key(&text)]).await, "many");
    assert_eq!(raw.run::<i64>(&["PTTL", &counter_key(&text)]).await, -1);
    assert_eq!(raw.run::<u64>(&["LLEN", &counter_key(&list)]).await, 1);
}

#[tokio::test]
async fn c4_without_memory_a_counter_says_so_and_can_be_reset() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let key = key();
    tier.increment(&key, 1, HOUR).await.unwrap();
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let err = tier.increment(&key, 1, HOUR).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    assert!(err.to_string().contains("out of memory"), "{err}");
    assert_eq!(tier.counter(&key).await.unwrap(), Some(1));
    assert_eq!(tier.reset_counter(&key).await.unwrap(), Some(1));
}

#[tokio::test]
async fn what_is_left_of_a_value_s_lives_is_told_by_the_server_s_clock() {
    for tier in both().await {
        let key = key();
        let life = Life { soft: MINUTE, hard: 2 * MINUTE, last: HOUR };
        let token = Token::unique();
        tier.acquire(&key, &asks(token, Claim::Vacant)).await.unwrap();
        assert_eq!(tier.remaining(&key).await.unwrap(), None, "a lease is no value");
        let mut fill = fills(&key, token, vec![7; 100_000]);
        fill.body.life = life;
        fill.created = local_ms() - 90_000;
        tier.fill(&key, &fill).await.unwrap();
        let left = tier.remaining(&key).await.unwrap().unwrap();
        assert_eq!(left.soft, Duration::ZERO);
        let near = |left: Duration, whole: u64| (Duration::from_secs(whole - 5)..=Duration::from_secs(whole)).contains(&left);
        assert!(near(left.hard, 30) && near(left.last, 3_510), "{left:?}");
        assert!(found(&tier, &key).await, "stale is there");
    }
}

#[tokio::test]
async fn what_a_read_would_not_be_answered_with_does_not_exist() {
    for tier in both().await {
        let namespace = namespace();
        let [absent, tombstone, last_resort] = [1, 2, 3].map(|n| namespace.key(&n));
        store(&tier, &tombstone, "x").await;
        tier.invalidate(&[invalidation(&tombstone)], HOUR, None).await.unwrap();
        let token = Token::unique();
        tier.acquire(&last_resort, &asks(token, Claim::Vacant)).await.unwrap();
        let mut fill = fills(&last_resort, token, "x");
        fill.body.life = Life { soft: MINUTE, hard: MINUTE, last: HOUR };
        fill.created = local_ms() - 120_000;
        tier.fill(&last_resort, &fill).await.unwrap();
        for key in [&absent, &tombstone, &last_resort] {
            assert!(!found(&tier, key).await, "{key:?}");
        }
        let left = tier.remaining(&last_resort).await.unwrap().unwrap();
        assert!(left.hard.is_zero() && left.last > MINUTE, "a last resort is one still: {left:?}");
    }
}

#[tokio::test]
async fn e2_a_record_that_is_damaged_or_of_another_key_has_no_lives_and_a_foreign_one_is_told() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let namespace = namespace();
    let [damaged, other, foreign, list, original] = [1, 2, 3, 4, 5].map(|n| namespace.key(&n));
    store(&tier, &original, "value").await;
    let bytes: Vec<u8> = raw.of("GET", &original).await;
    let mut flipped = bytes.clone();
    flipped[36] ^= 2; // a bit of when it was created: far ahead
    flipped[72..88].copy_from_slice(damaged.echo().as_bytes());
    raw.query::<()>(redis::cmd("SET").arg(damaged.as_bytes()).arg(flipped)).await;
    raw.query::<()>(redis::cmd("SET").arg(other.as_bytes()).arg(bytes)).await;
    for key in [&damaged, &other] {
        assert_eq!(tier.remaining(key).await.unwrap(), None);
        assert_eq!(tier.touch(key, MINUTE).await.unwrap(), None);
        assert_eq!(raw.of::<i64>("PTTL", key).await, -1);
    }
    raw.query::<()>(redis::cmd("SET").arg(foreign.as_bytes()).arg("42")).await;
    raw.query::<()>(redis::cmd("RPUSH").arg(list.as_bytes()).arg("42")).await;
    for key in [&foreign, &list] {
        assert_eq!(tier.exists(key).await.unwrap_err().kind(), ErrorKind::Foreign);
        assert_eq!(tier.touch(key, MINUTE).await.unwrap_err().kind(), ErrorKind::Foreign);
        assert_eq!(raw.of::<i64>("PTTL", key).await, -1);
    }
}

#[tokio::test]
async fn a_touch_moves_when_a_value_is_forgotten_and_no_byte_of_it() {
    for tier in both().await {
        let key = key();
        assert_eq!(tier.touch(&key, MINUTE).await.unwrap(), None);
        store(&tier, &key, "value").await;
        let before = tier.get(&key).await.unwrap().record;
        assert_eq!(tier.touch(&key, MINUTE).await.unwrap(), Some(MINUTE));
        let left = tier.remaining(&key).await.unwrap().unwrap();
        assert!(left.soft <= MINUTE && left.last > MINUTE / 2, "{left:?}");
        assert_eq!(tier.touch(&key, 2 * MINUTE).await.unwrap(), Some(2 * MINUTE), "later again");
        let kept = tier.touch(&key, 24 * HOUR).await.unwrap().unwrap();
        assert!(kept <= HOUR && kept > HOUR / 2, "never past its last life: {kept:?}");
        assert_eq!(tier.touch(&key, Duration::MAX).await.unwrap().map(|kept| kept <= HOUR), Some(true));
        assert_eq!(tier.get(&key).await.unwrap().record, before);
        tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap();
        assert_eq!(tier.touch(&key, MINUTE).await.unwrap(), None, "a tombstone stays as long as it must");
    }
}

#[tokio::test]
async fn a_touch_keeps_nothing_longer_than_anyone_would_read_it() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let key = key();
    store(&tier, &key, "value").await;
    let last: i64 = raw.of("PEXPIRETIME", &key).await;
    tier.touch(&key, 24 * HOUR).await.unwrap();
    assert_eq!(raw.of::<i64>("PEXPIRETIME", &key).await, last);
    raw.of::<()>("PERSIST", &key).await;
    tier.touch(&key, 24 * HOUR).await.unwrap();
    assert_eq!(raw.of::<i64>("PEXPIRETIME", &key).await, last);
}

#[tokio::test]
async fn a_touch_forgets_no_version_and_no_refresh_early() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let namespace = namespace();
    let (versioned, refreshed) = (namespace.key(&1), namespace.key(&2));
    store_version(&tier, &versioned, "x", 6).await;
    assert_eq!(tier.put(&versioned, &put(&versioned, 7), 2 * HOUR, None).await.unwrap().outcome, PutOutcome::Stored);
    let expires: i64 = raw.of("PEXPIRETIME", &versioned).await;
    let kept = tier.touch(&versioned, Duration::from_millis(1)).await.unwrap().unwrap();
    assert!(kept > HOUR / 2 && kept <= HOUR, "for its last life, and its version longer: {kept:?}");
    assert_eq!(raw.of::<i64>("PEXPIRETIME", &versioned).await, expires);

    let token = Token::unique();
    tier.acquire(&refreshed, &asks(token, Claim::Vacant)).await.unwrap();
    let mut fill = fills(&refreshed, token, "stale");
    (fill.body.life, fill.created) = (Life { soft: MINUTE, hard: HOUR, last: HOUR }, local_ms() - 120_000);
    tier.fill(&refreshed, &fill).await.unwrap();
    let refresh = Token::unique();
    assert!(matches!(tier.acquire(&refreshed, &asks(refresh, Claim::Stale)).await.unwrap(), Acquired::Granted { .. }));
    assert!(tier.touch(&refreshed, Duration::from_millis(1)).await.unwrap().unwrap() > MINUTE);
    assert_eq!(tier.fill(&refreshed, &fills(&refreshed, refresh, "new")).await.unwrap(), Filled::Stored);
}

#[tokio::test]
async fn of_many_who_insert_if_absent_one_stores() {
    for tier in both().await {
        let key = key();
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (tier, key) = (tier.clone(), key.clone());
                tokio::spawn(async move { tier.insert_absent(&key, &put(&key, 0), HOUR).await.unwrap() })
            })
            .collect();
        let mut stored = 0;
        for task in tasks {
            stored += u32::from(task.await.unwrap());
        }
        assert_eq!(stored, 1);
        assert!(found(&tier, &key).await);
        assert!(!tier.insert_absent(&key, &put(&key, 9), HOUR).await.unwrap(), "there is a value");
        tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap();
        let old = Put { age: 2 * MINUTE, ..put(&key, 0) };
        assert!(tier.insert_absent(&key, &old, HOUR).await.unwrap(), "invalidated is absent");
        let left = tier.remaining(&key).await.unwrap().unwrap();
        assert!(left.last + 2 * MINUTE <= HOUR, "its age is the write's: {left:?}");
    }
}

#[tokio::test]
async fn insert_if_absent_gives_way_to_loads_floors_and_what_is_not_ours() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let namespace = namespace();
    let [loading, floor, foreign] = [1, 2, 3].map(|n| namespace.key(&n));
    let load = Token::unique();
    tier.acquire(&loading, &asks(load, Claim::Vacant)).await.unwrap();
    assert!(!tier.insert_absent(&loading, &put(&loading, 0), HOUR).await.unwrap());
    assert_eq!(tier.fill(&loading, &fills(&loading, load, "loaded")).await.unwrap(), Filled::Stored);

    let beyond = cache_core::Invalidation { key: floor.clone(), version: Some(5) };
    tier.invalidate(&[beyond], HOUR, None).await.unwrap();
    let refused = tier.insert_absent(&floor, &put(&floor, 4), HOUR).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(tier.insert_absent(&floor, &put(&floor, 5), HOUR).await.unwrap(), "the refused one left no lease");

    raw.query::<()>(redis::cmd("SET").arg(foreign.as_bytes()).arg("theirs")).await;
    let err = tier.insert_absent(&foreign, &put(&foreign, 0), HOUR).await.unwrap_err();
    assert_eq!((err.kind(), raw.of::<String>("GET", &foreign).await), (ErrorKind::Foreign, "theirs".to_owned()));
}

/// Stores a value under each key.
async fn store_all(tier: &RedisTier, keys: &[RemoteKey]) {
    futures_util::future::join_all(keys.iter().map(|key| store(tier, key, "x"))).await;
}

#[tokio::test]
async fn a_prefix_is_invalidated_on_every_master_and_nothing_else_is() {
    for (tier, masters) in both().await.into_iter().zip([1, 3]) {
        let (ours, theirs) = (namespace(), namespace());
        let going: Vec<_> = (0..1_500).map(|n: u32| ours.key(&("customer*", n))).collect();
        let mut kept: Vec<_> = (0..1_500).map(|n: u32| ours.key(&("customer*2", n))).collect();
        kept.extend((0..50).map(|n: u32| theirs.key(&("customer*", n))));
        kept.push(ours.key(&("customerX", 1)));
        store_all(&tier, &going).await;
        store_all(&tier, &kept).await;
        let (in_flight, load) = (ours.key(&("customer*", "in flight")), Token::unique());
        tier.acquire(&in_flight, &asks(load, Claim::Vacant)).await.unwrap();
        tier.increment(&going[0], 3, HOUR).await.unwrap();

        let mut steps = Vec::new();
        let prefix = KeyPrefix::parts(["customer*"]);
        let swept = tier.invalidate_prefix(&ours, &prefix, HOUR, |step: &Swept| steps.push(*step)).await.unwrap();
        assert_eq!(steps.last(), Some(&swept));
        assert!(steps.is_sorted_by_key(|step| (step.batches, step.found, step.tombstoned, step.masters_done)));
        assert_eq!((swept.found, swept.tombstoned, swept.masters_done, swept.masters), (1_501, 1_501, masters, masters));
        assert!(swept.batches > 2, "in batches");
        for key in &going {
            assert!(!found(&tier, key).await);
        }
        for key in &kept {
            assert!(found(&tier, key).await);
        }
        assert_eq!(tier.fill(&in_flight, &fills(&in_flight, load, "old")).await.unwrap(), Filled::LeaseLost);
        assert_eq!(tier.counter(&going[0]).await.unwrap(), Some(3));
    }
}

#[tokio::test]
async fn a_prefix_of_text_takes_digested_keys_along() {
    let tier = tier(&shared().url()).await;
    let namespace = namespace();
    let [short, long, other] = [namespace.key("user:1"), namespace.key(&"user:1".repeat(99)), namespace.key("users")];
    for key in [&short, &long, &other] {
        store(&tier, key, "value").await;
    }
    let swept = tier.invalidate_prefix(&namespace, &KeyPrefix::text("user:"), HOUR, |_| ()).await.unwrap();
    assert_eq!(swept.tombstoned, 2);
    assert!(!found(&tier, &short).await && !found(&tier, &long).await && found(&tier, &other).await);
}

#[tokio::test]
async fn a_sweep_that_is_dropped_can_be_repeated_to_its_end() {
    let tier = tier(&shared().url()).await;
    let namespace = namespace();
    let keys: Vec<_> = (0..4_000).map(|n: u32| namespace.key(&n)).collect();
    store_all(&tier, &keys).await;
    let all = KeyPrefix::text("");
    let (told, mut first) = tokio::sync::mpsc::unbounded_channel();
    let sweep = tier.invalidate_prefix(&namespace, &all, HOUR, move |step| _ = told.send(*step));
    tokio::select! {
        biased;
        _ = first.recv() => {}
        swept = sweep => panic!("there were more batches than one: {swept:?}"),
    }
    let left = futures_util::future::join_all(keys.iter().map(|key| found(&tier, key))).await;
    assert!(left.contains(&true), "it stopped in its course");
    tier.invalidate_prefix(&namespace, &all, HOUR, |_| ()).await.unwrap();
    let left = futures_util::future::join_all(keys.iter().map(|key| found(&tier, key))).await;
    assert!(!left.contains(&true));
}

#[tokio::test]
async fn a_master_that_is_away_keeps_no_other_from_being_swept_and_shows_in_figures_and_health() {
    let cluster = RedisCluster::builder().partial_coverage().node_timeout(Duration::from_secs(30)).start();
    let urls = cluster.nodes().iter().map(Redis::url);
    let tier = RedisTier::cluster(urls).timeout(Duration::from_millis(500)).connect_timeout(AMPLE).connect().await.unwrap();
    let namespace = namespace();
    let keys: Vec<_> = (0..300).map(|n: u32| namespace.key(&n)).collect();
    store_all(&tier, &keys).await;
    cluster.node(1).pause();
    let mut last = Swept::default();
    let err = tier.invalidate_prefix(&namespace, &KeyPrefix::text(""), HOUR, |step| last = *step).await.unwrap_err();
    assert!(err.is_transient(), "{err:?}");
    assert_eq!((last.masters_done, last.masters), (2, 3));
    assert!((100..300).contains(&last.tombstoned), "{last:?}");

    let infos = tier.server_info().await;
    assert_eq!((infos.len(), infos.iter().filter(|info| info.is_ok()).count()), (3, 2));
    let health = tier.health().await;
    assert_eq!((health.well(), health.nodes.len(), health.is_well()), (2, 3, false));
    assert!(health.trouble().unwrap().is_transient());
}

#[tokio::test]
async fn a_server_s_figures_are_those_it_has() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "100mb"]).await;
    raw.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]).await;
    store(&tier, &key(), "value").await;
    tier.increment(&key(), 1, HOUR).await.unwrap();
    tier.get(&key()).await.unwrap();
    let info = tier.server_info().await.remove(0).unwrap();
    assert_eq!((info.keys, info.role, info.memory_max), (2, Some(Role::Master), Some(100 << 20)));
    assert_eq!(info.eviction_policy.as_deref(), Some("allkeys-lfu"));
    assert_eq!((info.evicted, info.expired), (Some(0), Some(0)));
    assert!(info.memory_used.unwrap() > 500_000 && info.clients.unwrap() >= 2 && info.misses.unwrap() >= 1, "{info:?}");
    assert!(info.hits.is_some() && info.uptime.is_some_and(|uptime| uptime < HOUR));
    assert!(info.version.unwrap().contains('.'));
}

#[tokio::test]
async fn a_cluster_s_figures_are_one_for_each_master() {
    let tier = cluster_tier(cluster()).await;
    let infos = tier.server_info().await;
    assert_eq!(infos.len(), 3);
    assert!(infos.into_iter().all(|info| info.unwrap().role == Some(Role::Master)));
}

#[tokio::test]
async fn figures_need_a_permission() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    raw.run::<()>(&["ACL", "SETUSER", "cache", "on", ">pw", "~*", "+@all", "-info"]).await;
    let tier = tier(&redis.url().replace("redis://", "redis://cache:pw@")).await;
    let refused = tier.server_info().await.remove(0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Credentials);
    assert!(tier.health().await.is_well());
}

#[tokio::test]
async fn health_is_well_where_reads_and_writes_work_and_needs_no_key() {
    for (tier, masters) in both().await.into_iter().zip([1, 3]) {
        let health = tier.health().await;
        assert_eq!((health.is_well(), health.well(), health.nodes.len()), (true, masters, masters));
        assert!(health.trouble().is_none() && health.latency() > Duration::ZERO);
    }
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let tier = tier(&redis.url()).await;
    assert!(tier.health().await.is_well());
    assert_eq!(raw.run::<u64>(&["DBSIZE"]).await, 0, "nothing is written");
}

#[tokio::test]
async fn health_tells_in_words_what_hinders_writes() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let trouble = async || tier.health().await.trouble().map(|trouble| (trouble.kind(), trouble.to_string()));
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (kind, text) = trouble().await.unwrap();
    assert!(kind == ErrorKind::Unavailable && text.contains("out of memory"), "{text}");
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(trouble().await, None);
    raw.run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let (kind, text) = trouble().await.unwrap();
    assert!(kind == ErrorKind::Unavailable && text.contains("NOREPLICAS"), "{text}");
    raw.run::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    raw.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let (kind, text) = trouble().await.unwrap();
    assert!(kind == ErrorKind::Unavailable && text.contains("replica"), "{text}");
}

#[tokio::test]
async fn health_ends_within_the_timeout_and_shows_no_secret() {
    let redis = Redis::builder().password("secret").start();
    let url = redis.url().replace("redis://", "redis://:secret@");
    let timeout = Duration::from_millis(100);
    let tier = RedisTier::builder(&url).timeout(timeout).connect_timeout(AMPLE).connect().await.unwrap();
    redis.pause();
    let health = tier.health().await;
    assert!(health.latency() >= timeout && health.latency() < timeout + common::MARGIN, "{health:?}");
    assert_eq!(health.trouble().unwrap().kind(), ErrorKind::Timeout);
    redis.resume();
    let wrong = RedisTier::builder(&redis.url().replace("redis://", "redis://:canary@")).timeout(AMPLE).lazy().unwrap();
    let health = wrong.health().await;
    assert_eq!(health.trouble().unwrap().kind(), ErrorKind::Credentials);
    let text = format!("{health:?}");
    assert!(!text.contains("canary") && !text.contains("127.0.0.1"), "{text}");
    tier.close().await;
    assert_eq!(tier.health().await.trouble().unwrap().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn c9_scripts_that_redis_has_forgotten_are_loaded_again() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let key = Namespace::new("", "flushed").unwrap().key(&1);
    store(&tier, &key, "value").await;
    for _ in 0..2 {
        raw.run::<()>(&["SCRIPT", "FLUSH"]).await;
        assert!(tier.increment(&key, 1, HOUR).await.is_ok() && tier.exists(&key).await.unwrap());
        assert!(tier.touch(&key, MINUTE).await.unwrap().is_some() && tier.health().await.is_well());
        assert_eq!(tier.reset_counter(&key).await.unwrap(), Some(1));
    }
}
