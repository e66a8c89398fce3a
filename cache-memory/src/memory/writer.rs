//! What the writers of a shard know. All of it is done under the shard's lock, and none of it runs code of keys or values.

#[cfg(all(test, not(any(loom, shuttle))))]
mod check;

use super::epochs::Epoch;
use super::gone::{Cause, Gone};
use super::index::{Index, Place};
use super::life::Life;
use super::node::{Extra, Node};
use super::remains::{Books, Grave, Patience, Retired, needs_drop};
use super::shard::{Shard, Table};
use super::slab::{Address, Slab};
use crate::grace::Grace;
use crate::policy::{Kind, Policy, Settled, Slot};
use cache_core::{Moment, Terms};
use std::collections::VecDeque;
use std::sync::Arc;

/// How many slots are looked at together for expired entries: small nodes that lie on one cache line.
const ROW: u32 = 2;

/// How many each insert looks at. To look at more now and then would be less work, but shards take turns at random, and the CPU would guess wrong when.
pub(super) const LOOKS: usize = ROW as usize;

/// The first index has room for so many, or for the capacity if that is less.
const FIRST_ROOM: u64 = 64;

/// So many slots short of the most there can be, each new one costs an entry: those that are retired come back before there are no more.
const RESERVE: u32 = 1024;

/// Graves that one write takes in hand at most.
const GRAVES: usize = 8;

pub(super) struct Writer<K, V> {
    policy: Policy,
    /// Whether entries have weights of their own. Otherwise the capacity tells how large the index will get.
    weighted: bool,
    /// Slots whose nodes are gone.
    free: Vec<Slot>,
    /// The first slot that was never used.
    next: Slot,
    /// The most slots there can be: [`Slab::MOST_SLOTS`], but in tests.
    most: Slot,
    /// A bit for each slot that is in the index.
    linked: Vec<u64>,
    /// The row that the next look begins with, by its first slot.
    hand: Slot,
    retired: Retired,
    /// Tables whose index was outgrown, each with the stamp of its replacement.
    outgrown: Vec<(u64, *mut Table<K, V>)>,
    /// Cleared tables, the oldest first.
    graves: VecDeque<Grave<K, V>>,
    /// Of the last two.
    patience: Patience,
    evictions: u64,
}

// SAFETY: the tables in `outgrown` are its own, once their grace periods are over.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Writer<K, V> {}

/// What is to be stored of a key.
pub(super) struct Entry<'a, K, V> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) value: V,
    pub(super) life: Life,
    pub(super) epoch: Epoch,
    /// Where they ask for more than a node has.
    pub(super) extra: Option<&'a Terms>,
    pub(super) weight: u32,
}

/// What is to be done once the lock is released.
pub(super) struct Due<K, V> {
    pub(super) slab: Arc<Slab<K, V>>,
    /// Slots to be dropped, and given back by [`Writer::give_back`].
    pub(super) dead: Vec<Slot>,
    pub(super) graves: Vec<Grave<K, V>>,
    /// The grace period is to be advanced.
    pub(super) advance: bool,
}

/// All that waits to be dropped.
pub(super) struct Remains<K, V> {
    pub(super) retired: Retired,
    pub(super) outgrown: Vec<*mut Table<K, V>>,
    pub(super) graves: VecDeque<Grave<K, V>>,
}

impl<K, V> Writer<K, V> {
    pub(super) fn new(kind: Kind, capacity: u64, weighted: bool) -> Self {
        Self {
            policy: Policy::new(kind, capacity),
            weighted,
            free: Vec::new(),
            next: 0,
            most: Slab::<K, V>::MOST_SLOTS as Slot,
            linked: Vec::new(),
            hand: 0,
            retired: Retired::new(),
            outgrown: Vec::new(),
            graves: VecDeque::new(),
            patience: Patience::new(),
            evictions: 0,
        }
    }

    pub(super) fn first_index(&self) -> Index {
        Index::new(self.policy.capacity().min(FIRST_ROOM) as usize)
    }

