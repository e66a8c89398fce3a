//! The keys evicted lately, as traces.

use super::usage::Usage;
use crate::fetch::fetch;

/// Traces of a bucket: a cache line of them.
const WAYS: usize = 16;

/// Entries for which there is a bucket: 1.6 traces, or 6.4 bytes, for each.
const ENTRIES: usize = 10;

/// For how many generations of evictions a trace is kept.
pub(super) const SPAN: f64 = WAYS as f64 / ENTRIES as f64;

/// The last use is known to so many pulses.
const GRAIN: u32 = 4;

/// And up to so many, eight generations. Half of what eight bits can tell, so that it stays known while the trace lasts.
const LONG: u32 = 128 * GRAIN;

/// Traces from the newest to the oldest.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Bucket([Trace; WAYS]);

/// What is left of an evicted key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace {
    /// Of the hash, with the low bit set if the key was in the main queue. Never 0.
    fingerprint: u16,
    used: u8,
    evicted: u8,
}

impl Trace {
    const NONE: Self = Self { fingerprint: 0, used: 0, evicted: 0 };

    /// A trace of a key with this usage `now`; `evictions` counts those from its queue.
    pub(super) fn new(hash: u32, main: bool, usage: Usage, now: u32, evictions: u32) -> Self {
        let used = now.wrapping_sub(usage.age(now).min(LONG)) / GRAIN;
        Self { fingerprint: fingerprint(hash) | u16::from(main), used: used as u8, evicted: evictions as u8 }
    }

    /// Whether the key was in the main queue.
    pub(super) fn main(self) -> bool {
        self.fingerprint & 1 == 1
    }

    /// Time since the last use, rounded up; `None` if it is very long.
    pub(super) fn unused(self, now: u32) -> Option<u32> {
        let unused = u32::from(((now / GRAIN) as u8).wrapping_sub(self.used)) * GRAIN + GRAIN - 1;
        (unused < LONG).then_some(unused)
    }

    /// Evictions since, in the same count.
    pub(super) fn gone(self, evictions: u32) -> u32 {
        (evictions as u8).wrapping_sub(self.evicted).into()
    }
}

fn fingerprint(hash: u32) -> u16 {
    (hash as u16 & !1).max(2)
}

/// Remembers about 1.6 times as many evicted keys as there are entries, in 4 bytes each.
///
/// A bucket loses its oldest trace to a new one. So buckets forget a little sooner or later than
/// one queue of all would, and need no links. One strange hash in 2,000 is taken for a remembered one; it costs an entry the wrong queue
/// and nothing else.
#[derive(Debug)]
pub(super) struct History {
    buckets: Vec<Bucket>,
}

impl History {
    /// Takes no memory before the first trace.
    pub(super) const fn new() -> Self {
        Self { buckets: Vec::new() }
    }

    /// Adds a trace; there are so many entries.
    pub(super) fn remember(&mut self, hash: u32, trace: Trace, entries: u32) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket([Trace::NONE; WAYS]); (entries as usize).div_ceil(ENTRIES)];
        } else if entries as usize > 2 * ENTRIES * self.buckets.len() {
            // As weighted entries get lighter. It is not known which half of a bucket goes where; the wrong copies are forgotten like others.
            self.buckets = self.buckets.iter().flat_map(|bucket| [bucket.clone(), bucket.clone()]).collect();
        }
        let bucket = self.bucket(hash);
        bucket.copy_within(..WAYS - 1, 1);
        bucket[0] = trace;
    }

    /// The trace of a hash; it is not remembered any more.
    pub(super) fn recall(&mut self, hash: u32) -> Option<Trace> {
        if self.buckets.is_empty() {
            return None;
        }
        let bucket = self.bucket(hash);
        let at = bucket.iter().position(|trace| trace.fingerprint & !1 == fingerprint(hash))?;
        let trace = bucket[at];
        bucket.copy_within(at + 1.., at);
        bucket[WAYS - 1] = Trace::NONE;
        Some(trace)
    }

    /// Has the CPU fetch where the trace of a hash is, if there is one, or will be.
    pub(super) fn fetch(&self, hash: u32) {
        if let Some(bucket) = self.buckets.get(self.at(hash)) {
            fetch(bucket);
        }
    }

    /// From the high bits of the hash; the fingerprint is from the low ones. There must be buckets.
    fn bucket(&mut self, hash: u32) -> &mut [Trace; WAYS] {
        let at = self.at(hash);
        &mut self.buckets[at].0
    }

    fn at(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.buckets.len() as u64) >> 32) as usize
    }
}
