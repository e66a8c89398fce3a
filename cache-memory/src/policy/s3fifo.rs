//! S3-FIFO: a small queue that most keys only pass, a main queue for those that were used in it.

use super::Slot;
use super::ghost::Ghost;
use super::queue::{Links, Queue};
use std::sync::atomic::{AtomicU8, Ordering};

/// One entry in ten is on probation, as in the paper.
const SMALL_SHARE: u32 = 10;

/// Uses in the small queue that promote to the main one. With one, a key read twice in a row displaces one that is read for ever;
/// two was the most even setting over 14 traces.
const PROMOTING_USES: u8 = 2;

/// Where the count of uses stops: how often an entry may pass the end of the main queue without a use.
const MOST_USES: u8 = 3;

/// How many entries an eviction gives another chance at most, so that none takes long. Far above the mean, which uses alone pay for:
/// each chance spends one.
const MOST_CHANCES: usize = 1_000;

/// S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), promotion at two uses.
///
/// A new hash enters the small queue. At its end it moves to the main queue if it was used, or else goes and leaves its hash in the
/// ghost; a hash that comes back while the ghost remembers it enters the main queue at once. At the end of the main queue
/// an entry that was used since its last pass goes round again.
#[derive(Debug)]
pub(crate) struct S3Fifo {
    places: Vec<Place>,
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
    uses: AtomicU8,
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
        let uses = &self.places[slot as usize].uses;
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
        let place = Place { hash, uses: AtomicU8::new(0), at };
        let slot = if let Some(slot) = self.free.pop() {
            self.places[slot as usize] = place;
            slot
        } else {
            self.places.push(place);
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
            let uses = place.uses.get_mut();
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
}
