//! The default first level: a table that readers use without a lock, over plain single-threaded policies behind one.
//!
//! ```text
//!             shard (by the top bits of the hash)
//!             ├ table ──▶ index: buckets of a cache line, 12 × (8-bit tag, slot)     slab: nodes by slot, they never move
//!  readers ──▶│            [t t t t t t t t t t t t │ overflow │ s s s s s s s s s s s s] ──▶ [life mark key value][…][…]
//!             └ lock ───▶ writer: policy (order, ghosts) · free slots · retired slots · graves of cleared tables
//!  writers ──▶
//! ```
//!
//! A read enters a region (see [`crate::grace`]), finds the slot, compares the key in its node, and reads the value there. A write
//! finds its key like a reader, takes the lock, makes sure that what it found still holds, writes a new node into a free slot, and puts the slot into the index
//! with one store. What left the index is retired, and dropped a grace period later, outside of the lock.
//!
//! # No code of keys or values runs under a lock
//!
//! A comparison, a drop, a weigher, a listener is the user's code: it may ask this very tier, take long, or panic. A write therefore compares keys
//! before it takes the lock. Under the lock it looks only at tags: if the index has a slot with its key's tag that was not compared yet, it lets go, compares,
//! and comes back. It stays in its region meanwhile, so a slot that was compared cannot have become another key's.

mod builder;
mod compute;
mod epochs;
mod gone;
mod index;
mod life;
mod mark;
#[cfg(all(test, any(loom, shuttle)))]
mod models;
mod node;
mod remains;
mod shard;
mod slab;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
mod tier;
mod upkeep;
mod writer;

pub use builder::MemoryTierBuilder;
pub(crate) use compute::Change;
pub use compute::Computed;
pub use gone::Cause;

use crate::grace::{Grace, Region};
use crate::policy::Slot;
use crate::sync::AtomicU64;
use cache_core::{Local, Moment, Partition, Terms, Token};
use epochs::Epochs;
use gone::Gone;
use index::Place;
use life::Life;
use node::Node;
use shard::{Shard, Table};
use slab::Address;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use writer::{Entry, LOOKS, Writer};

type Weigher<K, V> = dyn Fn(&K, &V) -> u32 + Send + Sync;
type Listener<K, V> = dyn Fn(&K, &V, Cause) + Send + Sync;

/// The first level of a cache: in memory, bounded, lock-free to read.
///
/// - A **hit** takes no lock, allocates nothing, asks no clock, and writes to no line that other threads read, but for the entry's mark: once while a 64th
///   of the entries is replaced.
///   The value is read in place or cloned out.
/// - A **write** takes the lock of one shard, of which there are up to four a core. Reads never wait for it.
/// - The capacity is never exceeded, in entries or in [weight](MemoryTierBuilder::weigher). Values that left are dropped by later writes, or by
///   [`sweep`](Self::sweep): at most two batches a shard wait for that, and one more for each write that is dropping one. A batch is of a 64th of the
///   shard's capacity and 16 to 256 entries; where entries have weights, it also ends with the entry that makes it heavier than a 64th of the
///   capacity, and one of less than 16 entries is dropped by the write that ends it. More wait only while a thread stands still in the midst of a read
///   or a write: inside of [`with`](cache_core::LocalTier::with), in code of the user (`Eq`, `Clone`, a listener), for a lock, or because another thread
///   has its core. Then all that leaves meanwhile waits. When it goes on, writes begin to drop that after another batch, and after a longer stay when
///   256 more have left, or a 16th of the capacity, at the latest: 512 a write.
/// - An **expired** entry is never read. It is dropped without being read, too: each insert looks at 2 slots of its shard in turn. A tier that
///   nobody writes to keeps its dead until it is swept.
/// - `Eq`, `Clone` and `Drop` of keys and values, the weigher and the listener run outside of every lock: they may use the tier, and when they panic it stays
///   usable.
/// - Calls of one thread end in the reverse of the order in which they began. Threads and async tasks cannot do otherwise; code that switches between
///   **stackful coroutines** must not do so inside of [`with`](cache_core::LocalTier::with) or of the user's code above: a value could be dropped
///   while it is read.
/// - **Memory** of an entry: key and value rounded up to 8 bytes, 16 of life and marks, 12 of the policy, 8 to 15 of the index; with a version, a token or time to
///   idle 40 more, for all entries of a chunk in which one has them. A key and a value of 8 bytes each take about 54 in all, and
///   60 once it evicts by [`Policy::Adaptive`](crate::Policy::Adaptive). That is of a full tier. One
///   without weights makes room in its index for the whole capacity when a 64th of it is used, 10 bytes an entry, and reserves the policy's 12; nodes
///   come in chunks that double. With weights all grows by doubling. The write that makes an index or a policy grow does it under its shard's lock: other
///   writes to the shard wait for some 10 ms a million of its entries, with weights 100 ms, and readers for nothing.
///
/// ```
/// use cache_core::{LocalTier, ManualClock, Stamp, Terms};
/// use cache_memory::MemoryTier;
/// use std::time::Duration;
///
/// let tier = MemoryTier::<String, u64>::new(10_000);
/// let now = ManualClock::new().clock().now();
/// let end = now.after(Duration::from_secs(60));
/// let (hash, terms) = (0x5EED, Terms::from(Stamp { created: now, soft: end, hard: end, last: end }));
/// tier.insert(hash, "answer".to_owned(), 42, &terms, now, &|| true);
/// assert_eq!(tier.with(hash, "answer", now, |local| *local.value), Some(42));
/// assert_eq!(tier.with(hash, "answer", end, |local| *local.value), None);
/// ```
///
/// An [`Arc`] of a tier is a tier: keep a clone of the one that a cache gets, to resize or sweep it while the cache runs.
///
/// ```
/// use cache_core::{LocalTier, TieredCache};
/// use cache_memory::MemoryTier;
/// use std::sync::Arc;
///
/// let tier = Arc::new(MemoryTier::new(10_000));
/// let cache = TieredCache::<u64, u64>::builder("answers").l1(tier.clone()).build()?;
/// tier.resize(50_000);
/// assert_eq!(tier.capacity(), Some(50_000));
/// # drop(cache);
/// # Ok::<_, cache_core::Error>(())
/// ```
pub struct MemoryTier<K, V> {
    shards: Box<[Shard<K, V>]>,
    /// What is left of the upper half of a hash after this shift is its shard.
    shift: u32,
    epochs: Epochs,
    capacity: AtomicU64,
    weigher: Option<Arc<Weigher<K, V>>>,
    listener: Option<Arc<Listener<K, V>>>,
    grace: &'static Grace,
}

