//! What is suspect and long is asked about by its header.

use super::nodes::{BOUND, World, two_of_a_partition};
use super::support::until;
use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{EmbeddedTier, Freshness, MemoryTier, Tier, TieredCache, Ttl};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Node {
    l2: ChaosTier<EmbeddedTier>,
    cache: TieredCache<u64, String>,
}

/// What a row is, in so many bytes.
fn text(row: u64, bytes: usize) -> String {
    format!("{row:0bytes$}")
}

fn node(world: &World, row: &Arc<AtomicU64>, bytes: usize) -> Node {
    let (l2, row) = (ChaosTier::new(world.store.as_another_node()), row.clone());
    let load = move |_: u64| {
        let row = row.load(Ordering::SeqCst);
        async move { Ok::<_, io::Error>(text(row, bytes)) }
    };
    let builder = TieredCache::<u64, String>::builder("t").l1(MemoryTier::new(100)).l2(l2.clone()).clock(world.hands.clock());
    Node { l2, cache: builder.ttl(Ttl::minutes(60)).origin(load).build().unwrap() }
}

impl Node {
    async fn read(&self, key: u64) -> (String, Tier, Freshness) {
        let cached = self.cache.load_cached(&key).await.unwrap();
        (cached.value, cached.tier, cached.freshness)
    }

    /// What a read asks of L2, polls aside.
    async fn asks(&self, key: u64, wanted: (String, Tier)) -> Vec<&'static str> {
        self.l2.take_verbs();
        let (value, tier, freshness) = self.read(key).await;
        assert!((value, tier) == wanted && freshness == Freshness::Fresh, "{key}: {tier:?} {freshness:?}");
        self.l2.take_verbs()
    }

    /// Loses the message of another node's invalidation, and comes to know that it has lost one.
    async fn misses(&self, world: &World, other: &Node, key: u64) {
        self.l2.set_messages(Messages::Lost);
        other.cache.invalidate(&key).await.unwrap();
        self.l2.set_messages(Messages::Delivered);
        let suspicions = self.cache.stats().coherence.suspicions;
        world.hands.advance(BOUND);
        let _ = self.cache.get_local(&key);
        self.cache.ready(BOUND).await;
        until("it is suspected", || self.cache.stats().coherence.suspicions > suspicions).await;
    }
}

#[tokio::test]
async fn a_long_value_that_is_still_l2_s_is_not_read_again_and_one_that_is_not_is() {
    let (world, row) = (World::new(), Arc::new(AtomicU64::new(1)));
    let [a, b] = [node(&world, &row, 8_000), node(&world, &row, 8_000)];
    let [one, other] = two_of_a_partition();
    b.read(one).await;
    b.read(other).await;
    row.store(2, Ordering::SeqCst);
    b.misses(&world, &a, one).await;
    assert_eq!(b.asks(other, (text(1, 8_000), Tier::L2)).await, ["head"], "nobody has changed it");
    assert_eq!(b.asks(other, (text(1, 8_000), Tier::L1)).await, [""; 0], "and L1 vouches for it again");
    assert_eq!(b.asks(one, (text(2, 8_000), Tier::Origin)).await, ["head", "get", "acquire", "fill"]);
    assert_eq!(b.cache.stats().loads, 3);
}

#[tokio::test]
async fn a_value_of_another_load_is_another_value() {
    let (world, row) = (World::new(), Arc::new(AtomicU64::new(1)));
    let [a, b] = [node(&world, &row, 8_000), node(&world, &row, 8_000)];
    b.read(1).await;
    row.store(2, Ordering::SeqCst);
    b.misses(&world, &a, 1).await;
    a.read(1).await;
    assert_eq!(b.asks(1, (text(2, 8_000), Tier::L2)).await, ["head", "get"]);
}

#[tokio::test]
async fn short_values_are_read_whole() {
    let (world, row) = (World::new(), Arc::new(AtomicU64::new(1)));
    let [a, b] = [node(&world, &row, 100), node(&world, &row, 100)];
    let [one, other] = two_of_a_partition();
    b.read(one).await;
    b.read(other).await;
    b.misses(&world, &a, one).await;
    assert_eq!(b.asks(other, (text(1, 100), Tier::L2)).await, ["get"]);
}

#[tokio::test]
async fn a_header_that_an_invalidation_has_overtaken_vouches_for_nothing() {
    let (world, row) = (World::new(), Arc::new(AtomicU64::new(1)));
    let [a, b] = [node(&world, &row, 8_000), node(&world, &row, 8_000)];
    let [one, other] = two_of_a_partition();
    b.read(one).await;
    b.read(other).await;
    b.misses(&world, &a, one).await;
    b.l2.set(Chaos::HeldAnswersOf("head"));
    b.l2.take_verbs();
    let cache = b.cache.clone();
    let reader = tokio::spawn(async move { cache.load(&other).await.unwrap() });
    until("the header is on its way", || b.l2.take_verbs().contains(&"head")).await;
    row.store(2, Ordering::SeqCst);
    a.cache.invalidate(&other).await.unwrap();
    until("the invalidation is heard", || b.cache.stats().coherence.messages > 0).await;
    b.l2.set(Chaos::Calm);
    assert_eq!(reader.await.unwrap(), text(1, 8_000), "which is what was there when it was asked");
    assert_eq!(b.cache.get_local(&other), None, "and is kept nowhere");
    assert_eq!(b.read(other).await.0, text(2, 8_000));
}

#[tokio::test]
async fn a_header_that_cannot_be_read_costs_what_a_value_costs_that_cannot_be_read() {
    let (world, row) = (World::new(), Arc::new(AtomicU64::new(1)));
    let [a, b] = [node(&world, &row, 8_000), node(&world, &row, 8_000)];
    let [one, other] = two_of_a_partition();
    b.read(one).await;
    b.read(other).await;
    b.misses(&world, &a, one).await;
    b.l2.set(Chaos::RefusedOf("head"));
    assert_eq!(b.asks(other, (text(1, 8_000), Tier::L2)).await, ["head", "get"]);
    assert!(b.cache.stats().l2.errors > 0);
}
