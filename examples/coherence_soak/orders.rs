//! What the parent and a node say to each other: a line of JSON each, on the node's standard input and output.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a node caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    Coherent,
    /// The same stack without coherence between nodes: what its L1 hits are compared with.
    Incoherent,
    /// Plain pub/sub and plain SET and DEL.
    ByHand,
}

/// The first line: who the node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) node: u32,
    /// The phase it comes into.
    pub(crate) phase: u32,
    pub(crate) way: Way,
    pub(crate) writes: bool,
    /// Of Redis, as this node is to reach it.
    pub(crate) urls: Vec<String>,
    pub(crate) is_cluster: bool,
    /// Where the database and the logs are.
    pub(crate) folder: PathBuf,
    pub(crate) keys: u64,
    pub(crate) reads_per_second: f64,
    pub(crate) writes_per_second: f64,
    pub(crate) bound_ms: u64,
    pub(crate) grace_ms: u64,
}

/// How a node that writes does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Writing {
    /// It commits and then invalidates.
    Plain,
    /// It commits with an outbox row, and a relay, of whatever node, invalidates.
    Outbox,
    Paused,
}

/// What the parent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Ends the phase before, and logs to this one's files from now on. Answered by [`Answer::Done`].
    Phase(u32),
    /// Answered by [`Answer::Writing`], once no write of the former kind runs.
    Write(Writing),
    /// Reads every key. Answered by [`Answer::Swept`].
    Sweep,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is connected and has read every key once.
    Ready,
    /// What it did in the phase that has ended.
    Done(Tally),
    Writing,
    Swept(Swept),
}

/// What a node found that read every key and its row, while nobody wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Swept {
    /// Keys that it read older than their rows, or could not read.
    pub(crate) old: u64,
    /// One of them.
    pub(crate) example: Option<String>,
    /// Keys whose invalidation failed, and that Redis is still to be told of.
    pub(crate) owed: u64,
}

impl Swept {
    pub(crate) fn unhealed(&self) -> u64 {
        self.old + self.owed
    }
}

/// Counts of one node in one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Reads that ended, in whatever way.
    pub(crate) reads: u64,
    pub(crate) read_errors: u64,
    /// By the cache's own counts.
    pub(crate) l1_hits: u64,
    pub(crate) l1_misses: u64,
    pub(crate) l2_hits: u64,
    /// Queries of the origin.
    pub(crate) loads: u64,
    /// Writes that ended; but for `write_errors` they have committed.
    pub(crate) writes: u64,
    pub(crate) write_errors: u64,
    /// `Ok`s for invalidations.
    pub(crate) invalidations: u64,
    pub(crate) invalidation_errors: u64,
}

impl Tally {
    fn each(self, other: Self, merge: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            reads: merge(self.reads, other.reads),
            read_errors: merge(self.read_errors, other.read_errors),
            l1_hits: merge(self.l1_hits, other.l1_hits),
            l1_misses: merge(self.l1_misses, other.l1_misses),
            l2_hits: merge(self.l2_hits, other.l2_hits),
            loads: merge(self.loads, other.loads),
            writes: merge(self.writes, other.writes),
            write_errors: merge(self.write_errors, other.write_errors),
            invalidations: merge(self.invalidations, other.invalidations),
            invalidation_errors: merge(self.invalidation_errors, other.invalidation_errors),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }

    /// 0 to 1; 0 if nothing was looked up.
    pub(crate) fn l1_hit_rate(self) -> f64 {
        self.l1_hits as f64 / ((self.l1_hits + self.l1_misses) as f64).max(1.0)
    }
}
