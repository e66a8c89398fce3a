//! The samples of one client at one work: what rows and bars are made of.

use serde::Serialize;

use crate::report::rounded;
use crate::rounds::Figure;

use super::sample::Sample;

/// One sample a round, in the order of the rounds: samples of two cells at the same place were taken in the same round.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) work: &'static str,
    pub(crate) topology: &'static str,
    pub(crate) tasks: usize,
    pub(crate) subject: &'static str,
    pub(crate) note: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// What a sample tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    OpsPerS,
    P50Us,
    P99Us,
    ClientCpuSPerMop,
}

impl Metric {
    pub(crate) fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::OpsPerS => sample.ops_per_s,
            Self::P50Us => sample.p50_us,
            Self::P99Us => sample.p99_us,
            Self::ClientCpuSPerMop => sample.cpu_s_per_mop,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OpsPerS => "ops/s",
            Self::P50Us => "p50",
            Self::P99Us => "p99",
            Self::ClientCpuSPerMop => "client CPU an op",
        }
    }
}

impl Cell {
    pub(crate) fn figure(&self, metric: Metric) -> Figure {
        Figure::of(self.samples.iter().map(|sample| metric.of(sample)))
    }
}

/// A cell as the file has it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    work: &'static str,
    topology: &'static str,
    tasks: usize,
    subject: &'static str,
    ops_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    client_cpu_s_per_mop: f64,
    /// Of `ops_per_s`.
    spread: f64,
}

impl Row {
    pub(crate) fn of(cell: &Cell) -> Self {
        let median = |metric| cell.figure(metric).median;
        let Figure { median: ops_per_s, spread } = cell.figure(Metric::OpsPerS);
        Self {
            work: cell.work,
            topology: cell.topology,
            tasks: cell.tasks,
            subject: cell.subject,
            ops_per_s: ops_per_s.round(),
            p50_us: rounded(median(Metric::P50Us), 1),
            p99_us: rounded(median(Metric::P99Us), 1),
            client_cpu_s_per_mop: rounded(median(Metric::ClientCpuSPerMop), 3),
            spread: rounded(spread, 3),
        }
    }
}

/// The table of one work at one number of tasks. Ratios of ops/s are to the first cell: above 1 is faster than it.
pub(crate) fn print(cells: &[Cell]) {
    let Some(first) = cells.first() else { return };
    let reference = first.figure(Metric::OpsPerS).median;
    println!(
        "  {:<20}{:>12} {:>5} {:>7}{:>10}{:>10}{:>12}  note",
        "subject", "ops/s", "±", "ratio", "p50 us", "p99 us", "cpu s/Mop"
    );
    for cell in cells {
        let Figure { median, spread } = cell.figure(Metric::OpsPerS);
        let [p50, p99, cpu] = [Metric::P50Us, Metric::P99Us, Metric::ClientCpuSPerMop].map(|metric| cell.figure(metric).median);
        print!("  {:<20}{median:>12.0} {:>4.0}% {:>7.2}", cell.subject, 100.0 * spread, median / reference);
        println!("{p50:>10.1}{p99:>10.1}{cpu:>12.2}  {}", cell.note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l2::sample::Faults;

    #[test]
    fn a_row_has_the_fields_that_readers_of_the_file_expect() {
        let sample = |ops_per_s| Sample {
            calls: 1,
            ops_per_s,
            p50_us: 281.04,
            p99_us: 804.0,
            cpu_s_per_mop: 2.345_6,
            faults: Faults::default(),
        };
        let samples = vec![sample(100_000.4), sample(110_000.0), sample(90_000.0)];
        let cell = Cell { work: "get-128", topology: "one-node", tasks: 128, subject: "fred", note: "", samples };
        let json = r#"{"work":"get-128","topology":"one-node","tasks":128,"subject":"fred","ops_per_s":100000.0,"p50_us":281.0,"p99_us":804.0,"client_cpu_s_per_mop":2.346,"spread":0.1}"#;
        assert_eq!(serde_json::to_string(&Row::of(&cell)).unwrap(), json);
    }
}
