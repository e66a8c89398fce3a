//! Two tiers: what one node stores another finds, what one invalidates nobody finds, and what cannot be read is a miss.

use cache_core::record::{Record, State};
use cache_core::testing::{Chaos, ChaosTier};
use cachestack::{
    BoxError, Codec, EmbeddedTier, ErrorKind, Freshness, Json, ManualClock, MemoryTier, MessagePack, Namespace, RemoteKey,
    RemoteTier, Tier, TieredCache, Ttl, Why,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[path = "support/slow.rs"]
mod slow;
mod support;
use slow::Slow;
use support::until;

type Cache = TieredCache<u64, u64>;

/// A Redis, a clock, and nodes that share them.
struct World {
    store: EmbeddedTier,
    l2: ChaosTier<EmbeddedTier>,
    hands: ManualClock,
    row: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let hands = ManualClock::new();
        let store = EmbeddedTier::new().clock(hands.clock());
        Self { l2: ChaosTier::new(store.clone()), store, hands, row: Arc::new(AtomicU64::new(1)) }
    }

    fn node(&self) -> Cache {
        self.node_with(Ttl::seconds(100).stale_for(seconds(10)).stale_if_error(seconds(1_000)))
    }

    fn node_with(&self, ttl: Ttl) -> Cache {
        let row = self.row.clone();
        let read = move |_: u64| {
            let value = row.load(Ordering::SeqCst);
            async move { if value == 0 { Err(io::Error::other("down")) } else { Ok(value) } }
        };
        Cache::builder("t")
            .l1(MemoryTier::new(100))
            .l2(self.l2.clone())
            .clock(self.hands.clock())
            .ttl(ttl)
            .origin(read)
            .build()
            .unwrap()
    }

    async fn record(&self) -> Option<Record> {
        let fetched = self.store.get(&key()).await.unwrap();
        fetched.record.map(|bytes| Record::decode(&bytes, key().echo()).unwrap())
    }
}

/// Where the caches of these tests keep key 1.
fn key() -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&1_u64)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test]
async fn another_node_finds_in_l2_what_one_has_loaded() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.load(&1).await.unwrap();
    let found = b.load_cached(&1).await.unwrap();
    assert_eq!((found.value, found.tier), (1, Tier::L2));
    assert_eq!(b.load_cached(&1).await.unwrap().tier, Tier::L1);
    assert_eq!((b.stats().loads, b.stats().l2.hits), (0, 1));
    let c = world.node();
    assert_eq!(c.get_many(&[1, 2]).await, [Some(1), None]);
    assert_eq!(c.get_cached(&1).await.unwrap().unwrap().tier, Tier::L1, "get_many keeps what it finds");
}

#[tokio::test]
async fn l1_never_outlives_l2() {
    let world = World::new();
    let [a, b] = [world.node_with(Ttl::seconds(100)), world.node_with(Ttl::seconds(100))];
    a.load(&1).await.unwrap();
    world.hands.advance(seconds(60));
    assert_eq!(b.get_cached(&1).await.unwrap().unwrap().age, seconds(60));
    world.hands.advance(seconds(40));
    assert_eq!((a.get(&1).await, b.get(&1).await), (None, None));
}

#[tokio::test]
async fn what_l2_has_is_as_old_as_the_start_of_its_load_or_as_its_insert() {
    let world = World::new();
    let (loads, reads) = (world.node(), world.node());
    let slow = Slow::new();
    let caller = tokio::spawn({
        let (loads, slow) = (loads.clone(), slow.clone());
        async move { loads.get_or_load(&1, move || slow.load(1)).await.unwrap() }
    });
    slow.has_begun().await;
    world.hands.advance(seconds(30));
    slow.let_go();
    caller.await.unwrap();
    assert_eq!(reads.get_cached(&1).await.unwrap().unwrap().age, seconds(30));

    loads.insert(&1, 2).await.unwrap();
    world.hands.advance(seconds(20));
    assert_eq!(world.node().get_cached(&1).await.unwrap().unwrap().age, seconds(20));
}

#[tokio::test]
async fn an_invalidation_leaves_no_older_value_in_l2_or_in_the_invalidators_l1() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.load(&1).await.unwrap();
    world.row.store(2, Ordering::SeqCst);
    a.invalidate(&1).await.unwrap();
    assert_eq!(world.record().await.unwrap().state, State::Tombstone);
    assert_eq!(b.load(&1).await.unwrap(), 2);
    assert_eq!(a.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_load_on_one_node_that_began_before_an_invalidation_on_another_is_kept_by_no_tier() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let caller = tokio::spawn({
        let (a, slow) = (a.clone(), slow.clone());
        async move { a.get_or_load(&1, move || slow.load(1)).await.unwrap() }
    });
    slow.has_begun().await;
    world.row.store(2, Ordering::SeqCst);
    b.invalidate(&1).await.unwrap();
    slow.let_go();
    assert_eq!(caller.await.unwrap(), 1, "its callers get what they asked for");
    assert_eq!(a.stats().l2.refused, 1);
    assert_eq!((a.load(&1).await.unwrap(), b.load(&1).await.unwrap()), (2, 2));
}

