//! stretto: `TinyLFU` with a thread of its own. Inserts are buffered and may be dropped.

use std::time::Duration;

use stretto::Cache;

use crate::subject::{Key, Subject, Value};

/// `stretto::Cache`, every entry at a cost of one.
pub(crate) struct Stretto<K: Key, V: Value> {
    cache: Cache<K, V>,
    /// Zero means for ever, to stretto as here.
    ttl: Duration,
}

impl<K: Key, V: Value> Subject<K, V> for Stretto<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        // Ten counters an entry, as its documentation recommends. Its own per-entry cost is left out so that the capacity counts entries.
        let max_cost = i64::try_from(capacity).expect("a capacity in memory");
        let builder = Cache::builder(10 * capacity, max_cost).set_ignore_internal_cost(true);
        Self { cache: builder.finalize().expect("the sizes are positive"), ttl: ttl.unwrap_or_default() }
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.cache.get::<K::Lookup>(key.borrow()).map(|entry| entry.value().clone().touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.cache.insert_with_ttl(key, value, 1, self.ttl);
    }

    fn settle(&self) {
        self.cache.wait().expect("its thread runs as long as the cache");
    }
}

/// The same; the value is read in place, under its shard's lock.
pub(crate) struct StrettoBorrow<K: Key, V: Value>(Stretto<K, V>);

impl<K: Key, V: Value> Subject<K, V> for StrettoBorrow<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self(Stretto::new(capacity, ttl))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.cache.get::<K::Lookup>(key.borrow()).map(|entry| entry.value().touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.settle();
    }
}
