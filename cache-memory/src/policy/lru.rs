//! LRU: the slot that was used least recently goes.

use super::held::Held;
use super::lists::Lists;
use super::pulse::Pulse;
use super::{Marks, Slot};

/// So many pulses pass while as many entries come in as there are: the order of uses is known to one part in this.
const PULSES: u32 = 4096;

/// The most lists of the calendar: twice the pulses for which an unused slot stays.
const LISTS: u32 = 2 * PULSES;

/// How many slots used since they were last looked at one eviction moves at most. Each move is paid for by a hit.
const MOST_MOVES: usize = 1_000;

/// LRU, exact but for the order of uses within a pulse.
///
/// A hit writes the time into the mark, in pulses, and touches no list. Slots lie in a calendar, a list for each time; an eviction looks
/// at the slots of the oldest one. A slot that was used since moves to the list of its last use, which costs the same wherever that is;
/// one that was not goes. After the calendar queue (Brown, CACM 1988).
#[derive(Debug)]
pub(crate) struct Lru {
    held: Held,
    capacity: u64,
    calendar: Lists,
    /// Counts inserts. Marks have its low 16 bits.
    time: Pulse<PULSES>,
    /// No list of a time before this one has a slot.
    oldest: u32,
}

impl Lru {
    pub(super) fn new(capacity: u64) -> Self {
        Self { held: Held::new(), capacity, calendar: Lists::new(2), time: Pulse::new(), oldest: 0 }
    }

    #[inline]
    pub(super) fn touched(mark: u16, pulse: u32) -> Option<u16> {
        (mark != pulse as u16).then_some(pulse as u16)
    }

    pub(super) fn pulse(&self) -> u32 {
        self.time.now()
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn fetch(&self, slot: Slot) {
        self.calendar.fetch(slot);
    }

    pub(super) fn fetch_around(&self, slot: Slot) {
        self.calendar.fetch_around(slot);
    }

    pub(super) fn hash(&self, slot: Slot) -> u32 {
        self.calendar.hash(slot)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn resize(&mut self, capacity: u64) {
        self.capacity = capacity;
    }

    pub(super) fn reserve(&mut self, slots: usize) {
        self.calendar.reserve(slots);
    }

    pub(super) fn insert(&mut self, slot: Slot, hash: u32, weight: u32, marks: &impl Marks) -> bool {
        self.held.admit(slot, weight);
        self.calendar.admit(slot, hash, 0);
        self.used_now(slot, weight, marks);
        self.make_room();
        self.time.count(self.held.len())
    }

    pub(super) fn replace(&mut self, old: Slot, new: Slot, weight: u32, marks: &impl Marks) -> bool {
        let hash = self.calendar.hash(old);
        self.remove(old);
        self.insert(new, hash, weight, marks)
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.calendar.unlink(slot);
        self.held.release(slot);
    }

    pub(super) fn evict(&mut self, marks: &impl Marks) -> Option<Slot> {
        let mut moves = MOST_MOVES;
        loop {
            let Some(slot) = self.calendar.first(self.list(self.oldest)) else {
                if self.oldest == self.time.now() {
                    return None;
                }
                self.oldest = self.oldest.wrapping_add(1);
                continue;
            };
            // A mark is never from the future. One from 2^16 pulses ago looks new; a full cache has evicted such a slot long before.
            let unused = u32::from((self.time.now() as u16).wrapping_sub(marks.mark(slot)));
            if moves == 0 || unused >= self.time.now().wrapping_sub(self.oldest) {
                self.remove(slot);
                return Some(slot);
            }
            moves -= 1;
            self.calendar.unlink(slot);
            self.calendar.push(self.list(self.time.now().wrapping_sub(unused)), slot);
        }
    }

    fn list(&self, time: u32) -> u32 {
        time & (self.calendar.lists() - 1)
    }

    /// A pinned slot is in no list.
    fn used_now(&mut self, slot: Slot, weight: u32, marks: &impl Marks) {
        marks.set_mark(slot, self.time.now() as u16);
        if weight > 0 {
            self.calendar.push(self.list(self.time.now()), slot);
        }
    }

    /// So that there is a list for the next time.
    fn make_room(&mut self) {
        let lists = self.calendar.lists();
        if self.time.now().wrapping_sub(self.oldest) < lists - 1 {
            return;
        }
        if lists < LISTS && lists < 2 * self.held.len() {
            self.grow();
        } else {
            // What has stayed so long is all equally old.
            self.calendar.prepend(self.list(self.oldest), self.list(self.oldest.wrapping_add(1)));
            self.oldest = self.oldest.wrapping_add(1);
        }
    }

    fn grow(&mut self) {
        let lists = self.calendar.lists();
        self.calendar.extend(lists);
        // All lists are of the times from the oldest to now; half of them have another place among twice as many.
        for age in 0..lists {
            let time = self.time.now().wrapping_sub(age);
            let (from, to) = (time & (lists - 1), time & (2 * lists - 1));
            if from != to {
                self.calendar.prepend(from, to);
            }
        }
    }

    /// Panics where lists and slots disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut weight = 0;
        for list in 0..self.calendar.lists() {
            let age = self.time.now().wrapping_sub(list) & (self.calendar.lists() - 1);
            for slot in self.calendar.iter(list) {
                assert!(age <= self.time.now().wrapping_sub(self.oldest), "slot {slot} lies before the oldest time");
                weight += self.held.weight_of(slot);
            }
        }
        assert_eq!(weight, self.held.weight(), "a slot is in one list");
    }
}
