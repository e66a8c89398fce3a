//! foyer's in-memory cache, which has no expiry. Its hits hand out an entry that counts references, not a clone.

use std::time::Duration;

use foyer_memory::{Cache, CacheBuilder, EvictionConfig, LruConfig, S3FifoConfig};

use crate::subject::{Key, Subject, Value};

fn build<K: Key, V: Value>(capacity: usize, eviction: impl Into<EvictionConfig>) -> Cache<K, V> {
    CacheBuilder::new(capacity).with_eviction_config(eviction).build()
}

/// With S3-FIFO.
pub(crate) struct FoyerS3Fifo<K: Key, V: Value>(Cache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for FoyerS3Fifo<K, V> {
    fn new(capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(build(capacity, S3FifoConfig::default()))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get::<K::Lookup>(key.borrow()).map(|entry| entry.value().touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}

/// With LRU.
pub(crate) struct FoyerLru<K: Key, V: Value>(Cache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for FoyerLru<K, V> {
    fn new(capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(build(capacity, LruConfig::default()))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get::<K::Lookup>(key.borrow()).map(|entry| entry.value().touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}
