//! A shard: plain, single-threaded storage. It runs no code of keys or values; what leaves it is handed to the caller.

use crate::policy::{S3Fifo, Slot};
use cache_core::{Moment, Stamp};
use hashbrown::HashTable;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many slots an insert looks at for expired entries: two cache lines of their terms.
const LOOKED_AT: usize = 8;

/// What is stored of a key. Shared, so that a reader can compare and clone after it has let go of the lock.
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    pub(super) stamp: Stamp,
}

/// An entry in its place.
pub(super) struct Held<K, V> {
    pub(super) entry: Arc<Entry<K, V>>,
    tag: u32,
    pub(super) slot: Slot,
}

/// A slot's entry, as far as writes look at it.
#[derive(Clone, Copy)]
struct Term {
    /// When it expires; [`Moment::NEVER`] where there is none.
    end: Moment,
    /// The number of entries stored in the shard up to it, so that no two have the same; zero where there is none.
    birth: u64,
}

impl Term {
    const NONE: Self = Self { end: Moment::NEVER, birth: 0 };
}

/// An entry that may be of some key, kept to be compared without the lock.
pub(super) struct Candidate<K, V> {
    pub(super) entry: Arc<Entry<K, V>>,
    pub(super) slot: Slot,
    pub(super) birth: u64,
}

pub(super) struct Shard<K, V> {
    index: HashTable<Held<K, V>>,
    policy: S3Fifo,
    /// By slot.
    terms: Vec<Term>,
    /// The slot that the next look begins with.
    next_look: usize,
    births: u64,
    evictions: u64,
    /// The latest time that a read which found nothing has seen; see [`saw`](Self::saw).
    seen: AtomicU64,
}

/// Entries that have left a shard, to be dropped when its lock is released. One is the rule and takes no memory.
pub(super) struct Gone<K, V> {
    first: Option<Arc<Entry<K, V>>>,
    more: Vec<Arc<Entry<K, V>>>,
}

impl<K, V> Gone<K, V> {
    fn new() -> Self {
        Self { first: None, more: Vec::new() }
    }

    fn push(&mut self, entry: Arc<Entry<K, V>>) {
        match self.first {
            None => self.first = Some(entry),
            Some(_) => self.more.push(entry),
        }
    }
}

/// All that was in a shard.
pub(super) struct Contents<K, V> {
    index: HashTable<Held<K, V>>,
    _policy: S3Fifo,
    _terms: Vec<Term>,
}

impl<K, V> Contents<K, V> {
    /// In a vector, which drops the rest when the drop of one panics.
    pub(super) fn into_entries(self) -> Vec<Arc<Entry<K, V>>> {
        self.index.into_iter().map(|held| held.entry).collect()
    }
}

/// The half of the hash that an index keeps: enough to tell entries apart, and the index can grow without the keys.
fn tag(hash: u64) -> u32 {
    hash as u32
}

/// A hash for the table, which takes the place from the low bits and a check from the high ones.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

impl<K, V> Shard<K, V> {
    /// A shard of at most so many entries. It takes memory as it fills.
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            index: HashTable::new(),
            policy: S3Fifo::new(capacity),
            terms: Vec::new(),
            next_look: 0,
            births: 0,
            evictions: 0,
            seen: AtomicU64::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Some entry that may be of the key with this hash.
    #[inline]
    pub(super) fn candidate(&self, hash: u64) -> Option<&Held<K, V>> {
        let tag = tag(hash);
        self.index.find(spread(tag), |held| held.tag == tag)
    }

    /// Of the entries that may be of the key with this hash, the first born after `birth`.
    pub(super) fn candidate_after(&self, hash: u64, birth: u64) -> Option<Candidate<K, V>> {
        let tag = tag(hash);
        let birth_of = |held: &&Held<K, V>| self.terms[held.slot as usize].birth;
        let later = self.index.iter_hash(spread(tag)).filter(|held| held.tag == tag && birth_of(held) > birth);
        let held = later.min_by_key(birth_of)?;
        Some(Candidate { entry: held.entry.clone(), slot: held.slot, birth: birth_of(&held) })
    }

    /// Whether a candidate is still in its place.
    pub(super) fn holds(&self, candidate: &Candidate<K, V>) -> bool {
        self.terms.get(candidate.slot as usize).is_some_and(|term| term.birth == candidate.birth)
    }

    /// Counts a use of an entry.
    #[inline]
    pub(super) fn mark(&self, slot: Slot) {
        self.policy.mark(slot);
    }

