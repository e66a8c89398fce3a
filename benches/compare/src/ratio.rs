//! How one subject's figure relates to another's, round by round.

/// The median of the ratios of paired samples and an interval for it. Both samples of a pair come from one round, so that what slowed the
/// machine then is in both and cancels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// Of at least one pair. The interval holds the true median with a probability of 95 % or more, whatever the distribution: it lies
    /// between two order statistics. Below six pairs no such interval exists and all of the ratios are it.
    pub(crate) fn of(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut ratios: Vec<f64> = pairs.into_iter().map(|(above, below)| above / below).collect();
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        let cut = outside(ratios.len());
        Self { median: f64::midpoint(ratios[last / 2], ratios[last.div_ceil(2)]), low: ratios[cut], high: ratios[last - cut] }
    }
}

/// How many of `n` ordered samples may be left out at either end so that those left still enclose the median at 95 %: each lies below it
/// with a probability of one half, so the number that does is binomial.
fn outside(n: usize) -> usize {
    let mut term = 0.5_f64.powi(i32::try_from(n).expect("rounds are counted by hand"));
    let mut below = term;
    let mut cut = 0;
    // `below` is the probability that at most `cut` samples lie below the median.
    while below <= 0.025 {
        cut += 1;
        term *= (n + 1 - cut) as f64 / cut as f64;
        below += term;
    }
    cut.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_paired_and_not_sorted_apart() {
        // The machine was ten times slower in the second round; the ratio does not see it.
        let ratio = Ratio::of([(1.0, 2.0), (10.0, 20.0), (1.0, 2.0)]);
        assert_eq!(ratio, Ratio { median: 0.5, low: 0.5, high: 0.5 });
    }

    #[test]
    fn few_rounds_show_all_of_their_ratios() {
        let ratio = Ratio::of([(3.0, 1.0), (1.0, 1.0), (2.0, 1.0), (4.0, 1.0)]);
        assert_eq!(ratio, Ratio { median: 2.5, low: 1.0, high: 4.0 });
    }

    #[test]
    fn the_interval_of_the_median_is_that_of_the_tables() {
        // Of the sign test, two-sided at 95 %: samples left out at either end.
        for (n, expected) in [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3), (20, 5), (31, 9)] {
            assert_eq!(outside(n), expected, "{n} samples");
        }
    }

    #[test]
    fn one_outlier_in_eleven_rounds_is_outside_of_the_interval() {
        let ratios = (0..11).map(|round| (if round == 4 { 50.0 } else { 1.0 + f64::from(round) / 100.0 }, 1.0));
        assert!(Ratio::of(ratios).high < 1.2);
    }
}
