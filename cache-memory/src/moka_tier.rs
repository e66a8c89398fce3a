//! Moka behind the L1 trait.
//!
//! Of moka we use the map, its policy and its timers. Its `get_with` stores what an invalidation has just removed, and its
//! `invalidate_all` compares timestamps that can be equal (moka #155), so neither decides anything here:
//!
//! - An entry is inserted *pending*, and shown to readers only after `admit` has been asked. `admit` and the removal in an
//!   invalidation are a store-buffer pair: each side writes (the entry; the poison), fences, then reads the other's.
//! - An entry carries the tier's epoch; a clear raises it, so older entries are unreadable at once. It carries its
//!   partition's too; a suspicion raises that.
//! - Moka drops entries under its locks, and a value's `Drop` is the user's code: the eviction listener, which moka calls
//!   with each entry that leaves, keeps it in the [`Morgue`] until the call is out of moka.
//! - An entry's end is compared with the cache's own clock, and so is the time since its last read; moka's expiry only gives
//!   the memory back, at the end.

use cache_core::{Local, LocalTier, Moment, PARTITIONS, Partition, Terms};
use equivalent::Equivalent;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Moka panics at a thousand years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A first level on [moka](https://docs.rs/moka): TinyLFU, bounded by entries.
///
/// A hit costs what moka's costs, about half a microsecond, and clones the value out. Maintenance runs on callers' threads
/// now and then, so a single call may take longer, and counts of entries and evictions lag. An entry that was idle for too
/// long is not read again; its memory comes back at its end or by an eviction.
pub struct MokaTier<K, V> {
    entries: Cache<Hashed<K>, Arc<Entry<V>>, Passthrough>,
    capacity: u64,
    epoch: AtomicU64,
    /// How often each partition was suspected.
    suspicions: Box<[AtomicU64; PARTITIONS]>,
    left: Arc<Morgue<V>>,
}

/// Entries that have left the map and await their drop outside of moka's locks.
///
/// Moka's own references go by epochs, and its collector may run in the middle of any call, locks held. So an entry stays
/// here until it is the only reference left; then dropping it runs the value's `Drop` here and nowhere else.
struct Morgue<V> {
    entries: Mutex<Waiting<V>>,
    /// Whether it is time to look; read on every call, so that an idle morgue costs no lock.
    due: AtomicBool,
    evictions: AtomicU64,
}

struct Waiting<V> {
    entries: Vec<Arc<Entry<V>>>,
    /// How many there must be for a look to be worth it: twice those that the last look had to leave.
    look_at: usize,
}

const FEWEST: usize = 16;

impl<V> Morgue<V> {
    fn new() -> Self {
        let entries = Mutex::new(Waiting { entries: Vec::new(), look_at: FEWEST });
        Self { entries, due: AtomicBool::new(false), evictions: AtomicU64::new(0) }
    }

    fn take(&self, entry: Arc<Entry<V>>, cause: RemovalCause) {
        if cause == RemovalCause::Size {
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        let mut waiting = self.lock();
        waiting.entries.push(entry);
        if waiting.entries.len() >= waiting.look_at {
            // Ordering: relaxed; who misses it leaves the look to the next call.
            self.due.store(true, Ordering::Relaxed);
        }
    }

    #[inline]
    fn tidy(&self) {
        if self.due.load(Ordering::Relaxed) {
            self.tidy_slowly();
        }
    }

    #[cold]
    fn tidy_slowly(&self) {
        let gone = {
            let mut waiting = self.lock();
            self.due.store(false, Ordering::Relaxed);
            // A count of one cannot rise again: nobody else has a reference to clone.
            let (gone, left) = std::mem::take(&mut waiting.entries).into_iter().partition(|entry| Arc::strong_count(entry) == 1);
            waiting.entries = left;
            waiting.look_at = FEWEST.max(2 * waiting.entries.len());
            let gone: Vec<_> = gone;
            gone
        };
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<V>> {
        // Nothing panics under it: pushes and counts of pointers.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry<V> {
    value: V,
    terms: Terms,
    epoch: u64,
    suspicion: u64,
    /// When it was last read, in nanoseconds; kept for entries that can be idle for too long.
    touched: AtomicU64,
    /// False until `admit` has been asked, and for ever if it said no.
    shown: AtomicBool,
    /// How long moka keeps it.
    keep: Duration,
}

impl<V> Entry<V> {
    fn is_over(&self, now: Moment) -> bool {
        // Ordering: relaxed, here and in `touch`; the time says no more than itself.
        let idle_since = || Moment::from_nanos(self.touched.load(Ordering::Relaxed));
        now >= self.terms.stamp.last || self.terms.idle.is_some_and(|idle| now >= idle_since().after(idle))
    }

    fn touch(&self, now: Moment) {
        if self.terms.idle.is_some() {
            self.touched.fetch_max(now.as_nanos(), Ordering::Relaxed);
        }
    }
}

/// A key with the hash that the stack has computed.
struct Hashed<K> {
    hash: u64,
    key: K,
}

impl<K> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Eq> PartialEq for Hashed<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.key == other.key
    }
}

impl<K: Eq> Eq for Hashed<K> {}

/// The same for a borrowed key.
struct Lookup<'a, Q: ?Sized> {
    hash: u64,
    key: &'a Q,
}

impl<Q: ?Sized> Hash for Lookup<'_, Q> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Borrow<Q>, Q: Eq + ?Sized> Equivalent<Hashed<K>> for Lookup<'_, Q> {
    fn equivalent(&self, other: &Hashed<K>) -> bool {
        self.hash == other.hash && self.key == other.key.borrow()
    }
}

/// Hands the stack's hash through: it is mixed and seeded already.
#[derive(Clone, Copy, Default)]
struct Passthrough(u64);

impl BuildHasher for Passthrough {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for Passthrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys of this table write one u64")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

struct Keep;

impl<K, V> Expiry<Hashed<K>, Arc<Entry<V>>> for Keep {
    fn expire_after_create(&self, _: &Hashed<K>, entry: &Arc<Entry<V>>, _: Instant) -> Option<Duration> {
        Some(entry.keep)
    }

    fn expire_after_update(&self, _: &Hashed<K>, entry: &Arc<Entry<V>>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.keep)
    }
}

impl<K, V> MokaTier<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A tier of at most so many entries. Zero is refused when the cache is built.
    pub fn new(capacity: u64) -> Self {
        let left = Arc::new(Morgue::new());
        let leave = left.clone();
        let entries = Cache::builder()
            .max_capacity(capacity)
            .expire_after(Keep)
            .eviction_listener(move |_, entry, cause| leave.take(entry, cause))
            .build_with_hasher(Passthrough::default());
        let suspicions = Box::new([const { AtomicU64::new(0) }; PARTITIONS]);
        Self { entries, capacity, epoch: AtomicU64::new(0), suspicions, left }
    }

    fn lookup<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Arc<Entry<V>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self.entries.get(&Lookup { hash, key });
        // Moka's maintenance may have run in the lookup.
        self.left.tidy();
        entry.filter(|entry| self.is_shown(entry) && !entry.is_over(now))
    }

    fn is_shown(&self, entry: &Entry<V>) -> bool {
        // Ordering: acquire pairs with the release of `shown` in `insert`.
        entry.shown.load(Ordering::Acquire) && entry.epoch == self.epoch.load(Ordering::Acquire)
    }

    fn suspicion(&self, partition: Partition) -> &AtomicU64 {
        &self.suspicions[usize::from(partition.index())]
    }
}