#[tokio::test]
async fn an_answer_of_l2_that_an_invalidation_has_overtaken_is_given_and_not_kept() {
    let world = World::new();
    for many in [false, true] {
        world.node().insert(&1, 1).await.unwrap();
        let a = world.node();
        world.l2.set(Chaos::HeldAnswers);
        world.l2.take_verbs();
        let reader = tokio::spawn({
            let a = a.clone();
            async move { if many { a.get_many(&[1]).await[0] } else { a.get(&1).await } }
        });
        until("the answer is on its way", || world.l2.take_verbs().contains(&if many { "get_many" } else { "get" })).await;
        a.invalidate(&1).await.unwrap();
        world.l2.set(Chaos::Calm);
        assert_eq!(reader.await.unwrap(), Some(1), "many: {many}");
        assert_eq!(a.get_local(&1), None, "many: {many}");
    }
}

/// Reads the key's old value from L2 while a write is on its way there, and lets the reader have the answer, and keep it if
/// it may, only when the write is done.
async fn overtaken<V, F>(
    world: &World,
    verb: &'static str,
    reader: F,
    write: impl Future<Output = cachestack::Result<()>> + Send + 'static,
) -> V
where
    V: Send + 'static,
    F: Future<Output = V> + Send + 'static,
{
    world.l2.set(Chaos::HeldWritesAndAnswers);
    world.l2.take_verbs();
    let write = tokio::spawn(write);
    until("the write is on its way", || world.l2.take_verbs().contains(&verb)).await;
    let reader = tokio::spawn(reader);
    until("the answer is on its way", || world.l2.take_verbs().contains(&"get")).await;
    world.l2.set(Chaos::HeldAnswers);
    write.await.unwrap().unwrap();
    world.l2.set(Chaos::Calm);
    reader.await.unwrap()
}

#[tokio::test]
async fn an_answer_of_l2_that_an_insert_has_overtaken_does_not_replace_it() {
    let world = World::new();
    world.node().insert(&1, 1).await.unwrap();
    let a = world.node();
    let (reader, writer) = (a.clone(), a.clone());
    // The insert's own acquire is held; its tickets are taken before.
    overtaken(&world, "acquire", async move { reader.get(&1).await }, async move { writer.insert(&1, 2).await }).await;
    assert_eq!(a.get(&1).await, Some(2));
}

#[tokio::test]
async fn while_a_versioned_write_is_on_its_way_to_l2_nobody_goes_there_for_the_key() {
    let world = World::new();
    versioned(&world).insert(&1, row((1, "one"))).await.unwrap();
    let a = versioned(&world);
    world.l2.set(Chaos::HeldWrites);
    world.l2.take_verbs();
    let writer = a.clone();
    let write = tokio::spawn(async move { writer.write(&1, row((2, "two"))).await });
    until("the write is on its way", || world.l2.take_verbs().contains(&"put")).await;
    assert_eq!(a.get(&1).await, None);
    assert!(!world.l2.take_verbs().contains(&"get"));
    world.l2.set(Chaos::Calm);
    write.await.unwrap().unwrap();
    assert_eq!(a.get_local(&1).unwrap().version, 2);
}

#[tokio::test]
async fn a_lease_whose_reply_was_lost_is_given_back() {
    let world = World::new();
    for verb in ["acquire", "fill"] {
        world.node().invalidate(&1).await.unwrap();
        world.l2.set(Chaos::ReplyLostOf(verb));
        world.l2.take_verbs();
        let a = world.node();
        assert_eq!(a.load(&1).await.unwrap(), 1, "{verb}");
        assert_eq!(a.stats().l2.errors, 1, "{verb}");
        until("the lease is given back", || world.l2.take_verbs().contains(&"release")).await;
        world.l2.set(Chaos::Calm);
        // The clock stands still: a lease that was kept would never end.
        assert_eq!(world.node().load(&1).await.unwrap(), 1, "{verb}");
    }
}

