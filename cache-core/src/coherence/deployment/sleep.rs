//! A machine that was suspended: the clock stood still, wall time did not.

use super::{Deployment, every_partition};
use crate::clock::{Clock, Moment};
use crate::mutant::{Mutant, is};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::info;

/// Wall time may come so far ahead of the clock between two rounds without anybody's suspecting that the machine was suspended: by two reads on both sides of a tick,
/// or a wall clock that is being adjusted.
pub(super) const SLACK: Duration = Duration::from_millis(25);

impl Deployment {
    /// The time for a hit. By wall time, so that it goes on while the machine is suspended, and from where the clock stood when the last round was sent: one look at a
    /// clock does for both. A wall clock that is set forward so ends leases, and one that is set back is noticed by the next round.
    #[inline]
    pub(crate) fn moment(&self) -> Moment {
        if is(Mutant::SleepUnseen) {
            return self.clock.now();
        }
        // Ordering: acquire pairs with the release in `notice_sleep`: who counts with a sleep that was noticed sees that nothing is verified.
        Moment::from_nanos(self.clock.wall().wrapping_sub(self.ahead.load(Ordering::Acquire)))
    }

    /// Whether wall time has come further ahead of the clock than it should have since the last round.
    fn gained(&self, ahead: u64) -> bool {
        const SLACK_NANOS: i64 = SLACK.as_nanos() as i64;
        ahead.wrapping_sub(self.ahead.load(Ordering::Acquire)).cast_signed() > SLACK_NANOS && !is(Mutant::SleepUnseen)
    }

    /// If the machine was suspended since the last round, has everything asked about again. The clock stood still, so that neither leases nor the ages of entries
    /// mean anything. (A wall clock that was set forward looks the same, and costs the same.)
    pub(crate) fn notice_sleep(&self) {
        let ahead = ahead(&self.clock, self.now());
        if self.gained(ahead) {
            info!("the machine was suspended, or its wall clock set: L1 is asked about again");
            for partition in every_partition() {
                let known = self.known(partition);
                let mut state = known.state.lock();
                // As after another subscription.
                state.begin_anew();
                known.verified.store(0, Ordering::Release);
                known.was_verified.store(0, Ordering::Release);
                drop(state);
                self.suspect(partition);
            }
            self.publish();
            // Long ago: who reads now may wait for a round.
            self.last_sent.store(0, Ordering::Release);
            self.poked.notify_one();
        }
        // Ordering: release pairs with the acquire in `moment`.
        self.ahead.store(ahead, Ordering::Release);
    }
}

/// How far wall time is ahead of the clock, in nanoseconds modulo 2⁶⁴.
#[inline]
pub(super) fn ahead(clock: &Clock, now: Moment) -> u64 {
    clock.wall().wrapping_sub(now.as_nanos())
}