impl<K, V> LocalTier<K, V> for MokaTier<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with<Q, F, R>(&self, hash: u64, key: &Q, now: Moment, f: F) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&V>) -> R,
    {
        let entry = self.lookup(hash, key, now)?;
        entry.touch(now);
        // Ordering: acquire pairs with `suspect`: who has seen that it was called sees that the entry is suspect.
        let suspect = entry.suspicion != self.suspicion(entry.terms.partition).load(Ordering::Acquire);
        Some(f(Local { value: &entry.value, stamp: entry.terms.stamp, partition: entry.terms.partition, suspect }))
    }

    fn terms<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Terms>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lookup(hash, key, now).map(|entry| entry.terms)
    }

    fn insert(&self, hash: u64, key: K, value: V, terms: &Terms, now: Moment, admit: &dyn Fn() -> bool) -> bool {
        // Before the entry is in the map: what a suspicion comes too late for is in it by then, and suspect.
        let suspicion = self.suspicion(terms.partition).load(Ordering::SeqCst);
        if !admit() {
            return false;
        }
        let keep = terms.stamp.last.since(now).min(LONGEST);
        // Ordering: the epoch is read before `admit` is asked; a clear poisons before it raises the epoch, so an entry of
        // the new epoch that was made for the old one is not admitted.
        let epoch = self.epoch.load(Ordering::SeqCst);
        let (touched, shown) = (AtomicU64::new(now.as_nanos()), AtomicBool::new(false));
        let entry = Arc::new(Entry { value, terms: *terms, epoch, suspicion, touched, shown, keep });
        self.entries.insert(Hashed { hash, key }, entry.clone());
        // Ordering: pairs with the fence in `remove`. Of the two sides at least one sees the other: the removal finds the
        // entry, or `admit` finds the poison.
        fence(Ordering::SeqCst);
        let admitted = admit();
        if admitted {
            entry.shown.store(true, Ordering::Release);
        }
        self.left.tidy();
        // An entry not admitted stays invisible until it is replaced or expires: removing it by key could hit a newer one.
        admitted
    }

    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>, bump: &dyn Fn()) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        bump();
        // Ordering: pairs with the fence in `insert`. The poison is in the bump, or before.
        fence(Ordering::SeqCst);
        let lookup = Lookup { hash, key };
        if let Some(version) = version {
            let newer = self.entries.get(&lookup).is_some_and(|entry| entry.terms.version >= version);
            if newer {
                return false;
            }
        }
        let removed = self.entries.remove(&lookup);
        self.left.tidy();
        removed.is_some_and(|entry| self.is_shown(&entry))
    }

    fn suspect(&self, partition: Partition) {
        self.suspicion(partition).fetch_add(1, Ordering::SeqCst);
    }

    fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        // Gives the memory back; what it would miss is of the old epoch.
        self.entries.invalidate_all();
        self.left.tidy();
    }

    fn len(&self) -> u64 {
        self.entries.entry_count()
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.capacity)
    }

    fn evictions(&self) -> u64 {
        self.left.evictions.load(Ordering::Relaxed)
    }

    fn sweep(&self, _: Moment) {
        self.entries.run_pending_tasks();
        self.left.tidy();
    }
}

