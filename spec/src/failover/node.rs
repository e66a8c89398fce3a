//! The node that reads: as in `crate::l1`, with what failovers add.

use super::{Action, B, Failover, MESSAGES, Mutant, Phase, Shared};

/// An entry in L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Which commit's value.
    pub value: u8,
    /// Its epoch is not the partition's.
    pub suspect: bool,
    /// Ticks that it is good for, whatever the partition's state: B from its ticket. If L2 gave it under a generation that was polled, no longer
    /// than that poll's answer is good for, since a new generation may have come since.
    pub good: u8,
}

/// A flight that is not poisoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flight {
    /// What it has read.
    pub value: Option<u8>,
    /// As an entry's.
    pub good: u8,
}

/// What a poll tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    incarnation: u8,
    sequence: u8,
    generation: u8,
    run: u8,
}

/// A poll on its way: ticks since it was sent, and the mark at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Poll {
    /// None.
    #[default]
    No,
    /// Sent.
    Sent(u8, u8),
    /// Answered.
    Ran(u8, u8, Answer),
}

/// The node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Node {
    /// What L1 has.
    pub entry: Option<Entry>,
    /// The flight.
    pub flight: Option<Flight>,
    /// What it knows of the partition: incarnation,
    pub incarnation: u8,
    /// generation,
    pub generation: u8,
    /// and the master's history.
    pub run: u8,
    /// All sequences up to this one are applied,
    pub applied: u8,
    /// and these, one bit each.
    pub beyond: u8,
    /// The poll on its way.
    pub poll: Poll,
    /// Until `verified_until`.
    pub verified: u8,
    /// Messages that may still come, one bit each.
    pub coming: u8,
    /// The newest commit whose invalidation, in the history of now, it has had.
    pub processed: u8,
}

impl Node {
    pub(super) fn actions(&self, model: &Failover, actions: &mut Vec<Action>) {
        match self.flight {
            None if self.hit().is_none() => actions.push(Action::Ticket),
            None => {}
            Some(Flight { value: None, .. }) => actions.push(Action::Read),
            Some(_) => actions.push(Action::Store),
        }
        for at in (0..MESSAGES).filter(|at| self.coming & (1 << at) != 0) {
            actions.push(Action::Deliver(at));
            if model.lose {
                actions.push(Action::Lose(at));
            }
        }
        actions.push(match self.poll {
            Poll::No => Action::PollSend,
            Poll::Sent(..) => Action::PollRun,
            Poll::Ran(..) => Action::PollReply,
        });
    }

    /// The entry, if it is served as verified.
    pub(super) fn hit(&self) -> Option<Entry> {
        self.entry.filter(|entry| !entry.suspect && (self.verified > 0 || entry.good > 0))
    }

    fn suspect(&mut self) {
        self.flight = None;
        if let Some(entry) = &mut self.entry {
            entry.suspect = true;
        }
    }

    fn apply(&mut self, sequence: u8) {
        if sequence > self.applied {
            self.beyond |= 1 << sequence;
        }
        while self.beyond & (1 << (self.applied + 1)) != 0 {
            self.applied += 1;
        }
        self.beyond &= !((2 << self.applied) - 1);
    }

    fn polled(&mut self, age: u8, applied: u8, answer: Answer, model: &Failover) {
        let same = answer.incarnation == self.incarnation
            && answer.generation == self.generation
            && (answer.run == self.run || model.is(Mutant::NoHistory) || model.is(Mutant::DuplicatesIgnored))
            // Back behind what was applied when the poll was sent; what came since is no step back.
            && (answer.sequence >= applied || model.is(Mutant::DuplicatesIgnored));
        if same && answer.sequence > self.applied && self.verified > 0 {
            return;
        }
        if !same || answer.sequence > self.applied {
            if answer.incarnation != self.incarnation || !same {
                (self.applied, self.beyond) = (answer.sequence, 0);
            }
            (self.incarnation, self.generation, self.run) = (answer.incarnation, answer.generation, answer.run);
            self.applied = self.applied.max(answer.sequence);
            self.apply(0);
            self.suspect();
        }
        self.verified = self.verified.max(B.saturating_sub(age));
    }
}

impl Failover {
    pub(super) fn node(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Ticket => s.node.flight = Some(Flight { value: None, good: B }),
            Action::Read => {
                let found = self.read_l2(s);
                let verified = s.node.verified;
                if let Some(flight) = &mut s.node.flight {
                    flight.value = Some(found.unwrap_or(s.db));
                    if found.is_some() && verified > 0 && !self.is(Mutant::GoodFromTicket) {
                        flight.good = flight.good.min(verified);
                    }
                }
            }
            Action::Store => {
                if let Some(Flight { value: Some(value), good }) = s.node.flight.take() {
                    s.node.entry = Some(Entry { value, suspect: false, good });
                }
            }
            Action::Deliver(at) | Action::Lose(at) => {
                s.node.coming &= !(1 << at);
                let Some(message) = s.messages[at] else { unreachable!() };
                if matches!(action, Action::Deliver(_)) {
                    if message.run == s.run {
                        s.node.processed = s.node.processed.max(message.version);
                    }
                    self.deliver(&mut s.node, message);
                }
            }
            Action::PollSend => s.node.poll = Poll::Sent(0, s.node.applied),
            Action::PollRun => {
                let Poll::Sent(age, applied) = s.node.poll else { unreachable!() };
                let meta = self.meta(s);
                let answer =
                    Answer { incarnation: meta.incarnation, sequence: meta.sequence, generation: meta.generation, run: s.run };
                s.node.poll = Poll::Ran(age, applied, answer);
            }
            Action::PollReply => {
                let Poll::Ran(age, applied, answer) = s.node.poll else { unreachable!() };
                s.node.poll = Poll::No;
                s.node.polled(age, applied, answer, self);
            }
            Action::Tick => Self::tick(s),
            _ => unreachable!(),
        }
    }

    /// What the node finds in L2. While nothing is verified it reads the generation with the record: both are in one slot.
    pub(super) fn read_l2(&self, s: &Shared) -> Option<u8> {
        let generation = if s.node.verified > 0 || self.is(Mutant::GenerationUnverified) {
            s.node.generation
        } else {
            s.master.meta?.generation
        };
        let rec = &s.master.rec;
        (rec.has_value() && rec.generation == generation).then_some(rec.value)
    }

    fn deliver(&self, node: &mut Node, message: super::Msg) {
        let same = message.incarnation == node.incarnation;
        if self.is(Mutant::DuplicatesIgnored)
            && same
            && (message.sequence <= node.applied || node.beyond & (1 << message.sequence) != 0)
        {
            return;
        }
        if node.entry.is_some_and(|entry| entry.value < message.version) {
            node.entry = None;
        }
        node.flight = None;
        if same {
            node.apply(message.sequence);
        }
    }

    fn tick(s: &mut Shared) {
        let older = |age: &mut u8| *age = (*age + 1).min(B);
        for write in &mut s.writes {
            if matches!(write.phase, Phase::Told | Phase::Raised) && !write.lost {
                older(&mut write.age);
            }
        }
        let node = &mut s.node;
        if let Some(entry) = &mut node.entry {
            entry.good = entry.good.saturating_sub(1);
        }
        if let Some(flight) = &mut node.flight {
            flight.good = flight.good.saturating_sub(1);
        }
        if let Poll::Sent(age, _) | Poll::Ran(age, _, _) = &mut node.poll {
            older(age);
        }
        node.verified = node.verified.saturating_sub(1);
    }
}