// SAFETY: keys and values are shared with readers of other threads and dropped in other threads; the rest synchronizes itself.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for MemoryTier<K, V> {}
// SAFETY: as above.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for MemoryTier<K, V> {}

/// A look at what the tier holds of a key.
pub(crate) struct Seen<'r, K, V> {
    table: &'r Table<K, V>,
    address: Address,
    node: &'r Node<K, V>,
}

impl<'r, K, V> Seen<'r, K, V> {
    #[inline]
    pub(crate) fn value(&self) -> &'r V {
        &self.node.value
    }
}

impl<K, V> MemoryTier<K, V> {
    /// A tier for so many entries. It takes memory as it fills.
    pub fn new(capacity: u64) -> Self {
        Self::builder(capacity).build()
    }

    /// A tier with a weigher, a listener, or another policy than the default.
    pub fn builder(capacity: u64) -> MemoryTierBuilder<K, V> {
        MemoryTierBuilder::new(capacity)
    }

    /// By the top bits of the hash, which the index does not use.
    #[inline]
    fn shard(&self, hash: u64) -> &Shard<K, V> {
        // SAFETY: `build` has made two to the power of 32 - `shift` shards, and the upper half of a hash has 32 bits.
        unsafe { self.shards.get_unchecked(((hash >> 32) >> self.shift) as usize) }
    }

    #[inline]
    pub(crate) fn enter(&self) -> Region {
        self.grace.enter()
    }

    /// Of the entries, or their weights where there is a weigher.
    pub fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| shard.writer.lock().weight()).sum()
    }

    /// Whether an entry needs anything beside its node.
    fn needs_extra(terms: &Terms) -> bool {
        terms.version != 0 || terms.idle.is_some() || terms.token != Token::default()
    }
}

