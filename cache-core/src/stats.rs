//! What a cache has done: counts that subtract, and a hit rate over a recent window.

use crate::clock::{Clock, Moment};
use crate::counters::{Counters, Event};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::Duration;

/// How far back the recent hit rate looks.
const WINDOW: Duration = Duration::from_secs(60);
/// How often the window is sampled, at most.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// A snapshot of one cache's counts since it was built. Two snapshots subtract: `later.since(&earlier)`.
///
/// Counts are exact when nothing is running; a snapshot taken under load may miss what is being counted that instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The first level.
    pub l1: TierStats,
    /// The second level.
    pub l2: TierStats,
    /// Calls of a loader.
    pub loads: u64,
    /// Calls of a loader that ended in an error, a panic or a timeout.
    pub load_errors: u64,
    /// Loads that were not begun, because [too many](crate::Builder::loads_at_once) ran and waited: each an error to its callers, or a stale value.
    pub loads_refused: u64,
    /// Callers that waited for another caller's load instead of loading.
    pub coalesced: u64,
    /// Loads that ran behind a stale answer. Part of `loads` if they reached the origin.
    pub refreshes: u64,
    /// Answers past their soft life, given while a refresh runs.
    pub stale: u64,
    /// Answers past their hard life, given because the origin failed.
    pub stale_if_error: u64,
    /// Calls of `insert`.
    pub inserts: u64,
    /// Calls of `write`.
    pub writes: u64,
    /// Keys invalidated, and clears.
    pub invalidations: u64,
    /// Invalidations that did not reach L2; each was an error to its caller.
    pub invalidation_errors: u64,
    /// How L1 stands to other nodes.
    pub coherence: CoherenceStats,
    /// The hit rate of late.
    pub recent: Recent,
}

/// Counts of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TierStats {
    /// Lookups answered by this tier, stale answers included.
    pub hits: u64,
    /// Lookups not answered by this tier, errors included.
    pub misses: u64,
    /// Of the hits, those that a replica gave: marked [`Unverified`](crate::Freshness::Unverified), or stale, and not kept in L1. L2 only.
    pub from_replicas: u64,
    /// Entries that had to go to make room. L1 only: Redis counts its own.
    pub evictions: u64,
    /// Entries now, about. L1 only; a gauge, it does not subtract.
    pub entries: u64,
    /// Calls that failed or timed out. L2 only.
    pub errors: u64,
    /// Records that could not be read: foreign, damaged, of another key, codec or a newer schema, compressed by an algorithm
    /// that this build has not or to more than the limit, forged, or encrypted by an unknown key. L2 only.
    pub unreadable: u64,
    /// Of the unreadable, those that a keyring refused: not sealed for this key and these fields, or not sealed at all. L2 only.
    pub forged: u64,
    /// Of the unreadable, those that were sealed by a key which the keyring has not. L2 only.
    pub unknown_key: u64,
    /// Fills refused, because the key was invalidated or written while the load ran. L2 only.
    pub refused: u64,
    /// Values not stored, because they are too large or could not be encoded. L2 only.
    pub unstorable: u64,
}

/// Lookups of the last minute or so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recent {
    /// Lookups answered by a tier.
    pub hits: u64,
    /// Lookups not answered by a tier.
    pub misses: u64,
}

/// How L1 of this node follows other nodes. But for the first two and `owed`, counts are of all caches that share the store and the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CoherenceStats {
    /// Hits of L1 that nobody could verify, because L2 was away: marked [`Unverified`](crate::Freshness::Unverified).
    pub unverified_hits: u64,
    /// Keys whose invalidation failed at first, and that L2 was told of later.
    pub recovered: u64,
    /// Invalidated keys that were [looked at](crate::Builder::checked) once more, a bound later.
    pub checked: u64,
    /// Times that an older value was found so, in L1 or in L2: each breaks the promise. Logged, too, and worth an alert.
    pub violations: u64,
    /// Keys that L2 has to be told of still; `u64::MAX` stands for all. A gauge, it does not subtract.
    pub owed: u64,
    /// Partitions, of 256, whose entries have to be asked about before they are served. A gauge, it does not subtract.
    pub unverified_partitions: u64,
    /// Messages that other nodes, and this one, have sent.
    pub messages: u64,
    /// Records in L2 that were written, removed, or had ended, whoever did it: from a store that tracks writes, 0 from any other.
    pub changes: u64,
    /// Partitions that were suspected, because something was missed or not understood; each of them once at the start, when nothing is known.
    pub suspicions: u64,
    /// Polls.
    pub polls: u64,
    /// Polls that failed, in part or as a whole.
    pub poll_errors: u64,
}

