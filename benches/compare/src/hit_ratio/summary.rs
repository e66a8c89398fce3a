//! What the cells show together.

use super::cell::Cell;
use super::{LRU, OPT, OURS};

/// More points than this below LRU, a cell counts as one where LRU was the better choice.
const NOTEWORTHY: f64 = 1.0;

/// One subject over all cells.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) subject: &'static str,
    /// Mean over the cells, in percent.
    pub(crate) share_of_opt: f64,
    /// In points; negative where LRU hit more often.
    pub(crate) worst_against_lru: f64,
    /// The cell of that.
    pub(crate) worst_cell: String,
    pub(crate) cells_below_lru: usize,
}

impl Summary {
    /// A summary a subject but OPT, in their order.
    pub(crate) fn of(cells: &[Cell]) -> Vec<Self> {
        let subjects = cells.first().map(|cell| cell.hit_ratios.iter().map(|(name, _)| *name)).into_iter().flatten();
        subjects.filter(|subject| *subject != OPT).map(|subject| Self::of_subject(subject, cells)).collect()
    }

    fn of_subject(subject: &'static str, cells: &[Cell]) -> Self {
        let difference = |cell: &Cell| cell.hit_ratio(subject) - cell.hit_ratio(LRU);
        let worst = cells.iter().min_by(|one, other| difference(one).total_cmp(&difference(other)));
        Self {
            subject,
            share_of_opt: mean_share(subject, cells),
            worst_against_lru: worst.map_or(0.0, difference),
            worst_cell: worst.map_or_else(String::new, |cell| format!("{} {} %", cell.trace, cell.share)),
            cells_below_lru: cells.iter().filter(|cell| difference(cell) < -NOTEWORTHY).count(),
        }
    }
}

fn mean_share<'a>(subject: &str, cells: impl IntoIterator<Item = &'a Cell>) -> f64 {
    let shares = cells.into_iter().map(|cell| 100.0 * cell.hit_ratio(subject) / cell.hit_ratio(OPT));
    let (sum, count) = shares.fold((0.0, 0_u32), |(sum, count), share| (sum + share, count + 1));
    sum / f64::from(count.max(1))
}

/// The traces that the bars are about: a mixed set, and two on which most policies do badly.
const MIXED: [&str; 8] = ["arc-oltp", "cdn-adaptsize", "corda-vault", "cphys-lcs", "lirs-2pools", "orm-busy", "sprite", "web07"];
const HARD: [&str; 2] = ["arc-p12", "lirs-gli"];
const LOOP: &str = "lirs-loop";

/// Prints the summaries, and where we stand to each bar whose traces were all replayed.
pub(crate) fn print(cells: &[Cell], summaries: &[Summary]) {
    println!("\nover {} cells", cells.len());
    println!("  {:<16}{:>18}{:>20}{:>26}", "subject", "mean % of OPT", "worst against LRU", "cells > 1 point below LRU");
    for summary in summaries {
        let Summary { subject, share_of_opt, worst_against_lru, worst_cell, cells_below_lru } = summary;
        println!("  {subject:<16}{share_of_opt:>18.1}{worst_against_lru:>20.2}{cells_below_lru:>26}  {worst_cell}");
    }
    for line in bars(cells) {
        println!("{line}");
    }
}

fn bars(cells: &[Cell]) -> Vec<String> {
    let of = |names: &[&str]| -> Option<Vec<&Cell>> {
        let all = names.iter().all(|name| cells.iter().any(|cell| cell.trace == *name));
        all.then(|| cells.iter().filter(|cell| names.contains(&cell.trace.as_str())).collect())
    };
    let mut lines = Vec::new();
    if cells.iter().all(|cell| cell.hit_ratios.iter().all(|(name, _)| *name != OURS)) {
        return lines;
    }
    let mean = |cells: &[&Cell], at_least: f64| {
        let share = mean_share(OURS, cells.iter().copied());
        format!("{share:.1} % of OPT over {} cells, bar {at_least}: {}", cells.len(), verdict(share >= at_least))
    };
    if let Some(mixed) = of(&MIXED) {
        let worst = mixed.iter().map(|cell| cell.hit_ratio(OURS) - cell.hit_ratio(LRU)).fold(f64::INFINITY, f64::min);
        lines.push(format!("bars of {OURS}, the mixed set: {}", mean(&mixed, 83.0)));
        lines.push(format!("  worst against LRU: {worst:.2} points, bar -1: {}", verdict(worst >= -1.0)));
        if let Some(with_hard) = of(&[&MIXED[..], &HARD[..]].concat()) {
            lines.push(format!("  with {}: {}", HARD.join(" and "), mean(&with_hard, 77.0)));
        }
    }
    for cell in of(&[LOOP]).into_iter().flatten() {
        let below = cell.hit_ratio(OPT) - cell.hit_ratio(OURS);
        lines.push(format!("  a loop: {below:.2} points below OPT, bar 1: {}", verdict(below <= 1.0)));
    }
    lines
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(trace: &str, opt: f64, lru: f64, ours: f64) -> Cell {
        Cell { trace: trace.into(), share: 1.0, capacity: 100, hit_ratios: vec![(OPT, opt), (LRU, lru), (OURS, ours)] }
    }

    #[test]
    fn shares_are_averaged_over_cells_and_the_worst_cell_is_named() {
        let summaries = Summary::of(&[cell("a", 50.0, 25.0, 50.0), cell("b", 20.0, 12.0, 10.0), cell("c", 80.0, 40.0, 39.5)]);
        let ours = &summaries[1];
        assert_eq!((ours.subject, ours.worst_cell.as_str(), ours.cells_below_lru), (OURS, "b 1 %", 1));
        assert!((ours.share_of_opt - (100.0 + 50.0 + 49.375) / 3.0).abs() < 1e-9);
        assert!((ours.worst_against_lru + 2.0).abs() < 1e-9);
        assert!(summaries.iter().all(|summary| summary.subject != OPT));
    }

    #[test]
    fn bars_are_judged_only_over_whole_sets() {
        assert!(bars(&[cell("web07", 50.0, 40.0, 45.0)]).is_empty());
        let whole: Vec<Cell> = MIXED.iter().map(|name| cell(name, 50.0, 40.0, 45.0)).collect();
        let lines = bars(&whole);
        assert!(lines[0].contains("90.0 % of OPT over 8 cells, bar 83: met"), "{lines:?}");
        assert!(lines[1].ends_with("met") && lines.len() == 2);
        assert!(bars(&[cell(LOOP, 9.97, 0.0, 8.9)])[0].contains("missed"));
    }
}
