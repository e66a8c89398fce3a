//! What a ratio must reach, and whether it does.

use std::fmt;

use serde::Serialize;

use crate::ratio::Ratio;

/// A bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }

    /// By the ratio's median.
    pub(crate) fn judge(self, ratio: &Ratio) -> Outcome {
        Outcome { met: self.holds(ratio.median), certain: self.holds(ratio.low) == self.holds(ratio.high) }
    }

    /// By every figure of the ratio's interval.
    pub(crate) fn judge_throughout(self, ratio: &Ratio) -> Outcome {
        Outcome { met: self.holds(ratio.low) && self.holds(ratio.high), certain: true }
    }
}

/// Whether a bar is met, and whether the other outcome lies within the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) met: bool,
    pub(crate) certain: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.met { "met" } else { "missed" })?;
        f.write_str(if self.certain { "" } else { ", but not for certain" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(low: f64, median: f64, high: f64) -> Ratio {
        Ratio { median, low, high }
    }

    #[test]
    fn the_median_decides_and_the_interval_says_how_surely() {
        let judged = |bound: Bound, low, median, high| bound.judge(&ratio(low, median, high)).to_string();
        assert_eq!(judged(Bound::AtMost(1.0), 0.8, 0.9, 0.99), "met");
        assert_eq!(judged(Bound::AtMost(1.0), 0.8, 0.9, 1.1), "met, but not for certain");
        assert_eq!(judged(Bound::AtMost(1.0), 1.1, 1.2, 1.3), "missed");
        assert_eq!(judged(Bound::AtLeast(2.0), 2.0, 2.2, 2.4), "met");
        assert_eq!(judged(Bound::AtLeast(2.0), 1.9, 2.2, 2.4), "met, but not for certain");
        assert_eq!(judged(Bound::AtLeast(2.0), 1.5, 1.9, 2.4), "missed, but not for certain");
    }

    #[test]
    fn a_bar_for_the_whole_interval_is_missed_by_its_end() {
        let judged = |low, high| Bound::AtLeast(0.95).judge_throughout(&ratio(low, 1.2, high)).to_string();
        assert_eq!(judged(0.96, 1.3), "met");
        assert_eq!(judged(0.94, 1.3), "missed");
    }
}
