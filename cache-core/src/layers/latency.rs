//! A histogram of how long calls took, in powers of two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds are 1 µs, 2 µs, 4 µs … 4.2 s; what took longer is in one more bucket.
const BUCKETS: usize = 24;

/// How long calls took: counts by powers of two. See [`VerbStats`](super::VerbStats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    counts: [u64; BUCKETS],
    total_nanos: u64,
}

impl Latency {
    /// The buckets, each with its upper bound, inclusive, and how many calls fell between it and the one before. The first bound is
    /// 1 µs, each next one is twice as long, and the last one is [`Duration::MAX`].
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.counts.iter().enumerate().map(|(bucket, &count)| (bound(bucket), count))
    }

    /// How many calls were timed.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of their times.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total_nanos)
    }

    /// A time that this share of calls (0 to 1) did not exceed: a bucket's bound, hence up to twice the truth. `None` without calls.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (share.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut so_far = 0;
        self.buckets().find_map(|(bound, count)| {
            so_far += count;
            (so_far >= wanted).then_some(bound)
        })
    }

    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, earlier) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(earlier);
        }
        Self { counts, total_nanos: self.total_nanos.saturating_sub(earlier.total_nanos) }
    }
}

fn bound(bucket: usize) -> Duration {
    if bucket + 1 < BUCKETS { Duration::from_micros(1 << bucket) } else { Duration::MAX }
}

/// The histogram being counted, without a lock.
#[derive(Debug)]
pub(super) struct Timings {
    counts: [AtomicU64; BUCKETS],
    total_nanos: AtomicU64,
}

impl Timings {
    pub(super) const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], total_nanos: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // The bound belongs to its bucket, hence one less.
        let micros = nanos.saturating_sub(1) / 1_000;
        let bucket = if micros == 0 { 0 } else { micros.ilog2() as usize + 1 };
        // Ordering: relaxed, here and below: counts, which guard nothing.
        self.counts[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.total_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Latency {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed));
        Latency { counts, total_nanos: self.total_nanos.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[Duration]) -> Latency {
        let timings = Timings::new();
        for &took in times {
            timings.count(took);
        }
        timings.snapshot()
    }

    #[test]
    fn a_time_falls_into_the_first_bucket_whose_bound_it_does_not_exceed() {
        let micros = Duration::from_micros;
        for took in
            [Duration::ZERO, Duration::from_nanos(1), micros(1), Duration::from_nanos(1_001), micros(2), micros(3), micros(4)]
                .into_iter()
                .chain([micros(1 << 22), micros((1 << 22) + 1), Duration::from_secs(3_600), Duration::MAX])
        {
            let latency = of(&[took]);
            let found: Vec<_> = latency.buckets().collect();
            let bucket = found.iter().position(|(_, count)| *count == 1).expect("it is counted");
            assert!(took <= found[bucket].0, "{took:?} in {:?}", found[bucket]);
            assert!(bucket == 0 || took > found[bucket - 1].0, "{took:?} in {:?}", found[bucket]);
        }
    }

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut times = vec![Duration::from_micros(30); 98];
        times.extend([Duration::from_millis(3); 2]);
        let latency = of(&times);
        assert_eq!(latency.quantile(0.5), Some(Duration::from_micros(32)));
        assert_eq!(latency.quantile(0.98), Some(Duration::from_micros(32)));
        assert_eq!(latency.quantile(0.99), Some(Duration::from_micros(4_096)));
        assert_eq!(latency.quantile(0.0), Some(Duration::from_micros(32)));
        assert_eq!((latency.count(), latency.total()), (100, Duration::from_micros(98 * 30 + 6_000)));
        assert_eq!(Latency::default().quantile(0.5), None);
    }
}