#[tokio::test]
async fn a_value_older_than_this_machines_uptime_is_as_old_as_it_is() {
    let world = World::new();
    let old = Ttl::hours(24 * 365);
    world.node_with(old).load(&1).await.unwrap();
    world.hands.advance(seconds(300 * 86_400));
    // Another node's clock began just now.
    let young = ManualClock::new();
    let b = Cache::builder("t").l1(MemoryTier::new(10)).l2(world.l2.clone()).clock(young.clock()).build().unwrap();
    assert_eq!(b.get_cached(&1).await.unwrap().unwrap().age, seconds(300 * 86_400));
    young.advance(seconds(66 * 86_400));
    assert_eq!(b.get_local(&1), None);
}

#[tokio::test]
async fn a_stale_value_without_an_l1_is_refreshed_by_the_closure_that_was_not_needed() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    world.hands.advance(seconds(105));
    let b = cache_core::TieredCache::<u64, u64>::builder("t").l2(world.l2.clone()).clock(world.hands.clock()).build().unwrap();
    let stale = b.get_or_load(&1, || async { Ok::<_, io::Error>(2) }).await.unwrap();
    assert_eq!(stale, 1);
    until("the refresh has filled L2", || world.l2.take_verbs().contains(&"fill")).await;
    assert_eq!(b.get(&1).await, Some(2));
}

#[tokio::test]
async fn a_refresh_that_another_node_runs_is_not_asked_about_by_every_hit() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    a.load(&1).await.unwrap();
    b.load(&1).await.unwrap();
    world.hands.advance(seconds(105));
    let slow = Slow::new();
    let held = slow.clone();
    assert_eq!(a.get_or_load(&1, move || held.load(2)).await.unwrap(), 1);
    slow.has_begun().await;
    world.l2.take_verbs();
    for _ in 0..1_000 {
        assert_eq!(b.load(&1).await.unwrap(), 1);
        tokio::task::yield_now().await;
    }
    assert!(world.l2.take_verbs().len() < 5, "a hot stale key asks L2 now and then");
    slow.let_go();
}

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
async fn what_is_read_from_l2_while_an_invalidation_is_on_its_way_is_gone_when_it_is_done() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    let a = world.node();
    for clear in [false, true] {
        world.l2.set(Chaos::HeldWrites);
        world.l2.take_verbs();
        let invalidation = tokio::spawn({
            let a = a.clone();
            async move { if clear { a.clear().await } else { a.invalidate(&1).await.map(drop) } }
        });
        until("the call is held", || world.l2.take_verbs().contains(&if clear { "clear" } else { "invalidate" })).await;
        if clear {
            assert_eq!(a.get(&1).await, Some(1), "the old value is still in L2, and read rightly");
            assert_eq!(a.get_local(&1), Some(1));
        } else {
            assert_eq!(a.get(&1).await, None, "the old value is still in L2, and nobody goes there");
            assert_eq!(a.load(&1).await.unwrap(), 1);
            assert_eq!(a.get_local(&1), None, "nor is anything kept");
        }
        world.l2.set(Chaos::Calm);
        invalidation.await.unwrap().unwrap();
        assert_eq!(a.get_local(&1), None, "clear: {clear}");
        a.insert(&1, 1).await.unwrap();
    }
}

