//! S3-FIFO: a small queue that most keys only pass, a main queue for those that were used in it.

use super::Slot;
use super::ghost::Ghost;
use super::queue::{Links, Queue};
use std::sync::atomic::{AtomicU8, Ordering};

/// One entry in ten is on probation, as in the paper.
const SMALL_SHARE: u32 = 10;

/// Uses in the small queue that promote to the main one. With one, a key read twice in a row displaces one that is read
/// for ever; two hits most evenly over our traces.
const PROMOTING_USES: u8 = 2;

/// Where the count of uses stops: how often an entry may pass the end of the main queue without a use.
const MOST_USES: u8 = 3;

/// How many entries an eviction gives another chance at most, so that none takes long. The mean is far below: a chance spends
/// a use, so there are no more of them than hits between two evictions.
const MOST_CHANCES: usize = 1_000;

/// S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), promotion at two uses.
///
/// A new hash enters the small queue. At its end it moves to the main queue if it was used twice, or else it goes and leaves
/// its trace in the ghost; a hash that comes back while the ghost remembers it enters the main queue at once. At the end of
/// the main queue an entry goes round again for each use it has left.
#[derive(Debug)]
pub(crate) struct S3Fifo {
    places: Vec<Place>,
    /// By slot, apart from the places and a byte each: reads touch nothing else of the policy.
    uses: Vec<AtomicU8>,
    links: Vec<Links>,
    /// Slots given back.
    free: Vec<Slot>,
    small: Queue,
    main: Queue,
    ghost: Ghost,
    capacity: u32,
}

#[derive(Debug)]
struct Place {
    hash: u64,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Free,
    Small,
    Main,
}

impl S3Fifo {
    /// A policy of so many slots. It takes memory as they are used.
    pub(crate) fn new(capacity: u32) -> Self {
        let main = capacity - Self::small_share(capacity).min(capacity);
        Self {
            places: Vec::new(),
            uses: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            small: Queue::new(),
            main: Queue::new(),
            ghost: Ghost::new(main.max(1)),
            capacity,
        }
    }

    fn small_share(capacity: u32) -> u32 {
        (capacity / SMALL_SHARE).max(1)
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> u32 {
        self.small.len() + self.main.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// The hash that a slot in use was given for.
    pub(crate) fn hash(&self, slot: Slot) -> u64 {
        self.places[slot as usize].hash
    }

    /// Counts a use. Of concurrent ones some may be lost; a count that is full is not written.
    #[inline]
    pub(crate) fn mark(&self, slot: Slot) {
        let uses = &self.uses[slot as usize];
        // Ordering: relaxed; the count guards nothing, and the lock around evictions publishes it.
        let count = uses.load(Ordering::Relaxed);
        if count < MOST_USES {
            uses.store(count + 1, Ordering::Relaxed);
        }
    }

    /// A slot for a new entry; `None` when full, see [`evict`](Self::evict).
    pub(crate) fn insert(&mut self, hash: u64) -> Option<Slot> {
        if self.is_full() {
            return None;
        }
        let at = if self.ghost.recall(hash) { At::Main } else { At::Small };
        let place = Place { hash, at };
        let slot = if let Some(slot) = self.free.pop() {
            self.places[slot as usize] = place;
            *self.uses[slot as usize].get_mut() = 0;
            slot
        } else {
            self.places.push(place);
            self.uses.push(AtomicU8::new(0));
            self.links.push(Links::ALONE);
            (self.places.len() - 1) as Slot
        };
        match at {
            At::Main => self.main.push(&mut self.links, slot),
            _ => self.small.push(&mut self.links, slot),
        }
        Some(slot)
    }

    /// Gives back the slot that is worth least.
    pub(crate) fn evict(&mut self) -> Option<Slot> {
        let mut chances = MOST_CHANCES;
        loop {
            let probation = self.main.len() == 0 || self.small.len() >= Self::small_share(self.capacity);
            let slot = if probation { self.small.pop(&mut self.links) } else { self.main.pop(&mut self.links) }?;
            let place = &mut self.places[slot as usize];
            let uses = self.uses[slot as usize].get_mut();
            let stays = chances > 0 && if probation { *uses >= PROMOTING_USES } else { *uses > 0 };
            if stays {
                chances -= 1;
                // Uses on probation have paid for the promotion.
                *uses = if probation { 0 } else { *uses - 1 };
                place.at = At::Main;
                self.main.push(&mut self.links, slot);
                continue;
            }
            if probation {
                self.ghost.remember(place.hash);
            }
            place.at = At::Free;
            self.free.push(slot);
            return Some(slot);
        }
    }

    /// Gives back a slot in use, for another reason than room.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let place = &mut self.places[slot as usize];
        match std::mem::replace(&mut place.at, At::Free) {
            At::Small => self.small.remove(&mut self.links, slot),
            At::Main => self.main.remove(&mut self.links, slot),
            At::Free => return,
        }
        self.free.push(slot);
    }
    /// Panics where queues, places and free slots disagree.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert!(self.len() <= self.capacity, "{} slots in use of {}", self.len(), self.capacity);
        let mut met = vec![At::Free; self.places.len()];
        for (queue, at) in [(&self.small, At::Small), (&self.main, At::Main)] {
            let slots: Vec<_> = queue.iter(&self.links).collect();
            assert_eq!(slots.len(), queue.len() as usize, "a queue is as long as it says");
            for slot in slots {
                assert_eq!(std::mem::replace(&mut met[slot as usize], at), At::Free, "slot {slot} is queued twice");
            }
        }
        let free: std::collections::HashSet<_> = self.free.iter().copied().collect();
        assert_eq!(free.len(), self.free.len(), "a slot is free twice");
        for (slot, place) in self.places.iter().enumerate() {
            assert_eq!(place.at, met[slot], "slot {slot} is where it says");
            assert_eq!(place.at == At::Free, free.contains(&(slot as Slot)), "slot {slot} is free or in use");
        }
    }
}
