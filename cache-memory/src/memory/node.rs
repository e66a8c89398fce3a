//! An entry in its place.

use super::life::Life;
use crate::sync::AtomicU64;
use cache_core::{Moment, Terms, Token};
use std::time::Duration;

/// A key, its value, and what a hit looks at: 32 bytes for a key and a value of 8 each, so that none straddles two cache lines.
///
/// It does not change once it is in the index, but for the mark; a new value is a new node.
#[repr(C)]
pub(super) struct Node<K, V> {
    pub(super) life: Life,
    pub(super) key: K,
    pub(super) value: V,
}

/// What few entries have, beside the nodes and only where one needs it: see [`Slab`](super::slab::Slab). All zero is none of it.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) version: u64,
    pub(super) token: Token,
    /// Nanoseconds without a read after which the entry is forgotten; zero for never.
    idle: u64,
    /// The last read, in nanoseconds, where `idle` is not zero.
    touched: AtomicU64,
    /// loom watches its own cells, and not the memory around them.
    #[cfg(loom)]
    watched: loom::cell::UnsafeCell<()>,
}

/// Nodes of this size divide a cache line.
#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Node<u64, u64>>() == 32);

impl Default for Extra {
    fn default() -> Self {
        Self::new(&Terms::default(), Moment::default())
    }
}

impl Extra {
    pub(super) fn new(terms: &Terms, now: Moment) -> Self {
        let Terms { version, token, idle, .. } = *terms;
        // Zero would be never, and is meant as at once.
        let idle = idle.map_or(0, |idle| u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX).max(1));
        Self {
            version,
            token,
            idle,
            touched: AtomicU64::new(now.as_nanos()),
            #[cfg(loom)]
            watched: loom::cell::UnsafeCell::new(()),
        }
    }

    /// Fails the model of a reader that may see less than all of it.
    #[cfg(loom)]
    pub(super) fn watch(&self) {
        self.watched.with(|_| ());
    }

    pub(super) fn idle(&self) -> Option<Duration> {
        (self.idle != 0).then(|| Duration::from_nanos(self.idle))
    }

    /// Whether it went without a read for too long. Otherwise this is one.
    #[inline]
    pub(super) fn touch(&self, now: Moment) -> bool {
        use crate::sync::Ordering;
        if self.idle == 0 {
            return true;
        }
        if self.is_idle(now) {
            return false;
        }
        // Ordering: relaxed; the time guards nothing. The clock is coarse, so a hot entry is written once a tick at most. Never back: a reader may stand
        // still here while others, whose time is later, go on.
        if self.touched.load(Ordering::Relaxed) < now.as_nanos() {
            self.touched.fetch_max(now.as_nanos(), Ordering::Relaxed);
        }
        true
    }

    #[inline]
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        use crate::sync::Ordering;
        self.idle != 0 && now.as_nanos().saturating_sub(self.touched.load(Ordering::Relaxed)) >= self.idle
    }
}
