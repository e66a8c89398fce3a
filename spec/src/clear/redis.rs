//! Loads that fill L2, and what becomes of servers: records that are evicted, replicas that lag and are promoted.

use super::{Action, Clear, Load, Shared};
use crate::l2::record::{NOW, Rec, payload};
use crate::l2::{ms, token};
use cache_core::record::{Body, Life};
use cache_core::{Acquire, Acquired, Claim, Command, Echo, Fill, Filled, Reply, step};

impl Clear {
    pub(super) fn redis_actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        for load in 0..self.loads.len() {
            match s.loads[load] {
                Load::Idle => actions.push(Action::Acquire(load)),
                Load::Leased => actions.push(Action::LoadRead(load)),
                Load::Read(_) => actions.push(Action::Fill(load)),
                Load::Stored | Load::Refused => {}
            }
        }
        for (m, master) in s.masters.iter().enumerate() {
            if s.evicted < self.evict && master.rec.state.is_some() {
                actions.push(Action::Evict(m));
            }
            if self.reader.is_some_and(|reader| reader.key() != m) {
                continue;
            }
            if self.promotions > 0 && (master.replica != master.rec || (self.forget && s.memory.noted && !master.caught_up)) {
                actions.push(Action::Replicate(m));
            }
            if s.promoted < self.promotions {
                actions.push(Action::Promote(m));
            }
        }
    }

    pub(super) fn redis(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Acquire(load) => {
                let retain = ms(100);
                let acquire = Acquire { token: of(load), lease: ms(1), retain, claim: Claim::Vacant, schema: 0, generation: 0 };
                if self.run(s, load, &Command::Acquire(&acquire, Echo::default()), |reply| {
                    matches!(reply, Reply::Acquire(Acquired::Granted { .. }))
                }) {
                    s.loads[load] = Load::Leased;
                }
            }
            Action::LoadRead(load) => s.loads[load] = Load::Read(s.db),
            Action::Fill(load) => {
                let Load::Read(value) = s.loads[load] else { unreachable!() };
                let life = Life { soft: ms(100), hard: ms(100), last: ms(100) };
                let body = Body { life, payload: payload(value), ..Body::empty(0, 0, Echo::default()) };
                let fill = Fill { token: of(load), version: 0, created: NOW, body };
                let stored = self.run(s, load, &Command::Fill(&fill), |reply| *reply == Reply::Fill(Filled::Stored));
                s.loads[load] = if stored { Load::Stored } else { Load::Refused };
            }
            Action::Evict(m) => (s.masters[m].rec, s.evicted) = (Rec::ABSENT, s.evicted + 1),
            Action::Replicate(m) => {
                let master = &mut s.masters[m];
                master.replica = master.rec;
                master.caught_up = self.forget && s.memory.noted;
            }
            Action::Promote(m) => Self::promote(s, m),
            _ => unreachable!(),
        }
    }

    fn run(&self, s: &mut Shared, load: usize, command: &Command<'_>, is: impl Fn(&Reply) -> bool) -> bool {
        let rec = &mut s.masters[self.loads[load]].rec;
        let (slot, reply) = step(rec.slot(), command, NOW);
        *rec = Rec::of(slot);
        is(&reply)
    }

    fn promote(s: &mut Shared, m: usize) {
        s.promoted += 1;
        let master = &mut s.masters[m];
        if master.rec != master.replica {
            (s.seen.whole, s.seen.bound) = (None, s.memory.owed);
        }
        (master.rec, master.run, master.sequence, master.caught_up) = (master.replica, master.run + 1, 0, false);
        if let Some(sweep) = &mut s.sweep {
            sweep.promoted |= 1 << m;
        }
    }
}

fn of(load: usize) -> cache_core::Token {
    token(load as u8 + 1)
}
