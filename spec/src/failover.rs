//! Failover: L2 and L1 together, over a Redis whose replica lags and is promoted.
//!
//! One key, its partition's meta key, loads that fill L2 (by [`cache_core::step`]), one node that reads, and writers on other nodes, which
//! repeat after a failover what they have told lately. A writer that cannot say any more which keys these were, because its ring or its queue
//! is full, raises the partition's *generation*: records of an earlier one count as absent.
//!
//! The meta key has: incarnation, sequence, the history that it was made in, generation. *History* names a server's process and what it
//! replicates: it changes with each restart and each promotion (run id and `master_replid` together; the run id alone returns when the first
//! master does). Every script is given the history of the server that it goes to, and makes a new incarnation if the meta key has
//! another. So no sequence is ever used twice under one incarnation.

mod node;
mod props;
mod redis;

pub use node::{Answer, Entry, Flight, Node, Poll};

use crate::l2::record::Rec;
use cache_core::record::State;
use stateright::{Model, Property};

/// Ticks that an answer to a poll is good for, from when it was sent.
pub const B: u8 = 2;
/// Most writes and loads.
pub const MOST: usize = 2;
/// Most published messages.
pub const MESSAGES: usize = 4;

/// A scope.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is one thing that may happen.
pub struct Failover {
    /// How many writes, each with an INVALIDATE.
    pub writes: usize,
    /// How many loads that fill L2.
    pub loads: usize,
    /// Every value carries its row's version.
    pub versioned: bool,
    /// A node reads, and so keeps an entry and polls.
    pub reader: bool,
    /// Messages may get lost.
    pub lose: bool,
    /// At the beginning the master, and the node, have had one sequence that the replica has not: another key's.
    pub ahead: bool,
    /// How often the replica may be promoted.
    pub promotions: u8,
    /// Writers may have forgotten which keys they told of: ring or queue were full.
    pub forget: bool,
    /// How often the meta key may be evicted.
    pub evict: u8,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// Naive variants. Each breaks a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Nobody repeats what a failover may have lost.
    NoReplay,
    /// Nothing tells one server's sequences from another's.
    NoHistory,
    /// The same, and a sequence that was seen already does nothing.
    DuplicatesIgnored,
    /// Polls return the history, but it makes no new incarnation: messages do not tell whose they are.
    HistoryInPollsOnly,
    /// The history is the process's run id: it returns when the first master does.
    HistoryReturns,
    /// A full ring or queue becomes a new incarnation: L1 is suspect, and what L2 has stays.
    OverflowToIncarnation,
    /// A meta key that is made anew begins with generation 0.
    GenerationFromZero,
    /// L2 is read by the generation that is known, though nothing is verified.
    GenerationUnverified,
    /// What L2 gave under a generation that was polled is good for B from its own ticket.
    GoodFromTicket,
}

/// How far a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// Not begun.
    #[default]
    Idle,
    /// Committed.
    Committed,
    /// L2 is told, by INVALIDATE.
    Told,
    /// L2 is told, by a new generation.
    Raised,
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Write {
    /// How far it is.
    pub phase: Phase,
    /// Its commit.
    pub version: u8,
    /// Ticks since L2 was told and has not lost it since.
    pub age: u8,
    /// In which history L2 was told last.
    pub run: u8,
    /// The replica has it.
    pub replicated: bool,
    /// A failover has lost it, and nobody has repeated it.
    pub lost: bool,
}

/// A load's part in L2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Load {
    /// Not begun.
    #[default]
    Idle,
    /// Has the lease, under this generation.
    Leased(u8),
    /// Has read.
    Read(u8, u8),
    /// Over.
    Done,
}

/// The partition's meta key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Identity of its history.
    pub incarnation: u8,
    /// Count of invalidations in it.
    pub sequence: u8,
    /// The history that it was made in.
    pub run: u8,
    /// Records of another one count as absent.
    pub generation: u8,
}

/// What a Redis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Data {
    rec: Rec,
    meta: Option<Meta>,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Msg {
    incarnation: u8,
    sequence: u8,
    version: u8,
    /// In which history it was sent. Messages do not tell; it is here for the properties.
    run: u8,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    db: u8,
    master: Data,
    replica: Data,
    /// The master's history.
    run: u8,
    incarnations: u8,
    generations: u8,
    evicted: u8,
    promoted: u8,
    writes: [Write; MOST],
    loads: [Load; MOST],
    messages: [Option<Msg>; MESSAGES],
    node: Node,
}

