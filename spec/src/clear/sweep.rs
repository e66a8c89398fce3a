//! The clear: the masters in turn, then the partitions in any order, then own L1.

use super::memory::begin_actions;
use super::{Action, Clear, MASTERS, Mutant, Shared};
use crate::l2::ms;
use crate::l2::record::{NOW, Rec};
use cache_core::record::State;
use cache_core::{Command, Echo, step};

/// Who clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The writer.
    Caller,
    /// Its node, since that has failed.
    Recovery,
    /// Its node, since a failover may have lost it.
    Replay,
}

/// How far a clear is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A master is to be asked for its keys.
    List(u8),
    /// The key that it has listed is to be tombstoned.
    Tombstone(u8),
    /// Partitions are to be told.
    Tell,
    /// All are told, or will not be.
    Told,
    /// All is blocked.
    Blocked,
    /// L1 has let go for the second time.
    LetGo,
}

/// A clear under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sweep {
    pub(super) who: Who,
    step: Step,
    /// Something has failed.
    pub(super) failed: bool,
    /// Masters that are scanned, one bit each.
    pub(super) scanned: u8,
    /// Partitions that are done with, one bit each.
    done: u8,
    /// Run and sequence of the message to a partition, if it was told.
    pub(super) receipts: [Option<(u8, u8)>; MASTERS],
    /// Each master's run as it was known before the scan.
    pub(super) before: [u8; MASTERS],
    /// How often it had come up by then that it has to be repeated.
    pub(super) times: u8,
    /// Masters whose replica was promoted meanwhile, one bit each.
    pub(super) promoted: u8,
}

impl Sweep {
    fn scanned(&mut self, m: u8) {
        self.scanned |= 1 << m;
        self.next(m);
    }

    fn next(&mut self, m: u8) {
        self.step = Step::List(m + 1);
    }
}

