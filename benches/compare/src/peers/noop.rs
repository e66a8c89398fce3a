//! The bare loop: what remains when the cache costs nothing.

use std::time::Duration;

use crate::subject::{Key, Subject, Value};

/// Loads the key and answers from it.
#[derive(Debug)]
pub(crate) struct Noop;

impl<K: Key, V: Value> Subject<K, V> for Noop {
    const STORES: bool = false;

    fn new(_capacity: usize, _ttl: Option<Duration>) -> Self {
        Self
    }

    #[inline]
    fn get(&self, key: &K) -> Option<u64> {
        Some(key.touch())
    }

    #[inline]
    fn insert(&self, key: K, _value: V) {
        std::hint::black_box(key.touch());
    }
}
