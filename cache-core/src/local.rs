//! The L1 trait: typed, synchronous, infallible, in process.

use crate::clock::Moment;
use crate::record::Life;
use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

/// When an entry was made and how long it may serve, on the cache's clock, and what names its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// When the load that made the value began.
    pub created: Moment,
    /// Fresh before this.
    pub soft: Moment,
    /// Served while it is refreshed before this.
    pub hard: Moment,
    /// Served when the origin fails before this; a tier forgets it then.
    pub last: Moment,
    /// The row's version; 0 in an unversioned namespace.
    pub version: u64,
}

impl Stamp {
    /// The stamp of a value made at `created`, kept in L1 until `limit` after `now` at most.
    pub(crate) fn new(created: Moment, life: Life, version: u64, now: Moment, limit: Option<Duration>) -> Self {
        let end = limit.map_or(Moment::NEVER, |limit| now.after(limit));
        let at = |life: Duration| created.after(life).min(end);
        Self { created, soft: at(life.soft), hard: at(life.hard), last: at(life.last), version }
    }
}

/// What a local tier holds of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local<V> {
    /// The value, cloned out.
    pub value: V,
    /// Its stamp.
    pub stamp: Stamp,
}

/// A first level. Implementations are proven by [`crate::testing::local_suite`].
///
/// The stack computes the key's hash once a call and passes it along; it is well mixed and seeded per process, so a tier
/// may use its bits as they are. A tier runs no user code (`Drop`, `Hash`, `Eq`, a listener) under a lock of its own.
pub trait LocalTier<K, V>: Send + Sync + 'static {
    /// The entry of a key, if there is one and `now` is before its `last`.
    fn get<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Stores an entry, if `admit` says so at the moment the entry would become readable. `true` if it was stored.
    ///
    /// This is what keeps a fill that began before an invalidation from landing after it. The stack poisons the fill's
    /// ticket and *then* calls [`remove`](Self::remove); `admit` reads the ticket. So of any insert and remove of a key,
    /// either `admit` must see the poison, or the remove must see the entry. A tier with a lock a bucket gets this by
    /// calling `admit` under the lock that `remove` takes; `admit` is the stack's code, brief, and takes no lock.
    fn insert(&self, hash: u64, key: K, value: V, stamp: Stamp, admit: &dyn Fn() -> bool) -> bool;

    /// Removes the entry of a key, unless it is of `version` or newer. `true` if one was removed.
    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Makes every entry unreadable at once; memory may be given back later. The rule of [`insert`](Self::insert) holds.
    fn clear(&self);

    /// How many entries it holds, about: maintenance may lag.
    fn len(&self) -> u64;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most it will hold, in entries or in weight; `None` for a tier that stores nothing.
    fn capacity(&self) -> Option<u64>;

    /// How many entries had to go to make room, since it was made.
    fn evictions(&self) -> u64;
}

/// The absence of a first level: a cache of L2 alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLocal;

impl<K, V> LocalTier<K, V> for NoLocal {
    fn get<Q>(&self, _: u64, _: &Q, _: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: u64, _: K, _: V, _: Stamp, _: &dyn Fn() -> bool) -> bool {
        false
    }

    fn remove<Q>(&self, _: u64, _: &Q, _: Option<u64>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        false
    }

    fn clear(&self) {}

    fn len(&self) -> u64 {
        0
    }

    fn capacity(&self) -> Option<u64> {
        None
    }

    fn evictions(&self) -> u64 {
        0
    }
}