impl<K, V> fmt::Debug for MokaTier<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaTier").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_core::Stamp;
    use cache_core::testing::{local_reentrancy_suite, local_suite};

    #[test]
    fn conforms_to_the_local_tier_suite() {
        for seed in 0..5 {
            local_suite(&MokaTier::new(10_000), seed);
        }
    }

    #[test]
    fn keys_values_and_readers_may_use_the_tier() {
        local_reentrancy_suite(Arc::new(MokaTier::new(100)));
    }

    fn terms() -> Terms {
        let last = Moment::NEVER;
        Stamp { created: Moment::ORIGIN, soft: last, hard: last, last }.into()
    }

    #[test]
    fn holds_no_more_than_its_capacity_and_counts_who_had_to_go() {
        let tier = MokaTier::new(100);
        for key in 0..10_000_u64 {
            tier.insert(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), key, key, &terms(), Moment::ORIGIN, &|| true);
        }
        tier.entries.run_pending_tasks();
        assert!(LocalTier::<u64, u64>::len(&tier) <= 100);
        assert!(LocalTier::<u64, u64>::evictions(&tier) >= 9_000);
    }

    #[test]
    fn a_life_of_a_thousand_years_does_not_panic() {
        let tier = MokaTier::new(100);
        assert!(tier.insert(1, 1_u64, 1_u64, &terms(), Moment::ORIGIN, &|| true));
    }

    #[test]
    fn values_are_dropped_with_the_tier() {
        let value = Arc::new(());
        let tier = MokaTier::new(100);
        for key in 0..50_u64 {
            tier.insert(key, key, value.clone(), &terms(), Moment::ORIGIN, &|| true);
        }
        drop(tier);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
