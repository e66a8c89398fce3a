//! The stack: L1 over L2 over the origin.

mod allowance;
mod builder;
mod chain;
mod checker;
mod coherent;
mod doctor;
mod fill;
mod insert;
mod lead;
mod origin;
mod read;
mod recovery;
mod revalidate;
mod second;
mod strict;
mod warm;
mod write;

pub use builder::{Builder, Storable};
pub use coherent::Coherence;
pub use origin::Loader;
pub(crate) use origin::loader;
pub use warm::{WarmUp, Warmed};
pub use write::Closed;

use crate::answer::{Answer, Freshness, Tier};
use crate::backoff::Backoffs;
use crate::clock::{Clock, Moment};
use crate::coherence::Standing;
use crate::counters::{Counters, Event};
use crate::error::{Error, Result};
use crate::flights::Flights;
use crate::local::{Local, LocalTier, NoLocal, Stamp, Terms};
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use crate::places::Places;
use crate::record::Life;
use crate::stats::{Stats, Window, snapshot};
use crate::tasks::Tasks;
use crate::token::Token;
use crate::ttl::Ttl;
use checker::Checker;
use coherent::Coherent;
use foldhash::quality::RandomState;
use origin::{Origin, Writer};
use recovery::Recovery;
use second::Second;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A cache of up to two tiers over an origin. Cloning shares it.
///
/// Read [`Builder`] for how to make one. The methods here take borrowed keys (`&str` where the key is `String`); the trait
/// [`Cache`](crate::Cache) has the same ones for `&K`, to write a service against.
///
/// # Time
///
/// A read waits for L2 for one [timeout](crate::RemoteTier::timeout) of the tier at most, in all that it asks of it: a miss reads, takes the lease, and stores what was
/// loaded. What L2 has not taken by then it takes behind the answer. Where this node has to learn first whether it may have missed something, after a pause of the process, say, half of
/// one comes on top. The origin has [`Builder::load_timeout`], half of which may go into waiting for another node's load. `insert`, `invalidate` and `clear` wait for
/// one timeout (`clear`: of its own; `invalidate_many`: for each 1,000 keys); a write for two, for what must be told is told although something before it took long.
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
    coherent: Option<Coherent>,
    checker: Option<Checker>,
    /// Itself, for tasks that do not keep it alive.
    me: Weak<Self>,
    origin: Option<Origin<K, V>>,
    writer: Option<Writer<K, V>>,
    version_of: Option<fn(&V) -> u64>,
    load_timeout: Duration,
    /// For loads of the origin.
    places: Places,
    /// Writes are announced before they are committed.
    strict: bool,
    /// Options that were given and are L2's, where there is none.
    without_l2: Vec<&'static str>,
    flights: Arc<Flights<K, V>>,
    backoffs: Backoffs,
    recovery: Recovery<K>,
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

    /// Waits until L1 is verified, for `limit` at most: until this node hears what other nodes invalidate, and nothing that it loaded before has to be asked
    /// about again. `false` if it is not, because L2 is away, say. For a readiness probe, and before [`warm`](Self::warm). At once without L1 or L2.
    pub async fn ready(&self, limit: Duration) -> bool {
        let Some(coherent) = self.inner.coherent.as_ref().filter(|_| self.inner.l1.capacity().is_some()) else { return true };
        coherent.deployment.start();
        coherent.deployment.verified(coherent.coherence.bound, limit).await
    }

    /// What the cache has done since it was built. Costs a sum over the threads that have used it.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let recent = inner.window.recent(inner.clock.now(), &inner.counters);
        let mut stats = snapshot(&inner.counters, recent, inner.l1.len(), inner.l1.evictions());
        stats.coherence.owed = u64::try_from(inner.recovery.owed()).unwrap_or(u64::MAX);
        if let Some(coherent) = &inner.coherent {
            let counts = coherent.deployment.counts();
            stats.coherence.unverified_partitions = coherent.deployment.unverified(coherent.coherence.bound) as u64;
            stats.coherence.messages = counts.heard.load(Ordering::Relaxed);
            stats.coherence.changes = counts.changes.load(Ordering::Relaxed);
            stats.coherence.suspicions = counts.suspicions.load(Ordering::Relaxed);
            stats.coherence.polls = counts.polls.load(Ordering::Relaxed);
            stats.coherence.poll_errors = counts.poll_errors.load(Ordering::Relaxed);
        }
        stats
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
    /// Before hard, and it may have been invalidated: not counted so far.
    Doubtful {
        hash: u64,
        local: Local<V>,
        /// It may be served, marked: L2 is known to be away.
        grace: bool,
    },
}

