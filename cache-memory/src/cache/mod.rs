//! The tier as a cache of its own: with a hash, a clock, lives and stats.

mod builder;
mod counts;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

pub use builder::{Expiry, MemoryCacheBuilder};

use crate::memory::{Change, Computed, MemoryTier};
use cache_core::{Clock, Local, LocalTier, Moment, Stamp, Terms};
use counts::Counts;
use foldhash::quality::RandomState;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// A cache in this process's memory, for any program: no runtime, no thread of its own, all methods synchronous.
///
/// It is a [`MemoryTier`] with what a stack would bring it: a hash seeded per cache, a coarse clock, a time to live, and counts of hits and misses. Each thread
/// counts for itself; only where there are more at once than 64, or four a core, do those beyond share 16 lines. What the tier promises holds here. For loads that are shared by all who ask, for a second tier and for coherence between processes, use
/// a `TieredCache`.
///
/// ```
/// use cache_memory::MemoryCache;
/// use std::time::Duration;
///
/// let users = MemoryCache::<String, u64>::builder().capacity(10_000).time_to_live(Duration::from_secs(60)).build();
/// users.insert("ada".to_owned(), 36);
/// assert_eq!(users.get("ada"), Some(36));
/// assert_eq!(users.with("ada", |age| age + 1), Some(37));
/// assert_eq!(users.get("bob"), None);
/// assert_eq!((users.stats().hits, users.stats().misses), (2, 1));
/// ```
pub struct MemoryCache<K, V> {
    tier: MemoryTier<K, V>,
    hasher: RandomState,
    clock: Clock,
    expiry: Expiry,
    counts: Counts,
}

/// What a cache has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Reads that found a live entry.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries that had to go to make room.
    pub evictions: u64,
    /// Entries there are, expired ones that were not met yet included.
    pub entries: u64,
    /// Of the entries; as many as these where there is no weigher.
    pub weight: u64,
}

/// What [`MemoryCache::compute`] does with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute<V> {
    /// Leaves it as it is.
    Keep,
    /// Stores this value, with a new life.
    Put(V),
    /// Removes its entry, if it has one.
    Remove,
}

impl<K, V> MemoryCache<K, V> {
    /// How to make one.
    pub fn builder() -> MemoryCacheBuilder<K, V> {
        MemoryCacheBuilder::new()
    }

    /// Sums up what each thread has counted, and asks each shard: some microseconds.
    pub fn stats(&self) -> MemoryStats
    where
        K: Eq + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let (hits, misses) = self.counts.sum();
        let (entries, weight) = (self.tier.len(), self.tier.weight());
        MemoryStats { hits, misses, evictions: self.tier.evictions(), entries, weight }
    }
}

