//! Several nodes over one store: what one writes, the others follow, whatever becomes of the messages.

use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{
    Coherence, EmbeddedTier, ErrorKind, Freshness, Key, KeyParts, ManualClock, MemoryTier, Namespace, RemoteTier, Tier,
    TieredCache, Ttl,
};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[path = "support/slow.rs"]
mod slow;
mod support;
use slow::Slow;
use support::until;

type Cache = TieredCache<u64, u64>;

const BOUND: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(20);

/// A store, a database, and a clock for all.
struct World {
    hands: ManualClock,
    store: EmbeddedTier,
    rows: Arc<Mutex<HashMap<u64, u64>>>,
    queries: Arc<AtomicU64>,
}

/// A process: its way to the store, and its cache.
struct Node {
    l2: ChaosTier<EmbeddedTier>,
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let hands = ManualClock::new();
        Self { store: EmbeddedTier::new().clock(hands.clock()), hands, rows: Arc::default(), queries: Arc::default() }
    }

    fn node(&self) -> Node {
        self.node_with(Coherence::default())
    }

    fn node_with(&self, coherence: Coherence) -> Node {
        let l2 = ChaosTier::new(self.store.as_another_node());
        let (rows, queries) = (self.rows.clone(), self.queries.clone());
        let load = move |key: u64| {
            queries.fetch_add(1, Ordering::SeqCst);
            let row = rows.lock().unwrap().get(&key).copied().unwrap_or(0);
            async move { Ok::<_, io::Error>(row) }
        };
        let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2.clone()).clock(self.hands.clock());
        let cache = builder.ttl(Ttl::minutes(60)).coherence(coherence).origin(load).build().unwrap();
        Node { l2, cache }
    }

    /// A node whose subscription is not confirmed so far.
    fn deaf_node(&self) -> (Cache, ChaosTier<EmbeddedTier>) {
        let l2 = ChaosTier::new(self.store.as_another_node());
        l2.set_messages(Messages::Unconfirmed);
        let builder = Cache::builder("t").l1(MemoryTier::new(10)).l2(l2.clone()).clock(self.hands.clock());
        let cache = builder.ttl(Ttl::minutes(60)).origin(|_| async { Ok::<_, io::Error>(1) }).build().unwrap();
        (cache, l2)
    }

    fn commit(&self, key: u64, row: u64) {
        self.rows.lock().unwrap().insert(key, row);
    }

    fn queries(&self) -> u64 {
        self.queries.load(Ordering::SeqCst)
    }
}

impl Node {
    /// Where the answer to a read is from, and what it is.
    async fn read(&self, key: u64) -> (u64, Tier, Freshness) {
        let cached = self.cache.load_cached(&key).await.unwrap();
        (cached.value, cached.tier, cached.freshness)
    }

    /// A round of polls that begins now.
    async fn polled(&self) {
        let polls = self.cache.stats().coherence.polls;
        // Any read of what is not verified asks for one; the others come by themselves.
        until("a poll has ended", || self.cache.stats().coherence.polls > polls).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_one_node_invalidates_no_other_serves() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    assert_eq!((a.read(1).await.0, b.read(1).await.0), (0, 0));
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.cache.get_local(&1), None, "the message has removed it");
    assert_eq!(b.read(1).await, (7, Tier::Origin, Freshness::Fresh));
    assert_eq!(a.read(1).await, (7, Tier::L2, Freshness::Fresh));
    assert_eq!(b.cache.stats().coherence.suspicions, a.cache.stats().coherence.suspicions);
}

#[tokio::test]
async fn a_load_that_began_before_anothers_invalidation_is_kept_by_nobody() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let (reader, held) = (b.cache.clone(), slow.clone());
    let load = tokio::spawn(async move { reader.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1, "its callers get what was true when they came");
    assert_eq!(b.cache.get_local(&1), None);
    assert_eq!(b.read(1).await.0, 2);
}