impl CoherenceStats {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            unverified_hits: self.unverified_hits.saturating_sub(earlier.unverified_hits),
            recovered: self.recovered.saturating_sub(earlier.recovered),
            messages: self.messages.saturating_sub(earlier.messages),
            checked: self.checked.saturating_sub(earlier.checked),
            violations: self.violations.saturating_sub(earlier.violations),
            changes: self.changes.saturating_sub(earlier.changes),
            suspicions: self.suspicions.saturating_sub(earlier.suspicions),
            polls: self.polls.saturating_sub(earlier.polls),
            poll_errors: self.poll_errors.saturating_sub(earlier.poll_errors),
            ..*self
        }
    }
}

impl Recent {
    /// Share of lookups that a tier answered, 0 to 1; 1 if there was none.
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits, self.misses)
    }
}

impl TierStats {
    /// Share of this tier's lookups that it answered, 0 to 1; 1 if there was none.
    pub fn hit_rate(&self) -> f64 {
        rate(self.hits, self.misses)
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
            evictions: self.evictions.saturating_sub(earlier.evictions),
            entries: self.entries,
            errors: self.errors.saturating_sub(earlier.errors),
            unreadable: self.unreadable.saturating_sub(earlier.unreadable),
            forged: self.forged.saturating_sub(earlier.forged),
            unknown_key: self.unknown_key.saturating_sub(earlier.unknown_key),
            refused: self.refused.saturating_sub(earlier.refused),
            unstorable: self.unstorable.saturating_sub(earlier.unstorable),
            from_replicas: self.from_replicas.saturating_sub(earlier.from_replicas),
        }
    }
}

impl Stats {
    /// Lookups: each is one hit or one miss of L1.
    pub fn lookups(&self) -> u64 {
        self.l1.hits + self.l1.misses
    }

    /// Share of lookups that a tier answered, 0 to 1; 1 if there was none.
    pub fn hit_rate(&self) -> f64 {
        let hits = self.l1.hits + self.l2.hits;
        rate(hits, self.lookups().saturating_sub(hits))
    }

    /// What happened between an earlier snapshot and this one. `recent` and `entries` stay as they are here.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            l1: self.l1.since(&earlier.l1),
            l2: self.l2.since(&earlier.l2),
            loads: self.loads.saturating_sub(earlier.loads),
            load_errors: self.load_errors.saturating_sub(earlier.load_errors),
            loads_refused: self.loads_refused.saturating_sub(earlier.loads_refused),
            coalesced: self.coalesced.saturating_sub(earlier.coalesced),
            refreshes: self.refreshes.saturating_sub(earlier.refreshes),
            stale: self.stale.saturating_sub(earlier.stale),
            stale_if_error: self.stale_if_error.saturating_sub(earlier.stale_if_error),
            inserts: self.inserts.saturating_sub(earlier.inserts),
            writes: self.writes.saturating_sub(earlier.writes),
            invalidations: self.invalidations.saturating_sub(earlier.invalidations),
            invalidation_errors: self.invalidation_errors.saturating_sub(earlier.invalidation_errors),
            coherence: self.coherence.since(&earlier.coherence),
            recent: self.recent,
        }
    }
}

fn rate(hits: u64, misses: u64) -> f64 {
    if hits + misses == 0 { 1.0 } else { hits as f64 / (hits + misses) as f64 }
}

