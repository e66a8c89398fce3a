//! foyer's in-memory cache, which has no expiry. Its hits hand out an entry that counts references, not a clone.

use std::time::Duration;

use foyer_memory::{Cache, CacheBuilder, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};

use crate::subject::{Key, Subject, Value};

/// Its eight shards evict on their own; below this capacity they hold so few entries each that the sharding would be measured.
const LEAST_SHARDED: usize = 1_024;

fn build<K: Key, V: Value>(capacity: usize, eviction: impl Into<EvictionConfig>) -> Cache<K, V> {
    let builder = CacheBuilder::new(capacity).with_eviction_config(eviction);
    if capacity < LEAST_SHARDED { builder.with_shards(1).build() } else { builder.build() }
}

/// An adapter a policy: the type is what a roster names.
macro_rules! foyer {
    ($($(#[$doc:meta])* $name:ident: $config:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name<K: Key, V: Value>(Cache<K, V>);

        impl<K: Key, V: Value> Subject<K, V> for $name<K, V> {
            fn new(capacity: usize, _ttl: Option<Duration>) -> Self {
                Self(build(capacity, <$config>::default()))
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
    )*};
}

foyer! {
    /// With S3-FIFO.
    FoyerS3Fifo: S3FifoConfig;
    /// With LRU.
    FoyerLru: LruConfig;
    /// With LFU behind a window (`W-TinyLFU`).
    FoyerLfu: LfuConfig;
    /// With SIEVE.
    FoyerSieve: SieveConfig;
}
