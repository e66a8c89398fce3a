//! cached's sharded stores.

use std::time::Duration;

use cached::{ShardedLruCache, ShardedLruTtlCache};

use crate::subject::{Key, Subject, Value};

/// `ShardedLruCache`: no expiry.
pub(crate) struct CachedLru<K: Key, V: Value>(ShardedLruCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for CachedLru<K, V> {
    fn new(capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(ShardedLruCache::new(capacity))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get::<K::Lookup>(key.borrow()).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.set(key, value);
    }
}

/// `ShardedLruTtlCache`: one time to live for all entries.
pub(crate) struct CachedLruTtl<K: Key, V: Value>(ShardedLruTtlCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for CachedLruTtl<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self(ShardedLruTtlCache::new(capacity, ttl.expect("only measured where entries expire")))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get::<K::Lookup>(key.borrow()).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.set(key, value);
    }
}
