//! How long a value lives: soft, hard and last.

use crate::error::{Error, Result};
use crate::record::Life;
use std::time::Duration;

/// A time-to-live policy. Durations count from the *start* of the load that made the value.
///
/// ```text
/// load ──────────── soft ──────────────── hard ─────────────── last
///      fresh             served, marked        served only if the     forgotten
///                        stale, while one      origin fails, marked
///                        refresh runs behind   stale
/// ```
///
/// By default `hard` and `last` are `soft`: nothing stale is ever served.
///
/// ```
/// use cache_core::Ttl;
/// use std::time::Duration;
///
/// let ttl = Ttl::minutes(5)                               // soft: fresh for 5 minutes
///     .stale_for(Duration::from_secs(60))                 // hard: a minute longer while a refresh runs
///     .stale_if_error(Duration::from_secs(24 * 3_600))    // last: a day longer if the origin is down
///     .jitter(0.1);                                       // each value's soft life up to 10 % shorter
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ttl {
    soft: Duration,
    stale_for: Duration,
    stale_if_error: Option<Duration>,
    jitter: f64,
    l1_at_most: Option<Duration>,
    idle: Option<Duration>,
}

impl Ttl {
    /// Fresh for this long. Zero is refused when the cache is built.
    pub fn new(soft: Duration) -> Self {
        Self { soft, stale_for: Duration::ZERO, stale_if_error: None, jitter: 0.0, l1_at_most: None, idle: None }
    }

    /// Fresh for so many seconds.
    pub fn seconds(seconds: u64) -> Self {
        Self::new(Duration::from_secs(seconds))
    }

    /// Fresh for so many minutes.
    pub fn minutes(minutes: u64) -> Self {
        Self::new(Duration::from_secs(minutes.saturating_mul(60)))
    }

    /// Fresh for so many hours.
    pub fn hours(hours: u64) -> Self {
        Self::new(Duration::from_secs(hours.saturating_mul(3_600)))
    }

    /// Serve stale values for this long beyond the soft life while one refresh runs behind. Default: zero.
    pub fn stale_for(mut self, beyond_soft: Duration) -> Self {
        self.stale_for = beyond_soft;
        self
    }

    /// Serve stale values for this long beyond the soft life when the origin fails. At least [`Ttl::stale_for`]. Default:
    /// as `stale_for`.
    pub fn stale_if_error(mut self, beyond_soft: Duration) -> Self {
        self.stale_if_error = Some(beyond_soft);
        self
    }

    /// Shorten each value's soft life by a random share of up to this (0 to 1), so that values loaded together do not
    /// expire together. Shortens, so that no value lives longer than it was given. Default: 0.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Keep a value in L1 for at most this long before L2 is asked again, where that is less than its own life. Default:
    /// no limit.
    pub fn l1_at_most(mut self, limit: Duration) -> Self {
        self.l1_at_most = Some(limit);
        self
    }

    /// Forget a value in L1 when nobody has read it there for so long, however much of its own life is left; L2 keeps it.
    /// Default: no limit. At least a millisecond.
    ///
    /// For values that are dear to hold and asked for in bursts. The capacity of L1 lets go of what is not read as well,
    /// but only when something else comes in.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let last = self.stale_if_error.unwrap_or(self.stale_for);
        if self.soft < Duration::from_millis(1) {
            return Err(Error::config(
                "the TTL is under a millisecond: nothing would ever be cached; give Ttl::new a longer time",
            ));
        }
        if last < self.stale_for {
            return Err(Error::config(
                "stale_if_error is shorter than stale_for: values would be stale beyond their last moment; make it at least as long",
            ));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::config("the TTL's jitter must lie between 0 and 1"));
        }
        if self.l1_at_most.is_some_and(|limit| limit < Duration::from_millis(1)) {
            return Err(Error::config("l1_at_most is under a millisecond: L1 would never hit; leave the L1 out instead"));
        }
        if self.idle.is_some_and(|idle| idle < Duration::from_millis(1)) {
            return Err(Error::config("time_to_idle is under a millisecond: L1 would never hit; leave the L1 out instead"));
        }
        Ok(())
    }

    /// The life of a value that is made now, with its share of jitter.
    pub(crate) fn life(&self) -> Life {
        let soft = if self.jitter > 0.0 {
            let share = 1.0 - self.jitter * fastrand::f64();
            Duration::try_from_secs_f64(self.soft.as_secs_f64() * share).unwrap_or(self.soft)
        } else {
            self.soft
        };
        // Redis keeps whole milliseconds, and a life of zero would be no life.
        let soft = soft.max(Duration::from_millis(1));
        let last = self.stale_if_error.unwrap_or(self.stale_for);
        Life { soft, hard: soft.saturating_add(self.stale_for), last: soft.saturating_add(last) }
    }

    pub(crate) fn l1_limit(&self) -> Option<Duration> {
        self.l1_at_most
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle
    }

    /// The longest that a value is kept.
    pub(crate) fn longest(&self) -> Duration {
        self.soft.saturating_add(self.stale_if_error.unwrap_or(self.stale_for))
    }

    /// Whether values are served longer when the origin fails than while they are refreshed.
    pub(crate) fn outlives_errors(&self) -> bool {
        self.stale_if_error.is_some_and(|last| last > self.stale_for)
    }

    /// Whether values are served beyond their soft life, while they are refreshed.
    pub(crate) fn is_stale_for_a_while(&self) -> bool {
        !self.stale_for.is_zero()
    }
}

impl Default for Ttl {
    /// Fresh for five minutes, each value's life up to 10 % shorter, nothing stale.
    fn default() -> Self {
        Self::minutes(5).jitter(0.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_shortens_and_only_by_its_share() {
        let ttl = Ttl::seconds(100).jitter(0.1);
        for _ in 0..1_000 {
            let soft = ttl.life().soft;
            assert!((Duration::from_secs(90)..=Duration::from_secs(100)).contains(&soft), "{soft:?}");
        }
    }

    #[test]
    fn the_three_instants_follow_from_the_soft_life() {
        let life = Ttl::seconds(10).stale_for(Duration::from_secs(5)).stale_if_error(Duration::from_secs(60)).life();
        assert_eq!((life.soft.as_secs(), life.hard.as_secs(), life.last.as_secs()), (10, 15, 70));
        let plain = Ttl::seconds(10).life();
        assert_eq!((plain.hard, plain.last), (plain.soft, plain.soft));
    }

    #[test]
    fn nonsense_is_refused_with_what_to_do() {
        for (ttl, word) in [
            (Ttl::seconds(0), "TTL is under a millisecond"),
            (Ttl::seconds(9).jitter(1.5), "jitter"),
            (Ttl::seconds(9).jitter(f64::NAN), "jitter"),
            (Ttl::seconds(9).stale_for(Duration::from_secs(9)).stale_if_error(Duration::from_secs(1)), "stale_if_error"),
            (Ttl::seconds(9).l1_at_most(Duration::ZERO), "l1_at_most"),
            (Ttl::seconds(9).time_to_idle(Duration::ZERO), "time_to_idle"),
        ] {
            let err = ttl.check().unwrap_err();
            assert!(err.to_string().contains(word), "{err}");
        }
    }

    #[test]
    fn a_thousand_years_are_simply_long() {
        let ttl = Ttl::hours(1_000 * 365 * 24).stale_for(Duration::MAX).jitter(0.5);
        ttl.check().unwrap();
        assert!(ttl.life().hard >= ttl.life().soft);
    }
}
