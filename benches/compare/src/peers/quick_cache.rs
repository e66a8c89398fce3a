//! `quick_cache`, which has no expiry: plain, and with a deadline kept beside each value, as its users write it.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::coarse;
use crate::subject::{Key, Subject, Value};

/// Plain: entries live until they are evicted.
pub(crate) struct QuickCache<K: Key, V: Value>(Cache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for QuickCache<K, V> {
    fn new(capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(Cache::new(capacity))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get::<K::Lookup>(key.borrow()).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}

/// With a deadline by [`Instant`].
pub(crate) struct QuickCacheDeadline<K: Key, V: Value> {
    cache: Cache<K, (V, Instant)>,
    ttl: Duration,
}

impl<K: Key, V: Value> Subject<K, V> for QuickCacheDeadline<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self { cache: Cache::new(capacity), ttl: ttl.expect("only measured where entries expire") }
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        let (value, deadline) = self.cache.get::<K::Lookup>(key.borrow())?;
        (Instant::now() < deadline).then(|| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.cache.insert(key, (value, Instant::now() + self.ttl));
    }
}

/// With a deadline by the kernel's coarse clock: the same, less the cost of `Instant::now`.
pub(crate) struct QuickCacheCoarse<K: Key, V: Value> {
    cache: Cache<K, (V, u64)>,
    ttl: u64,
}

impl<K: Key, V: Value> Subject<K, V> for QuickCacheCoarse<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let ttl = ttl.expect("only measured where entries expire");
        Self { cache: Cache::new(capacity), ttl: ttl.as_nanos() as u64 }
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        let (value, deadline) = self.cache.get::<K::Lookup>(key.borrow())?;
        (coarse::nanos() < deadline).then(|| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.cache.insert(key, (value, coarse::nanos() + self.ttl));
    }
}
