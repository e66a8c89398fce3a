//! Who clears, and clears again: the writer, its node since that failed, its node since a failover may have lost it.

use super::{Action, Clear, MASTERS, Mutant, Reader, Shared, Sweep, Who};

/// What the caller of the clear was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Told {
    /// Nothing yet.
    #[default]
    No,
    /// That L2 could not be told.
    Error,
    /// Ok.
    Ok,
}

/// What the node that clears keeps in mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Memory {
    /// What its caller was told.
    pub told: Told,
    /// The clear has failed, and is to be done again.
    pub owed: bool,
    /// Masters that the clear which is owed has scanned, one bit each (one mutant).
    pub scanned: u8,
    /// All keys are blocked.
    pub blocked: bool,
    /// The clear is remembered, for a failover to come.
    pub noted: bool,
    /// How often it came up that it has to be repeated.
    pub repeat: u8,
}

impl Clear {
    pub(super) fn memory_actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        for (m, master) in s.masters.iter().enumerate() {
            if master.polled != master.run {
                actions.push(Action::Poll(m));
            }
        }
        // What one server was told and has answered for long since, its replica has. A clear that is to be repeated is forgotten by the same measure: it stays owed for now, and no
        // longer comes up anew.
        let for_long = s.masters.iter().all(|master| master.polled == master.run && (master.caught_up || s.memory.repeat > 0));
        if self.forget && s.memory.noted && for_long {
            actions.push(Action::Forget);
        }
    }

    pub(super) fn memory(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Begin => {
                if self.is_own() {
                    s.node.let_go();
                }
                s.sweep = Some(self.begun(s, Who::Caller));
            }
            Action::Recover => s.sweep = Some(self.begun(s, Who::Recovery)),
            Action::Repeat => s.sweep = Some(self.begun(s, Who::Replay)),
            Action::Poll(m) => self.polled(s, m),
            Action::Forget => s.memory.noted = false,
            Action::End => self.end(s),
            _ => unreachable!(),
        }
    }

    /// A poll of the node that clears. A master is another one than was known, or nothing was known of it: what was told of late is owed to it.
    fn polled(&self, s: &mut Shared, m: usize) {
        let master = &mut s.masters[m];
        let is_another = master.polled != 0 || !self.is(Mutant::FirstIsNoOther);
        master.polled = master.run;
        s.memory.repeat += u8::from(is_another && s.memory.noted);
    }

    fn end(&self, s: &mut Shared) {
        let Some(sweep) = s.sweep.take() else { unreachable!() };
        let is_scanned = sweep.scanned == (1 << MASTERS) - 1;
        let forgiven = if is_scanned { Mutant::OkThoughUntold } else { Mutant::OkThoughUnscanned };
        let ok = !sweep.failed || self.is(forgiven);
        let whole = ok && sweep.promoted == 0;
        // A failover that fell into it may be known by now, and leaves nobody then who would ask for what was told before. So it counts who was known before the scan.
        let another = s.masters.map(|master| master.polled) != sweep.before && !self.is(Mutant::ReplayUnjudged);
        let memory = &mut s.memory;
        match sweep.who {
            Who::Caller => {
                memory.told = if ok { Told::Ok } else { Told::Error };
                memory.owed = !ok;
                memory.blocked = !ok && !self.is(Mutant::ErrorUnblocks);
                s.seen.bound = whole || !ok;
            }
            Who::Recovery if ok => {
                (memory.owed, memory.blocked) = (false, false);
                s.seen.bound = whole;
            }
            // What has come up meanwhile stays owed.
            Who::Replay if ok && memory.repeat == sweep.times && !another => memory.repeat = 0,
            Who::Recovery | Who::Replay => {}
        }
        memory.scanned = if !ok && self.is(Mutant::RecoveryOfTheRest) { sweep.scanned } else { 0 };
        if !ok {
            return;
        }
        s.seen.repeated |= whole && sweep.who == Who::Replay;
        if whole {
            s.seen.whole.get_or_insert(0);
        }
        self.note(s, &sweep);
    }

    /// What is told is remembered for a failover, and is owed at once where it was not told, for certain, to servers that were known before the scan, and are still.
    fn note(&self, s: &mut Shared, sweep: &Sweep) {
        if self.is(Mutant::NoReplay) {
            return;
        }
        s.memory.noted = true;
        for master in &mut s.masters {
            master.caught_up = false;
        }
        if sweep.who == Who::Replay {
            return;
        }
        let is_current = |m: usize| {
            let (run, before) = (s.masters[m].polled, sweep.before[m]);
            sweep.receipts[m].is_some_and(|(told, _)| told == run) && (before == run || self.is(Mutant::JudgedByReceipts))
        };
        if !(0..MASTERS).all(is_current) {
            s.memory.repeat += 1;
        }
        if let Some(key) = self.reader.filter(|_| self.is_own()).map(Reader::key)
            && let Some((run, sequence)) = sweep.receipts[key]
        {
            s.node.applied(run, sequence);
        }
    }
}

pub(super) fn begin_actions(s: &Shared, actions: &mut Vec<Action>) {
    if s.db == 1 && s.memory.told == Told::No {
        actions.push(Action::Begin);
    }
    if s.memory.owed {
        actions.push(Action::Recover);
    }
    if s.memory.repeat > 0 {
        actions.push(Action::Repeat);
    }
}
