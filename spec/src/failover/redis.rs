//! What scripts do to the record and the meta key, and what a promotion does to both.

use super::{Action, Failover, Load, Meta, Msg, Mutant, Phase, Shared};
use crate::l2::record::{NOW, Rec, payload};
use crate::l2::{ms, token};
use cache_core::record::{Body, Life};
use cache_core::{Acquire, Acquired, Claim, Command, Echo, Fill, Filled, Reply, step};

impl Failover {
    /// The meta key as a script finds it: made if it is absent, with a new incarnation if it comes from another server.
    pub(super) fn meta(&self, s: &mut Shared) -> Meta {
        let blind = self.is(Mutant::NoHistory) || self.is(Mutant::DuplicatesIgnored) || self.is(Mutant::HistoryInPollsOnly);
        let meta = match s.master.meta {
            // Without a reader, nobody looks at incarnations.
            Some(meta) if meta.run == s.run || blind || !self.reader => meta,
            Some(meta) => {
                s.incarnations += 1;
                Meta { incarnation: s.incarnations, sequence: 0, run: s.run, ..meta }
            }
            None => {
                s.incarnations += u8::from(self.reader);
                s.generations += 1;
                let generation = if self.is(Mutant::GenerationFromZero) { 0 } else { s.generations };
                Meta { incarnation: s.incarnations, sequence: 0, run: s.run, generation }
            }
        };
        s.master.meta = Some(meta);
        meta
    }

    pub(super) fn publish(&self, s: &mut Shared, version: u8) {
        if !self.reader {
            return;
        }
        let mut meta = self.meta(s);
        meta.sequence += 1;
        s.master.meta = Some(meta);
        let Some(at) = s.messages.iter().position(Option::is_none) else { unreachable!() };
        s.messages[at] = Some(Msg { incarnation: meta.incarnation, sequence: meta.sequence, version, run: s.run });
        s.node.coming |= 1 << at;
    }

    pub(super) fn tell(&self, s: &mut Shared, w: usize) {
        let version = self.versioned.then_some(s.writes[w].version.into());
        let command = Command::Invalidate { version, retain: ms(100), echo: Echo::default() };
        s.master.rec = Rec::of(step(s.master.rec.slot(), &command, NOW).0);
        self.publish(s, s.writes[w].version);
        Self::told(s, w, Phase::Told);
    }

    /// The collapse of a full ring or queue: all that L2 has of the partition counts as absent, once its generation is known.
    pub(super) fn raise(&self, s: &mut Shared, w: usize) {
        let mut meta = self.meta(s);
        if self.is(Mutant::OverflowToIncarnation) {
            s.incarnations += u8::from(self.reader);
            (meta.incarnation, meta.sequence) = (s.incarnations, 0);
        } else {
            s.generations += 1;
            meta.generation = s.generations;
        }
        s.master.meta = Some(meta);
        Self::told(s, w, Phase::Raised);
    }

    pub(super) fn told(s: &mut Shared, w: usize, phase: Phase) {
        let write = &mut s.writes[w];
        if write.lost || matches!(write.phase, Phase::Committed) {
            write.age = 0;
        }
        (write.phase, write.run, write.replicated, write.lost) = (phase, s.run, false, false);
    }

    pub(super) fn load(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Acquire(load, generation) => {
                let acquire = Acquire {
                    token: token(load as u8 + 1),
                    lease: ms(1),
                    retain: ms(100),
                    claim: Claim::Vacant,
                    schema: 0,
                    generation: generation.into(),
                };
                let (slot, reply) = step(s.master.rec.slot(), &Command::Acquire(&acquire, Echo::default()), NOW);
                s.master.rec = Rec::of(slot);
                if matches!(reply, Reply::Acquire(Acquired::Granted { .. })) {
                    s.loads[load] = Load::Leased(generation);
                }
            }
            Action::LoadRead(load) => {
                let Load::Leased(generation) = s.loads[load] else { unreachable!() };
                s.loads[load] = Load::Read(generation, s.db);
            }
            Action::Fill(load) => {
                let Load::Read(generation, value) = s.loads[load] else { unreachable!() };
                let life = Life { soft: ms(100), hard: ms(100), last: ms(100) };
                let body = Body { life, payload: payload(value), ..Body::empty(0, generation.into(), Echo::default()) };
                let version = if self.versioned { value.into() } else { 0 };
                let fill = Fill { token: token(load as u8 + 1), version, created: NOW, body };
                let (slot, reply) = step(s.master.rec.slot(), &Command::Fill(&fill), NOW);
                s.master.rec = Rec::of(slot);
                if reply == Reply::Fill(Filled::TooOld) {
                    s.master.rec = Rec::of(step(s.master.rec.slot(), &Command::Release(token(load as u8 + 1)), NOW).0);
                }
                s.loads[load] = Load::Done;
            }
            _ => unreachable!(),
        }
    }

    pub(super) fn promote(&self, s: &mut Shared) {
        s.master = s.replica;
        s.promoted += 1;
        s.run = if self.is(Mutant::HistoryReturns) { 1 + s.promoted % 2 } else { 1 + s.promoted };
        s.node.processed = 0;
        for write in &mut s.writes {
            let told = matches!(write.phase, Phase::Told | Phase::Raised);
            write.lost |= told && !write.replicated;
        }
    }
}
