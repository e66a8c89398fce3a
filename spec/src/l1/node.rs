//! A node: its entry of key A, its flight, and what it knows of the partition.

use super::{B, L1, Mutant};

/// An entry in L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Which commit's value.
    pub value: u8,
    /// Its epoch is not the partition's.
    pub suspect: bool,
    /// Tracking says that the record has changed.
    pub marked: bool,
    /// Ticks since its flight was registered.
    pub age: u8,
}

/// A flight. A poisoned one is gone, but for mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flight {
    /// What it has read.
    pub value: Option<u8>,
    /// Whether invalidations can find it (one mutant).
    pub ticket: bool,
    /// Kept in the state by some mutants only.
    pub poisoned: bool,
    /// Tracking has told of a change since it was registered.
    pub marked: bool,
    /// Ticks since it was registered.
    pub age: u8,
}

/// A poll on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Poll {
    /// None.
    #[default]
    No,
    /// Sent so many ticks ago; whether the subscription of now was confirmed by then.
    Sent(u8, bool),
    /// Answered: incarnation and sequence.
    Ran(u8, bool, Option<(u8, u8)>),
}

/// The subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sub {
    /// Redis does not have it.
    #[default]
    Off,
    /// Redis has it, the node does not know.
    Active,
    /// Confirmed.
    On,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Node {
    /// What L1 has of key A.
    pub entry: Option<Entry>,
    /// The flight for key A.
    pub flight: Option<Flight>,
    /// The incarnation it knows; 0 is none.
    pub incarnation: u8,
    /// All sequences up to this one are applied,
    pub applied: u8,
    /// and these, one bit each.
    pub beyond: u8,
    /// The poll on its way.
    pub poll: Poll,
    /// Until `verified_until`,
    pub verified: u8,
    /// and until the end of grace.
    pub grace: u8,
    /// Its subscription.
    pub sub: Sub,
    /// Messages that may still come, one bit each.
    pub coming: u8,
    /// A push of tracking may still come, of this commit.
    pub push: u8,
    /// No contact to Redis.
    pub cut: bool,
    /// Stopped.
    pub stopped: bool,
    /// The newest commit whose invalidation it has processed, or tracking's push.
    pub processed: u8,
    /// See `processed`.
    pub pushed: u8,
}

impl Node {
    /// The flight is poisoned: it leaves the table.
    pub fn poison(&mut self, model: &L1) {
        let keep = model.is(Mutant::JoinPoisoned) || model.is(Mutant::RevalidateWithoutTicket);
        match &mut self.flight {
            Some(flight) if !flight.ticket => {}
            Some(flight) if keep => flight.poisoned = true,
            flight => *flight = None,
        }
    }

    /// An invalidation of key A: what is older goes, and what is on its way does not come.
    pub fn remove(&mut self, version: u8, model: &L1) {
        if self.entry.is_some_and(|entry| entry.value < version) {
            self.entry = None;
        }
        if !model.is(Mutant::NoPoison) {
            self.poison(model);
        }
    }

    /// The epoch rises: what L1 has is suspect, and flights are poisoned.
    pub fn suspect(&mut self, model: &L1) {
        if let Some(entry) = &mut self.entry {
            entry.suspect = true;
        }
        if !model.is(Mutant::SuspicionWithoutPoison) {
            self.poison(model);
        }
    }

    /// A sequence is applied.
    pub fn apply(&mut self, sequence: u8, model: &L1) {
        if model.is(Mutant::GapByMax) {
            self.applied = self.applied.max(sequence);
        } else if sequence > self.applied {
            self.beyond |= 1 << sequence;
            self.settle();
        }
    }

    fn settle(&mut self) {
        while self.beyond & (1 << (self.applied + 1)) != 0 {
            self.applied += 1;
        }
        self.beyond &= !((2 << self.applied) - 1);
    }

    /// Whether a sequence is applied.
    pub fn has(&self, sequence: u8) -> bool {
        sequence <= self.applied || self.beyond & (1 << sequence) != 0
    }

    /// A poll's answer. Only here is an incarnation learnt, and only here does the mark pass over what was missed: then with suspicion.
    pub fn polled(&mut self, age: u8, found: Option<(u8, u8)>, model: &L1) {
        let known = self.incarnation != 0;
        // A poll makes the meta key if it is absent; only a mutant's has nothing to say.
        let (incarnation, sequence) = match found {
            Some((_, sequence)) if known && model.is(Mutant::NoIncarnation) => (self.incarnation, sequence),
            Some(found) => found,
            None => (self.incarnation, 0),
        };
        let same = incarnation == self.incarnation;
        if same && sequence > self.applied && self.verified > 0 {
            // The message may still come. If it does not, `verified` runs out.
            return;
        }
        if !same || sequence > self.applied {
            if !same {
                (self.incarnation, self.applied, self.beyond) = (incarnation, 0, 0);
            }
            self.applied = self.applied.max(sequence);
            self.settle();
            if !model.is(Mutant::AdoptWithoutSuspicion) {
                self.suspect(model);
            }
        }
        let left = if model.is(Mutant::LeaseFromReply) { B } else { B.saturating_sub(age) };
        self.verified = self.verified.max(left);
        if model.cut && self.verified > 0 {
            self.grace = self.verified + super::G;
        }
    }

    /// Time passes.
    pub fn tick(&mut self, model: &L1) {
        let older = |age: &mut u8| *age = (*age + 1).min(model.longest());
        if let Some(entry) = &mut self.entry {
            older(&mut entry.age);
        }
        if let Some(flight) = &mut self.flight {
            older(&mut flight.age);
        }
        if let Poll::Sent(age, _) | Poll::Ran(age, _, _) = &mut self.poll {
            *age = (*age + 1).min(B);
        }
        let stands = self.stopped && model.is(Mutant::StoppedClock) || model.is(Mutant::NoPolls);
        if !stands {
            self.verified = self.verified.saturating_sub(1);
            self.grace = self.grace.saturating_sub(1);
        }
    }
}
