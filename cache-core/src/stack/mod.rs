//! The stack: L1 over L2 over the origin.

mod builder;
mod lead;
mod origin;
mod read;
mod second;
mod warm;
mod write;

pub use builder::{Builder, Storable};
pub use origin::Loader;
pub(crate) use origin::loader;
pub use warm::{WarmUp, Warmed};
pub use write::Closed;

use crate::answer::{Answer, Freshness, Tier};
use crate::backoff::Backoffs;
use crate::clock::{Clock, Moment};
use crate::counters::{Counters, Event};
use crate::error::{Error, Result};
use crate::flights::Flights;
use crate::local::{Local, LocalTier, NoLocal, Stamp, Terms};
use crate::partition::Partition;
use crate::record::Life;
use crate::stats::{Stats, Window, snapshot};
use crate::tasks::Tasks;
use crate::token::Token;
use crate::ttl::Ttl;
use foldhash::quality::RandomState;
use origin::{Origin, Writer};
use second::Second;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A cache of up to two tiers over an origin. Cloning shares it.
///
/// Read [`Builder`] for how to make one. The methods here take borrowed keys (`&str` where the key is `String`); the trait
/// [`Cache`](crate::Cache) has the same ones for `&K`, to write a service against.
///
/// # Cancellation
///
/// Each load, write, insert and invalidation runs in a task of its own: a caller that stops waiting (a timeout, a
/// `select!`) stops nothing but its own wait. Dropping the cache lets what runs come to its end, which for loads is
/// bounded by [`Builder::load_timeout`].
pub struct TieredCache<K, V, L = NoLocal> {
    inner: Arc<Inner<K, V, L>>,
}

pub(crate) struct Inner<K, V, L> {
    name: Arc<str>,
    clock: Clock,
    ttl: Ttl,
    hasher: RandomState,
    l1: L,
    l2: Option<Second<K, V>>,
    origin: Option<Origin<K, V>>,
    writer: Option<Writer<K, V>>,
    version_of: Option<fn(&V) -> u64>,
    load_timeout: Duration,
    flights: Arc<Flights<K, V>>,
    backoffs: Backoffs,
    counters: Counters,
    window: Window,
    tasks: Tasks,
    closed: AtomicBool,
}

impl<K, V, L> Clone for TieredCache<K, V, L> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V, L> fmt::Debug for TieredCache<K, V, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        f.debug_struct("TieredCache")
            .field("name", &inner.name)
            .field("ttl", &inner.ttl)
            .field("l2", &inner.l2.as_ref().map(Second::name))
            .finish_non_exhaustive()
    }
}

impl<K, V, L> TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// The cache's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What the cache has done since it was built. Costs a sum over the threads that have used it.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let recent = inner.window.recent(inner.clock.now(), &inner.counters);
        snapshot(&inner.counters, recent, inner.l1.len(), inner.l1.evictions())
    }
}

/// What L1 says of a key that it does not have fresh.
enum NotFresh<V> {
    /// Past soft, before hard.
    Stale(Local<V>),
    Miss {
        hash: u64,
        /// Past hard, before last.
        last_resort: Option<Local<V>>,
    },
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Of each key once a call: it serves the table, the flights and the tickets.
    #[inline]
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The L1 step of every read, counted: what `fresh` takes from a fresh entry, in its place. Allocates nothing.
    ///
    /// A closure and not a [`Local`], so that a hit computes of the stamp only what its caller returns.
    #[inline]
    fn look<Q, T>(&self, key: &Q, fresh: impl FnOnce(Local<&V>) -> T) -> Result<T, NotFresh<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        let now = self.clock.now();
        let found =
            self.l1.with(hash, key, now, |local| if is_fresh(&local, now) { Ok(fresh(local)) } else { Err(not_suspect(local)) });
        match found {
            Some(Ok(answer)) => {
                self.counters.count(Event::L1Hit);
                Ok(answer)
            }
            Some(Err(stale)) => Err(self.not_fresh(hash, stale, now)),
            None => Err(self.not_fresh(hash, None, now)),
        }
    }

    fn not_fresh(&self, hash: u64, found: Option<Local<V>>, now: Moment) -> NotFresh<V> {
        match found {
            Some(local) if now < local.stamp.hard => {
                self.counters.count(Event::L1Hit);
                self.counters.count(Event::Stale);
                NotFresh::Stale(local)
            }
            last_resort => {
                self.counters.count(Event::L1Miss);
                self.window.sample(now, &self.counters);
                NotFresh::Miss { hash, last_resort }
            }
        }
    }

    /// What L1 has of a key that may be answered with, not counted.
    fn recall<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.l1.with(hash, key, now, not_suspect).flatten()
    }

    /// Keeps in L1 what came from elsewhere, unless L1 has something newer, an insert's or another load's.
    fn keep_newest(&self, hash: u64, key: &K, value: &V, terms: &Terms, admit: &dyn Fn() -> bool) {
        let now = self.clock.now();
        // What is suspect may have been overtaken by an invalidation, whenever it was made.
        let newer = |old: Local<&V>| !old.suspect && old.stamp.created > terms.stamp.created;
        if self.l1.with(hash, key.borrow(), now, newer) != Some(true) {
            self.l1.insert(hash, key.clone(), value.clone(), terms, now, admit);
        }
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::closed()) } else { Ok(()) }
    }

    /// Whether L1 may take a value whose ticket is in this state.
    fn admits(&self, ticket_is_live: bool) -> bool {
        ticket_is_live && !self.closed.load(Ordering::SeqCst)
    }

    fn version(&self, value: &V) -> u64 {
        self.version_of.map_or(0, |version_of| version_of(value))
    }

    /// The terms of L1 for a value made by a load that began at `created`.
    fn terms(&self, created: Moment, life: Life, partition: Partition, version: u64, token: Token) -> Terms {
        let stamp = Stamp::new(created, life, self.clock.now(), self.ttl.l1_limit());
        Terms { stamp, idle: self.ttl.idle(), partition, version, token }
    }
}

#[inline]
fn is_fresh<V>(local: &Local<&V>, now: Moment) -> bool {
    !local.suspect && now < local.stamp.soft
}

/// A suspect entry is as good as none, no last resort either, until it can be revalidated against L2 (issue 5).
fn not_suspect<V: Clone>(local: Local<&V>) -> Option<Local<V>> {
    (!local.suspect).then(|| local.cloned())
}

fn from_l1<V>(local: Local<V>, freshness: Freshness) -> Answer<V> {
    Answer { value: local.value, tier: Tier::L1, created: local.stamp.created, freshness }
}