#[tokio::test]
async fn d1_with_every_message_lost_no_hit_is_older_than_the_bound() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.read(2).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.read(1).await, (0, Tier::L1, Freshness::Fresh), "within the bound, for nobody has told this node");
    world.hands.advance(BOUND);
    let queries = world.queries();
    assert_eq!(b.read(1).await.0, 7);
    // What else L1 has of the partition is asked of L2, and of no database.
    assert_eq!(b.read(2).await.0, 0);
    assert_eq!(world.queries() - queries, 1, "the invalidated key's");
    assert!(b.cache.stats().coherence.suspicions > a.cache.stats().coherence.suspicions);
    assert_eq!(b.read(1).await.1, Tier::L1);
}

#[tokio::test]
async fn d3_messages_that_come_late_thrice_and_in_reverse_do_no_harm() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.l2.set_messages(Messages::HeldAndJumbled);
    for round in 1..=100 {
        b.read(1).await;
        world.commit(1, round);
        a.cache.invalidate(&1).await.unwrap();
    }
    b.l2.set_messages(Messages::Delivered);
    world.commit(1, 1_000);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.read(1).await.0, 1_000);
    let suspicions = b.cache.stats().coherence.suspicions;
    world.hands.advance(BOUND);
    assert_eq!(b.read(1).await, (1_000, Tier::L1, Freshness::Fresh), "nothing is missing after all");
    assert_eq!(b.cache.stats().coherence.suspicions, suspicions);
}

#[tokio::test]
async fn d4_reads_and_fills_tell_nobody() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for key in 0..50 {
        a.read(key).await;
        b.read(key).await;
    }
    assert_eq!((a.l2.messages(), b.l2.messages()), (0, 0));
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!((a.l2.messages(), b.l2.messages()), (1, 1), "one for an invalidation");
}

#[tokio::test]
async fn a_clear_is_followed_by_all_nodes() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for key in 0..20 {
        b.read(key).await;
        world.commit(key, 1);
    }
    a.cache.clear().await.unwrap();
    for key in 0..20 {
        assert_eq!(b.read(key).await.0, 1);
    }
}

#[tokio::test]
async fn a_process_that_was_stopped_asks_before_it_serves() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.read(2).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    // Nothing of this node ran meanwhile.
    world.hands.advance(Duration::from_secs(600));
    assert_eq!(b.cache.get_local(&1), None);
    assert_eq!(b.cache.get(&1).await, None, "and L2 has none");
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn c2_with_the_store_away_l1_goes_on_marked_and_for_no_longer_than_its_grace() {
    let world = World::new();
    let node = world.node();
    node.read(1).await;
    let queries = world.queries();
    node.l2.set(Chaos::Down);
    assert_eq!(node.read(1).await, (0, Tier::L1, Freshness::Fresh), "nobody had reason to doubt it so far");
    world.hands.advance(BOUND);
    node.polled().await;
    assert_eq!(node.read(1).await, (0, Tier::L1, Freshness::Unverified));
    assert_eq!(node.cache.get_cached(&1).await.unwrap().unwrap().freshness, Freshness::Unverified);
    assert_eq!(node.cache.get_many(&[1]).await, [Some(0)]);
    assert_eq!(node.cache.get_local(&1), None, "which cannot mark it");
    assert_eq!((world.queries(), node.cache.stats().coherence.unverified_hits), (queries, 3));
    assert_eq!(node.cache.stats().coherence.unverified_partitions, 256);
    world.commit(1, 7);
    world.hands.advance(GRACE);
    assert_eq!(node.read(1).await, (7, Tier::Origin, Freshness::Fresh));
    // What was loaded a moment ago is younger than the bound, whoever is away.
    assert_eq!(node.read(1).await, (7, Tier::L1, Freshness::Fresh));
    world.hands.advance(BOUND);
    assert_eq!(node.read(1).await.2, Freshness::Unverified);
    node.l2.set(Chaos::Calm);
    node.polled().await;
    assert_eq!(node.read(1).await, (7, Tier::L1, Freshness::Fresh), "nothing was missed, and nothing asked again");
    assert_eq!(node.cache.stats().coherence.unverified_partitions, 0);
}

