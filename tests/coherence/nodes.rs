//! Nodes over one store, a database, and a clock that is moved by hand.

use super::slow::Slow;
use super::support::until;
use cachestack::testing::{ChaosTier, Messages};
use cachestack::{Coherence, EmbeddedTier, Freshness, ManualClock, MemoryTier, Namespace, RemoteTier, Tier, TieredCache, Ttl};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

pub(super) type Cache = TieredCache<u64, u64>;

pub(super) const BOUND: Duration = Duration::from_secs(3);
pub(super) const GRACE: Duration = Duration::from_secs(30);
pub(super) const MOMENT: Duration = Duration::from_millis(20);

/// A store, a database, and a clock for all.
pub(super) struct World {
    pub(super) hands: ManualClock,
    pub(super) store: EmbeddedTier,
    rows: Arc<Mutex<HashMap<u64, u64>>>,
    queries: Arc<AtomicU64>,
}

/// A process: its way to the store, and its cache.
pub(super) struct Node {
    pub(super) l2: ChaosTier<EmbeddedTier>,
    pub(super) cache: Cache,
}

impl World {
    pub(super) fn new() -> Self {
        let hands = ManualClock::new();
        Self { store: EmbeddedTier::new().clock(hands.clock()), hands, rows: Arc::default(), queries: Arc::default() }
    }

    pub(super) fn node(&self) -> Node {
        self.node_with(Coherence::default())
    }

    pub(super) fn node_with(&self, coherence: Coherence) -> Node {
        let l2 = ChaosTier::new(self.store.as_another_node());
        Node { cache: self.cache(l2.clone(), coherence), l2 }
    }

    pub(super) fn cache(&self, l2: impl RemoteTier, coherence: Coherence) -> Cache {
        let (rows, queries) = (self.rows.clone(), self.queries.clone());
        let load = move |key: u64| {
            queries.fetch_add(1, Ordering::SeqCst);
            let row = rows.lock().unwrap().get(&key).copied().unwrap_or(0);
            async move { Ok::<_, io::Error>(row) }
        };
        let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2).clock(self.hands.clock());
        builder.ttl(Ttl::minutes(60)).coherence(coherence).origin(load).build().unwrap()
    }

    /// A node whose subscription is not confirmed so far.
    pub(super) fn deaf_node(&self) -> (Cache, ChaosTier<EmbeddedTier>) {
        let l2 = ChaosTier::new(self.store.as_another_node());
        l2.set_messages(Messages::Unconfirmed);
        let builder = Cache::builder("t").l1(MemoryTier::new(10)).l2(l2.clone()).clock(self.hands.clock());
        let cache = builder.ttl(Ttl::minutes(60)).origin(|_| async { Ok::<_, io::Error>(1) }).build().unwrap();
        (cache, l2)
    }

    pub(super) fn commit(&self, key: u64, row: u64) {
        self.rows.lock().unwrap().insert(key, row);
    }

    pub(super) fn queries(&self) -> u64 {
        self.queries.load(Ordering::SeqCst)
    }
}

impl Node {
    /// Where the answer to a read is from, and what it is.
    pub(super) async fn read(&self, key: u64) -> (u64, Tier, Freshness) {
        let cached = self.cache.load_cached(&key).await.unwrap();
        (cached.value, cached.tier, cached.freshness)
    }

    /// A round of polls that begins now.
    pub(super) async fn polled(&self) {
        let polls = self.cache.stats().coherence.polls;
        // Any read of what is not verified asks for one; the others come by themselves.
        until("a poll has ended", || self.cache.stats().coherence.polls > polls).await;
        tokio::task::yield_now().await;
    }

    /// A load of a key that is inside the origin by now, and gives this value when it is let go.
    pub(super) async fn begin_load(&self, key: u64, value: u64) -> (JoinHandle<u64>, Slow) {
        let slow = Slow::new();
        let (cache, held) = (self.cache.clone(), slow.clone());
        let load = tokio::spawn(async move { cache.get_or_load(&key, move || held.load(value)).await.unwrap() });
        slow.has_begun().await;
        (load, slow)
    }
}

/// Two keys of one partition.
pub(super) fn two_of_a_partition() -> [u64; 2] {
    let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition();
    [1, (2..100_000).find(|key| partition(*key) == partition(1)).unwrap()]
}
