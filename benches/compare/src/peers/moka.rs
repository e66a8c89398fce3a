//! moka, synchronous and asynchronous, and its small sibling.

use std::time::Duration;

use crate::ready::ready;
use crate::subject::{Key, Subject, Value};

/// `moka::sync::Cache` with its default policy (`TinyLFU`).
#[derive(Debug)]
pub(crate) struct MokaSync<K: Key, V: Value>(moka::sync::Cache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for MokaSync<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let mut builder = moka::sync::Cache::builder().max_capacity(capacity as u64);
        if let Some(ttl) = ttl {
            builder = builder.time_to_live(ttl);
        }
        Self(builder.build())
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get::<K::Lookup>(key.borrow()).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

/// `moka::sync::Cache` with its other policy, LRU.
#[derive(Debug)]
pub(crate) struct MokaSyncLru<K: Key, V: Value>(MokaSync<K, V>);

impl<K: Key, V: Value> Subject<K, V> for MokaSyncLru<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let policy = moka::policy::EvictionPolicy::lru();
        let mut builder = moka::sync::Cache::builder().max_capacity(capacity as u64).eviction_policy(policy);
        if let Some(ttl) = ttl {
            builder = builder.time_to_live(ttl);
        }
        Self(MokaSync(builder.build()))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        self.0.settle();
    }
}

/// `moka::future::Cache` with its default policy (`TinyLFU`).
#[derive(Debug)]
pub(crate) struct MokaFuture<K: Key, V: Value>(moka::future::Cache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for MokaFuture<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let mut builder = moka::future::Cache::builder().max_capacity(capacity as u64);
        if let Some(ttl) = ttl {
            builder = builder.time_to_live(ttl);
        }
        Self(builder.build())
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        ready(self.0.get::<K::Lookup>(key.borrow())).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        ready(self.0.insert(key, value));
    }

    fn settle(&self) {
        ready(self.0.run_pending_tasks());
    }
}

/// `mini_moka::sync::Cache`. It cannot look a `String` up by `&str`.
pub(crate) struct MiniMoka<K: Key, V: Value>(mini_moka::sync::Cache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for MiniMoka<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        let mut builder = mini_moka::sync::Cache::builder().max_capacity(capacity as u64);
        if let Some(ttl) = ttl {
            builder = builder.time_to_live(ttl);
        }
        Self(builder.build())
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.get(key).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    fn settle(&self) {
        mini_moka::sync::ConcurrentCacheExt::sync(&self.0);
    }
}
