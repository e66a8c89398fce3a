//! L1 and the backplane: nodes with entries, tickets and flights, invalidations with sequences, messages that are lost, doubled and
//! late, polls, and the time that a poll's answer is good for.
//!
//! One partition. Key A is read; key B only takes sequences. L2 is what `crate::l2` proves of it: what an INVALIDATE has replaced is
//! not there, and whoever misses stores what the origin has. Poisoned flights leave the state at once: nobody joins them and they store
//! nothing.
//!
//! A reader that finds an entry, or joins a flight that has its value already, is no step: what it would be given is a property of
//! each state ([`L1::given`]). Who joins a flight before that has its value is given what is read later.

mod node;
mod props;
mod steps;
mod write;

pub use node::{Entry, Flight, Node, Poll, Sub};
pub use write::{Msg, Phase, Write};

use stateright::{Model, Property};

/// Ticks that an answer to a poll is good for, from when it was sent.
pub const B: u8 = 2;
/// Ticks of grace without Redis.
pub const G: u8 = 1;
/// Most nodes, writes and published messages.
pub const NODES: usize = 2;
/// See [`NODES`].
pub const WRITES: usize = 3;
/// See [`NODES`].
pub const MESSAGES: usize = 4;

/// A scope.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Each is one thing that may happen.
pub struct L1 {
    /// Which nodes read, and so keep entries, subscribe and poll.
    pub readers: [bool; NODES],
    /// Each write's node, and whether it is to key A.
    pub writers: Vec<(usize, bool)>,
    /// Invalidations block their key on their own node.
    pub block: bool,
    /// Messages may get lost.
    pub lose: bool,
    /// Messages may come more than once.
    pub double: bool,
    /// Answers to INVALIDATE may get lost; it is then repeated.
    pub unanswered: bool,
    /// The partition's meta key, or the record, may be evicted this often.
    pub evict: u8,
    /// Redis may refuse INVALIDATE for want of memory.
    pub oom: bool,
    /// The slot is moving: INVALIDATE is two scripts.
    pub moving: bool,
    /// Subscriptions may break this often.
    pub breaks: u8,
    /// Nodes may lose all contact to Redis.
    pub cut: bool,
    /// Flights are begun though the entry is served: to refresh it.
    pub refresh: bool,
    /// Nodes may be stopped and continued.
    pub stop: bool,
    /// Writers outside the library, and tracking, which tells of them.
    pub foreign: u8,
    /// Time passes, and a poll's answer is good for [`B`]. Without it a subscription is trusted from a poll on until it breaks.
    pub lease: bool,
    /// Nodes begin without a subscription and without any knowledge of the partition.
    pub cold: bool,
    /// What is wrong with the protocol.
    pub mutant: Option<Mutant>,
}

/// Naive variants. Each breaks a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An invalidation removes from its own L1 before the script only, and blocks nothing.
    OwnRemovedOnlyBefore,
    /// INVALIDATE failed, and the caller is told Ok.
    OkThoughFailed,
    /// A message removes the entry and leaves the flight.
    NoPoison,
    /// The flight is registered once the answer is there.
    TicketAfterReply,
    /// L1 is filled from a Redis replica.
    RedisReplica,
    /// The highest sequence counts, not the contiguous mark.
    GapByMax,
    /// Suspicion leaves flights alone.
    SuspicionWithoutPoison,
    /// Missed sequences are taken as seen without suspicion.
    AdoptWithoutSuspicion,
    /// A poll counts that was sent before the subscription was confirmed.
    TrustBeforeSubscribed,
    /// A poll counts that was sent under an earlier subscription.
    PollOfOldSubscription,
    /// Polls compare sequences only.
    NoIncarnation,
    /// A poll that finds no meta key leaves it so and counts as "unchanged".
    AbsentIsUnchanged,
    /// Who reads after an invalidation joins a poisoned flight.
    JoinPoisoned,
    /// A flight is joined however old it is and though nothing is verified.
    JoinUnverified,
    /// The clock of a stopped node stands.
    StoppedClock,
    /// An answer is good for B from when it came.
    LeaseFromReply,
    /// Revalidating an entry takes no ticket.
    RevalidateWithoutTicket,
    /// While a slot moves, sequence and message go first, then the tombstone.
    PublishBeforeTombstone,
    /// For want of memory the record is unlinked, the meta key is not.
    OomKeepsMeta,
    /// An INVALIDATE that finds a value as new as its write in L2 takes no sequence and publishes nothing.
    CurrentIsSilent,
    /// Tracking marks the entry and not the flight.
    PushMissesFlights,
    /// A load without a lease reads a lagging replica of the database, and L1 keeps it.
    UnleasedReplicaRead,
    /// Suspect entries are served in the time of grace.
    GraceForSuspects,
    /// Nodes trust the subscription as long as it stands, and do not poll again.
    NoPolls,
}