#[tokio::test]
async fn without_grace_l1_serves_nothing_that_nobody_can_verify() {
    let world = World::new();
    let node = world.node_with(Coherence::new().grace(Duration::ZERO));
    node.read(1).await;
    node.l2.set(Chaos::Down);
    world.commit(1, 7);
    world.hands.advance(BOUND);
    node.polled().await;
    assert_eq!(node.read(1).await, (7, Tier::Origin, Freshness::Fresh));
}

#[tokio::test]
async fn a_suspect_entry_has_no_grace() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    b.polled().await;
    b.l2.set(Chaos::Down);
    world.hands.advance(BOUND);
    b.polled().await;
    assert_eq!(b.read(1).await, (7, Tier::Origin, Freshness::Fresh), "this node knows that it missed something");
}

#[tokio::test]
async fn what_could_not_be_told_is_blocked_and_told_later() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.read(1).await;
    b.read(1).await;
    a.l2.set(Chaos::Down);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap_err();
    assert_eq!(a.cache.stats().coherence.owed, 1);
    a.l2.set(Chaos::HeldWrites);
    assert_eq!(a.read(1).await, (7, Tier::Origin, Freshness::Fresh), "L2 can be read, and has the older value");
    assert_eq!(a.cache.get(&1).await, None);
    assert_eq!(a.cache.get_many(&[1]).await, [None]);
    a.l2.set(Chaos::Calm);
    until("it is told", || a.cache.stats().coherence.owed == 0).await;
    assert_eq!(b.read(1).await.0, 7);
    assert_eq!((a.read(1).await.0, a.cache.stats().coherence.recovered), (7, 1));
    assert_eq!(a.cache.get_local(&1), Some(7), "and the key is like any other again");
}

#[tokio::test]
async fn c11_more_than_can_be_remembered_ends_in_a_clear() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for key in [1, 2, 77_777] {
        b.read(key).await;
        world.commit(key, 7);
    }
    a.l2.set(Chaos::Down);
    for key in 0..10_001 {
        a.cache.invalidate(&key).await.unwrap_err();
    }
    a.cache.invalidate(&77_777).await.unwrap_err();
    assert_eq!(a.cache.stats().coherence.owed, u64::MAX);
    assert_eq!(a.cache.close(Duration::ZERO).await.untold, usize::MAX);
    a.l2.set(Chaos::Calm);
    until("it is cleared", || a.cache.stats().coherence.owed == 0).await;
    for key in [1, 2, 77_777] {
        assert_eq!(b.read(key).await.0, 7);
    }
}

#[tokio::test]
async fn a_store_that_has_forgotten_its_sequences_is_asked_again_about_everything() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.store.forget_sequences();
    world.hands.advance(BOUND);
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn a_flight_of_long_ago_is_joined_by_nobody_while_nothing_is_verified() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let (reader, held) = (b.cache.clone(), slow.clone());
    let load = tokio::spawn(async move { reader.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    b.l2.set_messages(Messages::Lost);
    b.l2.set(Chaos::Down);
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    assert_eq!(b.read(1).await.0, 2, "whoever comes now loads anew");
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(b.cache.get_local(&1), Some(2), "and the older one is not kept");
}

#[tokio::test]
async fn before_the_store_has_confirmed_that_it_listens_nothing_is_verified() {
    let world = World::new();
    let (node, l2) = world.deaf_node();
    node.load(&1).await.unwrap();
    world.hands.advance(BOUND);
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L2);
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L2);
    l2.set_messages(Messages::Delivered);
    until("it is verified", || node.stats().coherence.unverified_partitions == 0).await;
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L2, "what it had before is asked about once more");
    assert_eq!(node.load_cached(&1).await.unwrap().tier, Tier::L1);
}

#[tokio::test]
async fn one_message_lost_and_the_next_one_heard_is_a_message_lost() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let [one, other] = two_of_a_partition();
    b.read(one).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(one, 7);
    a.cache.invalidate(&one).await.unwrap();
    b.l2.set_messages(Messages::Delivered);
    a.cache.invalidate(&other).await.unwrap();
    world.hands.advance(BOUND);
    assert_eq!(b.read(one).await.0, 7);
}

