//! The record in L2: one key, writers that commit and then tell L2, loads that take a lease, read the origin and fill.
//!
//! The record's machine is not described a second time: each command runs [`cache_core::step`] itself. Only the first form of PUT
//! (`put_anywhere`), which the machine had, is here.
//!
//! One tick is one millisecond of the machine's. All times are kept as what is left of them, so that the clock may run for ever
//! and the states are finite.

mod commands;
mod props;
pub(crate) mod record;

use cache_core::record::{Body, Life, State, millis};
use cache_core::{Acquire, Claim, Command, Echo, Fill, Filled, Put, Reply, Slot, Token, step};
use record::{NOW, Rec, payload};
use stateright::{Model, Property};
use std::time::Duration;

/// Most writers and most loads that a scope can have.
pub const MOST: usize = 3;

/// What a writer does after, or around, its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Commit, INVALIDATE.
    Invalidate,
    /// Commit, PUT: versioned namespaces only.
    Put,
    /// MARK, commit unless the mark has ended, UNMARK.
    Strict,
}

/// A scope: who takes part, and what may happen to them.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is one thing that may happen.
pub struct L2 {
    /// Every value carries its row's version.
    pub versioned: bool,
    /// The writers, each with one commit.
    pub writers: Vec<Op>,
    /// How many loads.
    pub loads: usize,
    /// Loads may read a replica of the database that lags.
    pub replica: bool,
    /// Redis may evict the record at any moment.
    pub evict: bool,
    /// Redis may refuse a script for want of memory; the writer then unlinks the record.
    pub oom: bool,
    /// Time passes: lives, marks and tombstones end. Without it leases may end at any moment, and nothing else does.
    pub time: bool,
    /// A done INVALIDATE or UNMARK may land once more, at any later moment: it was repeated.
    pub repeat: bool,
    /// Loads may fail, processes may die.
    pub fail: bool,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// Naive variants. Each breaks a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Fill with SET, invalidate with DEL.
    SetAndDel,
    /// Fill with SET NX, invalidate with DEL.
    SetNx,
    /// All loads of a client share a token.
    TokenPerClient,
    /// Versions are not used, though loads read a replica that lags.
    NoFloor,
    /// An invalidation replaces the floor, instead of raising it.
    FloorOverwritten,
    /// A lease's record ends with the lease, and the floor in it.
    LeaseForgetsFloor,
    /// A tombstone is forgotten sooner than a replica has caught up.
    TombstoneTooShort,
    /// A load that failed or was refused keeps its lease.
    NoRelease,
    /// An ACQUIRE whose answer was lost is sent again.
    AcquireRepeated,
    /// PUT stores on an absent key, on a tombstone and on a lease, as long as the floor allows it.
    PutAnywhere,
    /// Writers commit without a mark, though old hits are forbidden from the commit on.
    NoMarks,
    /// Marks are counted; an UNMARK takes one from the count whosever it is.
    MarksCounted,
    /// The same, without a mark that has ended: but the UNMARK is repeated.
    UnmarkRepeated,
    /// An UNMARK whose mark is gone does nothing.
    UnmarkOnlyUnmarks,
    /// A writer whose mark has ended commits all the same.
    CommitAfterMark,
    /// Named exception: the record with the floor is evicted, while loads read a replica that lags.
    FloorEvicted,
    /// Named exception: strict mode while loads read a replica that lags. The mark may end between the commit and its UNMARK.
    StrictReplica,
    /// Named exception: a mark is evicted.
    MarkEvicted,
    /// Named exception: the fallback for want of memory loses the floor, while loads read a replica that lags.
    FloorUnlinked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// Marked; the mark's life that is left.
    Marked(u8),
    /// Committed this version (0: gave up).
    Committed(u8),
    /// Told L2.
    Done(u8),
    /// Told L2 twice.
    Repeated,
    Died,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Load {
    Idle,
    Leased,
    Read(u8),
    /// Still has the lease, and nothing to fill.
    Failed,
    Stored,
    Hit(u8),
    Refused,
    Ended,
    Died,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    rec: Rec,
    /// The last committed version, and how much of it the replica has.
    db: u8,
    replica: u8,
    /// Ticks since the replica began to lag.
    lag: u8,
    /// The highest version whose INVALIDATE was acknowledged.
    acked: u8,
    writers: [Writer; MOST],
    loads: [Load; MOST],
    /// Whose grant the present lease is, whatever its token says; and whether someone else filled.
    holder: u8,
    usurped: bool,
}

/// A step of the model. Numbers are writers or loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// MARK.
    Mark(usize),
    /// The origin's commit.
    Commit(usize),
    /// The commit is given up: the mark has ended.
    GiveUp(usize),
    /// INVALIDATE, PUT or UNMARK, and its Ok.
    Tell(usize),
    /// INVALIDATE is refused for want of memory: UNLINK.
    Unlink(usize),
    /// What was told is told again.
    TellAgain(usize),
    /// ACQUIRE of a read that missed.
    Acquire(usize),
    /// The same ACQUIRE lands once more.
    AcquireAgain(usize),
    /// The origin is read.
    Read(usize),
    /// Its replica is read.
    ReadReplica(usize),
    /// The origin fails.
    Fail(usize),
    /// FILL.
    Fill(usize),
    /// RELEASE.
    Release(usize),
    /// The writer's process dies.
    WriterDies(usize),
    /// The load's process dies.
    LoadDies(usize),
    /// The database's replica catches up.
    CatchUp,
    /// The lease's time is over.
    LeaseEnds,
    /// The record is evicted.
    Evict,
    /// A millisecond passes.
    Tick,
}

