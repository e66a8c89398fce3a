//! How long a key's origin is left alone behind a stale answer: after it failed, or while another node is at it.

use crate::clock::Moment;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// Between half of this and this, at random, so that nodes do not retry together.
const LEAVE_ALONE: Duration = Duration::from_secs(1);
/// More failing keys than this are not remembered: each then costs one load a read, still one at a time.
const MOST: usize = 16_384;

/// Keys whose last refresh failed. Only reads that have a stale value to fall back on ask: a read without one must try.
#[derive(Debug, Default)]
pub(crate) struct Backoffs(Mutex<HashMap<u64, Moment>>);

impl Backoffs {
    pub(crate) fn failed(&self, hash: u64, now: Moment) {
        self.hold(hash, now, LEAVE_ALONE.mul_f64(0.5 + fastrand::f64() / 2.0));
    }

    /// Leaves a key alone for this long, because another node is refreshing it.
    pub(crate) fn hold(&self, hash: u64, now: Moment, time: Duration) {
        let mut until = self.0.lock();
        if until.len() >= MOST {
            until.retain(|_, until| *until > now);
        }
        if until.len() < MOST {
            until.insert(hash, now.after(time));
        }
    }

    pub(crate) fn holds(&self, hash: u64, now: Moment) -> bool {
        self.0.lock().get(&hash).is_some_and(|until| *until > now)
    }

    pub(crate) fn succeeded(&self, hash: u64) {
        self.0.lock().remove(&hash);
    }
}
