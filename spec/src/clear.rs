//! The clear of a namespace as it is built: a scan of every master that tombstones what it finds, then a message for each partition.
//!
//! Two masters with a record and a partition each, which are as well two batches of one scan. A writer commits, and clears to tell of it. Loads fill L2 by
//! [`cache_core::step`] and may be in flight all the while. One node reads one of the keys: the node that clears, or another one. A clear that fails is owed, and done again
//! by the node; one that a failover may have lost is repeated, once that is known.
//!
//! A server's *run* stands for its history and for the incarnations of its partitions: who is promoted begins both anew (`crate::failover` shows that this is so). A scan that
//! meets another server than it began with may also pass a record by: cursors of one server mean nothing to another, and of a slot that moves behind its back a scan finds nothing.

mod memory;
mod node;
mod props;
mod redis;
mod sweep;

pub use memory::{Memory, Told};
pub use node::{Entry, Flight, Node, Poll};
pub use sweep::{Step, Sweep, Who};

use crate::l2::record::Rec;
use cache_core::record::State;
use stateright::{Model, Property};

/// Ticks that an answer to a poll is good for, from when it was sent.
pub const B: u8 = 2;
/// Masters, each with one record and one partition.
pub const MASTERS: usize = 2;
/// Most loads.
pub const MOST: usize = 3;
/// Most messages that a reader may still get.
pub const MESSAGES: usize = 2;

/// A scope.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is one thing that may happen.
pub struct Clear {
    /// The keys of loads that fill L2; a key is a master's number.
    pub loads: Vec<usize>,
    /// Who reads, if anybody does.
    pub reader: Option<Reader>,
    /// How often a replica may be promoted: of any master, or of the reader's key's.
    pub promotions: u8,
    /// How many steps of clears may fail.
    pub fails: u8,
    /// A scan that meets another server than it began with may pass a record by.
    pub pass_by: bool,
    /// Messages may get lost.
    pub lose: bool,
    /// Records may be evicted this often.
    pub evict: u8,
    /// At the beginning the node that clears has polled nobody yet.
    pub cold: bool,
    /// What was told long enough ago is not repeated after a failover any more.
    pub forget: bool,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// Whose L1 is looked at, and which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The node that clears.
    Own(usize),
    /// Another one.
    Other(usize),
}

impl Reader {
    fn key(self) -> usize {
        let (Self::Own(key) | Self::Other(key)) = self;
        key
    }
}

/// Naive variants. Each breaks a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Messages go out before the scan.
    MessagesFirst,
    /// The scan tombstones values, and leaves leases alone.
    LeasesSpared,
    /// L1 of the node that clears is emptied before the scan only.
    OwnRemovedOnlyBefore,
    /// L2 is scanned, and no sequence taken.
    NoMessages,
    /// Ok, though a master could not be scanned.
    OkThoughUnscanned,
    /// Ok, though a partition could not be told.
    OkThoughUntold,
    /// A clear that failed lifts its block with the error.
    ErrorUnblocks,
    /// The block comes after the second removal.
    BlockAfterRemoval,
    /// Nothing is repeated after a failover.
    NoReplay,
    /// After a failover messages are repeated, and not the scan.
    ReplayTellsOnly,
    /// After a failover the scan is repeated, and no message.
    ReplayScansOnly,
    /// A clear that is owed scans the masters only that failed.
    RecoveryOfTheRest,
    /// Whether a clear is owed to another server is judged by its messages alone: they were told the servers that are known by then.
    JudgedByReceipts,
    /// A clear that is repeated is owed no more, whatever server was noticed meanwhile.
    ReplayUnjudged,
    /// The first poll of a master tells of no other server than the one that was told before.
    FirstIsNoOther,
}

/// A load's part in L2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Load {
    /// Not begun.
    #[default]
    Idle,
    /// Has the lease.
    Leased,
    /// Has read.
    Read(u8),
    /// L2 has its value.
    Stored,
    /// L2 has refused it.
    Refused,
}

/// A master and its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Master {
    rec: Rec,
    replica: Rec,
    /// Counts its servers, from 1.
    run: u8,
    /// Of its partition, in this run.
    sequence: u8,
    /// Its run as the node that clears has polled it last; 0 is none.
    polled: u8,
    /// Its replica has caught up since the last clear was told and the server was promoted.
    caught_up: bool,
}

/// What the properties need to know, and nobody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seen {
    /// Ticks since a clear was done that no failover fell into, if none has lost anything since.
    pub whole: Option<u8>,
    /// The node that clears is bound by what it has told its caller.
    pub bound: bool,
    /// Something was repeated after a failover.
    pub repeated: bool,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    db: u8,
    masters: [Master; MASTERS],
    loads: [Load; MOST],
    /// The clear that is under way: one at a time.
    sweep: Option<Sweep>,
    memory: Memory,
    seen: Seen,
    node: Node,
    promoted: u8,
    failed: u8,
    evicted: u8,
}

