//! A figure, and the bar it has to clear.

use std::fmt;

use serde::Serialize;

use crate::bound::{Bound, Outcome};
use crate::ratio::Ratio;
use crate::report::rounded;

/// One figure of a work. Those without a bar are there to read the others by.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    work: &'static str,
    what: &'static str,
    unit: &'static str,
    median: f64,
    /// The interval of the median, where there are samples enough for one. One sample is its own.
    low: f64,
    high: f64,
    #[serde(flatten)]
    bound: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
    #[serde(skip)]
    outcome: Option<Outcome>,
}

impl Row {
    /// Of at least one sample.
    pub(crate) fn of(work: &'static str, what: &'static str, unit: &'static str, samples: &[f64]) -> Self {
        Self::new(work, what, unit, &Ratio::of(samples.iter().map(|sample| (*sample, 1.0))))
    }

    /// Of samples that were taken in the same rounds.
    pub(crate) fn ratio(work: &'static str, what: &'static str, ours: &[f64], theirs: &[f64]) -> Self {
        Self::new(work, what, "x", &Ratio::of(ours.iter().copied().zip(theirs.iter().copied())))
    }

    pub(crate) fn at_most(self, most: f64) -> Self {
        self.bounded(Bound::AtMost(most))
    }

    pub(crate) fn at_least(self, least: f64) -> Self {
        self.bounded(Bound::AtLeast(least))
    }

    fn bounded(mut self, bound: Bound) -> Self {
        let Self { median, low, high, .. } = &self;
        let outcome = bound.judge(&Ratio { median: *median, low: *low, high: *high });
        (self.bound, self.met, self.outcome) = (Some(bound), Some(outcome.met), Some(outcome));
        self
    }

    fn new(work: &'static str, what: &'static str, unit: &'static str, figure: &Ratio) -> Self {
        let [median, low, high] = [figure.median, figure.low, figure.high].map(|number| rounded(number, 3));
        Self { work, what, unit, median, low, high, bound: None, met: None, outcome: None }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, median, low, high, .. } = self;
        write!(f, "{what}: {median:.2} {unit}")?;
        if low < high {
            write!(f, " ({low:.2}..{high:.2})")?;
        }
        match (self.bound, self.outcome) {
            (Some(Bound::AtMost(most)), Some(outcome)) => write!(f, ", bar at most {most}: {outcome}"),
            (Some(Bound::AtLeast(least)), Some(outcome)) => write!(f, ", bar at least {least}: {outcome}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_judged_by_the_median_of_the_rounds_ratios() {
        let row = |ours: &[f64]| Row::ratio("l1-hit", "load", ours, &[1.0, 2.0, 4.0]).at_most(1.15).to_string();
        assert_eq!(row(&[1.1, 2.0, 4.4]), "load: 1.10 x (1.00..1.10), bar at most 1.15: met");
        assert_eq!(row(&[1.1, 2.2, 4.8]), "load: 1.10 x (1.10..1.20), bar at most 1.15: met, but not for certain");
        assert_eq!(row(&[1.2, 2.4, 4.4]), "load: 1.20 x (1.10..1.20), bar at most 1.15: missed, but not for certain");
    }

    #[test]
    fn the_file_has_bound_and_outcome_where_there_is_a_bar() {
        let row = Row::of("polls", "processor time", "% of a core", &[2.5]);
        let begin = r#"{"work":"polls","what":"processor time","unit":"% of a core","median":2.5,"low":2.5,"high":2.5"#;
        assert_eq!(serde_json::to_string(&row).unwrap(), format!("{begin}}}"));
        assert_eq!(serde_json::to_string(&row.at_most(3.0)).unwrap(), format!(r#"{begin},"at_most":3.0,"met":true}}"#));
    }
}
