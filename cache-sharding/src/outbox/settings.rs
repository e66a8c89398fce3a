//! How a relay works, and how long it waits after a failure.

use std::hash::{BuildHasher, RandomState};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::error::Error;

/// A batch is held in memory, 64 KiB a row at worst.
const MOST_IN_A_BATCH: u32 = 10_000;
/// Shorter polls would be a busy loop.
const SHORTEST_POLL: Duration = Duration::from_millis(1);

/// How a relay works.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) batch: NonZeroU32,
    pub(super) concurrency: NonZeroUsize,
    pub(super) poll_every: Duration,
    pub(super) timeout: Duration,
    pub(super) lease: Duration,
    pub(super) retry: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: NonZeroU32::new(100).unwrap(),
            concurrency: NonZeroUsize::new(16).unwrap(),
            poll_every: Duration::from_millis(200),
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            retry: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) },
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), Error> {
        let year = Duration::from_secs(366 * 24 * 3600);
        let rules = [
            (self.batch.get() <= MOST_IN_A_BATCH, "batch", "at most 10,000 rows"),
            (self.poll_every >= SHORTEST_POLL && self.poll_every <= year, "poll_every", "from 1 ms to a year"),
            (!self.timeout.is_zero(), "timeout", "longer than zero"),
            // What is claimed is started only if it can end within its claim.
            (self.lease > self.timeout && self.lease <= year, "lease", "longer than the timeout and at most a year"),
            (!self.retry.first.is_zero(), "retry_after", "longer than zero"),
            (
                self.retry.most >= self.retry.first && self.retry.most <= year,
                "retry_after",
                "at most a year, the first not above the most",
            ),
        ];
        match rules.into_iter().find(|(kept, ..)| !kept) {
            Some((_, name, allowed)) => Err(Error::Setting { name, allowed }),
            None => Ok(()),
        }
    }
}

/// Doubling pauses with an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl Backoff {
    /// The pause after failure number `failures`, from one: `first`, twice that and so on up to `most`, less up to half of it by
    /// chance, so that what failed together does not come back together.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.most);
        // The standard library's only source of chance, and good enough for this one.
        let chance = RandomState::new().hash_one(failures) as f64 / u64::MAX as f64;
        whole.mul_f64(1.0 - chance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, Settings};
    use crate::outbox::Error;
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn pauses_double_up_to_the_most_and_vary_within_half_of_themselves() {
        let backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };
        for (failures, whole) in
            [(0, 200), (1, 200), (2, 400), (3, 800), (6, 6400), (7, 10_000), (33, 10_000), (u32::MAX, 10_000)]
        {
            let pauses: BTreeSet<_> = (0..50).map(|_| backoff.pause(failures)).collect();
            let whole = Duration::from_millis(whole);
            assert!(pauses.iter().all(|pause| (whole / 2..=whole).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.len() > 40, "{failures}: only {} different ones of 50", pauses.len());
        }
    }

    #[test]
    fn the_defaults_are_accepted_and_what_cannot_work_is_refused_by_name() {
        assert!(Settings::default().check().is_ok());
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            match settings.check() {
                Err(Error::Setting { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|s| s.batch = NonZeroU32::new(10_001).unwrap()), "batch");
        assert_eq!(refused(|s| s.poll_every = Duration::ZERO), "poll_every");
        assert_eq!(refused(|s| s.timeout = Duration::ZERO), "timeout");
        assert_eq!(refused(|s| s.lease = s.timeout), "lease");
        assert_eq!(refused(|s| s.lease = Duration::MAX), "lease");
        assert_eq!(refused(|s| s.retry.first = Duration::ZERO), "retry_after");
        assert_eq!(refused(|s| s.retry.most = s.retry.first / 2), "retry_after");
    }
}