/// A step of the model. Numbers are keys, which are masters, or loads, or messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The origin's commit.
    Commit,
    /// The writer clears: own L1 lets go.
    Begin,
    /// What was told an error is done again.
    Recover,
    /// What a failover may have lost is done again.
    Repeat,
    /// SCAN of a master says that the record is there, or is not.
    List(usize),
    /// It passes the record by.
    PassBy(usize),
    /// What it has listed is tombstoned.
    Tombstone(usize),
    /// A master cannot be scanned.
    ScanFails(usize),
    /// A partition's sequence and message.
    Tell(usize),
    /// It cannot be told.
    TellFails(usize),
    /// All keys are blocked.
    Block,
    /// Own L1 lets go, for the second time.
    LetGo,
    /// The end: the caller is told.
    End,
    /// The node that clears polls a master.
    Poll(usize),
    /// So long ago was the clear told that no failover can lose it.
    Forget,
    /// ACQUIRE.
    Acquire(usize),
    /// The origin is read.
    LoadRead(usize),
    /// FILL.
    Fill(usize),
    /// A record is evicted.
    Evict(usize),
    /// The replica has what the master has.
    Replicate(usize),
    /// The replica becomes the master.
    Promote(usize),
    /// The reader registers a flight.
    Ticket,
    /// It reads L2, or else the origin.
    Read,
    /// It stores in L1.
    Store,
    /// A message comes.
    Deliver(usize),
    /// A message is lost.
    Lose(usize),
    /// The reader sends a poll, and Redis runs it.
    PollRun,
    /// Its answer comes.
    PollReply,
    /// Time passes.
    Tick,
}

impl Clear {
    /// A scope with loads of these keys, in which nothing else happens than what is asked for.
    pub fn new(loads: &[usize]) -> Self {
        let loads = loads.to_vec();
        Self {
            loads,
            reader: None,
            promotions: 0,
            fails: 0,
            pass_by: false,
            lose: false,
            evict: 0,
            cold: false,
            forget: false,
            mutant: None,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn is_own(&self) -> bool {
        matches!(self.reader, Some(Reader::Own(_)))
    }
}

impl Model for Clear {
    type State = Shared;
    type Action = Action;

    /// Each record is there, or is not. Where a node reads, both are, and the commit is done: what is older it reads from L2 all the same.
    fn init_states(&self) -> Vec<Shared> {
        let value = Rec { state: Some(State::Value), stay: 100, long: true, ..Rec::ABSENT };
        let master = |rec| Master { rec, replica: rec, run: 1, sequence: 0, polled: u8::from(!self.cold), caught_up: false };
        let with = |[one, other]: [Rec; MASTERS]| Shared {
            db: u8::from(self.reader.is_some()),
            masters: [master(one), master(other)],
            loads: [Load::Idle; MOST],
            sweep: None,
            memory: Memory::default(),
            seen: Seen::default(),
            node: Node { run: 1, ..Node::default() },
            promoted: 0,
            failed: 0,
            evicted: 0,
        };
        let records = [[value; 2], [value, Rec::ABSENT], [Rec::ABSENT, value], [Rec::ABSENT; 2]];
        let records = if self.reader.is_some() { &records[..1] } else { &records };
        records.iter().copied().map(with).collect()
    }

    fn actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        if s.db == 0 {
            actions.push(Action::Commit);
        }
        self.memory_actions(s, actions);
        self.sweep_actions(s, actions);
        self.redis_actions(s, actions);
        if self.reader.is_some() {
            self.node_actions(s, actions);
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &Shared, action: Action) -> Option<Shared> {
        let mut next = last.clone();
        match action {
            Action::Commit => next.db = 1,
            Action::Begin | Action::Recover | Action::Repeat | Action::Poll(_) | Action::Forget | Action::End => {
                self.memory(&mut next, action);
            }
            Action::List(_)
            | Action::PassBy(_)
            | Action::Tombstone(_)
            | Action::ScanFails(_)
            | Action::Tell(_)
            | Action::TellFails(_)
            | Action::Block
            | Action::LetGo => self.sweep(&mut next, action),
            Action::Acquire(_)
            | Action::LoadRead(_)
            | Action::Fill(_)
            | Action::Evict(_)
            | Action::Replicate(_)
            | Action::Promote(_) => self.redis(&mut next, action),
            _ => self.node(&mut next, action),
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