/// A step of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The origin's commit.
    Commit(usize),
    /// INVALIDATE.
    Tell(usize),
    /// INVALIDATE again, on the new master.
    Replay(usize),
    /// The keys are forgotten: a new generation.
    Raise(usize),
    /// ACQUIRE by a load that knows the generation, or only the one before it.
    Acquire(usize, u8),
    /// The origin is read.
    LoadRead(usize),
    /// FILL.
    Fill(usize),
    /// The replica has what the master has.
    Replicate,
    /// The replica becomes the master.
    Promote,
    /// The meta key is evicted.
    EvictMeta,
    /// A flight is registered.
    Ticket,
    /// It reads L2, or else the origin.
    Read,
    /// It stores in L1.
    Store,
    /// A message comes.
    Deliver(usize),
    /// A message is lost.
    Lose(usize),
    /// A poll is sent.
    PollSend,
    /// Redis runs it.
    PollRun,
    /// Its answer comes.
    PollReply,
    /// Time passes.
    Tick,
}

impl Failover {
    /// A scope in which only what is asked for happens.
    pub fn new(writes: usize, loads: usize) -> Self {
        Self {
            writes,
            loads,
            versioned: false,
            reader: false,
            lose: false,
            ahead: false,
            promotions: 1,
            forget: false,
            evict: 0,
            mutant: None,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Model for Failover {
    type State = Shared;
    type Action = Action;

    fn init_states(&self) -> Vec<Shared> {
        let meta = Some(Meta { incarnation: 1, sequence: 0, run: 1, generation: 0 });
        let rec = Rec { state: Some(State::Value), stay: 100, long: true, ..Rec::ABSENT };
        let data = Data { rec, meta };
        let ahead = u8::from(self.ahead);
        let master = Data { meta: meta.map(|meta| Meta { sequence: ahead, ..meta }), ..data };
        vec![Shared {
            db: 0,
            master,
            replica: data,
            run: 1,
            incarnations: 1,
            generations: 0,
            evicted: 0,
            promoted: 0,
            writes: [Write::default(); MOST],
            loads: [Load::Idle; MOST],
            messages: [None; MESSAGES],
            node: Node { incarnation: 1, run: 1, applied: ahead, ..Node::default() },
        }]
    }

    fn actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        let room = s.messages[MESSAGES - 1].is_none();
        for w in 0..self.writes {
            let write = &s.writes[w];
            match write.phase {
                Phase::Idle => actions.push(Action::Commit(w)),
                Phase::Committed => {
                    if room {
                        actions.push(Action::Tell(w));
                    }
                    if self.forget {
                        actions.push(Action::Raise(w));
                    }
                }
                _ if write.run == s.run || self.is(Mutant::NoReplay) => {}
                Phase::Told => {
                    if room {
                        actions.push(Action::Replay(w));
                    }
                    if self.forget {
                        actions.push(Action::Raise(w));
                    }
                }
                // A generation is told again as a generation.
                Phase::Raised => actions.push(Action::Raise(w)),
            }
        }
        for load in 0..self.loads {
            match s.loads[load] {
                Load::Idle => {
                    let known = s.master.meta.map_or(0, |meta| meta.generation);
                    actions.push(Action::Acquire(load, known));
                    if known > 0 {
                        actions.push(Action::Acquire(load, known - 1));
                    }
                }
                Load::Leased(_) => actions.push(Action::LoadRead(load)),
                Load::Read(..) => actions.push(Action::Fill(load)),
                Load::Done => {}
            }
        }
        if self.promotions > 0 && s.replica != s.master {
            actions.push(Action::Replicate);
        }
        if s.promoted < self.promotions {
            actions.push(Action::Promote);
        }
        if s.evicted < self.evict && s.master.meta.is_some() {
            actions.push(Action::EvictMeta);
        }
        if self.reader {
            s.node.actions(self, actions);
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &Shared, action: Action) -> Option<Shared> {
        let mut next = last.clone();
        let s = &mut next;
        match action {
            Action::Commit(w) => {
                s.db += 1;
                (s.writes[w].version, s.writes[w].phase) = (s.db, Phase::Committed);
            }
            Action::Tell(w) | Action::Replay(w) => self.tell(s, w),
            Action::Raise(w) => self.raise(s, w),
            Action::Replicate => {
                s.replica = s.master;
                for write in &mut s.writes {
                    write.replicated |= matches!(write.phase, Phase::Told | Phase::Raised) && !write.lost;
                }
            }
            Action::Promote => self.promote(s),
            Action::EvictMeta => (s.master.meta, s.evicted) = (None, s.evicted + 1),
            Action::Acquire(..) | Action::LoadRead(_) | Action::Fill(_) => self.load(s, action),
            of_node => self.node(s, of_node),
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