/// A state of the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Last commit to key A.
    pub db: u8,
    /// What a replica of the database has of it (one mutant).
    pub db_replica: u8,
    /// The value in L2, and in a Redis replica (one mutant).
    pub l2: Option<u8>,
    /// See `l2`.
    pub l2_replica: Option<u8>,
    /// The partition's incarnation and sequence.
    pub meta: Option<(u8, u8)>,
    /// The last incarnation made.
    pub incarnations: u8,
    /// How often something was evicted.
    pub evicted: u8,
    /// How often a subscription broke.
    pub broken: u8,
    /// The commits from outside the library, one bit each.
    pub foreign: u8,
    /// The writes.
    pub writes: [Write; WRITES],
    /// What was published.
    pub messages: [Option<Msg>; MESSAGES],
    /// The nodes.
    pub nodes: [Node; NODES],
}

/// A step of the model. First the node or the write, then the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The origin's commit.
    Commit(usize),
    /// Block, remove, poison.
    Begin(usize),
    /// The script: tombstone, sequence, publish.
    Script(usize),
    /// Its first half while the slot moves.
    ScriptTombstone(usize),
    /// Its second half.
    ScriptPublish(usize),
    /// The script is refused: UNLINK of record and meta key.
    Unlink(usize),
    /// The answer is lost.
    Unanswered(usize),
    /// The answer: remove, poison, note the sequence, unblock, Ok.
    Ok(usize),
    /// Another node stores in L2 what the origin has.
    Refill,
    /// The Redis replica has what the master has.
    SyncRedisReplica,
    /// A flight is registered.
    Ticket(usize),
    /// It has read L2, or the origin.
    Read(usize),
    /// It has read a lagging replica of the database.
    ReadReplica(usize),
    /// It stores in L1.
    Store(usize),
    /// A message comes.
    Deliver(usize, usize),
    /// A message comes, and will come again.
    DeliverTwice(usize, usize),
    /// A message is lost.
    Lose(usize, usize),
    /// The node learns that its subscription is gone.
    Disconnect(usize),
    /// Redis has the subscription.
    Subscribe(usize),
    /// The node knows it.
    Confirm(usize),
    /// A poll is sent.
    PollSend(usize),
    /// Redis runs it.
    PollRun(usize),
    /// Its answer comes.
    PollReply(usize),
    /// It is lost.
    PollLost(usize),
    /// The meta key is evicted.
    EvictMeta,
    /// The record is evicted.
    EvictRecord,
    /// No contact to Redis any more.
    Cut(usize),
    /// Contact again.
    Heal(usize),
    /// SIGSTOP.
    Stop(usize),
    /// SIGCONT.
    Continue(usize),
    /// A commit from outside the library, which deletes the record; tracking tells the nodes.
    ForeignWrite,
    /// Tracking's push comes.
    Push(usize),
    /// Time passes.
    Tick,
}

impl L1 {
    /// A scope in which node 0 reads, the given nodes write (`true`: key A), and nothing else happens than what is asked for.
    pub fn new(writers: &[(usize, bool)]) -> Self {
        Self {
            readers: [true, false],
            writers: writers.to_vec(),
            block: true,
            lose: false,
            double: false,
            unanswered: false,
            evict: 0,
            oom: false,
            moving: false,
            breaks: 0,
            cut: false,
            refresh: false,
            stop: false,
            foreign: 0,
            lease: true,
            cold: false,
            mutant: None,
        }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Ages beyond this make no difference.
    pub(crate) fn longest(&self) -> u8 {
        if self.cut { B + G } else { B }
    }
}

impl Model for L1 {
    type State = Shared;
    type Action = Action;

    fn init_states(&self) -> Vec<Shared> {
        let node = |reads: bool| Node {
            incarnation: u8::from(reads && !self.cold),
            sub: if reads && !self.cold { Sub::On } else { Sub::Off },
            ..Node::default()
        };
        vec![Shared {
            db: 0,
            db_replica: 0,
            l2: Some(0),
            l2_replica: Some(0),
            meta: Some((1, 0)),
            incarnations: 1,
            evicted: 0,
            broken: 0,
            foreign: 0,
            writes: [Write::default(); WRITES],
            messages: [None; MESSAGES],
            nodes: self.readers.map(node),
        }]
    }

    fn actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        self.write_actions(s, actions);
        for n in 0..NODES {
            if self.readers[n] {
                self.node_actions(s, n, actions);
            }
        }
        if s.l2.is_none() {
            actions.push(Action::Refill);
        }
        if self.is(Mutant::RedisReplica) && s.l2_replica != s.l2 {
            actions.push(Action::SyncRedisReplica);
        }
        if s.meta.is_some() && s.evicted < self.evict {
            actions.push(Action::EvictMeta);
        }
        if s.l2.is_some() && s.evicted < self.evict {
            actions.push(Action::EvictRecord);
        }
        if s.foreign.count_ones() < self.foreign.into() {
            actions.push(Action::ForeignWrite);
        }
        if self.lease {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &Shared, action: Action) -> Option<Shared> {
        let mut next = last.clone();
        self.step(&mut next, action);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.all_properties()
    }
}
