//! What becomes of what is sent: drawn when it is sent, by the faults of that moment.

use super::fault::{Event, Fault};
use std::time::Duration;

/// What a request, and its reply, will meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) there: Duration,
    pub(super) back: Duration,
    pub(super) is_lost: bool,
    pub(super) is_reply_lost: bool,
    /// So much later it comes again.
    pub(super) again: Option<Duration>,
}

/// A tick of tokio's timers; nothing takes less but nothing at all.
const TICK_MS: u64 = 1;
/// How long things take where nothing is wrong.
const CALM_MS: u64 = 2 * TICK_MS;
/// How much later a request comes that comes twice.
const AGAIN_MS: u64 = 2_000;

pub(super) fn way(faults: impl Iterator<Item = Fault>, dice: &mut fastrand::Rng) -> Way {
    let (mut lost, mut reply_lost, mut doubled, mut slow) = (0, 0, 0, CALM_MS);
    for fault in faults {
        match fault {
            Fault::Cut => lost = 100,
            Fault::RequestsLost(share) => lost = lost.max(share),
            Fault::RepliesLost(share) => reply_lost = reply_lost.max(share),
            Fault::RequestsDoubled(share) => doubled = doubled.max(share),
            Fault::Slow(time) => slow = slow.max(time.as_millis() as u64),
            _ => {}
        }
    }
    Way {
        there: draw(dice, slow),
        back: draw(dice, slow),
        is_lost: falls(dice, lost),
        is_reply_lost: falls(dice, reply_lost),
        again: falls(dice, doubled).then(|| draw(dice, AGAIN_MS)),
    }
}

/// After which times a message comes: none, one or two.
pub(super) fn arrivals(faults: impl Iterator<Item = Fault>, dice: &mut fastrand::Rng) -> Vec<Duration> {
    let (mut lost, mut doubled, mut slow) = (0, 0, CALM_MS);
    for fault in faults {
        match fault {
            Fault::Cut => lost = 100,
            Fault::MessagesLost(share) => lost = lost.max(share),
            Fault::MessagesDoubled(share) => doubled = doubled.max(share),
            Fault::MessagesSlow(time) => slow = slow.max(time.as_millis() as u64),
            _ => {}
        }
    }
    let times = if falls(dice, doubled) { 2 } else { 1 };
    let mut arrivals = Vec::new();
    for _ in 0..times {
        if !falls(dice, lost) {
            arrivals.push(draw(dice, slow));
        }
    }
    arrivals
}

/// The faults of a node at a moment.
pub(super) fn faults_of(script: &[Event], node: usize, now: Duration) -> impl Iterator<Item = Fault> {
    script.iter().filter(move |event| event.is_on(node, now)).map(|event| event.fault)
}

fn falls(dice: &mut fastrand::Rng, share: u8) -> bool {
    dice.u8(0..100) < share
}

fn draw(dice: &mut fastrand::Rng, longest_ms: u64) -> Duration {
    Duration::from_millis(dice.u64(0..=longest_ms))
}