pub(crate) fn snapshot(counters: &Counters, recent: Recent, entries: u64, evictions: u64) -> Stats {
    let sum = |event| counters.sum(event);
    Stats {
        l1: TierStats { hits: sum(Event::L1Hit), misses: sum(Event::L1Miss), evictions, entries, ..TierStats::default() },
        l2: TierStats {
            hits: sum(Event::L2Hit),
            from_replicas: sum(Event::L2Replica),
            misses: sum(Event::L2Miss),
            errors: sum(Event::L2Error),
            unreadable: sum(Event::L2Unreadable) + sum(Event::L2Forged) + sum(Event::L2UnknownKey),
            forged: sum(Event::L2Forged),
            unknown_key: sum(Event::L2UnknownKey),
            refused: sum(Event::L2Refused),
            unstorable: sum(Event::L2Unstorable),
            ..TierStats::default()
        },
        loads: sum(Event::Load),
        load_errors: sum(Event::LoadError),
        loads_refused: sum(Event::LoadRefused),
        coalesced: sum(Event::Coalesced),
        refreshes: sum(Event::Refresh),
        stale: sum(Event::Stale),
        stale_if_error: sum(Event::StaleIfError),
        inserts: sum(Event::Insert),
        writes: sum(Event::Write),
        invalidations: sum(Event::Invalidation),
        invalidation_errors: sum(Event::InvalidationError),
        coherence: CoherenceStats {
            unverified_hits: sum(Event::Unverified),
            recovered: sum(Event::Recovered),
            checked: sum(Event::Checked),
            violations: sum(Event::Violation),
            ..CoherenceStats::default()
        },
        recent,
    }
}

/// Samples of hits and misses, taken by whoever misses: a hit pays nothing for the window.
///
/// That loses nothing. Between two samples more than a second apart there was no miss, so whatever the window then holds
/// too much are hits, and only when there was nothing else.
#[derive(Debug)]
pub(crate) struct Window {
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Moment,
    hits: u64,
    misses: u64,
}

impl Window {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self { samples: Mutex::new(VecDeque::from([Sample { at: clock.now(), hits: 0, misses: 0 }])) }
    }

    /// Takes a sample if the last one is a second old. Called on misses; skips if another thread is at it.
    pub(crate) fn sample(&self, now: Moment, counters: &Counters) {
        let Some(mut samples) = self.samples.try_lock() else { return };
        if samples.back().is_none_or(|last| now.since(last.at) >= SAMPLE_EVERY) {
            samples.push_back(Self::read(now, counters));
            // One sample older than the window stays: it is where the window begins.
            while samples.get(1).is_some_and(|second| now.since(second.at) > WINDOW) {
                samples.pop_front();
            }
        }
    }

    pub(crate) fn recent(&self, now: Moment, counters: &Counters) -> Recent {
        let current = Self::read(now, counters);
        let mut samples = self.samples.lock();
        while samples.get(1).is_some_and(|second| now.since(second.at) >= WINDOW) {
            samples.pop_front();
        }
        let start = samples.front().copied().unwrap_or(Sample { at: now, hits: 0, misses: 0 });
        Recent { hits: current.hits.saturating_sub(start.hits), misses: current.misses.saturating_sub(start.misses) }
    }

    fn read(at: Moment, counters: &Counters) -> Sample {
        let hits = counters.sum(Event::L1Hit) + counters.sum(Event::L2Hit);
        let lookups = counters.sum(Event::L1Hit) + counters.sum(Event::L1Miss);
        Sample { at, hits, misses: lookups.saturating_sub(hits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn the_window_forgets_what_is_older_than_a_minute() {
        let hands = ManualClock::new();
        let (clock, counters) = (hands.clock(), Counters::new());
        let window = Window::new(&clock);
        for _ in 0..120 {
            hands.advance(Duration::from_secs(1));
            counters.count(Event::L1Miss);
            window.sample(clock.now(), &counters);
        }
        let recent = window.recent(clock.now(), &counters);
        assert_eq!((recent.hits, recent.misses), (0, 60));
        hands.advance(Duration::from_secs(30));
        counters.add(Event::L1Hit, 30);
        let recent = window.recent(clock.now(), &counters);
        assert_eq!((recent.hits, recent.misses), (30, 30));
        assert!((recent.hit_rate() - 0.5).abs() < 1e-9);
        hands.advance(Duration::from_secs(600));
        assert_eq!(window.recent(clock.now(), &counters).misses, 0);
    }

    #[test]
    fn snapshots_subtract() {
        let earlier = Stats { loads: 3, l1: TierStats { hits: 5, ..TierStats::default() }, ..Stats::default() };
        let later = Stats { loads: 10, l1: TierStats { hits: 9, entries: 4, ..TierStats::default() }, ..Stats::default() };
        let between = later.since(&earlier);
        assert_eq!((between.loads, between.l1.hits, between.l1.entries), (7, 4, 4));
        assert!((Stats::default().hit_rate() - 1.0).abs() < 1e-9);
    }
}
