//! A shard: a table that anyone may read, and what its writers know, behind a lock.

use super::index::{Index, Place};
use super::mark::Mark;
use super::node::{Extra, Node};
use super::slab::{Address, Slab};
use super::writer::Writer;
use crate::grace::Region;
use crate::policy::{Kind, Policy, Settled, Slot};
use crate::sync::{AtomicPtr, AtomicU64, Mutex, MutexGuard, Ordering, lock};
use cache_core::Moment;
use std::sync::Arc;

/// The index and the nodes that its slots are of. It is replaced as a whole: when the index grows, by one over the same slab; when the tier
/// is cleared, by an empty one.
pub(super) struct Table<K, V> {
    pub(super) index: Index,
    pub(super) slab: Arc<Slab<K, V>>,
}

impl<K, V> Table<K, V> {
    /// The node of a slot that the index has, or had when the region began.
    #[inline]
    pub(super) fn node<'r>(&'r self, region: &'r Region, slot: Slot) -> &'r Node<K, V> {
        self.node_at(region, Address::of(slot))
    }

    #[inline]
    pub(super) fn node_at<'r>(&'r self, _region: &'r Region, address: Address) -> &'r Node<K, V> {
        // SAFETY: a slot enters the index after its node was written, and a node is not written again or dropped before the end of the
        // region in which its slot could be found.
        unsafe { &*self.slab.node_at(address) }
    }

    /// What the slot has beside its node, if anything.
    #[inline]
    pub(super) fn extra<'r>(&'r self, region: &'r Region, slot: Slot) -> Option<&'r Extra> {
        self.extra_at(region, Address::of(slot))
    }

    #[inline]
    pub(super) fn extra_at<'r>(&'r self, _region: &'r Region, address: Address) -> Option<&'r Extra> {
        // SAFETY: as in `node_at`: written with it, or before by `prepare_extra`.
        let extra = self.slab.extra_at(address).map(|extra| unsafe { &*extra });
        #[cfg(loom)]
        extra.iter().for_each(|extra| extra.watch());
        extra
    }

    pub(super) fn is_dead(&self, region: &Region, slot: Slot, now: Moment) -> bool {
        !self.node(region, slot).life.is_alive(now) || self.extra(region, slot).is_some_and(|extra| extra.is_idle(now))
    }

    pub(super) fn version(&self, region: &Region, slot: Slot) -> u64 {
        self.extra(region, slot).map_or(0, |extra| extra.version)
    }

    /// Has the CPU fetch where the index has the hash, if anywhere.
    #[inline]
    pub(super) fn fetch(&self, hash: u64) {
        self.index.fetch(Place::of(hash));
    }

    /// The slot and the node of the key with this hash that `is_key` accepts.
    #[inline]
    pub(super) fn find<'r>(
        &'r self,
        region: &'r Region,
        hash: u64,
        is_key: impl Fn(&K) -> bool + Copy,
    ) -> Option<(Address, &'r Node<K, V>)> {
        for address in self.index.at_home(Place::of(hash)) {
            let node = self.node_at(region, address);
            if is_key(&node.key) {
                return Some((address, node));
            }
        }
        if self.index.goes_on(Place::of(hash)) { self.find_beyond(region, hash, is_key) } else { None }
    }

    /// Apart, so that the way to most keys stays short.
    #[cold]
    #[inline(never)]
    fn find_beyond<'r>(
        &'r self,
        region: &'r Region,
        hash: u64,
        is_key: impl Fn(&K) -> bool,
    ) -> Option<(Address, &'r Node<K, V>)> {
        let slot = self.index.find_beyond(Place::of(hash), |slot| is_key(&self.node(region, slot).key))?;
        Some((Address::of(slot), self.node(region, slot)))
    }
}

/// Readers look at the first line; the lock is on lines of its own, so that writers do not take it from them.
#[repr(C, align(128))]
pub(super) struct Shard<K, V> {
    /// Owned; a table that was here is freed when its grace period is over.
    table: AtomicPtr<Table<K, V>>,
    /// Of the policy, for readers: see [`Policy::settled`]. None is, once an entry may be forgotten when idle.
    settled: AtomicU64,
    pub(super) kind: Kind,
    pub(super) writer: Apart<Writer<K, V>>,
}

