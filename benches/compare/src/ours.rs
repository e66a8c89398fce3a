//! cachestack itself: its memory tier alone, its stack with that tier, and its stack with a second tier in memory behind it.

use std::hash::BuildHasher;
use std::io;
use std::time::Duration;

use cachestack::{Clock, Codec, EmbeddedTier, LocalTier, MemoryTier, Moment, Stamp, TieredCache, Ttl};
use foldhash::quality::RandomState;

use crate::ready::ready;
use crate::subject::{Key, Shared, Subject, Value};

/// The memory tier, driven as the stack drives it: one seeded hash and one look at the coarse clock a call. Expiry and eviction are on;
/// counting hits is the stack's business, see [`OursLocal`].
pub(crate) struct OursTier<K: Key, V: Value> {
    tier: MemoryTier<K, V>,
    hasher: RandomState,
    clock: Clock,
    ttl: Option<Duration>,
}

impl<K: Key, V: Value> Subject<K, V> for OursTier<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self { tier: MemoryTier::new(capacity as u64), hasher: RandomState::default(), clock: Clock::default(), ttl }
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        let key: &K::Lookup = key.borrow();
        let local = self.tier.get(self.hasher.hash_one(key), key, self.clock.now())?;
        Some(local.value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        let hash = self.hasher.hash_one::<&K::Lookup>(key.borrow());
        let created = self.clock.now();
        let end = self.ttl.map_or(Moment::NEVER, |ttl| created.after(ttl));
        let stamp = Stamp { created, soft: end, hard: end, last: end, version: 0 };
        self.tier.insert(hash, key, value, stamp, &|| true);
    }
}

fn ttl(ttl: Option<Duration>) -> Ttl {
    Ttl::new(ttl.expect("only measured where entries expire"))
}

/// The stack's synchronous read, with its stats.
pub(crate) struct OursLocal<K: Key, V: Value>(TieredCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for OursLocal<K, V> {
    fn new(capacity: usize, life: Option<Duration>) -> Self {
        let builder = TieredCache::<K, V>::builder("compare").l1(MemoryTier::new(capacity as u64)).ttl(ttl(life));
        Self(builder.build().expect("the configuration is valid"))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get_local::<K::Lookup>(key.borrow()).map(|value| value.touch())
    }

    fn insert(&self, key: K, value: V) {
        ready(cachestack::Cache::insert(&self.0, &key, value)).expect("nothing refuses it");
    }
}

/// The stack over two tiers, both in memory, read by `get`.
pub(crate) struct OursGet(TieredCache<String, Shared>);

impl Subject<String, Shared> for OursGet {
    fn new(capacity: usize, life: Option<Duration>) -> Self {
        Self(two_tiers(capacity, life))
    }

    #[inline]
    fn get(&self, key: &String) -> Option<u64> {
        ready(self.0.get(key.as_str())).map(|value| value.touch())
    }

    fn insert(&self, key: String, value: Shared) {
        ready(self.0.insert(&key, value)).expect("both tiers are in memory");
    }
}

/// The same, read by `load`. Its origin fails, so that a miss would be counted as one.
pub(crate) struct OursLoad(TieredCache<String, Shared>);

impl Subject<String, Shared> for OursLoad {
    fn new(capacity: usize, life: Option<Duration>) -> Self {
        Self(two_tiers(capacity, life))
    }

    #[inline]
    fn get(&self, key: &String) -> Option<u64> {
        ready(self.0.load(key.as_str())).ok().map(|value| value.touch())
    }

    fn insert(&self, key: String, value: Shared) {
        ready(self.0.insert(&key, value)).expect("both tiers are in memory");
    }
}

fn two_tiers(capacity: usize, life: Option<Duration>) -> TieredCache<String, Shared> {
    TieredCache::<String, Shared>::builder("compare")
        .l1(MemoryTier::new(capacity as u64))
        .l2_with(EmbeddedTier::new(), Raw)
        .ttl(ttl(life))
        .origin(|_: String| async { Err::<Shared, _>(io::Error::from(io::ErrorKind::NotFound)) })
        .build()
        .expect("the configuration is valid")
}

/// A record's bytes as they are.
struct Raw;

impl Codec<Shared> for Raw {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &Shared) -> Result<Vec<u8>, cachestack::BoxError> {
        Ok(value.to_vec())
    }

    fn decode(&self, payload: &[u8]) -> Result<Shared, cachestack::BoxError> {
        let record: [u8; 128] = payload.try_into()?;
        Ok(Shared::new(record))
    }
}
