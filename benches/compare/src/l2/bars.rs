//! What the Redis tier has to reach, as ratios to the drivers from the same rounds.

use std::fmt;

use serde::Serialize;

use crate::bound::{Bound, Outcome};
use crate::ratio::Ratio;

use super::OURS;
use super::cell::{Cell, Metric};
use super::roster::{CLUSTER, FRED, MANAGED, MULTI_TIER};
use super::work::tasks_in_words;

/// A bound on our figure at one work, as a multiple of a peer's.
#[derive(Debug, Clone, Copy)]
struct Bar {
    work: &'static str,
    tasks: usize,
    metric: Metric,
    peer: &'static str,
    bound: Bound,
    /// Whether the whole interval has to be within the bound, and not its median alone.
    throughout: bool,
}

const fn rate(least: f64, peer: &'static str, work: &'static str, tasks: usize) -> Bar {
    Bar { work, tasks, metric: Metric::OpsPerS, peer, bound: Bound::AtLeast(least), throughout: false }
}

const fn at_most(most: f64, metric: Metric, peer: &'static str, work: &'static str, tasks: usize) -> Bar {
    Bar { work, tasks, metric, peer, bound: Bound::AtMost(most), throughout: false }
}

/// Reads of large values: not slower than the driver alone, for certain.
const fn never_below(least: f64, work: &'static str, tasks: usize) -> Bar {
    Bar { throughout: true, ..rate(least, MANAGED, work, tasks) }
}

const BARS: [Bar; 16] = [
    rate(2.0, MANAGED, "get-128", 128),
    rate(4.0, MULTI_TIER, "get-128", 128),
    at_most(0.5, Metric::ClientCpuSPerMop, MANAGED, "get-128", 128),
    rate(2.5, MANAGED, "get-128", 1_024),
    rate(1.0, MANAGED, "get-128", 16),
    at_most(1.15, Metric::P50Us, MANAGED, "get-128", 1),
    rate(1.0, CLUSTER, "cluster-get-128", 16),
    rate(2.0, CLUSTER, "cluster-get-128", 128),
    rate(1.1, FRED, "cluster-get-128", 128),
    rate(2.0, CLUSTER, "cluster-get-many", 1),
    rate(2.0, CLUSTER, "cluster-get-many", 16),
    rate(0.6, MANAGED, "fill", 128),
    never_below(0.95, "get-4k", 16),
    never_below(0.95, "get-4k", 128),
    never_below(0.95, "get-64k", 16),
    never_below(0.95, "get-64k", 128),
];

/// A bar and where we stand to it.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    work: &'static str,
    tasks: usize,
    metric: Metric,
    peer: &'static str,
    ratio: f64,
    low: f64,
    high: f64,
    #[serde(flatten)]
    bound: Bound,
    met: bool,
    #[serde(skip)]
    outcome: Outcome,
}

/// Of every bar whose cells were measured.
pub(crate) fn judge(cells: &[Cell]) -> Vec<Verdict> {
    BARS.iter().filter_map(|bar| bar.judge(cells)).collect()
}

impl Bar {
    fn judge(&self, cells: &[Cell]) -> Option<Verdict> {
        let find = |subject| cells.iter().find(|cell| (cell.work, cell.tasks, cell.subject) == (self.work, self.tasks, subject));
        let pairs = find(OURS)?.samples.iter().zip(&find(self.peer)?.samples);
        let ratio = Ratio::of(pairs.map(|(ours, theirs)| (self.metric.of(ours), self.metric.of(theirs))));
        let outcome = if self.throughout { self.bound.judge_throughout(&ratio) } else { self.bound.judge(&ratio) };
        let Bar { work, tasks, metric, peer, bound, .. } = *self;
        Some(Verdict {
            work,
            tasks,
            metric,
            peer,
            ratio: ratio.median,
            low: ratio.low,
            high: ratio.high,
            bound,
            met: outcome.met,
            outcome,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, tasks, peer, ratio, low, high, outcome, .. } = self;
        let (which, bar) = match self.bound {
            Bound::AtMost(most) => ("most", most),
            Bound::AtLeast(least) => ("least", least),
        };
        let (tasks, metric) = (tasks_in_words(*tasks), self.metric.name());
        write!(f, "{work}, {tasks}, {metric}: {ratio:.2} x {peer} ({low:.2}..{high:.2}), bar at {which} {bar:.2}: {outcome}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l2::roster::names;
    use crate::l2::sample::{Faults, Sample};
    use crate::l2::work::WORKS;

    fn cell(work: &'static str, tasks: usize, subject: &'static str, rates: &[f64]) -> Cell {
        let sample = |rate: &f64| Sample {
            calls: 1,
            ops_per_s: *rate,
            p50_us: 1e6 / rate,
            p99_us: 1e6 / rate,
            cpu_s_per_mop: 1e6 / rate,
            faults: Faults::default(),
        };
        Cell { work, topology: "", tasks, subject, note: "", samples: rates.iter().map(sample).collect() }
    }

    #[test]
    fn each_bar_names_a_work_and_a_client_that_exist() {
        for bar in BARS {
            let work = WORKS.iter().find(|work| work.name == bar.work).unwrap_or_else(|| panic!("{bar:?}"));
            assert!(work.tasks.contains(&bar.tasks) && names(work).contains(&bar.peer), "{bar:?}");
        }
    }

    #[test]
    fn more_is_better_for_rates_and_worse_for_times() {
        let cells = [cell("get-128", 1, OURS, &[100.0, 10.0]), cell("get-128", 1, MANAGED, &[80.0, 8.0])];
        assert_eq!(
            judge(&cells)[0].to_string(),
            "get-128, 1 task (pinned), p50: 0.80 x redis-manager (0.80..0.80), bar at most 1.15: met"
        );
        let cells = [cell("get-128", 16, OURS, &[100.0, 10.0]), cell("get-128", 16, MANAGED, &[200.0, 20.0])];
        let text = "get-128, 16 tasks, ops/s: 0.50 x redis-manager (0.50..0.50), bar at least 1.00: missed";
        assert_eq!(judge(&cells)[0].to_string(), text);
    }

    #[test]
    fn large_values_must_be_as_fast_in_the_worst_case_of_the_interval() {
        let judged = |lowest| {
            let cells = [cell("get-64k", 16, OURS, &[lowest, 1.1, 1.2]), cell("get-64k", 16, MANAGED, &[1.0, 1.0, 1.0])];
            judge(&cells)[0].met
        };
        assert!(judged(0.96) && !judged(0.94));
    }

    #[test]
    fn the_file_has_the_bound_by_its_kind() {
        let cells = [cell("fill", 128, OURS, &[7.0]), cell("fill", 128, MANAGED, &[10.0])];
        let json = r#"[{"work":"fill","tasks":128,"metric":"ops_per_s","peer":"redis-manager","ratio":0.7,"low":0.7,"high":0.7,"at_least":0.6,"met":true}]"#;
        assert_eq!(serde_json::to_string(&judge(&cells)).unwrap(), json);
    }
}
