//! Records that cannot be read, of other code, too large.

use super::*;
use cachestack::{BoxError, Codec, ErrorKind, Json, MessagePack, Tier};

struct Panicking;

impl Codec<u64> for Panicking {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, _: &u64) -> Result<Vec<u8>, BoxError> {
        panic!("a bug in the codec")
    }

    fn decode(&self, _: &[u8]) -> Result<u64, BoxError> {
        panic!("a bug in the codec")
    }
}

#[tokio::test]
async fn a_codec_that_panics_is_a_miss_and_a_count() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    let load = |key| async move { Ok::<_, io::Error>(key) };
    let bad = Cache::builder("t").l1(MemoryTier::new(10)).l2_with(world.l2.clone(), Panicking).origin(load).build().unwrap();
    assert_eq!((bad.get(&1).await, bad.load(&1).await.unwrap()), (None, 1));
    assert_eq!((bad.stats().l2.unreadable, bad.stats().l2.unstorable), (2, 1));
}

#[tokio::test]
async fn e2_a_damaged_record_is_a_miss_and_is_replaced_by_the_next_load() {
    let world = World::new();
    let a = world.node();
    a.load(&1).await.unwrap();
    let mut bytes = world.record().await.unwrap().encode();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    world.store.plant(&key(), bytes);
    let b = world.node();
    assert_eq!(b.get(&1).await, None);
    assert_eq!(b.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(b.stats().l2.unreadable, 2);
    assert_eq!(world.node().load_cached(&1).await.unwrap().tier, Tier::L2);
}

#[tokio::test]
async fn e2_the_record_of_another_key_is_a_miss() {
    let world = World::new();
    let a = world.node();
    a.insert(&2, 22).await.unwrap();
    let other = Namespace::new("cs", "t").unwrap().key(&2_u64);
    let swapped = world.store.get(&other).await.unwrap().record.unwrap();
    world.store.plant(&key(), swapped);
    assert_eq!(world.node().load(&1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_foreign_value_under_our_key_is_left_alone_and_costs_no_reader_an_error() {
    let world = World::new();
    let foreign: &[u8] =
        b"somebody else's session, which is precious and long enough to be a record, head and body and all of that";
    world.store.plant(&key(), foreign);
    let a = world.node();
    assert_eq!((a.get(&1).await, a.load(&1).await.unwrap(), a.load(&1).await.unwrap()), (None, 1, 1));
    assert_eq!(a.insert(&1, 5).await.unwrap_err().kind(), ErrorKind::Foreign);
    assert_eq!(a.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Foreign);
    a.clear().await.unwrap();
    assert_eq!(world.store.get(&key()).await.unwrap().record.unwrap(), foreign);
}

#[tokio::test]
async fn e4_a_value_too_large_for_l2_is_served_and_kept_in_l1() {
    let l2 = EmbeddedTier::new();
    let cache = TieredCache::<u64, String>::builder("t")
        .l1(MemoryTier::new(10))
        .l2(l2)
        .max_value_bytes(1_000)
        .origin(|_| async { Ok::<_, io::Error>("x".repeat(1_001)) })
        .build()
        .unwrap();
    assert_eq!(cache.load(&1).await.unwrap().len(), 1_001);
    assert!(cache.get_local(&1).is_some());
    assert_eq!(cache.stats().l2.unstorable, 1);
    assert_eq!(cache.insert(&1, "y".repeat(2_000)).await.unwrap_err().kind(), ErrorKind::TooLarge);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    #[serde(default)]
    price: u64,
}

fn rolling<V: cachestack::Storable + Clone + Send + Sync + 'static>(
    l2: &EmbeddedTier,
    schema: u32,
    value: V,
) -> TieredCache<u64, V, cachestack::NoLocal> {
    let load = move |_| {
        let value = value.clone();
        async move { Ok::<_, io::Error>(value) }
    };
    cache_core::TieredCache::<u64, V>::builder("t").l2(l2.clone()).schema(schema).origin(load).build().unwrap()
}

#[tokio::test]
async fn e1_old_and_new_code_read_each_other_while_the_codec_can() {
    let l2 = EmbeddedTier::new();
    let old = rolling(&l2, 1, Old { name: "anvil".into() });
    let new = rolling(&l2, 1, New { name: "vise".into(), price: 3 });
    old.load(&1).await.unwrap();
    assert_eq!(new.load(&1).await.unwrap(), New { name: "anvil".into(), price: 0 });
    new.load(&2).await.unwrap();
    assert_eq!(old.load(&2).await.unwrap(), Old { name: "vise".into() });
}

#[tokio::test]
async fn e1_a_newer_schema_wins_and_is_left_alone_by_older_code() {
    let l2 = EmbeddedTier::new();
    let old = rolling(&l2, 1, Old { name: "old".into() });
    let new = rolling(&l2, 2, New { name: "new".into(), price: 3 });
    old.load(&1).await.unwrap();
    assert_eq!(new.load(&1).await.unwrap().name, "new", "an older value counts as absent");
    for _ in 0..3 {
        assert_eq!(old.load(&1).await.unwrap().name, "old", "older code loads for itself");
        assert_eq!(new.get(&1).await.unwrap().name, "new", "and does not overwrite");
    }
    assert_eq!(new.stats().loads, 1);
}

#[tokio::test]
async fn e1_another_codec_is_a_miss_that_the_next_load_replaces() {
    let l2 = EmbeddedTier::new();
    let build = |codec: Box<dyn Codec<u64>>| {
        let load = |key| async move { Ok::<_, io::Error>(key) };
        cache_core::TieredCache::<u64, u64>::builder("t").l2_with(l2.clone(), Boxed(codec)).origin(load).build().unwrap()
    };
    let (json, msgpack) = (build(Box::new(Json)), build(Box::new(MessagePack)));
    json.load(&1).await.unwrap();
    assert_eq!(msgpack.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(msgpack.load_cached(&1).await.unwrap().tier, Tier::L2);
}

struct Boxed(Box<dyn Codec<u64>>);

impl Codec<u64> for Boxed {
    fn id(&self) -> u8 {
        self.0.id()
    }

    fn encode(&self, value: &u64) -> Result<Vec<u8>, BoxError> {
        self.0.encode(value)
    }

    fn decode(&self, payload: &[u8]) -> Result<u64, BoxError> {
        self.0.decode(payload)
    }
}
