//! scc's bounded map: evicts by bucket, has no expiry.

use std::time::Duration;

use foldhash::fast::RandomState;

use crate::subject::{Key, Subject, Value};

/// `scc::HashCache` with foldhash. It rounds its capacity up to a power of two.
pub(crate) struct SccHashCache<K: Key, V: Value>(scc::HashCache<K, V, RandomState>);

impl<K: Key, V: Value> Subject<K, V> for SccHashCache<K, V> {
    fn new(capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(scc::HashCache::with_capacity_and_hasher(0, capacity, RandomState::default()))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.read_sync::<K::Lookup, _, _>(key.borrow(), |_, value| value.clone()).map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        drop(self.0.entry_sync(key).put_entry(value));
    }
}

/// The same; the value is read in place, under its bucket's lock.
pub(crate) struct SccHashCacheBorrow<K: Key, V: Value>(SccHashCache<K, V>);

impl<K: Key, V: Value> Subject<K, V> for SccHashCacheBorrow<K, V> {
    fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self(SccHashCache::new(capacity, ttl))
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.0.read_sync::<K::Lookup, _, _>(key.borrow(), |_, value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}