#[tokio::test]
async fn an_invalidation_that_did_not_reach_l2_is_an_error_and_clears_l1() {
    let world = World::new();
    let a = world.node();
    a.load(&1).await.unwrap();
    world.l2.set(Chaos::Down);
    assert_eq!(a.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(a.get_local(&1), None);
    assert_eq!(a.clear().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(a.stats().invalidation_errors, 2);
}

#[tokio::test]
async fn an_insert_is_seen_by_all_and_reports_what_it_did_not_do() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.insert(&1, 9).await.unwrap();
    assert_eq!((a.get(&1).await, b.get(&1).await), (Some(9), Some(9)));
    world.l2.set(Chaos::Down);
    assert_eq!(a.insert(&1, 10).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(a.get(&1).await, Some(10), "this node has it all the same");
}

#[tokio::test]
async fn an_insert_over_a_load_in_flight_elsewhere_stays() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let held = slow.clone();
    let caller = tokio::spawn(async move { a.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    b.insert(&1, 2).await.unwrap();
    slow.let_go();
    caller.await.unwrap();
    assert_eq!(world.node().get(&1).await, Some(2));
}

#[tokio::test]
async fn a_clear_empties_both_tiers_of_this_cache_and_of_no_other() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let other = Cache::builder("t2").l2(world.l2.clone()).clock(world.hands.clock()).build().unwrap();
    a.load(&1).await.unwrap();
    other.insert(&1, 7).await.unwrap();
    a.clear().await.unwrap();
    assert_eq!((a.get(&1).await, b.get(&1).await, other.get(&1).await), (None, None, Some(7)));
}

#[tokio::test]
async fn a_stale_value_in_l2_is_served_and_refreshed_once_for_all_nodes() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    world.hands.advance(seconds(105));
    world.row.store(2, Ordering::SeqCst);
    let [a, b] = [world.node(), world.node()];
    let stale = a.load_cached(&1).await.unwrap();
    assert_eq!((stale.value, stale.freshness), (1, Freshness::Stale { why: Why::Refreshing }));
    until("the refresh has landed", || a.get_local(&1) == Some(2)).await;
    assert_eq!(b.load_cached(&1).await.unwrap().value, 2);
    assert_eq!((a.stats().loads, b.stats().loads), (1, 0));
}

#[tokio::test]
async fn a_value_in_l2_is_the_last_resort_of_a_node_that_never_saw_it() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    world.hands.advance(seconds(500));
    world.row.store(0, Ordering::SeqCst);
    let a = world.node();
    let last = a.load_cached(&1).await.unwrap();
    assert_eq!((last.value, last.freshness), (1, Freshness::Stale { why: Why::OriginFailed }));
    world.hands.advance(seconds(700));
    assert_eq!(a.load(&1).await.unwrap_err().kind(), ErrorKind::Origin);
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

/// A row: version and value in one.
type Row = (u64, &'static str);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Versioned {
    version: u64,
    name: String,
}

fn row(of: Row) -> Versioned {
    Versioned { version: of.0, name: of.1.into() }
}

fn versioned(world: &World) -> TieredCache<u64, Versioned> {
    TieredCache::<u64, Versioned>::builder("t")
        .l1(MemoryTier::new(10))
        .l2(world.l2.clone())
        .clock(world.hands.clock())
        .versioned(|row: &Versioned| row.version)
        .writer(|_, _| async { Ok::<_, io::Error>(()) })
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_versioned_write_stores_its_value_and_an_older_one_does_not_overtake_it() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    a.insert(&1, row((1, "first"))).await.unwrap();
    a.write(&1, row((2, "second"))).await.unwrap();
    assert_eq!(b.get(&1).await.unwrap().name, "second");
    b.write(&1, row((1, "first, and late"))).await.unwrap();
    assert_eq!(versioned(&world).get(&1).await.unwrap().name, "second");
    assert_eq!(a.insert(&1, row((1, "older"))).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_versioned_write_of_a_key_that_l2_does_not_have_is_loaded_by_its_next_reader_and_by_no_older_load() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    a.write(&1, row((2, "second"))).await.unwrap();
    assert_eq!((a.get(&1).await, b.get(&1).await), (None, None));
    let read = b.get_or_load(&1, || async { Ok::<_, io::Error>(row((1, "of a replica that lags"))) }).await.unwrap();
    assert_eq!((read.version, versioned(&world).get(&1).await), (1, None), "given to who asked, and kept by nobody");
    b.get_or_load(&1, || async { Ok::<_, io::Error>(row((2, "second"))) }).await.unwrap();
    assert_eq!(a.get(&1).await.unwrap().version, 2);
}

#[tokio::test]
async fn a_versioned_write_that_l2_cannot_take_does_not_leave_the_older_value_behind() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    a.insert(&1, row((1, "first"))).await.unwrap();
    let long = Versioned { version: 2, name: "x".repeat(2 << 20) };
    a.write(&1, long).await.unwrap();
    assert_eq!(b.get(&1).await, None);
    world.l2.set(Chaos::Down);
    let err = a.write(&1, row((3, "third"))).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    assert!(err.to_string().contains("written to the origin"), "{err}");
}

#[tokio::test]
async fn a_lagging_replica_cannot_bring_an_older_row_back() {
    let world = World::new();
    let cache = versioned(&world);
    cache.write(&1, row((5, "five"))).await.unwrap();
    cache.invalidate_older(&1, 6).await.unwrap();
    let lagging = || async { Ok::<_, io::Error>(row((5, "five"))) };
    assert_eq!(cache.get_or_load(&1, lagging).await.unwrap().version, 5);
    assert_eq!(cache.get(&1).await, None, "answered, and kept by nobody");
    let caught_up = || async { Ok::<_, io::Error>(row((6, "six"))) };
    cache.get_or_load(&1, caught_up).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().version, 6);
    cache.invalidate_older(&1, 6).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().version, 6, "what is as new as the write stays");
}

#[tokio::test]
async fn an_invalidation_by_version_needs_a_versioned_cache() {
    let err = World::new().node().invalidate_older(&1, 3).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
}