    pub(super) fn settled(&self) -> Settled {
        self.policy.settled()
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.policy.len())
    }

    pub(super) fn weight(&self) -> u64 {
        self.policy.weight()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether a slot of the index may have the key of a place.
    pub(super) fn has_hash(&self, slot: Slot, place: Place) -> bool {
        self.policy.hash(slot) == place.spread()
    }

    /// Has the CPU fetch what a write needs that comes to this place, where it has found the slot in use, or none.
    pub(super) fn fetch(&self, found: Option<Slot>, place: Place) {
        match found {
            Some(slot) => self.policy.fetch_around(slot),
            None => self.policy.fetch_trace(place.spread()),
        }
    }

    fn is_linked(&self, slot: Slot) -> bool {
        self.linked.get(slot as usize / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }

    fn set_linked(&mut self, slot: Slot, linked: bool) {
        let at = slot as usize / 64;
        if at >= self.linked.len() {
            self.linked.resize(at + 1, 0);
        }
        let bit = 1 << (slot % 64);
        if linked { self.linked[at] |= bit } else { self.linked[at] &= !bit }
    }

    /// Stores an entry in place of `old`, which the table has for the same key, or as a new one. It is handed back where it cannot be stored: when
    /// it is heavier than the shard, or when readers hold up so much that there is no slot for it.
    pub(super) fn store(
        &mut self,
        shard: &Shard<K, V>,
        table: &Table<K, V>,
        entry: Entry<'_, K, V>,
        old: Option<Slot>,
        now: Moment,
        gone: &mut Gone,
    ) -> Result<(), (K, V)> {
        let weight = u64::from(entry.weight);
        let slot = (weight <= self.policy.capacity()).then(|| self.slot(table, old, now, gone)).flatten();
        if let Some(old) = old
            && self.weighted
            && slot.is_some()
        {
            // Before the new value is the policy's: it must not be the one to go.
            self.make_room(table, weight.saturating_sub(self.policy.weight_of(old)), usize::MAX, Some(old), Some(now), gone);
        }
        // The old one may have been: then this one is new.
        let old = old.filter(|old| self.is_linked(*old));
        let Some(slot) = slot else {
            // What was there is older than what was to replace it.
            if let Some(old) = old {
                self.unlink(table, old, Cause::Replaced, gone);
            }
            return Err((entry.key, entry.value));
        };
        let slab = &table.slab;
        let place = Place::of(entry.hash);
        if entry.extra.is_some_and(|terms| terms.idle.is_some()) {
            shard.watch_idle();
        }
        let moved = if let Some(old) = old {
            Self::write(slab, slot, entry, now);
            let before = self.policy.weight_of(old);
            let moved = self.policy.replace(old, slot, weight as u32, &**slab);
            table.index.replace(place, old, slot);
            self.set_linked(slot, true);
            self.leave(old, before, Cause::Replaced, gone);
            moved
        } else {
            self.make_room(table, weight, usize::MAX, None, Some(now), gone);
            Self::write(slab, slot, entry, now);
            let moved = self.policy.insert(slot, place.spread(), weight as u32, &**slab);
            self.set_linked(slot, true);
            self.link(shard, table, place, slot);
            moved
        };
        if moved {
            shard.set_settled(self.policy.settled());
        }
        Ok(())
    }

    /// Writes the node of a free slot.
    fn write(slab: &Slab<K, V>, slot: Slot, entry: Entry<'_, K, V>, now: Moment) {
        let Entry { key, value, life, extra, .. } = entry;
        let address = Address::of(slot);
        slab.prepare(address);
        // SAFETY: the slot is prepared, and free: never used, or dropped after the grace period in which it could be found.
        unsafe { slab.node_at(address).write(Node { life, key, value }) };
        if extra.is_some() {
            slab.prepare_extra(address);
        }
        if let Some(place) = slab.extra_at(address) {
            // SAFETY: as above. Where the chunk has extras each entry writes its own, for the one before may have left one.
            unsafe { place.write(extra.map_or_else(Extra::default, |terms| Extra::new(terms, now))) };
        }
    }

    /// Puts a slot that the policy has into the index, which grows when it is full.
    fn link(&mut self, shard: &Shard<K, V>, table: &Table<K, V>, place: Place, slot: Slot) {
        let len = self.policy.len() as usize;
        let room = table.index.room();
        if len <= room {
            table.index.insert(place, slot);
            return;
        }
        let room = self.next_room(room).max(len);
        let index = table.index.grown(room, |slot| self.policy.hash(slot));
        index.insert(place, slot);
        let outgrown = shard.publish(Table { index, slab: table.slab.clone() });
        self.outgrown.push((Grace::global().stamp(), outgrown));
        self.patience = Patience::new();
    }

    /// How large the index gets next: four times as large, or once a 64th of the capacity is used, large enough for all of it, which takes 10 bytes for
    /// each entry of the capacity. The policy's memory is reserved with it. What is outgrown leaves holes that are seldom filled, so steps are few
    /// where the end is known.
    fn next_room(&mut self, room: usize) -> usize {
        let slots = self.most as usize;
        if self.weighted {
            return slots.min(2 * room);
        }
        // The capacity may be of more than there can be.
        let most = usize::try_from(self.policy.capacity()).map_or(slots, |capacity| slots.min(capacity));
        if most / 64 > room {
            return 4 * room;
        }
        // Retired slots are no longer in the index, but still of the policy's dense numbers.
        self.policy.reserve(slots.min(most + Retired::most(self.policy.capacity())));
        most
    }

    /// A slot for a node; `None` if there are no more.
    fn slot(&mut self, table: &Table<K, V>, replaced: Option<Slot>, now: Moment, gone: &mut Gone) -> Option<Slot> {
        if self.next > self.most - RESERVE {
            self.save_slots(table, replaced, now, gone);
        }
        let free = self.free.pop();
        if let Some(next) = self.free.last() {
            // The next write's. Else that one would wait for its lines when it lets go of the lock.
            table.slab.fetch(*next);
            self.policy.fetch(*next);
        }
        free.or_else(|| {
            let slot = self.next;
            (slot < self.most).then(|| {
                self.next += 1;
                slot
            })
        })
    }

    /// Keeps some in reserve when nearly all are used. Else new keys would be refused for as long as the policy has room for them. What is retired
    /// comes back, so only while readers hold up all of the reserve is a key refused. Another goes with each of those: that fills batches, and a full
    /// one asks for the end of the grace period.
    #[cold]
    fn save_slots(&mut self, table: &Table<K, V>, replaced: Option<Slot>, now: Moment, gone: &mut Gone) {
        let none = self.free.is_empty() && self.next == self.most;
        if none || self.free.len() + self.retired.len() < RESERVE as usize {
            self.evict_one(table, replaced, Some(now), gone);
        }
    }

    fn has_room(&self, more: u64) -> bool {
        self.policy.weight() + more <= self.policy.capacity()
    }

    /// Evicts until so much more fits, or so many have gone; `true` if it fits. One that is about to be replaced may be among them. Who has the time
    /// has those that are past their lives told from others.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        table: &Table<K, V>,
        more: u64,
        most: usize,
        replaced: Option<Slot>,
        now: Option<Moment>,
        gone: &mut Gone,
    ) -> bool {
        self.has_room(more) || self.evict(table, more, most, replaced, now, gone)
    }

    #[inline(never)]
    fn evict(
        &mut self,
        table: &Table<K, V>,
        more: u64,
        most: usize,
        replaced: Option<Slot>,
        now: Option<Moment>,
        gone: &mut Gone,
    ) -> bool {
        for _ in 0..most {
            if self.has_room(more) {
                return true;
            }
            if !self.evict_one(table, replaced, now, gone) {
                return true;
            }
        }
        false
    }

    /// `false` if only pinned ones are left.
    fn evict_one(&mut self, table: &Table<K, V>, replaced: Option<Slot>, now: Option<Moment>, gone: &mut Gone) -> bool {
        let before = self.policy.weight();
        let Some(slot) = self.policy.evict(&*table.slab) else { return false };
        let cause = if replaced == Some(slot) {
            Cause::Replaced
        } else if now.is_some_and(|now| Self::is_dead(&table.slab, Address::of(slot), now)) {
            Cause::Expired
        } else {
            Cause::Size
        };
        self.evictions += u64::from(cause == Cause::Size);
        table.index.remove(self.policy.hash(slot), slot);
        self.leave(slot, before - self.policy.weight(), cause, gone);
        true
    }

    /// Takes out an entry that the table has.
    pub(super) fn unlink(&mut self, table: &Table<K, V>, slot: Slot, cause: Cause, gone: &mut Gone) {
        let before = self.policy.weight();
        table.index.remove(self.policy.hash(slot), slot);
        self.policy.remove(slot);
        self.leave(slot, before - self.policy.weight(), cause, gone);
    }

    fn leave(&mut self, slot: Slot, weight: u64, cause: Cause, gone: &mut Gone) {
        self.set_linked(slot, false);
        self.retired.push(slot, weight);
        gone.note(slot, cause);
    }

    /// Looks at the next few slots and takes out what has expired, `but` for one slot. Without a thread of its own, and without a wheel of timers
    /// whose links would cost each entry 8 bytes: after half as many inserts as slots every expired entry is gone.
    #[inline(never)]
    pub(super) fn forget_expired(&mut self, table: &Table<K, V>, now: Moment, but: Option<Slot>, most: usize, gone: &mut Gone) {
        for _ in 0..most.min(self.next as usize).div_ceil(ROW as usize) {
            let row = self.hand;
            self.hand = if row + ROW < self.next { row + ROW } else { 0 };
            // All in one chunk: those begin with, and have, a multiple of a row.
            let first = Address::of(row);
            let linked = self.linked[row as usize / 64] >> (row % 64);
            for at in 0..ROW {
                let address = first.plus(at);
                if linked >> at & 1 == 0 {
                    continue;
                }
                if Self::is_dead(&table.slab, address, now) && but != Some(row + at) {
                    self.unlink(table, row + at, Cause::Expired, gone);
                }
            }
            // The next row is the next write's. Nobody has looked at it for long, and it must be there before that write can let go of the lock.
            table.slab.fetch(self.hand);
        }
    }

    /// Takes out those of so many slots from one on whose entry is to go. Where the next look begins, if there are more.
    pub(super) fn forget_suspects(
        &mut self,
        table: &Table<K, V>,
        from: Slot,
        most: usize,
        is_ancient: impl Fn(&Life) -> bool,
        gone: &mut Gone,
    ) -> Option<Slot> {
        let end = self.next.min(from.saturating_add(most as Slot));
        for slot in from..end {
            // SAFETY: a linked slot's node was written; it is read under the lock that its unlinking needs.
            if self.is_linked(slot) && is_ancient(unsafe { &(*table.slab.node_at(Address::of(slot))).life }) {
                self.unlink(table, slot, Cause::Removed, gone);
            }
        }
        (end < self.next).then_some(end)
    }

    /// Of a slot that is linked, or was when the lock was taken.
    #[inline]
    fn is_dead(slab: &Slab<K, V>, address: Address, now: Moment) -> bool {
        // SAFETY: a linked slot's node was written; it is read under the lock that its unlinking needs, and that its drop comes after.
        !unsafe { (*slab.node_at(address)).life.is_alive(now) }
            // SAFETY: as above.
            || slab.extra_at(address).is_some_and(|extra| unsafe { (*extra).is_idle(now) })
    }

    /// The slots that are in the index, for whoever lets go of the lock before going through them.
    pub(super) fn linked_slots(&self) -> impl Iterator<Item = Slot> + use<K, V> {
        let words = (0..).step_by(64).zip(self.linked.clone());
        words.flat_map(|(first, bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first + bit))
    }

    /// Slots ever used: a look at so many is a look at all.
    pub(super) fn slots(&self) -> usize {
        self.next as usize
    }

    /// Puts an empty table in place, if the one that is there was ever used. What was in it is taken apart by later writes and clears.
    pub(super) fn clear(&mut self, shard: &Shard<K, V>, grace: &Grace) -> bool {
        if self.next == 0 {
            return false;
        }
        let policy = Policy::new(shard.kind, self.policy.capacity());
        let policy = std::mem::replace(&mut self.policy, policy);
        let books: Books = (policy, std::mem::take(&mut self.free), std::mem::take(&mut self.linked));
        let old = shard.publish(Table { index: self.first_index(), slab: Arc::new(Slab::new()) });
        // SAFETY: the table was the shard's, and nobody else got it from `publish`.
        self.graves.push_back(unsafe { Grave::new(old, self.retired.take(), Some(books), grace) });
        self.patience = Patience::new();
        self.next = 0;
        self.hand = 0;
        shard.set_settled(self.policy.settled());
        true
    }

    pub(super) fn resize(&mut self, capacity: u64) {
        self.policy.resize(capacity);
    }

    /// What this write has to do for those before it, once it has released the lock.
    pub(super) fn settle(&mut self, grace: &Grace, table: &Table<K, V>) -> Option<Due<K, V>> {
        if self.is_idle(grace) { None } else { self.settle_some(grace, table) }
    }

    /// Whether nothing waits for a write to settle it.
    #[inline]
    pub(super) fn is_idle(&self, grace: &Grace) -> bool {
        self.retired.is_idle(grace, self.policy.capacity()) && self.outgrown.is_empty() && self.graves.is_empty()
    }

    #[cold]
    fn settle_some(&mut self, grace: &Grace, table: &Table<K, V>) -> Option<Due<K, V>> {
        let outgrown = self.outgrown.first().map(|(stamp, _)| grace.is_over(*stamp));
        let ripe = outgrown == Some(true) || self.has_ripe_graves(grace);
        // What was cleared or outgrown must not wait for retired slots to fill a batch.
        let ask = !ripe && (outgrown.is_some() || !self.graves.is_empty()) && self.patience.is_over();
        let idle = !ripe && !ask && self.retired.is_idle(grace, self.policy.capacity());
        (!idle).then(|| {
            let due = self.settle_all(grace, table);
            Due { advance: due.advance || ask, ..due }
        })
    }

    fn settle_all(&mut self, grace: &Grace, table: &Table<K, V>) -> Due<K, V> {
        let (mut dead, advance) = self.retired.settle(grace, self.policy.capacity());
        if !needs_drop::<K, V>() {
            self.free.append(&mut dead);
        }
        self.free_outgrown(grace);
        let ripe = self.graves.iter().take(GRAVES).take_while(|grave| grave.is_over(grace)).count();
        let graves = self.graves.drain(..ripe).collect();
        Due { slab: table.slab.clone(), dead, graves, advance }
    }

    /// As `settle`, for all there is.
    pub(super) fn flush(&mut self, grace: &Grace, table: &Table<K, V>) -> Due<K, V> {
        let mut due = self.settle_all(grace, table);
        due.dead.append(&mut self.retired.flush(grace));
        if !needs_drop::<K, V>() {
            self.free.append(&mut due.dead);
        }
        due
    }

    fn free_outgrown(&mut self, grace: &Grace) {
        self.outgrown.retain(|(stamp, table)| {
            let over = grace.is_over(*stamp);
            if over {
                // SAFETY: `publish` gave it from a box, and its readers have left. To drop it runs no code of keys or values: neither an index nor a
                // slab drops any.
                drop(unsafe { Box::from_raw(*table) });
            }
            !over
        });
    }

    /// Takes slots back whose nodes were dropped.
    pub(super) fn give_back(&mut self, mut slots: Vec<Slot>) {
        self.free.append(&mut slots);
    }

    pub(super) fn has_ripe_graves(&self, grace: &Grace) -> bool {
        self.graves.front().is_some_and(|grave| grave.is_over(grace))
    }

    /// Takes a ripe grave back.
    pub(super) fn bury(&mut self, grave: Grave<K, V>) {
        self.graves.push_front(grave);
    }

    /// What is retired and what was outgrown, for whoever has the shard for itself.
    pub(super) fn take_remains(&mut self) -> Remains<K, V> {
        let outgrown = std::mem::take(&mut self.outgrown).into_iter().map(|(_, table)| table).collect();
        Remains { retired: self.retired.take(), outgrown, graves: std::mem::take(&mut self.graves) }
    }
}
