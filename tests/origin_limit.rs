//! The origin survives what no tier answers: so many loads run at once, so many wait, and the rest is turned away.

use cachestack::testing::{Chaos, ChaosTier};
use cachestack::{EmbeddedTier, ErrorKind, Freshness, ManualClock, MemoryTier, TieredCache, Ttl};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

mod support;
use support::until;

type Cache = TieredCache<u64, u64>;

/// An origin that is slow until it is let go, and notes how many ask at once.
#[derive(Clone)]
struct Origin {
    asked: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

impl Origin {
    fn new() -> Self {
        Self { asked: Arc::default(), most: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    async fn load(self, key: u64) -> Result<u64, io::Error> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(asked, Ordering::SeqCst);
        self.go.acquire().await.expect("never closed").forget();
        self.asked.fetch_sub(1, Ordering::SeqCst);
        Ok(key * 2)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn cache(origin: &Origin, l2: &ChaosTier<EmbeddedTier>, loads: usize, waiting: usize) -> Cache {
    let origin = origin.clone();
    let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2.clone()).loads_at_once(loads, waiting);
    builder.origin(move |key| origin.clone().load(key)).build().unwrap()
}

fn away() -> ChaosTier<EmbeddedTier> {
    let l2 = ChaosTier::new(EmbeddedTier::new());
    l2.set(Chaos::Down);
    l2
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_with_redis_away_the_origin_is_asked_by_so_many_at_once_and_no_more() {
    let origin = Origin::new();
    let cache = cache(&origin, &away(), 8, 16);
    let mut callers = JoinSet::new();
    for key in 0..100 {
        let cache = cache.clone();
        callers.spawn(async move { cache.load(&key).await });
    }
    until("all but those with a place are turned away", || cache.stats().loads_refused == 76 && origin.asked() == 8).await;
    origin.go.add_permits(1_000);
    let (mut loaded, mut refused) = (0, 0);
    while let Some(outcome) = callers.join_next().await {
        match outcome.unwrap() {
            Ok(_) => loaded += 1,
            Err(err) if err.kind() == ErrorKind::Overloaded => refused += 1,
            Err(err) => panic!("{err}"),
        }
    }
    assert_eq!((loaded, refused, origin.most.load(Ordering::SeqCst)), (24, 76, 8));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_errors), (24, 0), "what was turned away was never begun");
    assert_eq!(cache.load(&99).await.unwrap(), 198, "and may come again");
}

#[tokio::test]
async fn hits_of_l2_wait_for_nobody() {
    let (origin, store) = (Origin::new(), EmbeddedTier::new());
    let l2 = ChaosTier::new(store);
    let (busy, other) = (cache(&origin, &l2, 1, 0), cache(&origin, &l2, 1, 0));
    other.insert(&2, 4).await.unwrap();
    let slow = busy.clone();
    let slow = tokio::spawn(async move { slow.load(&1).await });
    until("the only place is taken", || origin.asked() == 1).await;
    assert_eq!(busy.load(&2).await.unwrap(), 4);
    assert_eq!(busy.load(&3).await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(other.load(&2).await.unwrap(), 4);
    origin.go.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_load_that_was_turned_away_leaves_no_lease_behind() {
    let (origin, l2) = (Origin::new(), ChaosTier::new(EmbeddedTier::new()));
    let (busy, other) = (cache(&origin, &l2, 1, 0), cache(&origin, &l2, 1, 0));
    let slow = busy.clone();
    let slow = tokio::spawn(async move { slow.load(&1).await });
    until("the only place is taken", || origin.asked() == 1).await;
    l2.take_verbs();
    assert_eq!(busy.load(&2).await.unwrap_err().kind(), ErrorKind::Overloaded);
    until("the lease is given back", || l2.take_verbs().contains(&"release")).await;
    origin.go.add_permits(2);
    assert_eq!(timeout(Duration::from_secs(1), other.load(&2)).await.expect("nobody holds the key").unwrap(), 4);
    slow.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_load_loads_in_its_turn_needs_no_place() {
    let cache = Cache::builder("t").l1(MemoryTier::new(100)).loads_at_once(1, 0).build().unwrap();
    let inner = cache.clone();
    let load = move || async move { inner.get_or_load(&2, || async { Ok::<_, io::Error>(20) }).await.map(|two| two + 1) };
    assert_eq!(cache.get_or_load(&1, load).await.unwrap(), 21);
}

#[tokio::test]
async fn who_waits_for_a_place_too_long_is_turned_away_and_a_stale_value_is_given_instead() {
    let (origin, hands) = (Origin::new(), ManualClock::new());
    let read = origin.clone();
    let cache = Cache::builder("t")
        .l1(MemoryTier::new(100))
        .ttl(Ttl::seconds(10).stale_if_error(Duration::from_secs(1_000)))
        .clock(hands.clock())
        .loads_at_once(1, 10)
        .load_timeout(Duration::from_millis(200))
        .origin(move |key| read.clone().load(key))
        .build()
        .unwrap();
    cache.insert(&2, 5).await.unwrap();
    hands.advance(Duration::from_secs(20));
    let slow = cache.clone();
    let slow = tokio::spawn(async move { slow.load(&1).await });
    until("the only place is taken", || origin.asked() == 1).await;
    let (old, none) = tokio::join!(cache.load_cached(&2), cache.load(&3));
    let old = old.unwrap();
    assert!(old.value == 5 && matches!(old.freshness, Freshness::Stale { .. }), "{old:?}");
    assert!(matches!(none.unwrap_err().kind(), ErrorKind::Overloaded | ErrorKind::Timeout));
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}
