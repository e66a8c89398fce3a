//! What Redis' clock shows at most, from measurements with a local monotonic clock.

use std::time::Instant;

/// How fast Redis' clock and ours may drift apart, in parts per million: two crystals (100 each) and a clock that NTP
/// slews (500), rounded up. A clock that is corrected faster or set is noticed by the next measurement.
const DRIFT_PPM: i64 = 1_000;

/// A bound on how far Redis' clock is ahead of ours.
///
/// A reply to a command sent at `sent` and answered at `received` carries the time `T` that Redis' clock showed somewhere
/// in between. So its clock is ahead by `T - received` at least and by `T - sent` at most. The most is what counts: with
/// it, no age comes out too small. Of several measurements the tightest stands, widened by the drift since then, unless a
/// later one proves it wrong (the server's clock was set forward, or the server was replaced behind its address).
///
/// All in microseconds; local times count from an origin of the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ahead {
    most: i64,
    since: i64,
}

impl Ahead {
    fn measured(sent: i64, server: i64) -> Self {
        Self { most: server - sent, since: sent }
    }

    /// The bound as of `local`, which may also lie before the measurement: another call can have measured since.
    fn at(self, local: i64) -> i64 {
        let drift = (local - self.since).abs() * DRIFT_PPM;
        // Rounded up: `div_ceil` of signed numbers is not stable yet.
        self.most + (drift + 999_999) / 1_000_000
    }

    fn and(self, sent: i64, received: i64, server: i64) -> Self {
        let new = Self::measured(sent, server);
        let at_least = server - received;
        if new.at(received) < self.at(received) || at_least > self.at(received) { new } else { self }
    }
}

/// The clock of the server at the other end of one connection.
#[derive(Debug)]
pub(crate) struct ServerTime {
    origin: Instant,
    ahead: Ahead,
}

impl ServerTime {
    /// From the first reply that carried the server's time (microseconds since 1970), to a command sent at `sent`.
    pub(crate) fn new(sent: Instant, server_us: i64) -> Self {
        Self { origin: sent, ahead: Ahead::measured(0, server_us) }
    }

    /// Takes in another such reply, received at `received`.
    pub(crate) fn observe(&mut self, sent: Instant, received: Instant, server_us: i64) {
        self.ahead = self.ahead.and(self.local(sent), self.local(received), server_us);
    }

    /// What the server's clock showed at most at `when`: milliseconds since 1970, rounded up.
    pub(crate) fn latest_ms(&self, when: Instant) -> u64 {
        let local = self.local(when);
        u64::try_from(local + self.ahead.at(local)).unwrap_or(0).div_ceil(1_000)
    }

    fn local(&self, when: Instant) -> i64 {
        i64::try_from(when.saturating_duration_since(self.origin).as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Times in microseconds. The server is 5 s ahead in all of these.
    const AHEAD: i64 = 5_000_000;

    #[test]
    fn the_bound_is_never_below_the_truth_wherever_in_the_round_trip_the_server_read_its_clock() {
        for executed in [1_000, 1_500, 2_000] {
            let bound = Ahead::measured(1_000, executed + AHEAD);
            assert!((AHEAD..=AHEAD + 1_000).contains(&bound.at(1_000)), "{executed}: {bound:?}");
        }
    }

    #[test]
    fn a_quicker_round_trip_tightens_the_bound_and_a_slower_one_leaves_it() {
        let slow = Ahead::measured(0, 40_000 + AHEAD);
        let quick = slow.and(100_000, 100_200, 100_100 + AHEAD);
        assert_eq!(quick.at(100_000), AHEAD + 100);
        assert_eq!(quick.and(200_000, 280_000, 279_000 + AHEAD), quick);
    }

    #[test]
    fn the_bound_widens_with_the_drift_since_it_was_measured() {
        let bound = Ahead::measured(0, AHEAD);
        assert_eq!(bound.at(1_000_000), AHEAD + 1_000);
        assert_eq!(bound.at(1), AHEAD + 1);
        assert_eq!(bound.at(-1_000_000), AHEAD + 1_000);
        // A clock that runs away within the drift allowed for stays below the bound at all times.
        for second in 0..100 {
            let local = second * 1_000_000;
            assert!(bound.at(local) >= AHEAD + local * DRIFT_PPM / 1_000_000);
        }
    }

    #[test]
    fn a_clock_set_forward_replaces_the_bound_and_one_set_back_lowers_it() {
        let bound = Ahead::measured(0, AHEAD);
        let forward = bound.and(1_000_000, 1_000_200, 1_000_100 + 2 * AHEAD);
        assert!(forward.at(1_000_000) >= 2 * AHEAD);
        let back = forward.and(2_000_000, 2_000_200, 2_000_100 + AHEAD);
        assert_eq!(back.at(2_000_000), AHEAD + 100);
    }

    #[test]
    fn the_time_in_ms_is_rounded_up() {
        let start = Instant::now();
        let time = ServerTime::new(start, 1_795_000_000_123_456);
        assert_eq!(time.latest_ms(start), 1_795_000_000_124);
        assert_eq!(time.latest_ms(start + Duration::from_millis(10)), 1_795_000_000_134);
    }
}
