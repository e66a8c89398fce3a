//! The default first level: shards of plain storage, each behind a lock for readers and writers.
//!
//! # No code of keys or values runs under a lock
//!
//! A comparison, a clone or a drop is the user's code: it may ask this very tier, take long, or panic. So entries are
//! counted references. A read marks a use and takes a reference under the lock, then compares and clones without it. A
//! write takes what leaves the shard out of the lock with it, and drops it there. To clone and compare under a read lock
//! would save a counter and an allocation per entry, but a clone that inserts would then wait for itself.
//!
//! A write has to find its key under the lock without comparing keys there. It takes out the entries whose hash is its
//! key's, one at a time in the order of their birth, compares each without the lock, and comes back: if the entry of its
//! key is still in place it acts, or else it takes the next. When none is left the key is not there, for an entry stored
//! meanwhile was born after those compared. With mixed hashes that is one comparison at most; if all hashes were equal, it
//! would be slow, and right.
//!
//! # The lock
//!
//! It is the standard library's: on Linux a futex. `parking_lot`'s allocates when a thread first has to wait, and a hit is
//! to allocate nothing, ever. The tier's own code does not panic under it, so poison says nothing and is ignored.

mod shard;
#[cfg(test)]
mod tests;

use cache_core::{Local, LocalTier, Moment, Stamp};
use shard::{Candidate, Entry, Shard};
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Shards have room for at least so many entries: the entries of a smaller one would spread too unevenly over them, and
/// one shard would evict what the whole has room for.
const FEWEST_PER_SHARD: u64 = 512;

const MOST_SHARDS: u64 = 64;

/// The first level of a cache: in memory, bounded by entries, S3-FIFO.
///
/// - A hit takes the shared lock of one of up to 64 shards, a reference to the entry, and a clone of the value. It
///   allocates nothing and asks no clock; it writes those two counters and the first three uses of an entry.
/// - `len()` never exceeds the capacity. A shard that is full evicts though another has room, so of exactly as many keys as
///   the capacity a few in a hundred are missed.
/// - An expired entry is never read. Its memory is given back by the inserts that follow, each of which looks at 8 places of
///   its shard in turn, if the entry is not evicted before. A tier that nobody inserts into keeps its dead.
/// - `Eq`, `Clone` and `Drop` of keys and values run outside of every lock: they may use the tier, and when they panic it
///   stays usable. What leaves is dropped by the call that made it leave, or by the last read of it still under way.
/// - An entry takes about 160 bytes with a key and a value of 8 each; once full, 30 more for the memory of evicted keys.
///
/// ```
/// use cache_core::{LocalTier, Moment, Stamp};
/// use cache_memory::MemoryTier;
///
/// let tier = MemoryTier::<String, u64>::new(10_000);
/// let (hash, last) = (0x5EED, Moment::from_nanos(60));
/// let stamp = Stamp { soft: last, hard: last, last, ..Stamp::default() };
/// tier.insert(hash, "answer".to_owned(), 42, stamp, &|| true);
/// assert_eq!(tier.get(hash, "answer", Moment::from_nanos(59)).map(|local| local.value), Some(42));
/// assert_eq!(tier.get(hash, "answer", Moment::from_nanos(60)), None);
/// ```
pub struct MemoryTier<K, V> {
    shards: Box<[Aligned<K, V>]>,
    capacity: u64,
}

/// On lines of its own: two of them, since CPUs prefetch in pairs.
#[repr(align(128))]
struct Aligned<K, V>(RwLock<Shard<K, V>>);

impl<K, V> Aligned<K, V> {
    #[inline]
    fn read(&self) -> RwLockReadGuard<'_, Shard<K, V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shard<K, V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> MemoryTier<K, V> {
    /// A tier of at most so many entries; memory is taken as they come. A cache refuses to be built over a tier of zero.
    ///
    /// More than 2³⁸ are taken for 2³⁸.
    pub fn new(capacity: u64) -> Self {
        let most = (capacity / FEWEST_PER_SHARD).clamp(1, MOST_SHARDS);
        let shards = 1 << most.ilog2();
        let share = |shard| capacity / shards + u64::from(shard < capacity % shards);
        let shards = (0..shards)
            .map(|shard| {
                // One less than the range: the last slot number says "none".
                let share = share(shard).min(u64::from(u32::MAX) - 1) as u32;
                Aligned(RwLock::new(Shard::new(share)))
            })
            .collect();
        Self { shards, capacity }
    }

