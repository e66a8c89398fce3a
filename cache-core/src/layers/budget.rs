//! How many repeats a tier may still be asked for: a share of its calls, and a little more.

use crate::clock::{Clock, Moment};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A repeat, in the unit that is counted: thousandths, so that a call may earn a share of one.
const ONE: u64 = 1_000;

/// A token bucket. Calls earn a share of a repeat each, time earns a few more, and a repeat spends one.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    most: u64,
    per_call: u64,
    per_second: u64,
    clock: Clock,
    refilled: Mutex<Moment>,
}

impl Budget {
    /// Full at first. `share` of a repeat for each call, `per_second` repeats for each second, `most` at once.
    pub(super) fn new(share: f64, per_second: u32, most: u32, clock: Clock) -> Self {
        let most = u64::from(most) * ONE;
        // Not a number counts as none.
        let per_call = (share.clamp(0.0, 1.0) * ONE as f64) as u64;
        let refilled = Mutex::new(clock.now());
        Self { left: AtomicU64::new(most), most, per_call, per_second: u64::from(per_second) * ONE, clock, refilled }
    }

    /// A call was made. Only a load while the bucket is full, which in good weather is always.
    pub(super) fn earn(&self) {
        self.add(self.per_call);
    }

    /// Takes one repeat, if there is one.
    pub(super) fn spend(&self) -> bool {
        self.refill();
        // Ordering: relaxed here and in `add`: the count guards nothing but itself.
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(ONE)).is_ok()
    }

    fn refill(&self) {
        let earned = {
            let now = self.clock.now();
            let mut refilled = self.refilled.lock();
            let passed = u64::try_from(now.since(*refilled).as_millis()).unwrap_or(u64::MAX);
            let earned = passed.saturating_mul(self.per_second) / 1_000;
            if earned == 0 {
                return;
            }
            // The rest of a millisecond goes on counting.
            *refilled = refilled.after(Duration::from_millis(passed));
            earned
        };
        self.add(earned);
    }

    fn add(&self, earned: u64) {
        if earned > 0 && self.left.load(Ordering::Relaxed) < self.most {
            let full = |left: u64| Some(left.saturating_add(earned).min(self.most));
            let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn drain(budget: &Budget) -> u32 {
        let mut spent = 0;
        while budget.spend() {
            spent += 1;
        }
        spent
    }

    #[test]
    fn calls_earn_their_share_and_no_more_than_the_bucket_holds() {
        let budget = Budget::new(0.1, 0, 10, ManualClock::new().clock());
        assert_eq!(drain(&budget), 10);
        (0..50).for_each(|_| budget.earn());
        assert_eq!(drain(&budget), 5);
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!(drain(&budget), 10);
    }

    #[test]
    fn time_earns_its_floor_in_whatever_steps_it_passes() {
        let hands = ManualClock::new();
        let budget = Budget::new(0.0, 2, 10, hands.clock());
        drain(&budget);
        for _ in 0..4_000 {
            hands.advance(Duration::from_micros(750));
            budget.refill();
        }
        assert_eq!(drain(&budget), 6, "two a second for three seconds");
        hands.advance(Duration::from_secs(3_600));
        assert_eq!(drain(&budget), 10);
    }

    #[test]
    fn a_share_that_is_no_number_earns_nothing() {
        let budget = Budget::new(f64::NAN, 0, 1, ManualClock::new().clock());
        drain(&budget);
        (0..100).for_each(|_| budget.earn());
        assert_eq!(drain(&budget), 0);
    }
}
