//! papaya's lock-free map: neither evicts nor expires, so it is a floor and not a cache.

use std::time::Duration;

use foldhash::fast::RandomState;
use papaya::HashMap;

use crate::subject::{Key, Subject, Value};

fn build<K: Key, V: Value>() -> HashMap<K, V, RandomState> {
    HashMap::builder().hasher(RandomState::default()).build()
}

/// With foldhash; the value is cloned out.
pub(crate) struct Papaya<K: Key, V: Value>(HashMap<K, V, RandomState>);

impl<K: Key, V: Value> Subject<K, V> for Papaya<K, V> {
    fn new(_capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(build())
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.pin().get::<K::Lookup>(key.borrow()).cloned().map(|value| value.touch())
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.pin().insert(key, value);
    }
}

/// With foldhash; the value is read in place.
pub(crate) struct PapayaBorrow<K: Key, V: Value>(HashMap<K, V, RandomState>);

impl<K: Key, V: Value> Subject<K, V> for PapayaBorrow<K, V> {
    fn new(_capacity: usize, _ttl: Option<Duration>) -> Self {
        Self(build())
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        self.0.pin().get::<K::Lookup>(key.borrow()).map(Value::touch)
    }

    #[inline]
    fn insert(&self, key: K, value: V) {
        self.0.pin().insert(key, value);
    }
}
