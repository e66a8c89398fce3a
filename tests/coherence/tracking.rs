//! A store that tells of every write: what foreign programs do to its records.

use super::nodes::{Node, World};
use super::support::until;
use cachestack::testing::Chaos;
use cachestack::{EmbeddedTier, Freshness, Key, KeyParts, MemoryTier, Namespace, RemoteKey, Tier, TieredCache, Ttl};
use std::io;

fn record_of(key: u64) -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&key)
}

fn world() -> World {
    let mut world = World::new();
    world.store = world.store.tracking();
    world
}

impl Node {
    /// Has L1 keep a key: what a load stores in L2 is itself a write that is told, so it is the second read that L1 keeps.
    async fn keep(&self, key: u64) {
        self.read(key).await;
        self.read(key).await;
        assert_eq!(self.read(key).await.1, Tier::L1);
    }
}

#[tokio::test]
async fn what_a_foreign_program_removes_from_l2_l1_removes_too() {
    let world = world();
    let [a, b] = [world.node(), world.node()];
    a.keep(1).await;
    b.keep(1).await;
    b.keep(2).await;
    world.commit(1, 7);
    world.store.unplant(&record_of(1));
    assert_eq!((a.cache.get_local(&1), b.cache.get_local(&1)), (None, None));
    assert_eq!(b.read(2).await.1, Tier::L1, "others stay");
    assert_eq!(b.read(1).await, (7, Tier::Origin, Freshness::Fresh));
    assert_eq!(a.read(1).await, (7, Tier::L2, Freshness::Fresh));
    assert!(b.cache.stats().coherence.changes > 0);
}

#[tokio::test]
async fn what_was_on_its_way_when_a_foreign_program_wrote_is_not_kept_in_l1() {
    let world = world();
    let node = world.node();
    let (load, slow) = node.begin_load(1, 1).await;
    world.commit(1, 2);
    world.store.unplant(&record_of(1));
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(node.cache.get_local(&1), None);
    assert_eq!(node.read(1).await.0, 2, "nor in L2, where its lease has gone");
}

#[tokio::test]
async fn loads_of_a_key_that_is_being_loaded_still_wait_for_that_one() {
    let world = world();
    let node = world.node();
    let (load, slow) = node.begin_load(1, 1).await;
    let follower = tokio::spawn({
        let cache = node.cache.clone();
        async move { cache.load(&1).await.unwrap() }
    });
    until("it waits", || node.cache.stats().coalesced == 1).await;
    slow.let_go();
    assert_eq!((load.await.unwrap(), follower.await.unwrap()), (1, 1));
    assert_eq!(world.queries(), 0, "the store told of the lease, and nobody took that for a foreign write");
}

#[tokio::test]
async fn what_a_foreign_program_writes_while_a_value_is_read_is_not_kept_in_l1() {
    let world = world();
    let [a, b] = [world.node(), world.node()];
    a.read(1).await;
    for many in [false, true] {
        b.l2.set(Chaos::HeldAnswers);
        b.l2.take_verbs();
        let reader = tokio::spawn({
            let cache = b.cache.clone();
            async move { if many { cache.get_many(&[1]).await[0] } else { cache.get(&1).await } }
        });
        until("the answer is on its way", || b.l2.take_verbs().contains(&if many { "get_many" } else { "get" })).await;
        world.store.unplant(&record_of(1));
        b.l2.set(Chaos::Calm);
        assert_eq!(reader.await.unwrap(), Some(0), "many: {many}");
        assert_eq!(b.cache.get_local(&1), None, "many: {many}");
        a.read(1).await;
    }
}

#[tokio::test]
async fn a_read_only_load_hits_l1_as_without_tracking() {
    let (with, without) = (world(), World::new());
    let [tracked, plain] = [with.node(), without.node()];
    for node in [&tracked, &plain] {
        for _ in 0..300 {
            for key in 0..50 {
                node.read(key).await;
            }
        }
    }
    let [tracked, plain] = [tracked.cache.stats().l1.hits, plain.cache.stats().l1.hits];
    assert_eq!((plain, tracked), (299 * 50, 298 * 50), "one more read of L2 a key");
}

/// A key that cannot be read back, as far as other nodes can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mute(u64);

impl Key for Mute {
    fn write(&self, parts: &mut KeyParts) {
        self.0.write(parts);
    }
}

#[tokio::test]
async fn a_change_of_a_key_that_cannot_be_read_back_has_its_partition_asked_about() {
    let store = EmbeddedTier::new().tracking();
    let builder = TieredCache::<Mute, u64>::builder("t").l1(MemoryTier::new(100)).l2(store.clone()).ttl(Ttl::minutes(60));
    let cache = builder.origin(|key: Mute| async move { Ok::<_, io::Error>(key.0) }).build().unwrap();
    for _ in 0..2 {
        cache.load(&Mute(1)).await.unwrap();
    }
    assert_eq!(cache.get_local(&Mute(1)), Some(1));
    store.unplant(&record_of(1));
    assert_eq!(cache.get_local(&Mute(1)), None);
}

#[tokio::test]
async fn a_change_of_a_long_key_has_its_partition_asked_about() {
    let store = EmbeddedTier::new().tracking();
    let builder = TieredCache::<String, u64>::builder("t").l1(MemoryTier::new(100)).l2(store.clone()).ttl(Ttl::minutes(60));
    let cache = builder.origin(|key: String| async move { Ok::<_, io::Error>(key.len() as u64) }).build().unwrap();
    let key = "x".repeat(300);
    for _ in 0..2 {
        cache.load(&key).await.unwrap();
    }
    assert_eq!(cache.get_local(&key), Some(300));
    store.unplant(&Namespace::new("cs", "t").unwrap().key(&key));
    assert_eq!(cache.get_local(&key), None);
}
