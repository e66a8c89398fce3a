//! Even load: so many a second, over keys of which few are asked for often.

use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Of Zipf's law.
const EXPONENT: f64 = 0.99;

/// Draws keys: key 0 most often.
#[derive(Clone)]
pub(super) struct Keys {
    /// The share of the draws that fall to a key or one before it.
    up_to: Vec<f64>,
}

impl Keys {
    pub(super) fn of(count: u64) -> Self {
        let weight = |key: u64| ((key + 1) as f64).powf(-EXPONENT);
        let whole: f64 = (0..count).map(weight).sum();
        let mut sum = 0.0;
        let up_to = (0..count).map(|key| {
            sum += weight(key) / whole;
            sum
        });
        Self { up_to: up_to.collect() }
    }

    pub(super) fn draw(&self) -> u64 {
        let drawn = fastrand::f64();
        let key = self.up_to.partition_point(|&up_to| up_to <= drawn);
        key.min(self.up_to.len() - 1) as u64
    }
}

/// Ticks so many times a second, and makes none up that it missed: what was stopped goes on at its pace.
pub(super) fn ticks(per_second: f64) -> Interval {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
