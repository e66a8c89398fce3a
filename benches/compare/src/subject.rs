//! What a cache must do to be measured, and the keys and values it is measured with.

use std::borrow::Borrow;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// A cache under test. Every implementation is a thin adapter that the compiler inlines into the measured loop.
pub(crate) trait Subject<K: Key, V: Value>: Send + Sync + Sized + 'static {
    /// Whether it returns what was inserted. Only the bare loop does not.
    const STORES: bool = true;

    /// An empty cache for `capacity` entries that live for `ttl`, in the peer's default configuration otherwise. A peer without expiry or
    /// without eviction ignores what it cannot do; its note in the table says so.
    fn new(capacity: usize, ttl: Option<Duration>) -> Self;

    /// Looks the key up as a user would, takes the value out as a user would, and touches it.
    fn get(&self, key: &K) -> Option<u64>;

    /// Inserts or replaces.
    fn insert(&self, key: K, value: V);

    /// Waits until what was inserted is in place, for those that buffer. Never inside a measurement.
    fn settle(&self) {}
}

/// A key of a work.
pub(crate) trait Key: Borrow<Self::Lookup> + Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// What a key is looked up by where the peer allows it: `str` for `String`.
    type Lookup: Eq + Hash + ?Sized + ToOwned<Owned = Self> + Send + Sync;

    /// The key with this number.
    fn of(id: u32) -> Self;

    /// Some of the key's bytes, so that the bare loop loads what every cache has to load.
    fn touch(&self) -> u64;
}

impl Key for u64 {
    type Lookup = u64;

    fn of(id: u32) -> Self {
        u64::from(id)
    }

    #[inline]
    fn touch(&self) -> u64 {
        *self
    }
}

impl Key for String {
    type Lookup = str;

    /// 24 bytes, as long as a typical `entity:id` key.
    fn of(id: u32) -> Self {
        format!("user:{id:019}")
    }

    #[inline]
    fn touch(&self) -> u64 {
        u64::from(self.as_bytes()[0])
    }
}

/// A value of a work.
pub(crate) trait Value: Clone + Debug + Send + Sync + 'static {
    /// The value that belongs to the key with this number.
    fn of(id: u32) -> Self;

    /// Some of the value's bytes: what a reader does at least with what it got.
    fn touch(&self) -> u64;
}

impl Value for u64 {
    fn of(id: u32) -> Self {
        u64::from(id)
    }

    #[inline]
    fn touch(&self) -> u64 {
        *self
    }
}

/// Stands for a record that is shared and not copied on a hit.
pub(crate) type Shared = Arc<[u8; 128]>;

impl Value for Shared {
    fn of(id: u32) -> Self {
        Arc::new([id as u8; 128])
    }

    #[inline]
    fn touch(&self) -> u64 {
        u64::from(self[0])
    }
}
