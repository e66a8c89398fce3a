//! The live checker: nothing to find where the promise holds, and what breaks it is found.

use super::support::until;
use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{
    Coherence, EmbeddedTier, Local, LocalTier, ManualClock, MemoryTier, Moment, Namespace, Partition, RemoteTier, Terms,
    TieredCache, Ttl,
};
use std::borrow::Borrow;
use std::hash::Hash;
use std::io;
use std::time::Duration;

type Cache = TieredCache<u64, u64>;

const BOUND: Duration = Duration::from_millis(300);

/// A node that looks at each key that is invalidated. What is loaded is 1 at first and larger later.
fn node(l2: impl RemoteTier, hands: &ManualClock) -> Cache {
    let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2).clock(hands.clock()).ttl(Ttl::minutes(60));
    let coherence = Coherence::new().bound(BOUND);
    builder.coherence(coherence).checked(1).origin(|_| async { Ok::<_, io::Error>(1) }).build().unwrap()
}

async fn until_checked(cache: &Cache, count: u64) -> u64 {
    // Real time: the task's. The caches' stands still.
    until("the key was looked at", || cache.stats().coherence.checked >= count).await;
    tokio::task::yield_now().await;
    cache.stats().coherence.violations
}

#[tokio::test]
async fn where_the_promise_holds_nothing_is_found_on_either_node() {
    let (hands, store) = (ManualClock::new(), EmbeddedTier::new());
    let store = store.clock(hands.clock());
    let [a, b] = [node(store.as_another_node(), &hands), node(store.as_another_node(), &hands)];
    for key in 0..20 {
        a.load(&key).await.unwrap();
        b.load(&key).await.unwrap();
    }
    hands.advance(Duration::from_secs(60));
    for key in 0..20 {
        a.invalidate(&key).await.unwrap();
        b.load(&key).await.unwrap();
    }
    assert_eq!((until_checked(&a, 20).await, until_checked(&b, 20).await), (0, 0));
}

#[tokio::test]
async fn an_older_value_that_comes_back_in_l2_is_found() {
    let (hands, store) = (ManualClock::new(), EmbeddedTier::new());
    let store = store.clock(hands.clock());
    let cache = node(store.as_another_node(), &hands);
    cache.load(&1).await.unwrap();
    hands.advance(Duration::from_secs(60));
    let key = Namespace::new("cs", "t").unwrap().key(&1_u64);
    let older = store.get(&key).await.unwrap().record.unwrap();
    cache.invalidate(&1).await.unwrap();
    // A backup is restored, say.
    store.plant(&key, older);
    assert_eq!(until_checked(&cache, 1).await, 1);
}

/// A tier that keeps what it should let go of.
struct Stubborn(MemoryTier<u64, u64>);

impl LocalTier<u64, u64> for Stubborn {
    fn with<Q, F, R>(&self, hash: u64, key: &Q, now: Moment, f: F) -> Option<R>
    where
        u64: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&u64>) -> R,
    {
        self.0.with(hash, key, now, f)
    }

    fn terms<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Terms>
    where
        u64: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.terms(hash, key, now)
    }

    fn insert(&self, hash: u64, key: u64, value: u64, terms: &Terms, now: Moment, admit: &dyn Fn() -> bool) -> bool {
        self.0.insert(hash, key, value, terms, now, admit)
    }

    fn remove<Q>(&self, _: u64, _: &Q, _: Option<u64>, bump: &dyn Fn()) -> bool
    where
        u64: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        bump();
        true
    }

    fn suspect(&self, _: Partition) {}

    fn clear(&self) {}

    fn len(&self) -> u64 {
        LocalTier::len(&self.0)
    }

    fn capacity(&self) -> Option<u64> {
        LocalTier::capacity(&self.0)
    }

    fn evictions(&self) -> u64 {
        LocalTier::evictions(&self.0)
    }
}

#[tokio::test]
async fn an_older_value_that_stays_in_l1_is_found() {
    let (hands, store) = (ManualClock::new(), EmbeddedTier::new());
    let builder = TieredCache::<u64, u64>::builder("t").l1(Stubborn(MemoryTier::new(10))).l2(store.clock(hands.clock()));
    let builder = builder.clock(hands.clock()).ttl(Ttl::minutes(60)).coherence(Coherence::new().bound(BOUND)).checked(1);
    let cache = builder.origin(|_| async { Ok::<_, io::Error>(1) }).build().unwrap();
    cache.load(&1).await.unwrap();
    hands.advance(Duration::from_secs(60));
    assert!(cache.ready(Duration::from_secs(5)).await);
    cache.invalidate(&1).await.unwrap();
    until("the key was looked at", || cache.stats().coherence.checked == 1).await;
    assert_eq!(cache.stats().coherence.violations, 1);
}

#[tokio::test]
async fn what_could_not_be_compared_is_not_counted() {
    let (hands, store) = (ManualClock::new(), EmbeddedTier::new());
    let l2 = ChaosTier::new(store.clock(hands.clock()));
    let cache = node(l2.clone(), &hands);
    cache.invalidate(&1).await.unwrap();
    l2.take_verbs();
    l2.set(Chaos::RefusedOf("get"));
    until("the key was looked at in vain", || l2.take_verbs().contains(&"get")).await;
    l2.set(Chaos::Calm);
    cache.invalidate(&2).await.unwrap();
    assert_eq!((until_checked(&cache, 1).await, cache.stats().coherence.checked), (0, 1), "the second one alone");
}

#[tokio::test]
async fn one_in_so_many_is_looked_at() {
    let (hands, store) = (ManualClock::new(), EmbeddedTier::new());
    let l2 = ChaosTier::new(store.clock(hands.clock()));
    l2.set_messages(Messages::Delivered);
    let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2).clock(hands.clock());
    let cache = builder.coherence(Coherence::new().bound(BOUND)).checked(10).build().unwrap();
    for key in 0..100 {
        cache.invalidate(&key).await.unwrap();
    }
    assert_eq!(until_checked(&cache, 10).await, 0);
    assert_eq!(cache.stats().coherence.checked, 10);
}