impl<K, V> MemoryCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The value of a key, cloned out.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.with(key, V::clone)
    }

    /// Reads the value of a key in its place. That saves a clone, which for an `Arc` is two writes to a line that all its readers share.
    ///
    /// `f` may do anything, use the cache included, but until it returns no memory of removed entries comes back in any cache of the process: keep
    /// it short. It must not switch to another stackful coroutine of its thread: calls of one thread have to end in the reverse of the order in
    /// which they began.
    #[inline]
    pub fn with<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // First, while there is little that has to survive the call.
        let now = self.clock.now();
        let hash = self.hasher.hash_one(key);
        let region = self.tier.enter();
        if let Some(seen) = self.tier.look(&region, hash, key, now) {
            self.counts.hit(&region);
            Some(f(seen.value()))
        } else {
            self.counts.miss(&region);
            None
        }
    }

    /// Whether a key has a live entry. Neither counted nor a use.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.holds(self.hasher.hash_one(key), key, self.clock.now())
    }

    /// Stores a value, over what the key had, for the cache's time to live. `false` if it was not kept, because it is heavier than a shard: then what the key had
    /// is gone as well.
    pub fn insert(&self, key: K, value: V) -> bool {
        self.insert_for(key, value, self.expiry)
    }

    /// As [`insert`](Self::insert), with a life of its own.
    ///
    /// ```
    /// use cache_memory::{Expiry, MemoryCache};
    /// use std::time::Duration;
    ///
    /// let pages = MemoryCache::builder().time_to_live(Duration::from_secs(3_600)).build();
    /// pages.insert_for("/news", "…", Expiry { time_to_live: Some(Duration::from_secs(10)), ..Expiry::default() });
    /// assert!(pages.contains_key("/news"));
    /// ```
    pub fn insert_for(&self, key: K, value: V, expiry: Expiry) -> bool {
        let hash = self.hasher.hash_one(&key);
        let now = self.clock.now();
        self.tier.insert(hash, key, value, &terms(now, expiry), now, &|| true)
    }

    /// The value of a key, or else what `make` makes, which is then stored. Callers that come at the same time may each make one; all get the one that was
    /// stored first. Where it cannot be stored, because it is heavier than a shard, the caller gets what it made.
    ///
    /// `make` runs once at most, and may be slow: nothing waits for it.
    ///
    /// ```
    /// let squares = cache_memory::MemoryCache::<u64, u64>::builder().build();
    /// assert_eq!(squares.get_or_insert_with(7, || 7 * 7), 49);
    /// assert_eq!(squares.get_or_insert_with(7, || unreachable!("it is there")), 49);
    /// ```
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        if let Some(value) = self.get(&key) {
            return value;
        }
        // In no region, and in no `compute`, whose closures may run again.
        let new = make();
        let mut found = None;
        // Whatever comes of it: what is not stored is returned all the same.
        let _ = self.compute(key, |held| {
            found = held.cloned();
            if found.is_some() { Compute::Keep } else { Compute::Put(new.clone()) }
        });
        found.unwrap_or(new)
    }

    /// Decides by a key's present value what becomes of it, atomically: no other write to the key comes in between.
    ///
    /// `f` runs without a lock. If the entry was changed meanwhile, it runs again with what is there then, so it should have no effect but its result: as with
    /// [`AtomicU64::fetch_update`](std::sync::atomic::AtomicU64::fetch_update). Not counted in the stats.
    ///
    /// While `f` looks at a value no memory of removed entries comes back in any cache of the process, as in [`with`](Self::with): keep it short. Where
    /// the key has none it may take its time. [`Computed::Overtaken`] is met only by an `f` that writes its own key, or one that takes so long that the others
    /// always come first.
    ///
    /// ```
    /// use cache_memory::{Compute, Computed, MemoryCache};
    ///
    /// let counts = MemoryCache::<&str, u64>::builder().capacity(100).build();
    /// for _ in 0..3 {
    ///     let done = counts.compute("hits", |count| Compute::Put(count.map_or(1, |count| count + 1)));
    ///     assert_eq!(done, Computed::Stored);
    /// }
    /// assert_eq!(counts.get("hits"), Some(3));
    /// assert_eq!(counts.compute("hits", |_| Compute::Remove), Computed::Removed);
    /// assert_eq!(counts.compute("hits", |_| Compute::Remove), Computed::Kept);
    /// ```
    pub fn compute(&self, key: K, mut f: impl FnMut(Option<&V>) -> Compute<V>) -> Computed {
        let hash = self.hasher.hash_one(&key);
        self.tier.compute(
            hash,
            key,
            || self.clock.now(),
            |held| match f(held.map(|local| local.value)) {
                Compute::Keep => Change::Keep,
                Compute::Put(value) => Change::Put(value, terms(self.clock.now(), self.expiry)),
                Compute::Remove => Change::Remove,
            },
        )
    }

    /// Replaces the value of a key by what `f` makes of it, with a new life; [`Computed::Kept`] if it has none. See [`compute`](Self::compute). The
    /// new entry gets a clone of the old one's key.
    ///
    /// ```
    /// use cache_memory::{Computed, MemoryCache};
    ///
    /// let ages = MemoryCache::<String, u64>::builder().build();
    /// ages.insert("ada".to_owned(), 36);
    /// assert_eq!(ages.and_modify("ada", |age| age + 1), Computed::Stored);
    /// assert_eq!(ages.and_modify("bob", |age| age + 1), Computed::Kept);
    /// assert_eq!(ages.get("ada"), Some(37));
    /// ```
    pub fn and_modify<Q>(&self, key: &Q, mut f: impl FnMut(&V) -> V) -> Computed
    where
        K: Borrow<Q> + Clone,
        Q: Hash + Eq + ?Sized,
    {
        let change = |local: Local<&V>| (f(local.value), terms(self.clock.now(), self.expiry));
        self.tier.and_modify(self.hasher.hash_one(key), key, || self.clock.now(), change)
    }

    /// Removes the entry of a key. `true` if there was one, alive or expired.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.tier.remove(self.hasher.hash_one(key), key, None, &|| ())
    }

    /// Removes all entries: a step for each shard, however many there are. The writes and clears that follow drop them, about 80
    /// each, or [`sweep`](Self::sweep).
    pub fn clear(&self) {
        self.tier.clear();
    }

    /// Entries there are, expired ones that were not met yet included.
    pub fn len(&self) -> u64 {
        self.tier.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most it will hold: entries, or weight where there is a weigher.
    pub fn capacity(&self) -> u64 {
        self.tier.capacity().unwrap_or(0)
    }

    /// Changes the capacity; see [`MemoryTier::resize`].
    pub fn resize(&self, capacity: u64) {
        self.tier.resize(capacity);
    }

    /// Drops what has expired and what has left; see [`MemoryTier::sweep`].
    pub fn sweep(&self) {
        self.tier.sweep(self.clock.now());
    }

    /// The live entries, cloned out: those of each shard as they are at one moment, shard after shard. So it is no snapshot of the whole cache: what
    /// is written meanwhile is met if its shard comes later, and not if that was visited. Neither counted nor a use. It holds the clones of one shard
    /// at a time, and no lock while the caller has an item.
    ///
    /// ```
    /// let ages = cache_memory::MemoryCache::<&str, u64>::builder().build();
    /// ages.insert("ada", 36);
    /// ages.insert("alan", 41);
    /// assert_eq!(ages.iter().map(|(_, age)| age).sum::<u64>(), 77);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (K, V)>
    where
        K: Clone,
        V: Clone,
    {
        self.tier.iter_at(|| self.clock.now())
    }
}

fn terms(now: Moment, expiry: Expiry) -> Terms {
    let end = expiry.time_to_live.map_or(Moment::NEVER, |life| now.after(life));
    let stamp = Stamp { created: now, soft: end, hard: end, last: end };
    Terms { idle: expiry.time_to_idle, ..Terms::from(stamp) }
}

impl<K, V> fmt::Debug for MemoryCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").field("tier", &self.tier).field("expiry", &self.expiry).finish_non_exhaustive()
    }
}