impl Clear {
    pub(super) fn sweep_actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        let Some(sweep) = s.sweep else { return begin_actions(s, actions) };
        let may_fail = s.failed < self.fails;
        match sweep.step {
            Step::List(m) => {
                actions.push(Action::List(m.into()));
                // Whether or not what it meets has lost anything: its order of keys is another one.
                if self.pass_by && sweep.promoted & (1 << m) != 0 {
                    actions.push(Action::PassBy(m.into()));
                }
                if may_fail {
                    actions.push(Action::ScanFails(m.into()));
                }
            }
            Step::Tombstone(m) => {
                actions.push(Action::Tombstone(m.into()));
                if may_fail {
                    actions.push(Action::ScanFails(m.into()));
                }
            }
            Step::Tell => {
                for m in (0..MASTERS).filter(|m| sweep.done & (1 << m) == 0) {
                    if self.has_room(s, m) {
                        actions.push(Action::Tell(m));
                    }
                    if may_fail {
                        actions.push(Action::TellFails(m));
                    }
                }
            }
            Step::Told | Step::Blocked | Step::LetGo => actions.push(self.rest(&sweep)),
        }
    }

    /// What follows once L2 is told, or will not be. A replay leaves L1 to its messages.
    fn rest(&self, sweep: &Sweep) -> Action {
        let late = self.is(Mutant::BlockAfterRemoval);
        match (sweep.who, sweep.step) {
            (Who::Caller, Step::Told) if self.is(Mutant::OwnRemovedOnlyBefore) => Action::End,
            (Who::Caller, Step::Told) if !late => Action::Block,
            (Who::Caller, Step::LetGo) if late => Action::Block,
            (Who::Caller, Step::Told) => Action::LetGo,
            (Who::Caller, Step::Blocked) if !late => Action::LetGo,
            // All is blocked still.
            (Who::Recovery, Step::Told) if !sweep.failed => Action::LetGo,
            _ => Action::End,
        }
    }

    pub(super) fn begun(&self, s: &Shared, who: Who) -> Sweep {
        let mut sweep = Sweep {
            who,
            step: Step::List(0),
            failed: false,
            scanned: 0,
            done: 0,
            receipts: [None; MASTERS],
            before: s.masters.map(|master| master.polled),
            times: if who == Who::Replay { s.memory.repeat } else { 0 },
            promoted: 0,
        };
        if who == Who::Recovery {
            sweep.scanned = s.memory.scanned;
        }
        for m in (0..MASTERS).filter(|m| !self.is_in_play(*m)) {
            (sweep.scanned, sweep.done) = (sweep.scanned | 1 << m, sweep.done | 1 << m);
            sweep.receipts[m] = Some((s.masters[m].run, 0));
        }
        let no_scan = self.is(Mutant::MessagesFirst) || (who == Who::Replay && self.is(Mutant::ReplayTellsOnly));
        if no_scan {
            sweep.step = Step::Tell;
        }
        self.settled(sweep)
    }

    /// Where a node reads over promotions, its key's master is alone: another one changes nothing for it, and the states are many.
    pub(super) fn is_in_play(&self, m: usize) -> bool {
        self.promotions == 0 || self.reader.is_none_or(|reader| reader.key() == m)
    }

    /// Goes on where there is nothing to do.
    fn settled(&self, mut sweep: Sweep) -> Sweep {
        while let Step::List(m) = sweep.step
            && usize::from(m) < MASTERS
            && sweep.scanned & (1 << m) != 0
        {
            sweep.next(m);
        }
        if sweep.step == Step::List(MASTERS as u8) {
            sweep.step = Step::Tell;
        }
        let silent = self.is(Mutant::NoMessages) || (sweep.who == Who::Replay && self.is(Mutant::ReplayScansOnly));
        // A scan that has failed tells nobody.
        let all = (1 << MASTERS) - 1;
        let untold = silent || (sweep.failed && sweep.scanned != all && !self.is(Mutant::OkThoughUnscanned));
        if sweep.step == Step::Tell && (untold || sweep.done == all) {
            let to_scan = self.is(Mutant::MessagesFirst) && sweep.scanned != all;
            sweep.step = if to_scan { Step::List(0) } else { Step::Told };
        }
        sweep
    }

    pub(super) fn sweep(&self, s: &mut Shared, action: Action) {
        let Some(mut sweep) = s.sweep else { unreachable!() };
        self.take(s, &mut sweep, action);
        s.sweep = Some(self.settled(sweep));
    }

    fn take(&self, s: &mut Shared, sweep: &mut Sweep, step: Action) {
        match step {
            Action::List(m) => {
                let spared = self.is(Mutant::LeasesSpared) && s.masters[m].rec.state == Some(State::Lease);
                if s.masters[m].rec.state.is_none() || spared {
                    sweep.scanned(m as u8);
                } else {
                    sweep.step = Step::Tombstone(m as u8);
                }
            }
            Action::PassBy(m) => sweep.scanned(m as u8),
            Action::Tombstone(m) => {
                tombstone(&mut s.masters[m].rec);
                sweep.scanned(m as u8);
            }
            Action::ScanFails(m) => {
                s.failed += 1;
                sweep.failed = true;
                // The others are swept all the same.
                sweep.next(m as u8);
            }
            Action::Tell(m) => {
                let master = &mut s.masters[m];
                master.sequence += 1;
                sweep.receipts[m] = Some((master.run, master.sequence));
                sweep.done |= 1 << m;
                self.publish(s, m);
            }
            Action::TellFails(m) => {
                s.failed += 1;
                sweep.failed = true;
                sweep.done |= 1 << m;
            }
            Action::Block => {
                s.memory.blocked = true;
                sweep.step = Step::Blocked;
            }
            Action::LetGo => {
                if self.is_own() {
                    s.node.let_go();
                }
                sweep.step = Step::LetGo;
            }
            _ => unreachable!(),
        }
    }
}

fn tombstone(rec: &mut Rec) {
    let command = Command::Invalidate { version: None, retain: ms(100), echo: Echo::default() };
    *rec = Rec::of(step(rec.slot(), &command, NOW).0);
}
