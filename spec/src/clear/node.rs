//! The node that reads one key, as in `crate::failover`: a message, or a poll that tells of more than has come, makes what it has suspect.

use super::{Action, B, Clear, MESSAGES, Shared};

/// An entry in L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Which commit's value.
    pub value: u8,
    /// Its epoch is not the partition's.
    pub suspect: bool,
    /// Ticks since its flight was registered.
    pub age: u8,
}

/// A flight that is not poisoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flight {
    /// What it has read.
    pub value: Option<u8>,
    /// Ticks since it was registered.
    pub age: u8,
}

/// A poll on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Poll {
    /// None.
    #[default]
    No,
    /// It has run: ticks since it was sent, the mark at that time; run and sequence. (That it may be sent well before it runs is in `crate::l1`.)
    Ran(u8, u8, (u8, u8)),
}

/// The node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Node {
    /// What L1 has.
    pub entry: Option<Entry>,
    /// The flight.
    pub flight: Option<Flight>,
    /// Whose sequences it counts: the run of the key's master,
    pub run: u8,
    /// all up to this one are applied,
    pub applied: u8,
    /// and these, one bit each.
    pub beyond: u8,
    /// The poll on its way.
    pub poll: Poll,
    /// Until `verified_until`.
    pub verified: u8,
    /// Messages that may still come: run and sequence.
    pub coming: [Option<(u8, u8)>; MESSAGES],
}

impl Node {
    /// The entry, if it is served as verified.
    pub(super) fn hit(&self) -> Option<Entry> {
        self.entry.filter(|entry| !entry.suspect && (self.verified > 0 || entry.age < B))
    }

    /// What a reader may be given: the entry, or what a flight has that may be joined.
    pub(super) fn given(&self) -> impl Iterator<Item = u8> {
        let joined = self.flight.filter(|flight| self.verified > 0 || flight.age < B);
        self.hit().map(|entry| entry.value).into_iter().chain(joined.and_then(|flight| flight.value))
    }

    /// Poison, remove, poison.
    pub(super) fn let_go(&mut self) {
        (self.entry, self.flight) = (None, None);
    }

    fn suspect(&mut self) {
        self.flight = None;
        if let Some(entry) = &mut self.entry {
            entry.suspect = true;
        }
    }

    fn has(&self, run: u8, sequence: u8) -> bool {
        run == self.run && (sequence <= self.applied || self.beyond & (1 << sequence) != 0)
    }

    pub(super) fn applied(&mut self, run: u8, sequence: u8) {
        if run == self.run && sequence > self.applied {
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

    fn polled(&mut self, age: u8, then: u8, (run, sequence): (u8, u8)) {
        let same = run == self.run && sequence >= then;
        if same && sequence > self.applied && self.verified > 0 {
            return;
        }
        if !same || sequence > self.applied {
            if !same {
                (self.run, self.applied, self.beyond) = (run, 0, 0);
            }
            self.applied = self.applied.max(sequence);
            self.settle();
            self.suspect();
        }
        self.verified = self.verified.max(B.saturating_sub(age));
    }
}

impl Clear {
    pub(super) fn has_room(&self, s: &Shared, m: usize) -> bool {
        self.reader.is_none_or(|reader| reader.key() != m || s.node.coming.contains(&None))
    }

    pub(super) fn publish(&self, s: &mut Shared, m: usize) {
        if self.reader.is_some_and(|reader| reader.key() == m) {
            let message = (s.masters[m].run, s.masters[m].sequence);
            let Some(at) = s.node.coming.iter().position(Option::is_none) else { unreachable!() };
            s.node.coming[at] = Some(message);
        }
    }

    pub(super) fn node_actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        let barred = self.is_own() && s.memory.blocked;
        match s.node.flight {
            // A barred one asks the origin and keeps nothing.
            None if s.node.hit().is_none() && !barred => actions.push(Action::Ticket),
            None => {}
            Some(Flight { value: None, .. }) => actions.push(Action::Read),
            Some(_) => actions.push(Action::Store),
        }
        for at in (0..MESSAGES).filter(|at| s.node.coming[*at].is_some()) {
            actions.push(Action::Deliver(at));
            if self.lose {
                actions.push(Action::Lose(at));
            }
        }
        actions.push(match s.node.poll {
            Poll::No => Action::PollRun,
            Poll::Ran(..) => Action::PollReply,
        });
    }

    pub(super) fn node(&self, s: &mut Shared, action: Action) {
        let Some(reader) = self.reader else { unreachable!() };
        let master = &s.masters[reader.key()];
        let node = &mut s.node;
        match action {
            Action::Ticket => node.flight = Some(Flight { value: None, age: 0 }),
            Action::Read => {
                let found = if master.rec.has_value() { master.rec.value } else { s.db };
                if let Some(flight) = &mut node.flight {
                    flight.value = Some(found);
                }
            }
            Action::Store => {
                if let Some(Flight { value: Some(value), age }) = node.flight.take() {
                    node.entry = Some(Entry { value, suspect: false, age });
                }
            }
            Action::Deliver(at) | Action::Lose(at) => {
                let Some((run, sequence)) = node.coming[at].take() else { unreachable!() };
                // Those in the same order whatever came: fewer states.
                node.coming.sort_unstable_by_key(Option::is_none);
                // Who has told of it, and let go by that, passes it over.
                let own = self.is_own() && node.has(run, sequence);
                if matches!(action, Action::Deliver(_)) && !own {
                    node.suspect();
                    node.applied(run, sequence);
                }
            }
            // Answers that come late, and from before a failover, are in `crate::failover`; here the states would be many.
            Action::PollRun if self.promotions > 0 => node.polled(0, node.applied, (master.run, master.sequence)),
            Action::PollRun => node.poll = Poll::Ran(0, node.applied, (master.run, master.sequence)),
            Action::PollReply => {
                let Poll::Ran(age, then, answer) = node.poll else { unreachable!() };
                node.poll = Poll::No;
                node.polled(age, then, answer);
            }
            Action::Tick => tick(s),
            _ => unreachable!(),
        }
    }
}

fn tick(s: &mut Shared) {
    let older = |age: &mut u8| *age = (*age + 1).min(B);
    s.seen.whole.iter_mut().for_each(older);
    let node = &mut s.node;
    node.entry.iter_mut().for_each(|entry| older(&mut entry.age));
    node.flight.iter_mut().for_each(|flight| older(&mut flight.age));
    if let Poll::Ran(age, ..) = &mut node.poll {
        older(age);
    }
    node.verified = node.verified.saturating_sub(1);
}
