//! What stands in Redis is another deployment's, damaged, a bomb or forged: a miss that is counted, and never an error or a false value.

use crate::{AMPLE, Bare, Raw, doubling, tier};
use cache_core::record::{Flags, Record};
use cachestack::{Compression, ErrorKind, Json, Keyring, Namespace, RedisTier, RemoteKey, RemoteTier, Storable, Tier};
use serde::{Deserialize, Serialize};
use std::io;
use test_servers::Redis;

fn key(name: &str) -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(name)
}

async fn record(l2: &RedisTier, name: &str) -> Record {
    Record::decode(&l2.get(&key(name)).await.unwrap().record.unwrap(), key(name).echo()).unwrap()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    price: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    price: String,
}

#[tokio::test]
async fn e1_two_deployments_of_one_service_miss_each_other_s_values_and_do_not_overwrite_them_in_turns() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    // Another type, another schema number, another codec.
    let load = |_| async { Ok::<_, io::Error>(Old { price: 3 }) };
    let old: Bare<String, Old> =
        cache_core::TieredCache::<String, Old>::builder("t").l2(l2.clone()).origin(load).build().unwrap();
    let load = |_| async { Ok::<_, io::Error>(New { price: "three".into() }) };
    let new = cache_core::TieredCache::<String, New>::builder("t").l2_with(l2.clone(), Json).schema(2).origin(load);
    let new: Bare<String, New> = new.build().unwrap();

    old.load("k").await.unwrap();
    assert_eq!(new.load_cached("k").await.unwrap().tier, Tier::Origin, "an older shape is a miss");
    let stored = raw.get(key("k").as_bytes()).await;
    for round in 1..=3 {
        let loaded = old.load_cached("k").await.unwrap();
        assert_eq!((loaded.value, loaded.tier), (Old { price: 3 }, Tier::Origin), "and so is a newer one");
        assert_eq!(old.stats().l2.unreadable, round, "which is counted");
        assert_eq!(new.load_cached("k").await.unwrap().tier, Tier::L2);
        assert_eq!(raw.get(key("k").as_bytes()).await, stored, "round {round}");
    }
    assert_eq!((old.stats().l2.errors, new.stats().l2.errors, new.stats().loads), (0, 0, 1));
    // An invalidation by either reaches both.
    old.invalidate("k").await.unwrap();
    assert_eq!(new.get("k").await, None);
}

#[tokio::test]
async fn e2_no_record_bent_in_any_bit_cut_or_of_another_key_is_read_as_a_value() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let cache = doubling(l2.clone());
    let [key, other] = [1, 2].map(|id: u64| Namespace::new("cs", "t").unwrap().key(&id));
    cache.load(&1).await.unwrap();
    cache.load(&2).await.unwrap();
    let whole = raw.get(key.as_bytes()).await;
    for bit in 0..whole.len() * 8 {
        let mut bent = whole.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        raw.set(key.as_bytes(), &bent).await;
        let unreadable = cache.stats().l2.unreadable;
        // The token is the record's identity, and marks are no part of a value: neither says what it is.
        let expected = matches!(bit / 8, 14..30 | 68..70).then_some(2);
        assert_eq!(cache.get(&1).await, expected, "bit {bit}");
        assert_eq!(cache.stats().l2.unreadable - unreadable, u64::from(expected.is_none()), "bit {bit}");
    }
    for length in 0..whole.len() {
        raw.set(key.as_bytes(), &whole[..length]).await;
        assert_eq!(cache.get(&1).await, None, "{length} bytes");
    }
    raw.set(key.as_bytes(), &raw.get(other.as_bytes()).await).await;
    assert_eq!(cache.get(&1).await, None, "the value of another key");
    assert_eq!(cache.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(cache.load_cached(&1).await.unwrap().tier, Tier::L2, "replaced");
    assert_eq!(cache.stats().l2.errors, 0);
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

fn nesting(l2: &RedisTier, codec: impl cachestack::Codec<Nested>) -> Bare<String, Nested> {
    let load = |_| async { Ok::<_, io::Error>(Nested::default()) };
    let builder = cache_core::TieredCache::<String, Nested>::builder("t").l2_with(l2.clone(), codec).origin(load);
    builder.compression(Compression::lz4().at_most(1 << 22)).build().unwrap()
}

/// Puts a payload in the place of a stored value's, with all checks right, and expects a miss that the next load replaces.
async fn misses<V: Storable + Clone + Send + Sync + 'static>(
    cache: &Bare<String, V>,
    l2: &RedisTier,
    raw: &Raw,
    flags: Flags,
    payload: Vec<u8>,
) {
    cache.load("k").await.unwrap();
    let mut bomb = record(l2, "k").await;
    (bomb.body.flags, bomb.body.payload) = (flags, payload.into());
    raw.set(key("k").as_bytes(), &bomb.encode()).await;
    let before = cache.stats();
    assert!(cache.get("k").await.is_none());
    let l2 = cache.stats().since(&before).l2;
    assert_eq!((l2.misses, l2.unreadable, l2.errors), (1, 1, 0));
    assert_eq!(cache.load_cached("k").await.unwrap().tier, Tier::Origin);
    assert_eq!(cache.load_cached("k").await.unwrap().tier, Tier::L2, "replaced");
}

