//! What is told, and who follows it.

use super::nodes::{BOUND, Cache, MOMENT, World};
use super::support::until;
use cachestack::testing::{Chaos, Messages};
use cachestack::{
    Coherence, Ear, EmbeddedTier, ErrorKind, Freshness, Invalidation, Key, KeyParts, MemoryTier, Namespace, Notice, Partition,
    RemoteTier, Tier, TieredCache, Ttl,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    let (load, slow) = b.begin_load(1, 1).await;
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1, "its callers get what was true when they came");
    assert_eq!(b.cache.get_local(&1), None);
    assert_eq!(b.read(1).await.0, 2);
}

#[tokio::test]
async fn who_comes_after_a_message_does_not_wait_for_a_load_from_before_it() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let (load, slow) = b.begin_load(1, 1).await;
    world.commit(1, 2);
    a.cache.invalidate(&1).await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(5), b.read(1)).await;
    slow.let_go();
    assert_eq!((load.await.unwrap(), late.expect("it does not wait").0), (1, 2));
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
async fn more_keys_than_a_server_does_in_one_call_are_invalidated_all_the_same() {
    let world = World::new();
    let node = world.node();
    node.polled().await;
    node.l2.set(Chaos::TooSlowFor(1_000));
    let keys: Vec<_> = (0..2_500).collect();
    assert!(node.cache.invalidate_many(&keys).await.iter().all(Result::is_ok));
    assert_eq!(node.cache.stats().coherence.owed, 0);
}

#[tokio::test]
async fn of_many_keys_those_are_owed_whose_lot_could_not_be_told() {
    let world = World::new();
    let node = world.node();
    node.polled().await;
    let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition();
    let keys: Vec<_> = (0..2_500).collect();
    node.l2.set(Chaos::DownFor(partition(7)));
    let results = node.cache.invalidate_many(&keys).await;
    let failed: Vec<_> = keys.iter().zip(&results).filter(|(_, result)| result.is_err()).map(|(key, _)| *key).collect();
    assert!(failed.contains(&7) && failed.len() <= 1_000, "{}", failed.len());
    assert_eq!(node.cache.stats().coherence.owed, failed.len() as u64);
    assert!(keys.iter().filter(|key| partition(**key) == partition(7)).all(|key| failed.contains(key)));
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

/// They share what their process knows of the sequences: what one has told counts as heard by both.
#[tokio::test]
async fn caches_of_one_process_and_one_name_follow_each_other_though_the_message_is_lost() {
    let world = World::new();
    let a = world.node();
    let b = world.cache(a.l2.clone(), Coherence::default());
    a.l2.set_messages(Messages::Lost);
    for round in 1..=3 {
        b.load(&1).await.unwrap();
        world.commit(1, round);
        let token = match round {
            1 => Some(a.cache.invalidate(&1).await.unwrap()),
            2 => Some(a.cache.invalidate_many(&[1]).await.remove(0).unwrap()),
            _ => a.cache.clear().await.map(|_| None).unwrap(),
        };
        assert_eq!(b.get_local(&1), None);
        assert_eq!(b.load(&1).await.unwrap(), round);
        if let Some(token) = token {
            assert_eq!(b.load_after(&1, &token).await.unwrap().tier, Tier::L1, "it is no older than the write");
        }
    }
    let polls = b.stats().coherence.polls;
    world.hands.advance(BOUND);
    until("a poll has ended", || b.stats().coherence.polls > polls + 1).await;
    assert_eq!(b.load(&1).await.unwrap(), 3);
}

/// The caller is gone with its runtime, and its request is done all the same, at any time later.
#[tokio::test]
async fn what_a_cache_has_told_and_nobody_waits_for_is_followed_by_itself_too() {
    let world = World::new();
    let a = world.node();
    let mouth = Arc::new(Signatures::default());
    let ear: Arc<dyn Ear> = mouth.clone();
    let _listening = world.store.listen("cs", Arc::downgrade(&ear));
    a.cache.invalidate(&2).await.unwrap();
    let node = *mouth.0.lock().unwrap().first().unwrap();
    a.read(1).await;
    let namespace = Namespace::new("cs", "t").unwrap();
    let late = Invalidation { key: namespace.key(&1_u64), version: None };
    world.store.invalidate(&[late], BOUND, Some(&Notice { node, namespace })).await.unwrap();
    assert_eq!(a.cache.get_local(&1), None);
}

#[tokio::test]
async fn a_message_that_is_faster_than_the_answer_takes_nothing_away_that_a_write_has_just_stored() {
    let world = World::new();
    let l2 = world.store.as_another_node();
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).l2(l2).clock(world.hands.clock()).versioned(|row| *row);
    let cache = cache.ttl(Ttl::minutes(60)).build().unwrap();
    cache.insert(&1, 1).await.unwrap();
    cache.write_with(&1, || async { Ok::<_, std::io::Error>(2) }).await.unwrap();
    assert_eq!((cache.stats().coherence.messages, cache.get_local(&1)), (1, Some(2)));
}

/// Who has signed what was told.
#[derive(Default)]
struct Signatures(Mutex<Vec<u64>>);

impl Ear for Signatures {
    fn listening(&self, _: &[Partition]) {}

    fn deaf(&self, _: &[Partition]) {}

    fn hear(&self, _: Partition, message: &[u8]) {
        // Behind incarnation, sequence and format.
        self.0.lock().unwrap().push(u64::from_be_bytes(message[17..25].try_into().unwrap()));
    }

    fn changed(&self, _: &[u8]) {}

    fn may_have_changed(&self, _: &[Partition]) {}
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
