//! What was a violation: each read against each invalidation that had been told before it began.

use crate::events::{Mark, Observed, Told};
use hdrhistogram::Histogram;
use std::collections::HashMap;

/// An hour, in microseconds: staler than that is as bad.
const STALEST: u64 = 3_600_000_000;
/// How many violations are described.
const DESCRIBED: usize = 5;

/// How old a read may be, in nanoseconds.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bound: u64,
    /// So much longer if it is marked.
    pub(crate) grace: u64,
}

/// Who has told what, and when.
pub(crate) struct Ledger {
    by_key: Vec<Times>,
    /// The same of one node alone.
    by_node: HashMap<(u32, u32), Times>,
}

/// A key's invalidations.
#[derive(Default)]
struct Times {
    /// Version, and when it was told; by version once it is `sorted`.
    told: Vec<(u64, u64)>,
    /// For each of `told`: the earliest time at which it or any newer one was told.
    earliest: Vec<u64>,
    is_sorted: bool,
}

impl Times {
    fn add(&mut self, version: u64, at: u64) {
        self.told.push((version, at));
        self.is_sorted = false;
    }

    /// When a version newer than this was first told.
    fn newer_told_at(&mut self, version: u64) -> Option<u64> {
        if !self.is_sorted {
            self.told.sort_unstable();
            self.earliest.clear();
            self.earliest.resize(self.told.len(), u64::MAX);
            let mut earliest = u64::MAX;
            for (place, &(_, at)) in self.told.iter().enumerate().rev() {
                earliest = earliest.min(at);
                self.earliest[place] = earliest;
            }
            self.is_sorted = true;
        }
        let first_newer = self.told.partition_point(|&(told, _)| told <= version);
        self.earliest.get(first_newer).copied()
    }

    fn newest(&self) -> u64 {
        self.told.iter().map(|&(version, _)| version).max().unwrap_or(0)
    }

    /// Forgets what was told before `time`, but for the newest of that: it still convicts whoever is older.
    fn forget_before(&mut self, time: u64) {
        let newest_old = self.told.iter().filter(|&&(_, at)| at < time).max().copied();
        self.told.retain(|&told| told.1 >= time || Some(told) == newest_old);
        self.is_sorted = false;
    }
}

impl Ledger {
    pub(crate) fn of(keys: u64) -> Self {
        Self { by_key: (0..keys).map(|_| Times::default()).collect(), by_node: HashMap::new() }
    }

    pub(crate) fn add(&mut self, told: Told) {
        if let Some(times) = self.by_key.get_mut(told.key as usize) {
            times.add(told.version, told.at);
            self.by_node.entry((told.node, told.key)).or_default().add(told.version, told.at);
        }
    }

    /// At this time every node had these versions, by key: as good as told, by whomever, and an older value that comes back is late.
    pub(crate) fn add_healed(&mut self, versions: &[u64], at: u64) {
        self.by_key.iter_mut().zip(versions).for_each(|(times, &version)| times.add(version, at));
    }

    /// The newest version of a key that anybody has told; 0 if nobody has.
    pub(crate) fn newest(&self, key: u64) -> u64 {
        self.by_key.get(key as usize).map_or(0, Times::newest)
    }

    /// Keeps the memory of a run of days small.
    pub(crate) fn forget_before(&mut self, time: u64) {
        self.by_key.iter_mut().chain(self.by_node.values_mut()).for_each(|times| times.forget_before(time));
    }
}

/// What the reads of a phase, or of several, showed.
pub(crate) struct Findings {
    /// Verified reads.
    pub(crate) verified: u64,
    /// Reads that the cache itself had marked.
    pub(crate) marked: u64,
    /// Of the verified: began more than the bound after the `Ok` of a newer version.
    pub(crate) late: u64,
    /// Of all: older than what this very node had invalidated before. Its bound is zero, and no mark excuses it.
    pub(crate) own: u64,
    /// Values under a wrong key.
    pub(crate) wrong: u64,
    /// Of the marked: began more than bound and grace after the `Ok` of a newer version.
    pub(crate) beyond: u64,
    /// Changes that were committed with an outbox row, and that nobody told.
    pub(crate) untold: u64,
    /// Keys that some node still read older than their rows when all had had the time to heal, or whose invalidation it still owed.
    pub(crate) unhealed: u64,
    /// Of the verified reads, in microseconds.
    staleness: Histogram<u64>,
    /// Of the marked ones the most, in nanoseconds.
    marked_stalest: u64,
    pub(crate) described: Vec<String>,
}

impl Findings {
    pub(crate) fn new() -> Self {
        let staleness = Histogram::new_with_bounds(1, STALEST, 3).expect("these bounds are good");
        Self {
            verified: 0,
            marked: 0,
            late: 0,
            own: 0,
            wrong: 0,
            beyond: 0,
            untold: 0,
            unhealed: 0,
            staleness,
            marked_stalest: 0,
            described: Vec::new(),
        }
    }

    /// Looks at one read of one node.
    pub(crate) fn look_at(&mut self, ledger: &mut Ledger, limits: Limits, node: u32, read: Observed) {
        let Observed { began, version, key, mark } = read;
        if mark == Mark::Wrong {
            self.wrong += 1;
            self.describe(|| format!("node {node} was given another key's value for key {key}"));
            return;
        }
        let own = ledger.by_node.get_mut(&(node, key)).and_then(|times| times.newer_told_at(version));
        if let Some(age) = own.and_then(|at| began.checked_sub(at)) {
            self.own += 1;
            self.describe(|| {
                format!("node {node} read version {version} of key {key} {} ms after it had told a newer one", age / 1_000_000)
            });
        }
        let told = ledger.by_key.get_mut(key as usize).and_then(|times| times.newer_told_at(version));
        let stale = told.map_or(0, |at| began.saturating_sub(at));
        let age = stale / 1_000_000;
        if mark == Mark::Marked {
            self.marked += 1;
            self.marked_stalest = self.marked_stalest.max(stale);
            if stale > limits.bound + limits.grace {
                self.beyond += 1;
                self.describe(|| {
                    format!("node {node} read, marked, version {version} of key {key} {age} ms after a newer one was told")
                });
            }
            return;
        }
        self.verified += 1;
        self.staleness.saturating_record(stale / 1_000);
        if stale > limits.bound {
            self.late += 1;
            self.describe(|| format!("node {node} read version {version} of key {key} {age} ms after a newer one was told"));
        }
    }

    pub(crate) fn violations(&self) -> u64 {
        self.late + self.own + self.wrong + self.beyond + self.untold + self.unhealed
    }

    /// Milliseconds that this share of the verified reads did not exceed; 0 to 1.
    pub(crate) fn staleness_ms(&self, share: f64) -> f64 {
        self.staleness.value_at_quantile(share) as f64 / 1_000.0
    }

    /// Milliseconds.
    pub(crate) fn stalest_ms(&self) -> f64 {
        self.staleness.max() as f64 / 1_000.0
    }

    /// Of the marked reads, in milliseconds.
    pub(crate) fn marked_stalest_ms(&self) -> f64 {
        self.marked_stalest as f64 / 1_000_000.0
    }

    pub(crate) fn describe(&mut self, text: impl FnOnce() -> String) {
        if self.described.len() < DESCRIBED {
            self.described.push(text());
        }
    }
}
