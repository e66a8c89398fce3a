//! An L2 that answers, and takes its time for it: whatever an answer needs of it, it is late by one timeout at most.

use cachestack::layers::Timeout;
use cachestack::testing::{Chaos, ChaosTier};
use cachestack::{
    EmbeddedTier, ErrorKind, Invalidation, ManualClock, MemoryTier, Namespace, RemoteTier, Result, Tier, TieredCache, Ttl,
};
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};

type Cache = TieredCache<u64, u64>;

/// Of each call of L2.
const TIMEOUT: Duration = Duration::from_millis(100);
/// A timer of tokio rounds up to a millisecond, and there are a few.
const SLACK: Duration = Duration::from_millis(5);

struct World {
    hands: ManualClock,
    store: EmbeddedTier,
}

struct Node {
    l2: ChaosTier<EmbeddedTier>,
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let hands = ManualClock::new();
        Self { store: EmbeddedTier::new().clock(hands.clock()), hands }
    }

    fn node(&self) -> Node {
        let l2 = ChaosTier::new(self.store.as_another_node());
        let builder =
            Cache::builder("t").l1(MemoryTier::new(100)).l2(Timeout::new(l2.clone(), TIMEOUT)).clock(self.hands.clock());
        Node { l2, cache: builder.ttl(Ttl::minutes(5)).build().unwrap() }
    }

    /// As a program does that tells nobody.
    async fn invalidate_in_l2(&self, key: u64) {
        let key = Namespace::new("cs", "t").unwrap().key(&key);
        self.store.invalidate(&[Invalidation { key, version: None }], Duration::from_secs(60), None).await.unwrap();
    }
}

impl Node {
    /// Each call takes so many ms from now on.
    fn slow(&self, ms: u64) {
        self.l2.set(Chaos::Slow(Duration::from_millis(ms)));
    }

    async fn load(&self, key: u64, value: u64) -> Result<u64> {
        self.cache.get_or_load(&key, move || async move { Ok::<_, io::Error>(value) }).await
    }

    async fn tier_of(&self, key: u64) -> Option<Tier> {
        self.cache.get_cached(&key).await.unwrap().map(|cached| cached.tier)
    }
}

#[tokio::test(start_paused = true)]
async fn a_miss_is_late_by_one_timeout_though_it_asks_l2_three_times() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    for (ms, stored) in [(45, true), (95, false)] {
        a.slow(ms);
        let began = Instant::now();
        assert_eq!(a.load(ms, 7).await.unwrap(), 7);
        assert!(began.elapsed() <= TIMEOUT + SLACK, "calls of {ms} ms: {:?}", began.elapsed());
        assert_eq!(a.cache.get_local(&ms), Some(7), "L1 has it at once");
        sleep(TIMEOUT).await;
        assert_eq!(b.tier_of(ms).await, stored.then_some(Tier::L2), "calls of {ms} ms: a fill that had begun goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn the_origin_s_time_is_not_l2_s() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    a.slow(30);
    let load = || async {
        sleep(TIMEOUT * 5).await;
        Ok::<_, io::Error>(7)
    };
    let began = Instant::now();
    assert_eq!(a.cache.get_or_load(&1, load).await.unwrap(), 7);
    assert!(began.elapsed() >= TIMEOUT * 5 + Duration::from_millis(90), "{:?}: the fill was waited for", began.elapsed());
    assert_eq!(b.tier_of(1).await, Some(Tier::L2));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_l2_refuses_behind_the_answer_is_let_go_of() {
    let world = World::new();
    let a = world.node();
    a.slow(45);
    assert_eq!(a.load(1, 7).await.unwrap(), 7);
    assert_eq!(a.cache.get_local(&1), Some(7), "the fill is under way");
    world.invalidate_in_l2(1).await;
    sleep(TIMEOUT).await;
    assert_eq!(a.cache.get_local(&1), None, "the lease was lost before the fill was there");
    assert_eq!(a.cache.stats().l2.refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_grant_came_too_late_is_given_back() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    a.slow(95);
    assert_eq!(a.load(1, 7).await.unwrap(), 7);
    a.l2.set(Chaos::Calm);
    sleep(TIMEOUT * 2).await;
    let began = Instant::now();
    assert_eq!(b.load(1, 8).await.unwrap(), 8);
    assert!(began.elapsed() <= SLACK, "{:?}: nobody holds the lease", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_insert_ends_within_one_timeout_and_leaves_no_lease_behind() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    a.slow(70);
    let began = Instant::now();
    assert_eq!(a.cache.insert(&1, 7).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() <= TIMEOUT + SLACK, "{:?}", began.elapsed());
    assert_eq!(a.cache.get_local(&1), Some(7));
    sleep(TIMEOUT * 2).await;
    let began = Instant::now();
    assert_eq!(b.load(1, 8).await.unwrap(), 8);
    assert!(began.elapsed() <= SLACK, "{:?}: nobody holds the lease", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_node_s_load_is_waited_for_though_l2_is_slow() {
    let world = World::new();
    let (a, b) = (world.node(), world.node());
    let load = || async {
        sleep(Duration::from_millis(900)).await;
        Ok::<_, io::Error>(7)
    };
    let cache = a.cache.clone();
    let leader = tokio::spawn(async move { cache.get_or_load(&1, load).await });
    sleep(Duration::from_millis(10)).await;
    b.slow(45);
    let cached = b.load(1, 8).await.unwrap();
    assert_eq!(cached, 7, "it waits for that load, by many calls of 45 ms, and does not load itself");
    assert_eq!(leader.await.unwrap().unwrap(), 7);
}
