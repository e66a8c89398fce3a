//! Alternated rounds and what is told of their samples.

/// Measures every subject once a round, and begins each round with another subject, so that drift of the machine (a neighbour, a warmer
/// CPU) meets them all alike. Returns the samples of each subject, in the subjects' order.
pub(crate) fn alternate<T, M, E>(
    subjects: &mut [T],
    rounds: usize,
    mut measure: impl FnMut(&mut T) -> Result<M, E>,
) -> Result<Vec<Vec<M>>, E> {
    let mut samples: Vec<Vec<M>> = subjects.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let index = (round + turn) % subjects.len();
            samples[index].push(measure(&mut subjects[index])?);
        }
    }
    Ok(samples)
}

/// A figure: the median of its samples and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    /// Half of (largest − smallest) / median: 0.05 reads as ± 5 %.
    pub(crate) spread: f64,
}

impl Figure {
    /// Of at least one sample.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Self { median, spread: (last - first) / median / 2.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_subject() {
        let mut order = Vec::new();
        let samples = alternate(&mut ['a', 'b', 'c'], 3, |subject| {
            order.push(*subject);
            Ok::<_, ()>(*subject)
        });
        assert_eq!(order, ['a', 'b', 'c', 'b', 'c', 'a', 'c', 'a', 'b']);
        assert_eq!(samples.unwrap(), [['a'; 3], ['b'; 3], ['c'; 3]]);
    }

    #[test]
    fn the_first_failure_ends_the_rounds() {
        let mut calls = 0;
        let outcome: Result<Vec<Vec<()>>, _> = alternate(&mut [0, 1], 5, |_| {
            calls += 1;
            Err("failed")
        });
        assert_eq!((outcome, calls), (Err("failed"), 1));
    }

    #[test]
    fn one_outlier_moves_the_spread_and_not_the_median() {
        let figure = Figure::of([10.0, 9.0, 30.0, 11.0, 10.0]);
        assert!((figure.median - 10.0).abs() < 1e-9);
        assert!((figure.spread - 1.05).abs() < 1e-9);
        assert!((Figure::of([1.0, 3.0]).median - 2.0).abs() < 1e-9);
    }
}
