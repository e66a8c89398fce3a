//! Two tiers: what one node stores another finds, what one invalidates nobody finds, and what cannot be read is a miss.

use cache_core::record::Record;
use cache_core::testing::ChaosTier;
use cachestack::{EmbeddedTier, ManualClock, MemoryTier, Namespace, RemoteKey, RemoteTier, TieredCache, Ttl};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod absent;
mod overtaken;
mod records;
#[path = "../support/slow.rs"]
mod slow;
#[path = "../support/mod.rs"]
mod support;
mod values;
mod versions;
use slow::Slow;
use support::until;

type Cache = TieredCache<u64, u64>;

/// A Redis, a clock, and nodes that share them.
struct World {
    store: EmbeddedTier,
    l2: ChaosTier<EmbeddedTier>,
    hands: ManualClock,
    row: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let hands = ManualClock::new();
        let store = EmbeddedTier::new().clock(hands.clock());
        Self { l2: ChaosTier::new(store.clone()), store, hands, row: Arc::new(AtomicU64::new(1)) }
    }

    fn node(&self) -> Cache {
        self.node_with(Ttl::seconds(100).stale_for(seconds(10)).stale_if_error(seconds(1_000)))
    }

    fn node_with(&self, ttl: Ttl) -> Cache {
        let row = self.row.clone();
        let read = move |_: u64| {
            let value = row.load(Ordering::SeqCst);
            async move { if value == 0 { Err(io::Error::other("down")) } else { Ok(value) } }
        };
        Cache::builder("t")
            .l1(MemoryTier::new(10_000))
            .l2(self.l2.clone())
            .clock(self.hands.clock())
            .ttl(ttl)
            .origin(read)
            .build()
            .unwrap()
    }

    async fn record(&self) -> Option<Record> {
        let fetched = self.store.get(&key()).await.unwrap();
        fetched.record.map(|bytes| Record::decode(&bytes, key().echo()).unwrap())
    }
}

/// Where the caches of these tests keep key 1.
fn key() -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&1_u64)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A row: version and value in one.
type Row = (u64, &'static str);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Versioned {
    version: u64,
    name: String,
}

fn row(of: Row) -> Versioned {
    Versioned { version: of.0, name: of.1.into() }
}

fn versioned(world: &World) -> TieredCache<u64, Versioned> {
    TieredCache::<u64, Versioned>::builder("t")
        .l1(MemoryTier::new(10))
        .l2(world.l2.clone())
        .clock(world.hands.clock())
        .versioned(|row: &Versioned| row.version)
        .writer(|_, _| async { Ok::<_, io::Error>(()) })
        .build()
        .unwrap()
}
