//! What the in-process tier has to reach, as ratios to its peers from the same rounds.

use std::fmt;

use serde::Serialize;

use crate::bound::{Bound, Outcome};
use crate::ratio::Ratio;
use crate::series::{self, Series};

use super::OURS;

/// A bound on our figure at one work.
#[derive(Debug, Clone, Copy)]
struct Bar {
    work: &'static str,
    threads: usize,
    /// What the figure is divided by: a subject at a number of threads; nothing where the bound is on the figure itself.
    by: Option<(&'static str, usize)>,
    at_most: f64,
}

const fn times(at_most: f64, subject: &'static str, work: &'static str, threads: usize) -> Bar {
    Bar { work, threads, by: Some((subject, threads)), at_most }
}

/// Two threads against our own one.
const fn scaling(at_most: f64, work: &'static str) -> Bar {
    Bar { work, threads: 2, by: Some((OURS, 1)), at_most }
}

const fn bytes(at_most: f64, work: &'static str) -> Bar {
    Bar { work, threads: 1, by: None, at_most }
}

const BARS: [Bar; 26] = [
    times(0.30, "quick_cache+deadline", "u64-zipf-ttl", 1),
    times(0.80, "quick_cache+coarse", "u64-zipf-ttl", 1),
    times(0.06, "moka-sync", "u64-zipf-ttl", 1),
    times(2.00, "seqlock-floor", "u64-zipf-ttl", 1),
    times(0.20, "quick_cache+deadline", "u64-zipf-ttl", 2),
    times(0.40, "quick_cache+coarse", "u64-zipf-ttl", 2),
    times(0.04, "moka-sync", "u64-zipf-ttl", 2),
    scaling(1.15, "u64-zipf-ttl"),
    times(0.55, "quick_cache+deadline", "string-zipf-ttl", 1),
    times(0.40, "quick_cache+deadline", "string-zipf-ttl", 2),
    times(1.25, "papaya-borrow", "string-zipf-ttl-borrow", 1),
    times(1.25, "papaya-borrow", "string-zipf-ttl-borrow", 2),
    scaling(1.15, "string-zipf-ttl-borrow"),
    times(1.30, "papaya-borrow", "string-hot-ttl-borrow", 1),
    times(1.30, "papaya-borrow", "string-hot-ttl-borrow", 2),
    scaling(1.15, "string-hot-ttl-borrow"),
    times(1.00, "quick_cache+deadline", "u64-95-5-ttl", 1),
    times(1.00, "quick_cache+deadline", "u64-95-5-ttl", 2),
    times(1.00, "quick_cache+deadline", "u64-50-50-ttl", 1),
    times(1.00, "quick_cache+deadline", "u64-50-50-ttl", 2),
    times(1.10, "scc-hashcache", "u64-latency-paced-p999", 2),
    times(0.05, "moka-sync", "u64-latency-paced-p999", 2),
    // Where small values lie in the table itself.
    bytes(56.0, "u64-memory"),
    // Where they do not.
    bytes(80.0, "u64-memory"),
    times(0.15, "cachet", "tiered-hit", 1),
    times(0.15, "multi-tier-cache", "tiered-hit", 1),
];

/// A bar and where we stand to it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    work: &'static str,
    threads: usize,
    /// What ours is divided by; absent where the bar is on our figure itself.
    peer: Option<&'static str>,
    peer_threads: Option<usize>,
    ratio: f64,
    low: f64,
    high: f64,
    at_most: f64,
    met: bool,
    #[serde(skip)]
    outcome: Outcome,
}

/// Of every bar whose series were measured.
pub(crate) fn judge(series: &[Series]) -> Vec<Verdict> {
    BARS.iter().filter_map(|bar| bar.judge(series)).collect()
}

impl Bar {
    fn judge(&self, series: &[Series]) -> Option<Verdict> {
        let ours = &series::find(series, self.work, self.threads, OURS)?.samples;
        let ratio = match self.by {
            Some((subject, threads)) => {
                let theirs = &series::find(series, self.work, threads, subject)?.samples;
                Ratio::of(ours.iter().copied().zip(theirs.iter().copied()))
            }
            None => Ratio::of(ours.iter().map(|sample| (*sample, 1.0))),
        };
        let outcome = Bound::AtMost(self.at_most).judge(&ratio);
        Some(Verdict {
            work: self.work,
            threads: self.threads,
            peer: self.by.map(|(subject, _)| subject),
            peer_threads: self.by.map(|(_, threads)| threads),
            ratio: ratio.median,
            low: ratio.low,
            high: ratio.high,
            at_most: self.at_most,
            met: outcome.met,
            outcome,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, threads, ratio, low, high, at_most, .. } = self;
        match (self.peer, self.peer_threads) {
            (Some(peer), Some(own)) if own != *threads => {
                write!(f, "{work} {threads}T: {ratio:.2} x {peer} {own}T ({low:.2}..{high:.2}), bar {at_most:.2}")?;
            }
            (Some(peer), _) => write!(f, "{work} {threads}T: {ratio:.2} x {peer} ({low:.2}..{high:.2}), bar {at_most:.2}")?,
            (None, _) => write!(f, "{work}: {ratio:.1} bytes per entry, bar {at_most:.0}")?,
        }
        write!(f, ": {}", self.outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l1::subject_names;
    use crate::l1::work::WORKS;
    use crate::series::Unit;

    fn series(work: &str, threads: usize, subject: &'static str, samples: &[f64]) -> Series {
        Series { work: work.into(), threads, subject, note: "", unit: Unit::Nanoseconds, samples: samples.into() }
    }

    #[test]
    fn each_bar_names_a_work_and_a_subject_that_exist() {
        for bar in BARS {
            assert!(WORKS.iter().any(|work| bar.work.starts_with(work.name)), "{}", bar.work);
            assert!(bar.by.is_none_or(|(subject, _)| subject_names().contains(&subject)), "{bar:?}");
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let measured = [
            series("string-zipf-ttl", 1, OURS, &[10.0, 100.0, 10.0]),
            series("string-zipf-ttl", 1, "quick_cache+deadline", &[20.0, 200.0, 20.0]),
        ];
        let verdicts = judge(&measured);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].to_string(), "string-zipf-ttl 1T: 0.50 x quick_cache+deadline (0.50..0.50), bar 0.55: met");
    }

    #[test]
    fn a_bar_inside_the_interval_is_not_decided_for_certain() {
        let judged = |samples: &[f64]| {
            let ones = vec![1.0; samples.len()];
            let measured = [series("u64-95-5-ttl", 2, OURS, samples), series("u64-95-5-ttl", 2, "quick_cache+deadline", &ones)];
            judge(&measured)[0].to_string()
        };
        assert!(judged(&[0.8, 0.9, 1.2]).ends_with("met, but not for certain"));
        assert!(judged(&[0.8, 1.1, 1.2]).ends_with("missed, but not for certain"));
        assert!(judged(&[1.1, 1.2, 1.3]).ends_with("missed"));
    }

    #[test]
    fn scaling_is_to_our_own_single_thread() {
        let measured = [series("u64-zipf-ttl", 1, OURS, &[10.0]), series("u64-zipf-ttl", 2, OURS, &[12.0])];
        assert_eq!(judge(&measured)[0].to_string(), "u64-zipf-ttl 2T: 1.20 x cachestack 1T (1.20..1.20), bar 1.15: missed");
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert!(judge(&[series("tiered-hit", 1, OURS, &[1.0])]).is_empty());
    }
}
