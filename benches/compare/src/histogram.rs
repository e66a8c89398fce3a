//! Counts of many samples in little memory, so that counting them does not drive the measured cache out of the CPU's caches.

/// Buckets an octave: a percentile is at most 1/64 above the truth.
const PRECISION: u32 = 6;
const STEPS: usize = 1 << PRECISION;
/// Samples from 2^40 on share the last bucket: at 3 ticks a nanosecond that is six minutes.
const OCTAVES: usize = 40;
const BUCKETS: usize = STEPS * (OCTAVES - PRECISION as usize + 1);

/// Whole numbers, counted in buckets that grow with them.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Box<[u32]>,
    samples: u64,
    largest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into(), samples: 0, largest: 0 }
    }

    #[inline]
    pub(crate) fn record(&mut self, sample: u64) {
        self.counts[bucket(sample).min(BUCKETS - 1)] += 1;
        self.samples += 1;
        self.largest = self.largest.max(sample);
    }

    /// The least number that a share `quantile` of all samples does not exceed. Zero where there are none.
    pub(crate) fn percentile(&self, quantile: f64) -> u64 {
        let rank = ((quantile * self.samples as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return largest_in(index).min(self.largest);
            }
        }
        self.largest
    }

    /// Exact.
    pub(crate) fn max(&self) -> u64 {
        self.largest
    }
}

/// Numbers below 128 have a bucket each; above, 64 buckets share each octave.
fn bucket(sample: u64) -> usize {
    let octave = sample.max(1).ilog2().saturating_sub(PRECISION);
    STEPS * octave as usize + (sample >> octave) as usize
}

fn largest_in(bucket: usize) -> u64 {
    let octave = (bucket / STEPS).saturating_sub(1);
    let first = (bucket - STEPS * octave) as u64;
    ((first + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_its_bucket_and_no_bucket_is_wide() {
        let numbers = (0..20_000).chain((14..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        for number in numbers {
            let upper = largest_in(bucket(number));
            assert!(upper >= number && (upper - number) * STEPS as u64 <= number.max(1), "{number}: {upper}");
            assert_eq!(bucket(upper + 1), bucket(number) + 1, "{number}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_samples() {
        let mut histogram = Histogram::new();
        for sample in (1..=100).rev() {
            histogram.record(sample);
        }
        assert_eq!([0.5, 0.99, 0.999, 1.0, 0.0].map(|quantile| histogram.percentile(quantile)), [50, 99, 100, 100, 1]);
    }

    #[test]
    fn a_single_outlier_is_the_maximum_to_the_digit_and_moves_no_percentile() {
        let mut histogram = Histogram::new();
        for _ in 0..9_999 {
            histogram.record(100);
        }
        histogram.record(1_234_567);
        assert_eq!((histogram.percentile(0.999), histogram.max()), (100, 1_234_567));
    }

    #[test]
    fn what_is_too_large_to_tell_apart_is_counted_still() {
        let mut histogram = Histogram::new();
        histogram.record(u64::MAX);
        assert_eq!((histogram.percentile(0.5), histogram.max()), (largest_in(BUCKETS - 1), u64::MAX));
    }

    #[test]
    fn nothing_recorded_is_nothing_read() {
        assert_eq!((Histogram::new().percentile(0.99), Histogram::new().max()), (0, 0));
    }
}
