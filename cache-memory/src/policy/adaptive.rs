//! The default: S3-FIFO's two queues, with a boundary that ghosts move and an entry to the main queue that is earned by reuse distance.

use super::boundary::Boundary;
use super::coldest::Coldest;
use super::held::Held;
use super::history::{History, Trace};
use super::lists::Lists;
use super::pulse::Pulse;
use super::renewal::{Renewal, Verdict};
use super::usage::Usage;
use super::{Marks, Slot};

/// Pulses of a generation.
const GENERATION: u32 = 64;

/// Uses in the small queue that promote to the main one. With one, a key read twice in a row displaces one that is read for ever.
const PROMOTING_USES: u16 = 2;

/// How many entries one eviction moves at most. The mean is far below: a move spends a use, so there are no more than hits.
const MOST_MOVES: usize = 1_000;

/// Where a slot is: its label in the lists; of the first two also the list.
const SMALL: u32 = 0;
const MAIN: u32 = 1;
/// In the main queue, instead of a stale entry, and unused since.
const TRIAL: u32 = 2;
/// In no queue.
const PINNED: u32 = 3;
const FREE: u32 = 4;

/// A policy that keeps up with the best of LRU, S3-FIFO and LIRS.
///
/// As in S3-FIFO (Yang et al., SOSP 2023), a new key enters the small queue, moves on to the main queue if it was used twice, and is else
/// evicted, leaving a trace; at the end of the main queue an entry goes round again for each use it has left. Three things move:
///
/// - the [`Boundary`] between the queues, by what returns soon after its eviction from either;
/// - who enters the main queue on return: a key whose reuse distance is shorter than the [`Coldest`] entries there have not been used, as in
///   LIRS (Jiang and Zhang, SIGMETRICS 2002). In a loop longer than the cache no key is better than those that are in, so they stay and hit;
/// - stale entries, by [`Renewal`].
#[derive(Debug)]
pub(crate) struct Adaptive {
    held: Held,
    lists: Lists,
    /// Of the two queues.
    weights: [u64; 2],
    boundary: Boundary,
    history: History,
    coldest: Coldest,
    renewal: Renewal,
    /// Counts inserts.
    time: Pulse<GENERATION>,
    /// Counts evictions from either queue.
    evictions: [Pulse<GENERATION>; 2],
    /// The slot looked at last.
    looked_at: Slot,
}

