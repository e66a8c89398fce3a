//! The library, as a service uses it: one cache whose values carry their versions, and one whose values do not.

use super::cache::{Answer, NodeRelay};
use super::desk::Desk;
use crate::database::Database;
use crate::item::Item;
use crate::orders::{Settings, Tally, Way};
use cachestack::sharding::outbox::{Claimed, Relay, Row};
use cachestack::{BoxError, Coherence, Freshness, MemoryTier, RedisTier, TieredCache, Ttl};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any phase: nothing may become young again by itself.
const TTL_HOURS: u64 = 24;
/// Soon enough that a killed writer's claims are another's within its phase.
const CLAIM: Duration = Duration::from_secs(2);
const DELIVERY: Duration = Duration::from_secs(1);
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long the first poll may take.
const READY: Duration = Duration::from_secs(10);

pub(super) struct Stack {
    /// Even keys.
    versioned: TieredCache<u64, Item>,
    /// Odd keys.
    unversioned: TieredCache<u64, Item>,
    /// What the outbox calls them.
    names: HashMap<Vec<u8>, u64>,
}

impl Stack {
    pub(super) async fn connect(settings: &Settings, database: &Database) -> Result<Self, BoxError> {
        let tier = match (settings.is_cluster, &settings.urls[..]) {
            (true, urls) => RedisTier::cluster(urls).connect().await?,
            (false, urls) => RedisTier::connect(&urls[0]).await?,
        };
        let (bound, grace) = (Duration::from_millis(settings.bound_ms), Duration::from_millis(settings.grace_ms));
        let coherence = Coherence::new().bound(bound).grace(grace);
        let build = |name: &str, is_versioned: bool| {
            let database = database.clone();
            let origin = move |key: u64| {
                let database = database.clone();
                async move { database.read(key).await }
            };
            let builder = TieredCache::<u64, Item>::builder(name)
                .l1(MemoryTier::new(settings.keys * 2))
                .l2(tier.clone())
                .ttl(Ttl::hours(TTL_HOURS))
                .origin(origin);
            let builder = if is_versioned { builder.versioned(|item| item.version) } else { builder };
            match settings.way {
                Way::Incoherent => builder.incoherent().build(),
                _ => builder.coherence(coherence).build(),
            }
        };
        let (versioned, unversioned) = (build("versioned", true)?, build("unversioned", false)?);
        if !versioned.ready(READY).await || !unversioned.ready(READY).await {
            return Err("Redis does not verify what L1 has".into());
        }
        let mut stack = Self { versioned, unversioned, names: HashMap::new() };
        stack.names = (0..settings.keys).map(|key| (stack.of(key).encode_key(&key), key)).collect();
        Ok(stack)
    }

    fn of(&self, key: u64) -> &TieredCache<u64, Item> {
        if is_versioned(key) { &self.versioned } else { &self.unversioned }
    }

    pub(super) async fn read(&self, key: u64) -> Result<Answer, BoxError> {
        let cached = self.of(key).load_cached(&key).await?;
        Ok(Answer { item: cached.value, is_marked: cached.freshness != Freshness::Fresh })
    }

    /// By one of the ways there are: through the cache, or past it and then told.
    pub(super) async fn write(&self, key: u64, database: &Database) -> Result<u64, BoxError> {
        let cache = self.of(key);
        if fastrand::bool() {
            let database = database.clone();
            let (item, _) = cache.write_with(&key, move || async move { database.raise(key, |_| None).await }).await?;
            return Ok(item.version);
        }
        let version = database.raise(key, |_| None).await?.version;
        if is_versioned(key) {
            cache.invalidate_older(&key, version).await?
        } else {
            cache.invalidate(&key).await?
        };
        Ok(version)
    }

    pub(super) fn message(&self, key: u64, version: u64) -> Row {
        let cache = self.of(key);
        let row = Row::new(cache.name(), cache.encode_key(&key)).expect("both are short");
        row.with_version(version)
    }

    pub(super) fn relay(self: Arc<Self>, database: &Database, desk: &Arc<Desk>) -> Result<NodeRelay, BoxError> {
        let desk = desk.clone();
        let relay = Relay::builder(database.outbox.clone()).timeout(DELIVERY).lease(CLAIM).retry_after(RETRY.0, RETRY.1);
        Ok(relay.start(move |claimed: Claimed| {
            let (stack, desk) = (self.clone(), desk.clone());
            async move { stack.deliver(&claimed.row, &desk).await }
        })?)
    }

    async fn deliver(&self, row: &Row, desk: &Desk) -> Result<(), BoxError> {
        let key = *self.names.get(row.key()).ok_or("no key of ours")?;
        let version = row.version().ok_or("a row without a version")?;
        let told = self.of(key).invalidate_encoded(row.key(), is_versioned(key).then_some(version)).await;
        match told {
            Ok(_) => desk.told(key, version),
            Err(err) => {
                desk.counts.invalidation_errors.add_one();
                Err(err.into())
            }
        }
    }

    pub(super) fn owed(&self) -> u64 {
        let owed = |cache: &TieredCache<u64, Item>| cache.stats().coherence.owed;
        // As many as that are all keys.
        owed(&self.versioned).saturating_add(owed(&self.unversioned)).min(self.names.len() as u64)
    }

    pub(super) fn counts(&self) -> Tally {
        let counts = [&self.versioned, &self.unversioned].map(|cache| {
            let stats = cache.stats();
            Tally {
                l1_hits: stats.l1.hits,
                l1_misses: stats.l1.misses,
                l2_hits: stats.l2.hits,
                loads: stats.loads,
                ..Tally::default()
            }
        });
        counts[0].plus(counts[1])
    }
}

fn is_versioned(key: u64) -> bool {
    key.is_multiple_of(2)
}