const LEASE: u8 = 1;
const MARK: u8 = 2;
/// Longest lag of a replica.
const LAG: u8 = 2;
/// Life of a tombstone: longer than the lag.
const RETAIN: u8 = 3;
/// A value's lives.
const LIFE: [u8; 3] = [1, 2, 3];

/// PUT as it was first: it stores wherever its version reaches what is known, as a load by force does.
pub(crate) fn put_anywhere(slot: Slot, put: &Put, now: u64) -> Slot {
    let newer = matches!(&slot, Slot::Held { record, .. } if record.state.has_value() && record.version >= put.version);
    if newer {
        return slot;
    }
    let Put { token, version, age, ref body } = *put;
    let created = now.saturating_sub(millis(age));
    let retain = ms(RETAIN);
    let acquire = Acquire { token, lease: retain, retain, claim: Claim::Force, schema: body.schema, generation: body.generation };
    let (taken, _) = step(slot.clone(), &Command::Acquire(&acquire, Echo::default()), now);
    match step(taken, &Command::Fill(&Fill { token, version, created, body: body.clone() }), now) {
        (stored, Reply::Fill(Filled::Stored)) => stored,
        _ => slot,
    }
}

pub(crate) fn ms(ticks: u8) -> Duration {
    Duration::from_millis(ticks.into())
}

/// A token of a load; `of` counts from 1.
pub(crate) fn token(of: u8) -> Token {
    Token::from_bytes([of; 16])
}

/// A mark's token.
fn mark_token(writer: usize) -> Token {
    token(100 + writer as u8)
}