impl Adaptive {
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            held: Held::new(),
            lists: Lists::new(2),
            weights: [0; 2],
            boundary: Boundary::new(capacity),
            history: History::new(),
            coldest: Coldest::new(),
            renewal: Renewal::new(),
            time: Pulse::new(),
            evictions: [Pulse::new(), Pulse::new()],
            looked_at: 0,
        }
    }

    #[inline]
    pub(super) fn touched(mark: u16, pulse: u32) -> Option<u16> {
        Usage::of(mark).touched(pulse).map(Usage::mark)
    }

    pub(super) fn pulse(&self) -> u32 {
        self.time.now()
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn fetch(&self, slot: Slot) {
        self.lists.fetch(slot);
    }

    pub(super) fn fetch_trace(&self, hash: u32) {
        self.history.fetch(hash);
    }

    pub(super) fn fetch_around(&self, slot: Slot) {
        self.lists.fetch_around(slot);
    }

    pub(super) fn hash(&self, slot: Slot) -> u32 {
        self.lists.hash(slot)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.boundary.capacity()
    }

    pub(super) fn resize(&mut self, capacity: u64) {
        if capacity < self.capacity() {
            // Its memory is for another number of entries.
            self.history = History::new();
        }
        self.boundary.resize(capacity);
    }

    pub(super) fn reserve(&mut self, slots: usize) {
        self.lists.reserve(slots);
    }

    pub(super) fn insert(&mut self, slot: Slot, hash: u32, weight: u32, marks: &impl Marks) -> bool {
        self.admit(slot, hash, weight);
        let moved = self.time.count(self.held.len());
        marks.set_mark(slot, Usage::new(self.time.now()).mark());
        if let Some(newcomer) = self.renewal.end(hash) {
            self.settle(newcomer, marks);
        }
        let label = match self.history.recall(hash) {
            _ if weight == 0 => PINNED,
            Some(trace) => self.returned(trace, weight),
            None => SMALL,
        };
        self.enter(slot, label);
        self.fill(marks);
        moved
    }

    /// Takes in a slot, in no queue yet.
    fn admit(&mut self, slot: Slot, hash: u32, weight: u32) {
        self.held.admit(slot, weight);
        self.lists.admit(slot, hash, FREE);
    }

    fn enter(&mut self, slot: Slot, label: u32) {
        self.lists.set_label(slot, label);
        if let Some(queue) = queue(label) {
            self.weights[queue as usize] += self.held.weight_of(slot);
            self.lists.push(queue, slot);
        }
    }

    fn leave(&mut self, slot: Slot) {
        if let Some(queue) = queue(self.lists.label(slot)) {
            self.weights[queue as usize] -= self.held.weight_of(slot);
            self.lists.unlink(slot);
        }
        self.lists.set_label(slot, FREE);
    }

    fn relocate(&mut self, slot: Slot, label: u32) {
        self.leave(slot);
        self.enter(slot, label);
    }

    /// Learns from a key that was evicted before. The label it gets.
    fn returned(&mut self, trace: Trace, weight: u32) -> u32 {
        let better = trace.unused(self.time.now()).is_some_and(|unused| self.coldest.is_colder_than(unused));
        let queue = if trace.main() { MAIN } else { SMALL };
        let gone = f64::from(trace.gone(self.evictions[queue as usize].now())) / f64::from(GENERATION);
        match queue {
            MAIN => self.boundary.missed_by_main(gone, weight),
            // Else a longer small queue would have this key instead of a better one.
            _ if better => self.boundary.missed_by_small(gone, weight),
            _ => {}
        }
        if better { MAIN } else { SMALL }
    }

    /// The key came back for whose place this newcomer was taken in.
    fn settle(&mut self, newcomer: Slot, marks: &impl Marks) {
        let on_trial = self.lists.label(newcomer) == TRIAL;
        if on_trial {
            self.lists.set_label(newcomer, MAIN);
        }
        if !(on_trial && Usage::of(marks.mark(newcomer)).uses() > 0) {
            self.renewal.lost(self.held.len());
        }
    }

    /// Moves what the small queue has too much to the main queue, which has too little: while the cache fills, and after the boundary has moved.
    fn fill(&mut self, marks: &impl Marks) {
        for _ in 0..2 {
            let Some(slot) = self.lists.first(SMALL) else { return };
            if self.weights[SMALL as usize] - self.held.weight_of(slot) < self.boundary.small() {
                return;
            }
            self.promote(slot, MAIN, marks);
        }
    }

    /// Uses in the small queue have paid for it.
    fn promote(&mut self, slot: Slot, label: u32, marks: &impl Marks) {
        marks.set_mark(slot, Usage::of(marks.mark(slot)).with_uses(0).mark());
        self.relocate(slot, label);
    }

    pub(super) fn replace(&mut self, old: Slot, new: Slot, weight: u32, marks: &impl Marks) -> bool {
        let usage = Usage::of(marks.mark(old));
        let (hash, label) = (self.lists.hash(old), self.lists.label(old));
        self.admit(new, hash, weight);
        if let (Some(queue), 1..) = (queue(label), weight) {
            self.weights[queue as usize] += u64::from(weight);
            self.weights[queue as usize] -= self.held.weight_of(old);
            self.lists.swap(old, new, FREE);
        } else {
            self.leave(old);
            self.enter(new, if weight == 0 { PINNED } else { SMALL });
        }
        self.held.release(old);
        marks.set_mark(new, usage.touched(self.time.now()).unwrap_or(usage).mark());
        false
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.leave(slot);
        self.held.release(slot);
    }

    pub(super) fn evict(&mut self, marks: &impl Marks) -> Option<Slot> {
        let mut stale = self.look(marks);
        for moves in 0.. {
            let (small, main) = (self.lists.first(SMALL), self.lists.first(MAIN));
            let due = self.weights[SMALL as usize] >= self.boundary.small();
            let (slot, queue) = match (small, main) {
                (Some(slot), _) if due || main.is_none() => (slot, SMALL),
                (_, Some(slot)) => (slot, MAIN),
                _ => break,
            };
            let usage = Usage::of(marks.mark(slot));
            let needed = if queue == SMALL { PROMOTING_USES } else { 1 };
            if moves < MOST_MOVES && usage.uses() >= needed {
                if queue == SMALL {
                    self.promote(slot, MAIN, marks);
                } else {
                    self.confirm(slot);
                    marks.set_mark(slot, usage.with_uses(usage.uses().min(self.boundary.rounds()) - 1).mark());
                    self.relocate(slot, MAIN);
                }
                continue;
            }
            stale = stale.filter(|stale| queue == SMALL && self.renewed(*stale, slot, marks));
            return Some(self.evicted(stale.unwrap_or(slot), marks));
        }
        None
    }

    /// Whether a newcomer has got the place of a stale slot.
    fn renewed(&mut self, stale: Slot, newcomer: Slot, marks: &impl Marks) -> bool {
        let label = match self.renewal.judge(self.held.len()) {
            Verdict::Keep => return false,
            Verdict::Replace => MAIN,
            Verdict::Try => TRIAL,
        };
        self.promote(newcomer, label, marks);
        if label == TRIAL {
            self.renewal.begin(newcomer, self.lists.hash(stale));
        }
        true
    }

    fn evicted(&mut self, slot: Slot, marks: &impl Marks) -> Slot {
        let main = self.lists.label(slot) != SMALL;
        let (entries, hash, now) = (self.held.len(), self.lists.hash(slot), self.time.now());
        let evictions = &mut self.evictions[usize::from(main)];
        evictions.count(entries);
        self.boundary.evicted(main, self.held.weight_of(slot));
        let trace = Trace::new(hash, main, Usage::of(marks.mark(slot)), now, evictions.now());
        self.history.remember(hash, trace, entries);
        self.remove(slot);
        // What the next eviction looks at has not been used for long.
        for next in [self.lists.first(SMALL), self.lists.first(MAIN)].into_iter().flatten() {
            marks.fetch(next);
            self.history.fetch(self.lists.hash(next));
        }
        slot
    }

    /// Looks at the next slot, whatever its queue. It is returned if it is stale.
    fn look(&mut self, marks: &impl Marks) -> Option<Slot> {
        self.looked_at = if self.looked_at + 1 < self.lists.slots() { self.looked_at + 1 } else { 0 };
        let slot = (self.lists.slots() > 0).then_some(self.looked_at)?;
        marks.fetch(if slot + 1 < self.lists.slots() { slot + 1 } else { 0 });
        let queue = queue(self.lists.label(slot))?;
        let (usage, now) = (Usage::of(marks.mark(slot)), self.time.now());
        if usage.uses() > 0 {
            self.confirm(slot);
        }
        if queue == MAIN {
            self.coldest.met(usage.age(now));
        }
        if let Some(usage) = usage.kept_old(now) {
            marks.set_mark(slot, usage.mark());
        }
        (queue == MAIN && Renewal::is_stale(usage.age(now), GENERATION)).then_some(slot)
    }

    /// A slot that was used is on trial no longer.
    fn confirm(&mut self, slot: Slot) {
        if self.lists.label(slot) == TRIAL {
            self.lists.set_label(slot, MAIN);
            self.renewal.won(slot, self.held.len());
        }
    }

    /// Panics where queues, labels and weights disagree.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut met = vec![None; self.lists.slots() as usize];
        for list in [SMALL, MAIN] {
            let mut weight = 0;
            for slot in self.lists.iter(list) {
                assert_eq!(met[slot as usize].replace(list), None, "slot {slot} is queued twice");
                weight += self.held.weight_of(slot);
            }
            assert_eq!(weight, self.weights[list as usize], "a queue weighs as much as it says");
        }
        let mut entries = 0;
        for (slot, met) in met.into_iter().enumerate() {
            let label = self.lists.label(slot as Slot);
            assert_eq!(queue(label), met, "slot {slot} is where it says");
            entries += u32::from(label != FREE);
            assert!(label != PINNED || self.held.weight_of(slot as Slot) == 0, "slot {slot} is pinned by its weight");
        }
        assert_eq!(entries, self.held.len());
        assert_eq!(self.weights.iter().sum::<u64>(), self.held.weight());
    }
}

/// The queue of slots with this label.
fn queue(label: u32) -> Option<u32> {
    match label {
        SMALL => Some(SMALL),
        MAIN | TRIAL => Some(MAIN),
        _ => None,
    }
}