/// What L1 has of a key, not counted.
enum Recalled<V> {
    /// It may be answered with, as far as its age allows.
    Known(Local<V>),
    /// It may have been invalidated.
    Doubtful(Local<V>),
    None,
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
        let now = self.moment();
        if self.is_verified(now) { self.look_at(hash, key, now, fresh) } else { self.look_closely(hash, key, now, fresh) }
    }

    #[inline]
    fn look_at<Q, T>(&self, hash: u64, key: &Q, now: Moment, fresh: impl FnOnce(Local<&V>) -> T) -> Result<T, NotFresh<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
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

    /// The same where not all partitions are verified: this key's may be, or its entry be so young that it need not.
    #[cold]
    fn look_closely<Q, T>(&self, hash: u64, key: &Q, now: Moment, fresh: impl FnOnce(Local<&V>) -> T) -> Result<T, NotFresh<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.recall(hash, key, now) {
            Recalled::Doubtful(local) if now < local.stamp.hard => {
                let grace = self.standing(local.partition, local.stamp.created, now) == Standing::Grace;
                Err(NotFresh::Doubtful { hash, local, grace })
            }
            // This very entry, and not what may have taken its place.
            Recalled::Known(Local { value, stamp, partition, suspect }) if now < stamp.soft => {
                self.counters.count(Event::L1Hit);
                Ok(fresh(Local { value: &value, stamp, partition, suspect }))
            }
            Recalled::Known(local) => Err(self.not_fresh(hash, Some(local), now)),
            // What is doubtful and past its hard life is no last resort.
            Recalled::Doubtful(_) | Recalled::None => Err(self.not_fresh(hash, None, now)),
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
                self.missed();
                NotFresh::Miss { hash, last_resort }
            }
        }
    }

    /// What L1 has of a key, not counted.
    fn recall<Q>(&self, hash: u64, key: &Q, now: Moment) -> Recalled<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.is_verified(self.moment()) {
            self.notice_sleep();
            let Some((partition, created)) = self.l1.with(hash, key, now, |local| (local.partition, local.stamp.created)) else {
                return Recalled::None;
            };
            // First how its partition stands, then whether it is suspect.
            let standing = self.standing(partition, created, now);
            let found = self.l1.with(hash, key, now, not_suspect).flatten();
            let found = found.or_else(|| {
                let suspect = || self.l1.get(hash, key, now);
                is(Mutant::GraceForSuspects).then(suspect).flatten()
            });
            return match found {
                Some(local) if standing == Standing::Verified && local.stamp.created >= created => Recalled::Known(local),
                Some(local) => Recalled::Doubtful(local),
                None => Recalled::None,
            };
        }
        self.l1.with(hash, key, now, not_suspect).flatten().map_or(Recalled::None, Recalled::Known)
    }

    /// What L1 has and may be answered with.
    fn recall_known<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.recall(hash, key, now) {
            Recalled::Known(local) => Some(local),
            Recalled::Doubtful(_) | Recalled::None => None,
        }
    }

    /// An answer of L1 that may have been invalidated, counted.
    fn unverified(&self, local: Local<V>) -> Answer<V> {
        self.counters.count(Event::L1Hit);
        self.counters.count(Event::Unverified);
        from_l1(local, Freshness::Unverified)
    }

    /// The same of a key that was counted as a miss before L2 failed.
    fn unverified_after_all(&self, local: Local<V>) -> Answer<V> {
        self.counters.count(Event::L2Miss);
        self.counters.count(Event::Unverified);
        from_l1(local, Freshness::Unverified)
    }

    /// A key that L1 cannot answer for after all, counted.
    fn missed(&self) {
        self.counters.count(Event::L1Miss);
        self.window.sample(self.clock.now(), &self.counters);
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

/// A suspect entry is as good as none, no last resort either: L2 is asked, and what it says takes its place.
fn not_suspect<V: Clone>(local: Local<&V>) -> Option<Local<V>> {
    (!local.suspect).then(|| local.cloned())
}

fn from_l1<V>(local: Local<V>, freshness: Freshness) -> Answer<V> {
    Answer { value: local.value, tier: Tier::L1, created: local.stamp.created, freshness }
}
