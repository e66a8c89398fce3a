//! The in-process tier alone: [`MemoryCache`] with expiry, eviction and its counts on. Nothing is caught up between samples, so that what
//! a write puts off is paid for by the writes after it.

use std::time::Duration;

use cachestack::{MemoryCache, Policy};

use crate::subject::{Key, Subject, Value};

fn build<K: Key, V: Value>(capacity: usize, ttl: Option<Duration>, policy: Policy) -> MemoryCache<K, V> {
    let builder = MemoryCache::builder().capacity(capacity as u64).policy(policy);
    if let Some(ttl) = ttl { builder.time_to_live(ttl).build() } else { builder.build() }
}

/// The value is cloned out.
pub(crate) struct Ours<K: Key, V: Value>(MemoryCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for Ours<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self(build(capacity, ttl, Policy::default()))
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

/// The value is read in its place.
pub(crate) struct OursBorrow<K: Key, V: Value>(MemoryCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for OursBorrow<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self(build(capacity, ttl, Policy::default()))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.with::<K::Lookup, _>(key.borrow(), Value::touch)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}

/// With the policy `Lru`.
pub(crate) struct OursLru<K: Key, V: Value>(MemoryCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for OursLru<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self(build(capacity, ttl, Policy::Lru))
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