#[tokio::test]
async fn a_load_that_began_before_a_lost_message_is_not_kept_once_the_loss_is_known() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let (reader, held) = (b.cache.clone(), slow.clone());
    // It has no lease, whose loss would tell as well.
    b.l2.set(Chaos::Down);
    let load = tokio::spawn(async move { reader.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    b.l2.set(Chaos::Calm);
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND);
    b.polled().await;
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!(b.cache.get_local(&1), None);
}

#[tokio::test]
async fn who_comes_after_a_message_does_not_wait_for_a_load_from_before_it() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let (reader, held) = (b.cache.clone(), slow.clone());
    let load = tokio::spawn(async move { reader.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(5), b.read(1)).await;
    slow.let_go();
    assert_eq!((load.await.unwrap(), late.expect("it does not wait").0), (1, 2));
}

#[tokio::test]
async fn a_message_counts_under_a_new_incarnation_though_its_sequence_is_an_old_one() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    for row in 1..=3 {
        world.commit(1, row);
        a.cache.invalidate(&1).await.unwrap();
    }
    b.polled().await;
    b.read(1).await;
    world.store.forget_sequences();
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.cache.get_local(&1), None);
}

#[tokio::test]
async fn c6_what_a_failover_has_lost_is_told_again() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.polled().await;
    b.polled().await;
    b.read(1).await;
    let replica = world.store.replicate();
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.store.promote(replica);
    let polls = a.cache.stats().coherence.polls;
    until("it has seen the new master", || a.cache.stats().coherence.polls > polls + 1).await;
    let fresh = world.node();
    assert_eq!(fresh.read(1).await.0, 7, "a node without L1 finds no older value in L2 either");
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn the_lease_counts_from_when_the_poll_was_sent_however_long_its_answer_takes() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.read(2).await;
    world.hands.advance(BOUND);
    b.polled().await;
    b.l2.set(Chaos::HeldAnswers);
    b.polled().await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(BOUND.saturating_sub(MOMENT * 2));
    // From now on no poll is answered but the one that is held.
    let polls = b.cache.stats().coherence.polls;
    b.l2.set(Chaos::Calm);
    tokio::task::yield_now().await;
    assert_eq!(b.cache.stats().coherence.polls, polls);
    world.hands.advance(MOMENT * 3);
    assert_eq!(b.read(1).await.0, 7);
}

#[tokio::test]
async fn an_older_invalidation_that_comes_late_does_not_lower_the_floor() {
    let world = World::new();
    let l2 = world.store.as_another_node();
    let row = Arc::new(AtomicU64::new(1));
    let read = row.clone();
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).l2(l2).clock(world.hands.clock()).versioned(|row| *row);
    let cache = cache.origin(move |_| std::future::ready(Ok::<_, io::Error>(read.load(Ordering::SeqCst)))).build().unwrap();
    for version in [2, 1] {
        cache.invalidate_older(&1, version).await.unwrap();
    }
    assert_eq!(cache.load(&1).await.unwrap(), 1, "read from a replica that lags");
    row.store(2, Ordering::SeqCst);
    assert_eq!(cache.load(&1).await.unwrap(), 2, "so nobody kept it");
}

#[tokio::test]
async fn a_value_that_was_leased_again_is_filled_by_its_own_load_alone() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let [first, second] = [Slow::new(), Slow::new()];
    let load = |node: &Node, slow: &Slow, value| {
        let (cache, slow) = (node.cache.clone(), slow.clone());
        tokio::spawn(async move { cache.get_or_load(&1, move || slow.load(value)).await.unwrap() })
    };
    let older = load(&a, &first, 1);
    first.has_begun().await;
    world.commit(1, 2);
    b.cache.invalidate(&1).await.unwrap();
    let newer = load(&b, &second, 2);
    second.has_begun().await;
    first.let_go();
    older.await.unwrap();
    assert_eq!(world.node().cache.get(&1).await, None, "the older load's value is in L2");
    second.let_go();
    newer.await.unwrap();
    assert_eq!(world.node().cache.get(&1).await, Some(2));
}

