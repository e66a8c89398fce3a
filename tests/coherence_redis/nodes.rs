//! A database, and the nodes that have caches before it.

use crate::servers::{Servers, Way};
use cachestack::testing::ChaosTier;
use cachestack::{Clock, Coherence, MemoryTier, Namespace, RedisTier, RemoteKey, TieredCache, Ttl};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) type Cache = TieredCache<u64, u64>;

pub(crate) const BOUND: Duration = Duration::from_millis(600);
/// Keys of all partitions, more or less, and so of all masters.
pub(crate) const KEYS: std::ops::Range<u64> = 0..120;
/// Of a call of a node's: long enough for a busy machine, where none should run out.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// A database, and the nodes' way to their store.
#[derive(Clone)]
pub(crate) struct World {
    way: Way,
    clock: Clock,
    tracks: bool,
    rows: Arc<Mutex<HashMap<u64, u64>>>,
    queries: Arc<AtomicU64>,
}

/// A process.
pub(crate) struct Node {
    pub(crate) l2: ChaosTier<RedisTier>,
    pub(crate) cache: Cache,
}

impl World {
    pub(crate) fn over(servers: &Servers) -> Self {
        Self::by(servers.way())
    }

    pub(crate) fn by(way: Way) -> Self {
        Self { way, clock: Clock::default(), tracks: false, rows: Arc::default(), queries: Arc::default() }
    }

    /// The same database, and another way to the store.
    pub(crate) fn reached_by(&self, way: Way) -> Self {
        Self { way, ..self.clone() }
    }

    /// Its nodes have the store say of every write that there was one.
    pub(crate) fn tracking(self) -> Self {
        Self { tracks: true, ..self }
    }

    /// Its nodes go by this clock.
    pub(crate) fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    pub(crate) async fn tier(&self) -> RedisTier {
        let builder = match &self.way {
            Way::One(url) => RedisTier::builder(url),
            Way::Cluster(urls) => RedisTier::cluster(urls),
            Way::Sentinels(service, urls) => RedisTier::sentinel(service, urls),
        };
        let builder = builder.timeout(TIMEOUT);
        if self.tracks { builder.tracking() } else { builder }.connect().await.unwrap()
    }

    pub(crate) async fn node(&self) -> Node {
        let node = self.new_node().await;
        assert!(node.cache.ready(Duration::from_secs(10)).await, "{:?}", node.cache.stats());
        node
    }

    /// A node that need not have heard of its store so far.
    pub(crate) async fn new_node(&self) -> Node {
        let world = self.clone();
        let load = move |key: u64| {
            world.queries.fetch_add(1, Ordering::SeqCst);
            let row = world.row(key);
            async move { Ok::<_, io::Error>(row) }
        };
        let l2 = ChaosTier::new(self.tier().await);
        let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2.clone()).ttl(Ttl::minutes(60));
        let builder = builder.coherence(Coherence::new().bound(BOUND)).clock(self.clock.clone());
        Node { l2, cache: builder.origin(load).build().unwrap() }
    }

    pub(crate) fn commit(&self, key: u64, row: u64) {
        self.rows.lock().unwrap().insert(key, row);
    }

    pub(crate) fn row(&self, key: u64) -> u64 {
        self.rows.lock().unwrap().get(&key).copied().unwrap_or(0)
    }

    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::SeqCst)
    }
}

impl Node {
    pub(crate) async fn read(&self, key: u64) -> u64 {
        self.cache.load(&key).await.unwrap()
    }

    /// Reads these keys by all ways for twice the bound. Of a read that begins later than a bound from now none may be older than what is committed now.
    pub(crate) async fn follows_within_the_bound(&self, world: &World, keys: impl IntoIterator<Item = u64>) {
        let rows: Vec<_> = keys.into_iter().map(|key| (key, world.row(key))).collect();
        let told = Instant::now();
        while told.elapsed() < BOUND * 2 {
            for (key, row) in &rows {
                let late = told.elapsed() > BOUND;
                let found = self.cache.get_local(key).unwrap_or(*row);
                assert!(!late || found == *row, "{found} of {row} in L1, {:?} later", told.elapsed());
                let late = told.elapsed() > BOUND;
                let found = self.read(*key).await;
                assert!(!late || found == *row, "{found} of {row}, {:?} later", told.elapsed());
            }
        }
    }
}

/// What stands in Redis for a row.
pub(crate) fn remote(key: u64) -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&key)
}

/// Waits for a server's time, or a message's.
pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
