//! Floors, tokens of loads, and tokens of writes.

use super::nodes::{BOUND, Cache, World};
use cachestack::testing::Messages;
use cachestack::{Freshness, KeyPrefix, MemoryTier, Namespace, Tier};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    let (older, first) = a.begin_load(1, 1).await;
    world.commit(1, 2);
    b.cache.invalidate(&1).await.unwrap();
    let (newer, second) = b.begin_load(1, 2).await;
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

/// Each of them in a world of its own: the token of what has told of many keys, of all, and of a write that was given here.
#[tokio::test]
async fn whatever_writes_hands_out_a_token_that_covers_each_of_its_keys() {
    for way in 0..4 {
        let world = World::new();
        let [a, b] = [world.node(), world.node()];
        let keys: Vec<_> = (1..=40).collect();
        for key in &keys {
            b.read(*key).await;
            world.commit(*key, 7);
        }
        b.l2.set_messages(Messages::Lost);
        let tokens = match way {
            0 => a.cache.invalidate_many(&keys).await.into_iter().map(Result::unwrap).collect(),
            1 => vec![a.cache.clear().await.unwrap(); keys.len()],
            2 => vec![a.cache.invalidate_prefix(&KeyPrefix::text("")).await.unwrap(); keys.len()],
            _ => {
                let mut tokens = Vec::new();
                for key in &keys {
                    let (value, token) = a.cache.write_with(key, || async { Ok::<_, io::Error>(7) }).await.unwrap();
                    assert_eq!(value, 7);
                    tokens.push(token);
                }
                tokens
            }
        };
        let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition().index();
        for (key, token) in keys.iter().zip(tokens) {
            // As text it begins with its partition, if it has one: another's would be covered, and say nothing of this key.
            let place = if way == 1 || way == 2 { "-".to_owned() } else { format!("{:x}.", partition(*key)) };
            assert!(token.to_string().starts_with(&place), "way {way}, key {key}: {token}");
            assert_eq!(b.read(*key).await, (0, Tier::L1, Freshness::Fresh), "within the bound");
            assert_eq!(b.cache.load_after(key, &token).await.unwrap().value, 7, "way {way}, key {key}");
        }
    }
}

#[tokio::test]
async fn a_read_that_is_given_a_write_waits_for_no_load_from_before_it() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let (load, slow) = b.begin_load(1, 1).await;
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 2);
    let token = a.cache.invalidate(&1).await.unwrap();
    assert_eq!(b.cache.load_after(&1, &token).await.unwrap().value, 2);
    slow.let_go();
    assert_eq!((load.await.unwrap(), b.cache.get_local(&1)), (1, Some(2)));
}