#[tokio::test]
async fn a_read_that_is_given_a_write_returns_nothing_older_on_any_node() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    let token = a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.read(1).await.0, 0, "within the bound");
    let token = token.to_string().parse().unwrap();
    assert_eq!(b.cache.load_after(&1, &token).await.unwrap().value, 7);
    assert_eq!(b.read(1).await, (7, Tier::L1, Freshness::Fresh));
    assert_eq!(b.cache.load_after(&1, &token).await.unwrap().tier, Tier::L2, "what was missed is not known to be applied");
    b.l2.set_messages(Messages::Delivered);
    world.hands.advance(BOUND);
    b.polled().await;
    b.read(1).await;
    b.read(1).await;
    assert_eq!(b.cache.load_after(&1, &token).await.unwrap().tier, Tier::L1, "one comparison of a number");
}

#[tokio::test]
async fn a_read_that_is_given_a_write_waits_for_no_load_from_before_it() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let (reader, held) = (b.cache.clone(), slow.clone());
    let load = tokio::spawn(async move { reader.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 2);
    let token = a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.cache.load_after(&1, &token).await.unwrap().value, 2);
    slow.let_go();
    assert_eq!((load.await.unwrap(), b.cache.get_local(&1)), (1, Some(2)));
}

#[tokio::test]
async fn many_keys_are_invalidated_together_and_each_is_followed() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let keys: Vec<_> = (0..300).collect();
    for key in &keys {
        b.read(*key).await;
        world.commit(*key, 7);
    }
    assert!(a.cache.invalidate_many(&keys).await.iter().all(Result::is_ok));
    for key in &keys {
        assert_eq!(b.read(*key).await.0, 7);
    }
    a.l2.set(Chaos::Down);
    for key in &keys {
        world.commit(*key, 8);
    }
    assert!(a.cache.invalidate_many(&keys).await.iter().all(Result::is_err));
    assert_eq!(a.cache.stats().coherence.owed, 300);
    a.l2.set(Chaos::Calm);
    until("all are told", || a.cache.stats().coherence.owed == 0).await;
    for key in &keys {
        assert_eq!((a.read(*key).await.0, b.read(*key).await.0), (8, 8));
    }
}

#[tokio::test]
async fn a_key_goes_through_an_outbox_as_bytes() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    b.read(1).await;
    world.commit(1, 7);
    a.cache.invalidate_encoded(&a.cache.encode_key(&1), None).await.unwrap();
    assert_eq!(b.read(1).await.0, 7);
    assert_eq!(a.cache.invalidate_encoded(b"one", None).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn an_insert_that_a_suspicion_meets_is_stored_and_no_error() {
    let world = World::new();
    let node = world.node();
    node.polled().await;
    node.l2.set(Chaos::HeldWrites);
    let writer = node.cache.clone();
    let insert = tokio::spawn(async move { writer.insert(&1, 5).await });
    until("it is under way", || node.l2.take_verbs().contains(&"acquire")).await;
    let suspicions = node.cache.stats().coherence.suspicions;
    world.store.forget_sequences();
    world.hands.advance(BOUND);
    until("everything is suspected", || node.cache.stats().coherence.suspicions > suspicions).await;
    node.l2.set(Chaos::Calm);
    insert.await.unwrap().unwrap();
    assert_eq!(world.node().cache.get(&1).await, Some(5));
}

/// Two keys of one partition.
fn two_of_a_partition() -> [u64; 2] {
    let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition();
    [1, (2..100_000).find(|key| partition(*key) == partition(1)).unwrap()]
}

/// A key that cannot be read from a message.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Opaque(u64);

impl Key for Opaque {
    fn write(&self, parts: &mut KeyParts) {
        self.0.write(parts);
    }
}

#[tokio::test]
async fn keys_that_cannot_be_read_from_a_message_are_followed_all_the_same() {
    let store = EmbeddedTier::new();
    let node = || {
        let cache = TieredCache::<Opaque, u64>::builder("t").l1(MemoryTier::new(10)).l2(store.as_another_node());
        cache.ttl(Ttl::minutes(1)).build().unwrap()
    };
    let [a, b] = [node(), node()];
    a.insert(&Opaque(1), 1).await.unwrap();
    assert_eq!(b.get(&Opaque(1)).await, Some(1));
    a.invalidate(&Opaque(1)).await.unwrap();
    assert_eq!(b.get(&Opaque(1)).await, None);
}

#[tokio::test]
async fn caches_of_one_process_and_one_name_follow_each_other() {
    let store = EmbeddedTier::new();
    let node = || TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(10)).l2(store.clone()).build().unwrap();
    let [a, b] = [node(), node()];
    a.insert(&1, 1).await.unwrap();
    assert_eq!(b.get(&1).await, Some(1));
    a.invalidate(&1).await.unwrap();
    assert_eq!(b.get_local(&1), None);
}

