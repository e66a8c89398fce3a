//! What loads and writers ask of the record.

use super::record::{NOW, Rec};
use super::{Action, L2, LEASE, Load, MARK, Mutant, Op, Shared, Writer, mark_token, ms, put_anywhere, token};
use cache_core::record::State;
use cache_core::{Acquire, Acquired, Claim, Command, Echo, Fill, Filled, Mark, Put, Reply, Slot, Unmark, step};
use std::time::Duration;

impl L2 {
    pub(super) fn acquire(&self, s: &mut Shared, load: usize) {
        if self.naive() {
            s.loads[load] = if s.rec.has_value() { Load::Hit(s.rec.value) } else { Load::Leased };
            return;
        }
        let retain = if self.is(Mutant::LeaseForgetsFloor) { 0 } else { self.retain() };
        let acquire = Acquire {
            token: token(self.load_token(load)),
            lease: ms(LEASE),
            retain: ms(retain),
            claim: Claim::Stale,
            schema: 0,
            generation: 0,
        };
        let (slot, reply) = step(s.rec.slot(), &Command::Acquire(&acquire, Echo::default()), NOW);
        s.rec = Rec::of(slot);
        match reply {
            Reply::Acquire(Acquired::Granted { .. }) => {
                if self.is(Mutant::LeaseForgetsFloor) {
                    s.rec.stay = LEASE;
                }
                s.loads[load] = Load::Leased;
                s.holder = load as u8 + 1;
            }
            Reply::Acquire(Acquired::Hit) => s.loads[load] = Load::Hit(s.rec.value),
            _ => {}
        }
    }

    pub(super) fn fill(&self, s: &mut Shared, load: usize, value: u8) {
        if self.naive() {
            if self.is(Mutant::SetAndDel) || !s.rec.has_value() {
                s.rec = Rec { state: Some(State::Value), value, stay: 100, long: true, ..Rec::ABSENT };
            }
            s.loads[load] = Load::Stored;
            return;
        }
        let fill =
            Fill { token: token(self.load_token(load)), version: self.version(value), created: NOW, body: self.body(value) };
        let (slot, reply) = step(s.rec.slot(), &Command::Fill(&fill), NOW);
        s.rec = Rec::of(slot);
        match reply {
            Reply::Fill(Filled::Stored) => {
                s.usurped |= s.holder != load as u8 + 1;
                s.loads[load] = Load::Stored;
            }
            // Too old: the lease is still ours.
            Reply::Fill(Filled::TooOld) => s.loads[load] = Load::Failed,
            _ => s.loads[load] = Load::Refused,
        }
    }

    fn tell(&self, s: &mut Shared, writer: usize, version: u8) {
        let slot = s.rec.slot();
        let floor = if version > 0 && self.versioned && !self.is(Mutant::NoFloor) { Some(version.into()) } else { None };
        let retain = ms(self.retain());
        let slot = match self.writers[writer] {
            _ if self.naive() => Slot::Absent,
            Op::Put => {
                let body = self.body(version);
                let command = Put { token: mark_token(writer), version: version.into(), age: Duration::ZERO, body };
                if self.is(Mutant::PutAnywhere) {
                    put_anywhere(slot, &command, NOW)
                } else {
                    step(slot, &Command::Put(&command, retain), NOW).0
                }
            }
            Op::Strict if !self.is(Mutant::NoMarks) => self.unmark(s, slot, writer, floor),
            Op::Strict | Op::Invalidate => {
                step(slot, &Command::Invalidate { version: floor, retain, echo: Echo::default() }, NOW).0
            }
        };
        s.rec = Rec::of(slot);
        if self.is(Mutant::FloorOverwritten) && s.rec.state == Some(State::Tombstone) {
            s.rec.version = version;
        }
        s.acked = s.acked.max(version);
    }

    fn unmark(&self, s: &Shared, slot: Slot, writer: usize, floor: Option<u64>) -> Slot {
        let marked = s.rec.state == Some(State::Marked);
        if self.is(Mutant::UnmarkOnlyUnmarks) && !marked {
            return slot;
        }
        let counted = self.is(Mutant::MarksCounted) || self.is(Mutant::UnmarkRepeated);
        // Whichever mark is first in the list falls to a count.
        let of = if counted && marked { s.rec.marks.iter().position(|left| *left > 0).unwrap_or(writer) } else { writer };
        let unmark = Unmark { token: mark_token(of), version: floor, retain: ms(self.retain()) };
        step(slot, &Command::Unmark(&unmark, Echo::default()), NOW).0
    }

    pub(super) fn write(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Mark(w) => {
                let mark = Mark { token: mark_token(w), life: ms(MARK), retain: ms(self.retain()) };
                s.rec = Rec::of(step(s.rec.slot(), &Command::Mark(&mark, Echo::default()), NOW).0);
                s.writers[w] = Writer::Marked(MARK);
            }
            Action::Commit(w) => {
                s.db += 1;
                if !self.replica {
                    s.replica = s.db;
                }
                s.writers[w] = Writer::Committed(s.db);
            }
            Action::GiveUp(w) => s.writers[w] = Writer::Committed(0),
            Action::Tell(w) => {
                let Writer::Committed(version) = s.writers[w] else { unreachable!() };
                self.tell(s, w, version);
                s.writers[w] = Writer::Done(version);
            }
            Action::Unlink(w) => {
                let Writer::Committed(version) = s.writers[w] else { unreachable!() };
                s.rec = Rec::ABSENT;
                s.acked = s.acked.max(version);
                s.writers[w] = Writer::Done(version);
            }
            Action::TellAgain(w) => {
                let Writer::Done(version) = s.writers[w] else { unreachable!() };
                self.tell(s, w, version);
                s.writers[w] = Writer::Repeated;
            }
            _ => unreachable!(),
        }
    }

    pub(super) fn tick(s: &mut Shared) {
        s.rec.tick();
        for writer in &mut s.writers {
            if let Writer::Marked(left) = writer {
                *left = left.saturating_sub(1);
            }
        }
        s.lag = if s.replica < s.db { s.lag + 1 } else { 0 };
    }
}
