//! The whole stack: over the memory tier alone, and with a second tier in memory behind it.

use std::io;
use std::time::Duration;

use cachestack::{Codec, EmbeddedTier, MemoryTier, TieredCache, Ttl};

use crate::ready::ready;
use crate::subject::{Key, Shared, Subject, Value};

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