#[tokio::test]
async fn e3_bombs_of_length_nesting_and_compression_in_redis_are_misses() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let packed = nesting(&l2, cachestack::MessagePack);
    let claims = |claim: u32, body: &[u8]| [&[1][..], &claim.to_be_bytes(), body].concat();
    let zeros = lz4_flex::block::compress(&vec![0; 8 << 20]);
    for (flags, payload) in [
        (Flags::NONE, vec![0xdd, 0xff, 0xff, 0xff, 0xff, 1]),
        (Flags::NONE, vec![0x91; 100_000]),
        (Flags::COMPRESSED, claims(8 << 20, &zeros)),
        (Flags::COMPRESSED, claims(1_000, &zeros)),
        (Flags::COMPRESSED, claims(u32::MAX, b"short")),
    ] {
        misses(&packed, &l2, &raw, flags, payload).await;
    }
    packed.invalidate("k").await.unwrap();
    misses(&nesting(&l2, Json), &l2, &raw, Flags::NONE, b"[".repeat(100_000)).await;
}

#[tokio::test]
async fn e4_a_value_over_the_cap_is_served_and_not_stored_and_a_record_over_it_is_not_read() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let l2 =
        RedisTier::builder(&redis.url()).timeout(AMPLE).connect_timeout(AMPLE).max_record_bytes(100_000).connect().await.unwrap();
    let load = |key: String| async move { Ok::<_, io::Error>("x".repeat(key.parse().unwrap())) };
    let cache = cache_core::TieredCache::<String, String>::builder("t").l2(l2.clone()).max_value_bytes(50_000).origin(load);
    let cache: Bare<String, String> = cache.build().unwrap();
    // Over the cache's cap, and over the tier's.
    for large in ["60000", "5000000"] {
        for loads in 1..=2 {
            assert_eq!(cache.load_cached(large).await.unwrap().tier, Tier::Origin, "{large}, load {loads}");
        }
        let kept: usize = raw.query(redis::cmd("STRLEN").arg(key(large).as_bytes())).await.unwrap();
        assert!(kept < 200, "{kept} bytes are in Redis");
    }
    assert_eq!((cache.stats().l2.unstorable, cache.stats().l2.errors), (4, 0));
    assert_eq!(cache.insert("k", "x".repeat(60_000)).await.unwrap_err().kind(), ErrorKind::TooLarge);

    cache.load("10").await.unwrap();
    let mut grown = record(&l2, "10").await;
    grown.body.payload = vec![b'x'; 1 << 20].into();
    raw.set(key("10").as_bytes(), &grown.encode()).await;
    assert_eq!(cache.get("10").await, None);
    assert_eq!(cache.load_cached("10").await.unwrap().tier, Tier::Origin);
    assert_eq!(cache.load_cached("10").await.unwrap().tier, Tier::L2, "replaced");
}

#[tokio::test]
async fn h5_who_writes_to_redis_can_make_values_disappear_and_no_more() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let load = |key: String| async move { Ok::<_, io::Error>(format!("the value of {key}")) };
    let cache = cache_core::TieredCache::<String, String>::builder("t").l2(l2.clone()).origin(load);
    let cache: Bare<String, String> = cache.encryption(Keyring::new(1, &[1; 32])).build().unwrap();
    cache.load("mine").await.unwrap();
    cache.load("yours").await.unwrap();
    let (mine, yours) = (record(&l2, "mine").await, record(&l2, "yours").await);
    assert!(!raw.get(key("mine").as_bytes()).await.windows(5).any(|window| window == b"value"), "sealed");
    // All with the right echo and checks. As `rmp_serde` writes a string of five bytes.
    let mut plain = mine.clone();
    (plain.body.flags, plain.body.payload) = (Flags::NONE, b"\xa5false"[..].into());
    let mut moved = yours.clone();
    moved.body.echo = mine.body.echo;
    let mut newer = mine.clone();
    newer.version += 1;
    let mut lasting = mine.clone();
    (lasting.body.life.soft, lasting.body.life.hard, lasting.body.life.last) = (AMPLE * 10_000, AMPLE * 10_000, AMPLE * 10_000);
    for (what, forged) in [("plain", plain), ("moved", moved), ("lasting", lasting), ("newer", newer)] {
        raw.set(key("mine").as_bytes(), &forged.encode()).await;
        let before = cache.stats();
        assert_eq!(cache.get("mine").await, None, "{what}");
        let l2 = cache.stats().since(&before).l2;
        assert_eq!((l2.forged, l2.errors), (1, 0), "{what}");
        let loaded = cache.load_cached("mine").await.unwrap();
        assert_eq!((loaded.value.as_str(), loaded.tier), ("the value of mine", Tier::Origin), "{what}");
        // A forged version is a floor that no value reaches: nothing is stored, and so nothing false is.
        let expected = if what == "newer" { Tier::Origin } else { Tier::L2 };
        assert_eq!(cache.load_cached("mine").await.unwrap().tier, expected, "{what}");
    }
}