impl<K: Eq, V> MemoryTier<K, V> {
    /// The live entry of a key, in its place.
    #[inline]
    pub(crate) fn look<'r, Q>(&'r self, region: &'r Region, hash: u64, key: &Q, now: Moment) -> Option<Seen<'r, K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(hash);
        let table = shard.table(region);
        let (address, node) = table.find(region, hash, |found| found.borrow() == key)?;
        (node.life.is_alive(now) && shard.touch(table, region, address, node, now)).then_some(Seen { table, address, node })
    }

    /// Whether a key has a live entry. No use of it.
    pub(crate) fn holds<Q>(&self, hash: u64, key: &Q, now: Moment) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let region = self.enter();
        let table = self.shard(hash).table(&region);
        let found = table.find(&region, hash, |found| found.borrow() == key);
        found.is_some_and(|(address, _)| !table.is_dead(&region, address.slot(), now))
    }

    /// What is seen, with its stamp.
    #[inline]
    pub(crate) fn local<'r>(&self, seen: &Seen<'r, K, V>) -> Local<&'r V> {
        Local {
            value: &seen.node.value,
            stamp: seen.node.life.stamp(),
            partition: Partition::from_index(seen.node.life.partition()),
            suspect: self.epochs.is_suspect(&seen.node.life),
        }
    }

    /// Acts under the lock of the key's shard, told the slot that has the key there, and does afterwards what is to be done without it. `sought` has the
    /// key, or is it; it is handed to `act` when there are no more comparisons, and `decide` has run. That is code of the caller's: should it panic, the
    /// lock is released before `sought` is dropped.
    fn change<T, D, R>(
        &self,
        region: Region,
        hash: u64,
        sought: T,
        is_key: impl Fn(&T, &K) -> bool,
        decide: impl FnOnce(&Locked<'_, K, V>, Option<Slot>) -> D,
        act: impl FnOnce(T, D, &Locked<'_, K, V>, &mut Writer<K, V>, Option<Slot>, &mut Gone) -> R,
    ) -> R {
        let shard = self.shard(hash);
        let place = Place::of(hash);
        let mut gone = Gone::new(self.listener.is_some());
        let before = shard.writes();
        let mut table = shard.table(&region);
        let mut same = table.find(&region, hash, |found| is_key(&sought, found)).map(|(address, _)| address.slot());
        let mut writer = shard.writer.lock();
        writer.fetch(same, place);
        if shard.writes() != before {
            // The index may have changed since the search. Where its slot is still there it is the key's, and no other is: a key has one. Else all
            // that may be the key and were not compared yet are compared now, together: for each alone all of them would be looked through again.
            let mut others = Vec::new();
            loop {
                let there = shard.table(&region);
                if !Arc::ptr_eq(&there.slab, &table.slab) {
                    // Cleared meanwhile: the slots are of another slab.
                    (same, others) = (None, Vec::new());
                }
                table = there;
                same = same.filter(|same| table.index.find(place, |slot| slot == *same).is_some());
                let mut strangers = Vec::new();
                if same.is_none() {
                    table.index.find(place, |slot| {
                        if writer.has_hash(slot, place) && others.binary_search(&slot).is_err() {
                            strangers.push(slot);
                        }
                        false
                    });
                }
                if strangers.is_empty() {
                    break;
                }
                drop(writer);
                same = strangers.iter().copied().find(|slot| is_key(&sought, &table.node(&region, *slot).key));
                others.append(&mut strangers);
                others.sort_unstable();
                writer = shard.writer.lock();
            }
        }
        let write = shard.begin_write();
        let locked = Locked { shard, table, region: &region };
        let decision = decide(&locked, same);
        let result = act(sought, decision, &locked, &mut writer, same, &mut gone);
        drop(write);
        let due = writer.settle(self.grace, table);
        drop(writer);
        let told = self.tell(&region, table, gone);
        // Before what is due: that may wait for this very region to end.
        drop(region);
        self.finish(shard, due, told);
        result
    }

    /// Stores an entry if `admit` says so, or hands it back.
    fn put(
        &self,
        region: Region,
        entry: Entry<'_, K, V>,
        now: Moment,
        admit: impl FnOnce(Option<Slot>, &Locked<'_, K, V>) -> bool,
    ) -> Result<(), (K, V)> {
        let hash = entry.hash;
        self.change(
            region,
            hash,
            entry,
            |entry, found| *found == entry.key,
            // Under the lock that `remove` and `clear` take: whoever has poisoned before taking it is seen here, and whoever takes it later
            // finds the entry.
            |locked, old| admit(old, locked),
            |mut entry, admitted, locked, writer, old, gone| {
                if !admitted {
                    return Err((entry.key, entry.value));
                }
                self.epochs.settle(&mut entry.life, entry.epoch);
                writer.forget_expired(locked.table, now, old, LOOKS, gone);
                writer.store(locked.shard, locked.table, entry, old, now, gone)
            },
        )
    }

    fn weigh(&self, key: &K, value: &V) -> u32 {
        self.weigher.as_ref().map_or(1, |weigher| weigher(key, value))
    }

    /// An entry as it is stored.
    fn entry<'a>(&self, hash: u64, key: K, value: V, weight: u32, terms: &'a Terms) -> Entry<'a, K, V> {
        let partition = terms.partition.index();
        let epoch = self.epochs.enter(partition);
        let life = Life::new(&terms.stamp, partition, epoch.byte());
        Entry { hash, key, value, life, epoch, extra: Self::needs_extra(terms).then_some(terms), weight }
    }
}

/// A shard whose lock is held, and its table.
pub(crate) struct Locked<'a, K, V> {
    shard: &'a Shard<K, V>,
    table: &'a Table<K, V>,
    region: &'a Region,
}

impl<K, V> fmt::Debug for MemoryTier<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