    /// The index within a shard is by the low bits of the hash, so this is by the top ones.
    #[inline]
    fn shard(&self, hash: u64) -> &Aligned<K, V> {
        let bits = self.shards.len().trailing_zeros();
        &self.shards[hash.rotate_left(bits) as usize & (self.shards.len() - 1)]
    }

    /// Acts under the lock of the key's shard, told the entry that holds the key there.
    fn with_held<Q, R>(&self, hash: u64, key: &Q, act: impl FnOnce(&mut Shard<K, V>, Option<&Candidate<K, V>>) -> R) -> R
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let mut same: Option<Candidate<K, V>> = None;
        let mut compared = 0;
        loop {
            // Within this block nothing is dropped that could be the last reference to an entry.
            let next = {
                let mut shard = shard.write();
                if let Some(same) = &same
                    && shard.holds(same)
                {
                    return act(&mut shard, Some(same));
                }
                match shard.candidate_after(hash, compared) {
                    None => return act(&mut shard, None),
                    Some(next) => next,
                }
            };
            compared = next.birth;
            same = (next.entry.key.borrow() == key).then_some(next);
        }
    }

    /// The entry of a key that shares its hash with others. As in [`with_held`](Self::with_held), by birth.
    #[cold]
    fn get_among_many<Q>(&self, hash: u64, key: &Q) -> Option<Arc<Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut compared = 0;
        loop {
            let next = {
                let shard = self.shard(hash).read();
                let next = shard.candidate_after(hash, compared)?;
                shard.mark(next.slot);
                next
            };
            if next.entry.key.borrow() == key {
                return Some(next.entry);
            }
            compared = next.birth;
        }
    }
}

impl<K, V> LocalTier<K, V> for MemoryTier<K, V>
where
    K: Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[inline]
    fn get<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut entry = {
            let shard = self.shard(hash).read();
            let Some(held) = shard.candidate(hash) else {
                shard.saw(now);
                return None;
            };
            shard.mark(held.slot);
            held.entry.clone()
        };
        if entry.key.borrow() != key {
            entry = self.get_among_many(hash, key)?;
        }
        if now >= entry.stamp.last {
            self.shard(hash).read().saw(now);
            return None;
        }
        Some(Local { value: entry.value.clone(), stamp: entry.stamp })
    }

    fn insert(&self, hash: u64, key: K, value: V, stamp: Stamp, admit: &dyn Fn() -> bool) -> bool {
        if self.capacity == 0 {
            return false;
        }
        let entry = Arc::new(Entry { key, value, stamp });
        let gone = self.with_held::<K, _>(hash, &entry.key, |shard, old| {
            // Under the lock that `remove` and `clear` take: whoever has poisoned before taking it is seen here, and whoever
            // takes it later finds the entry.
            admit().then(|| shard.store(hash, entry.clone(), old))
        });
        gone.is_some()
    }

    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let gone = self.with_held(hash, key, |shard, held| {
            let held = held.filter(|held| version.is_none_or(|version| held.entry.stamp.version < version))?;
            Some(shard.remove(held))
        });
        gone.is_some()
    }

    /// Takes each shard's lock in turn, to swap its contents for none; they are dropped after the last.
    fn clear(&self) {
        let contents: Vec<_> = self.shards.iter().map(|shard| shard.write().clear()).collect();
        let entries: Vec<_> = contents.into_iter().flat_map(shard::Contents::into_entries).collect();
        drop(entries);
    }

    fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().len() as u64).sum()
    }

    fn capacity(&self) -> Option<u64> {
        Some(self.capacity)
    }

    fn evictions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().evictions()).sum()
    }
}

impl<K, V> fmt::Debug for MemoryTier<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