    /// Notes the time of a read that found nothing. A fill follows such a read, so an insert knows the time without asking, and
    /// hits write nothing.
    pub(super) fn saw(&self, now: Moment) {
        // Ordering: relaxed; an earlier time only keeps dead entries longer.
        if self.seen.load(Ordering::Relaxed) < now.as_nanos() {
            self.seen.fetch_max(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// Stores an entry in the place of `old`, which the shard holds, or else in a place of its own.
    pub(super) fn store(&mut self, hash: u64, entry: Arc<Entry<K, V>>, old: Option<&Candidate<K, V>>) -> Gone<K, V> {
        let mut gone = Gone::new();
        let now = Moment::from_nanos(*self.seen.get_mut()).max(entry.stamp.created);
        self.forget_expired(now, old.map(|old| old.slot), &mut gone);
        self.births += 1;
        let term = Term { end: entry.stamp.last, birth: self.births };
        let tag = tag(hash);
        if let Some(Candidate { slot, .. }) = old {
            // To be written again is a use.
            self.policy.mark(*slot);
            self.terms[*slot as usize] = term;
            if let Some(held) = self.index.find_mut(spread(tag), |held| held.slot == *slot) {
                gone.push(std::mem::replace(&mut held.entry, entry));
            }
            return gone;
        }
        if self.policy.is_full()
            && let Some(slot) = self.policy.evict()
        {
            self.evictions += 1;
            self.unplace(slot, &mut gone);
        }
        let Some(slot) = self.policy.insert(hash) else {
            // A shard of no capacity.
            gone.push(entry);
            return gone;
        };
        if self.terms.len() <= slot as usize {
            self.terms.resize(slot as usize + 1, Term::NONE);
        }
        self.terms[slot as usize] = term;
        self.index.insert_unique(spread(tag), Held { entry, tag, slot }, |held| spread(held.tag));
        gone
    }

    /// Takes out an entry that the shard holds.
    pub(super) fn remove(&mut self, held: &Candidate<K, V>) -> Gone<K, V> {
        let mut gone = Gone::new();
        self.policy.remove(held.slot);
        self.unplace(held.slot, &mut gone);
        gone
    }

    /// Empties the shard. Births go on, so that who compares keys meanwhile mistakes no new entry for an old one.
    pub(super) fn clear(&mut self) -> Contents<K, V> {
        let policy = S3Fifo::new(self.policy.capacity());
        self.next_look = 0;
        Contents {
            index: std::mem::take(&mut self.index),
            _policy: std::mem::replace(&mut self.policy, policy),
            _terms: std::mem::take(&mut self.terms),
        }
    }

    /// Looks at the next few slots and takes out what has expired, `but` for one slot.
    fn forget_expired(&mut self, now: Moment, but: Option<Slot>, gone: &mut Gone<K, V>) {
        for _ in 0..LOOKED_AT.min(self.terms.len()) {
            let look = self.next_look;
            self.next_look = if look + 1 < self.terms.len() { look + 1 } else { 0 };
            let (slot, term) = (look as Slot, self.terms[look]);
            if term.end <= now && term.birth != 0 && but != Some(slot) {
                self.policy.remove(slot);
                self.unplace(slot, gone);
            }
        }
    }

    /// Takes the entry of a slot that the policy has given back out of the index.
    fn unplace(&mut self, slot: Slot, gone: &mut Gone<K, V>) {
        self.terms[slot as usize] = Term::NONE;
        let tag = tag(self.policy.hash(slot));
        if let Ok(place) = self.index.find_entry(spread(tag), |held| held.slot == slot) {
            gone.push(place.remove().0.entry);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> u32 {
        self.policy.capacity()
    }

    /// Panics where index, slots and policy disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.policy.check();
        assert_eq!(self.index.len(), self.policy.len() as usize, "the index and the policy hold as many");
        let mut slots = std::collections::HashSet::new();
        for held in &self.index {
            assert!(slots.insert(held.slot), "slot {} holds two entries", held.slot);
            assert_eq!(tag(self.policy.hash(held.slot)), held.tag, "the policy knows the slot's hash");
            let term = self.terms[held.slot as usize];
            assert_eq!(term.end, held.entry.stamp.last, "the slot ends with its entry");
            assert!((1..=self.births).contains(&term.birth), "the slot has been born");
        }
        let terms = self.terms.iter().filter(|term| term.birth != 0);
        assert_eq!(terms.count(), slots.len(), "a free slot has no term");
    }
}