#[tokio::test]
async fn another_cache_of_the_deployment_is_not_concerned() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let other = TieredCache::<u64, u64>::builder("other").l1(MemoryTier::new(10)).l2(b.l2.clone());
    let other = other.clock(world.hands.clock()).build().unwrap();
    other.insert(&1, 5).await.unwrap();
    b.read(1).await;
    a.cache.invalidate(&1).await.unwrap();
    assert_eq!((other.get_local(&1), b.cache.get_local(&1)), (Some(5), None));
    world.hands.advance(BOUND + MOMENT);
    assert_eq!(other.get(&1).await, Some(5));
    assert_eq!(other.get_local(&1), Some(5), "the message counts for all");
}

#[tokio::test]
async fn a_cache_that_was_told_to_be_alone_neither_tells_nor_listens() {
    let world = World::new();
    let a = world.node();
    let alone = TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(10)).l2(world.store.as_another_node());
    let alone = alone.ttl(Ttl::minutes(60)).clock(world.hands.clock()).incoherent().build().unwrap();
    alone.insert(&1, 1).await.unwrap();
    assert_eq!(a.cache.get(&1).await, Some(1));
    alone.invalidate(&1).await.unwrap();
    assert_eq!(a.cache.get_local(&1), Some(1));
    a.cache.insert(&1, 2).await.unwrap();
    alone.insert(&1, 3).await.unwrap();
    a.cache.invalidate(&1).await.unwrap();
    world.hands.advance(Duration::from_secs(600));
    assert_eq!(alone.get_local(&1), Some(3));
}

#[tokio::test]
async fn the_task_that_polls_ends_with_the_last_cache() {
    let world = World::new();
    let node = world.node();
    let metrics = tokio::runtime::Handle::current().metrics();
    until("it polls", || node.cache.stats().coherence.polls > 1).await;
    assert_eq!(metrics.num_alive_tasks(), 1);
    drop(node);
    until("no task is left", || metrics.num_alive_tasks() == 0).await;
}

#[tokio::test]
async fn the_task_that_polls_ends_with_the_last_close() {
    let store = EmbeddedTier::new();
    let cache = || Cache::builder("t").l1(MemoryTier::new(10)).l2(store.clone()).build().unwrap();
    let [one, other] = [cache(), cache()];
    let metrics = tokio::runtime::Handle::current().metrics();
    one.insert(&1, 1).await.unwrap();
    one.close(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    assert_eq!(metrics.num_alive_tasks(), 1, "the other one goes on");
    other.close(Duration::from_secs(1)).await;
    until("no task is left", || metrics.num_alive_tasks() == 0).await;
    let third = cache();
    assert_eq!(third.get(&1).await, Some(1));
    assert_eq!(third.get_local(&1), Some(1), "who comes after starts anew");
}

#[test]
fn a_cache_outlives_the_runtime_that_it_polled_in() {
    let world = World::new();
    let node = world.node();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(node.read(1));
    world.hands.advance(BOUND);
    runtime().block_on(async {
        assert_eq!(node.read(1).await, (0, Tier::L1, Freshness::Fresh));
        assert!(node.l2.poll("cs", &[]).await.is_ok());
    });
}