/// What writers need, on lines of its own.
#[repr(C, align(128))]
pub(super) struct Apart<T> {
    /// How many there were.
    writes: AtomicU64,
    lock: Mutex<T>,
}

impl<T> Apart<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.lock)
    }
}

/// A write that is not counted yet; see [`Shard::begin_write`].
pub(super) struct Write<'a>(&'a AtomicU64);

impl Drop for Write<'_> {
    #[inline]
    fn drop(&mut self) {
        // Ordering: the load is relaxed, for only the holder of the lock counts. Release pairs with the acquire in `writes`; a search that met some
        // of this write read the number before.
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(kind: Kind, capacity: u64, weighted: bool) -> Self {
        let writer = Writer::new(kind, capacity, weighted);
        let table = Box::into_raw(Box::new(Table { index: writer.first_index(), slab: Arc::new(Slab::new()) }));
        Self {
            table: AtomicPtr::new(table),
            settled: AtomicU64::new(writer.settled().0),
            kind,
            writer: Apart { writes: AtomicU64::new(0), lock: Mutex::new(writer) },
        }
    }

    #[inline]
    pub(super) fn table<'r>(&'r self, _region: &'r Region) -> &'r Table<K, V> {
        // Ordering: acquire pairs with the release in `publish`.
        let table = self.table.load(Ordering::Acquire);
        // SAFETY: a table is freed after the regions in which it could be loaded.
        unsafe { &*table }
    }

    /// Puts another table in place, and returns the one before, which readers may still be in. For the writer.
    pub(super) fn publish(&self, table: Table<K, V>) -> *mut Table<K, V> {
        let table = Box::into_raw(Box::new(table));
        // Ordering: acquire for the one that is handed back, release for the one that is published.
        self.table.swap(table, Ordering::AcqRel)
    }

    /// Leaves the mark of a hit; `false` if it comes too late, after the entry lay idle for too long.
    #[inline]
    pub(super) fn touch(&self, table: &Table<K, V>, region: &Region, address: Address, node: &Node<K, V>, now: Moment) -> bool {
        // Ordering: relaxed; it guards nothing. That none is settled any more is there before the first entry that may lie idle.
        let settled = Settled(self.settled.load(Ordering::Relaxed));
        settled.is(node.life.mark.get()) || self.touch_unsettled(table, region, address, &node.life.mark, now)
    }

    /// Apart, for it is rare.
    #[inline(never)]
    fn touch_unsettled(&self, table: &Table<K, V>, region: &Region, address: Address, mark: &Mark, now: Moment) -> bool {
        let settled = Settled(self.settled.load(Ordering::Relaxed));
        if settled.is_never() && !table.extra_at(region, address).is_none_or(|extra| extra.touch(now)) {
            return false;
        }
        if let Some(touched) = Policy::touched(self.kind, mark.get(), settled.pulse()) {
            mark.set(touched);
        }
        true
    }

    /// Tells readers which marks are settled, if these are others: a store would take the line from them.
    pub(super) fn set_settled(&self, settled: Settled) {
        let before = Settled(self.settled.load(Ordering::Relaxed));
        let settled = if before.is_never() { settled.never() } else { settled };
        if before != settled {
            self.settled.store(settled.0, Ordering::Relaxed);
        }
    }

    /// From here on readers look whether an entry lay idle for too long. To be called before the first that may is in the index, which publishes this as well.
    pub(super) fn watch_idle(&self) {
        self.settled.store(Settled(self.settled.load(Ordering::Relaxed)).never().0, Ordering::Relaxed);
    }

    /// The number of writes that are done. If it is the same under the lock as it was before a search, the search saw what is there.
    pub(super) fn writes(&self) -> u64 {
        // Ordering: acquire pairs with the release in the drop of a `Write`: what the counted writes did is seen by the search.
        self.writer.writes.load(Ordering::Acquire)
    }

    /// For a write that holds the lock: it is counted when this is dropped, which has to be before the lock is released, and also where it panics.
    pub(super) fn begin_write(&self) -> Write<'_> {
        Write(&self.writer.writes)
    }

    /// The table, from whoever has the shard for itself.
    pub(super) fn table_mut(&mut self) -> *mut Table<K, V> {
        self.table.load(Ordering::Relaxed)
    }
}