impl L2 {
    /// A scope in which only what is asked for happens.
    pub fn new(writers: &[Op], loads: usize) -> Self {
        Self {
            versioned: false,
            writers: writers.to_vec(),
            loads,
            replica: false,
            evict: false,
            oom: false,
            time: false,
            repeat: false,
            fail: false,
            mutant: None,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn strict(&self) -> bool {
        self.writers.iter().all(|op| *op == Op::Strict)
    }

    fn naive(&self) -> bool {
        self.is(Mutant::SetAndDel) || self.is(Mutant::SetNx)
    }

    fn retain(&self) -> u8 {
        if self.is(Mutant::TombstoneTooShort) { 1 } else { RETAIN }
    }

    fn load_token(&self, load: usize) -> u8 {
        if self.is(Mutant::TokenPerClient) { 1 } else { load as u8 + 1 }
    }

    fn body(&self, value: u8) -> Body {
        let [soft, hard, last] = if self.time { LIFE } else { [100; 3] };
        let life = Life { soft: ms(soft), hard: ms(hard), last: ms(last) };
        Body { life, payload: payload(value), ..Body::empty(0, 0, Echo::default()) }
    }

    fn version(&self, value: u8) -> u64 {
        if self.versioned { value.into() } else { 0 }
    }
}

impl Model for L2 {
    type State = Shared;
    type Action = Action;

    fn init_states(&self) -> Vec<Shared> {
        vec![Shared {
            rec: Rec::ABSENT,
            db: 0,
            replica: 0,
            lag: 0,
            acked: 0,
            writers: [Writer::Idle; MOST],
            loads: [Load::Idle; MOST],
            holder: 0,
            usurped: false,
        }]
    }

    fn actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        for (w, op) in self.writers.iter().enumerate() {
            let strict = *op == Op::Strict && !self.is(Mutant::NoMarks);
            match s.writers[w] {
                Writer::Idle if strict => actions.push(Action::Mark(w)),
                Writer::Idle => actions.push(Action::Commit(w)),
                Writer::Marked(left) => {
                    actions.push(if left > 0 || self.is(Mutant::CommitAfterMark) {
                        Action::Commit(w)
                    } else {
                        Action::GiveUp(w)
                    });
                    if self.fail {
                        actions.push(Action::WriterDies(w));
                    }
                }
                Writer::Committed(_) => {
                    actions.push(Action::Tell(w));
                    if self.oom || self.is(Mutant::FloorUnlinked) {
                        actions.push(Action::Unlink(w));
                    }
                }
                Writer::Done(_) if (self.repeat && *op != Op::Put) || self.is(Mutant::UnmarkRepeated) => {
                    actions.push(Action::TellAgain(w));
                }
                Writer::Done(_) | Writer::Repeated | Writer::Died => {}
            }
        }
        for load in 0..self.loads {
            match s.loads[load] {
                Load::Idle => actions.push(Action::Acquire(load)),
                Load::Leased => {
                    actions.push(Action::Read(load));
                    if s.replica < s.db {
                        actions.push(Action::ReadReplica(load));
                    }
                    if self.fail {
                        actions.extend([Action::Fail(load), Action::LoadDies(load)]);
                    }
                }
                Load::Read(_) => actions.push(Action::Fill(load)),
                Load::Failed if !self.is(Mutant::NoRelease) => actions.push(Action::Release(load)),
                _ => {}
            }
            if self.is(Mutant::AcquireRepeated) && matches!(s.loads[load], Load::Leased | Load::Read(_)) {
                actions.push(Action::AcquireAgain(load));
            }
        }
        if s.replica < s.db {
            actions.push(Action::CatchUp);
        }
        let evict = self.evict
            || (self.is(Mutant::FloorEvicted) && s.rec.state == Some(State::Tombstone))
            || (self.is(Mutant::MarkEvicted) && s.rec.state == Some(State::Marked));
        if evict && s.rec.state.is_some() {
            actions.push(Action::Evict);
        }
        if !self.time && s.rec.left > 0 {
            actions.push(Action::LeaseEnds);
        }
        // A replica that lags for longer than is promised is not this model's business.
        if self.time && !(s.replica < s.db && s.lag == LAG) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &Shared, action: Action) -> Option<Shared> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Acquire(load) => self.acquire(s, load),
            Action::AcquireAgain(load) => {
                let phase = s.loads[load];
                self.acquire(s, load);
                s.loads[load] = phase;
            }
            Action::Read(load) => s.loads[load] = Load::Read(s.db),
            Action::ReadReplica(load) => s.loads[load] = Load::Read(s.replica),
            Action::Fail(load) if self.is(Mutant::NoRelease) => s.loads[load] = Load::Ended,
            Action::Fail(load) => s.loads[load] = Load::Failed,
            Action::Fill(load) => {
                let Load::Read(value) = s.loads[load] else { unreachable!() };
                self.fill(s, load, value);
            }
            Action::Release(load) => {
                let command = Command::Release(token(self.load_token(load)));
                s.rec = Rec::of(step(s.rec.slot(), &command, NOW).0);
                s.loads[load] = Load::Ended;
            }
            Action::LoadDies(load) => s.loads[load] = Load::Died,
            Action::WriterDies(w) => s.writers[w] = Writer::Died,
            Action::CatchUp => (s.replica, s.lag) = (s.db, 0),
            Action::LeaseEnds => s.rec.left = 0,
            Action::Evict => s.rec = Rec::ABSENT,
            Action::Tick => Self::tick(s),
            write => self.write(s, write),
        }
        // A lease that is gone has no holder.
        if !matches!(s.rec.state, Some(State::Lease | State::Refresh)) {
            s.holder = 0;
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
