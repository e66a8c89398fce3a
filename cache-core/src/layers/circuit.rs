//! The state machine of a circuit breaker: closed, open, half-open. It knows no tiers and no errors.

use crate::clock::{Clock, Moment};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When a [`Breaker`](super::Breaker) opens and closes.
///
/// ```
/// use cache_core::layers::BreakerRules;
/// use std::time::Duration;
///
/// let rules = BreakerRules::default().in_a_row(5).open_for(Duration::from_millis(500));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRules {
    window: usize,
    failures: usize,
    in_a_row: u32,
    open_for: Duration,
    probes: u32,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self { window: 100, failures: 50, in_a_row: 10, open_for: Duration::from_millis(100), probes: 2 }
    }
}

impl BreakerRules {
    /// Opens when this many `failures` are among the last `window` calls. Before the first call, and whenever it closes, the window is
    /// full of successes. Default: 50 among 100. Zero counts as one, and more failures than calls as all of them; 65,536 calls at most are
    /// remembered, a byte each.
    pub fn failures(mut self, failures: usize, window: usize) -> Self {
        self.window = window.clamp(1, 1 << 16);
        self.failures = failures.clamp(1, self.window);
        self
    }

    /// Opens when this many calls in a row failed. Default: 10. Zero counts as one.
    pub fn in_a_row(mut self, failures: u32) -> Self {
        self.in_a_row = failures.max(1);
        self
    }

    /// How long it stays open before it lets probes through: between half of this and this, at random, so that nodes do not come back
    /// together. Default: 100 ms. The clock's resolution (1 to 10 ms) is added.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// How many calls are let through half-open; all must succeed for it to close. Default: 2. Zero counts as one.
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes.max(1);
        self
    }
}

/// Where a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused at once. The first one after the delay makes it half-open.
    Open,
    /// A few calls pass, as probes; all others are refused at once.
    HalfOpen,
}

/// A snapshot of a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitStats {
    /// Where it stands.
    pub state: BreakerState,
    /// How often it has opened, from half-open included.
    pub opened: u64,
    /// Calls that it has refused.
    pub refused: u64,
    /// Failures among the last calls of its window; they are forgotten when it closes.
    pub recent_failures: usize,
}

/// How an admitted call ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
    /// It says nothing about the tier's health.
    Neither,
}

/// One circuit. A healthy call costs two loads of an atomic; any other takes a lock for a few instructions, twice.
#[derive(Debug)]
pub(super) struct Circuit {
    rules: BreakerRules,
    clock: Clock,
    /// Of tier and circuit, for the events.
    names: (&'static str, &'static str),
    /// [`calm`] of the generation while it is closed and its window holds no failure: then a success changes nothing. Odd otherwise.
    calm: AtomicU64,
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    phase: Phase,
    /// Counts transitions: a call that was admitted in an earlier phase says nothing about this one.
    generation: u64,
    /// The last calls of a closed circuit, `true` for a failure. `next` is overwritten next.
    window: Box<[bool]>,
    next: usize,
    failures: usize,
    row: u32,
    opened: u64,
    refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Moment },
    HalfOpen { permits: u32, missing: u32 },
}

impl Circuit {
    pub(super) fn new(rules: BreakerRules, clock: Clock, names: (&'static str, &'static str)) -> Self {
        let window = vec![false; rules.window].into();
        let course = Course { phase: Phase::Closed, generation: 0, window, next: 0, failures: 0, row: 0, opened: 0, refused: 0 };
        Self { rules, clock, names, calm: AtomicU64::new(calm(0)), course: Mutex::new(course) }
    }

    /// Leave to make a call, or `None` if it is refused.
    pub(super) fn admit(&self) -> Option<Permit<'_>> {
        // Ordering: relaxed, here and at `settle`: the word guards no other memory. Who reads an old one is a call that came, or
        // a success that was heard of, a moment earlier.
        let calm = self.calm.load(Ordering::Relaxed);
        if calm & 1 == 0 {
            return Some(self.permit(calm >> 1));
        }
        let mut course = self.course.lock();
        let before = course.phase;
        if let Phase::Open { until } = before
            && self.clock.now() >= until
        {
            course.turn(Phase::HalfOpen { permits: self.rules.probes, missing: self.rules.probes });
        }
        let admitted = match &mut course.phase {
            Phase::Closed => true,
            Phase::HalfOpen { permits, .. } if *permits > 0 => {
                *permits -= 1;
                true
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => {
                course.refused += 1;
                false
            }
        };
        let (after, generation) = (course.phase, course.generation);
        drop(course);
        self.tell(before, after);
        admitted.then(|| self.permit(generation))
    }

    pub(super) fn stats(&self) -> CircuitStats {
        let course = self.course.lock();
        let state = match course.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        };
        CircuitStats { state, opened: course.opened, refused: course.refused, recent_failures: course.failures }
    }

    fn permit(&self, generation: u64) -> Permit<'_> {
        Permit { circuit: self, generation, verdict: Verdict::Neither }
    }

    fn settle(&self, generation: u64, verdict: Verdict) {
        if verdict != Verdict::Failure && self.calm.load(Ordering::Relaxed) == calm(generation) {
            return;
        }
        let mut course = self.course.lock();
        if course.generation != generation {
            return;
        }
        let before = course.phase;
        match &mut course.phase {
            Phase::Closed => {
                if verdict != Verdict::Neither && course.remember(verdict == Verdict::Failure, &self.rules) {
                    course.open(self.reopens_at());
                }
            }
            Phase::HalfOpen { permits, missing } => match verdict {
                Verdict::Success => {
                    *missing -= 1;
                    if *missing == 0 {
                        course.turn(Phase::Closed);
                    }
                }
                Verdict::Failure => course.open(self.reopens_at()),
                Verdict::Neither => *permits += 1,
            },
            // Nothing is admitted in an open phase.
            Phase::Open { .. } => {}
        }
        let quiet = course.phase == Phase::Closed && course.failures == 0;
        self.calm.store(calm(course.generation) | u64::from(!quiet), Ordering::Relaxed);
        let after = course.phase;
        drop(course);
        self.tell(before, after);
    }

    fn reopens_at(&self) -> Moment {
        self.clock.now().after(self.rules.open_for.mul_f64(0.5 + fastrand::f64() / 2.0))
    }

    /// One event a transition, outside the lock: a subscriber is the user's code.
    fn tell(&self, before: Phase, after: Phase) {
        let (tier, circuit) = self.names;
        match (before, after) {
            (Phase::Open { .. }, Phase::Open { .. }) => {}
            (_, Phase::Open { .. }) => tracing::warn!(tier, circuit, "the circuit breaker is open: calls of L2 are refused"),
            (Phase::Open { .. }, Phase::HalfOpen { .. }) => {
                tracing::info!(tier, circuit, "the circuit breaker is half-open: L2 is probed");
            }
            (Phase::HalfOpen { .. }, Phase::Closed) => tracing::info!(tier, circuit, "the circuit breaker is closed: L2 is well"),
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn open_until(&self) -> Option<Moment> {
        match self.course.lock().phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }
}

impl Course {
    /// Puts a call into the window. Returns whether that was one failure too many.
    fn remember(&mut self, failed: bool, rules: &BreakerRules) -> bool {
        let oldest = std::mem::replace(&mut self.window[self.next], failed);
        self.next = (self.next + 1) % self.window.len();
        self.failures = self.failures + usize::from(failed) - usize::from(oldest);
        self.row = if failed { self.row + 1 } else { 0 };
        self.row >= rules.in_a_row || self.failures >= rules.failures
    }

    fn open(&mut self, until: Moment) {
        self.opened += 1;
        self.turn(Phase::Open { until });
    }

    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
        if phase == Phase::Closed {
            self.window.fill(false);
            (self.next, self.failures, self.row) = (0, 0, 0);
        }
    }
}

/// Even: an odd word is never calm.
fn calm(generation: u64) -> u64 {
    generation << 1
}

/// Leave for one call. Dropped without a verdict, because the call was cancelled, it counts as neither success nor failure, and a probe's
/// place is free again.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    circuit: &'a Circuit,
    generation: u64,
    verdict: Verdict,
}

impl Permit<'_> {
    pub(super) fn settle(mut self, verdict: Verdict) {
        self.verdict = verdict;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.circuit.settle(self.generation, self.verdict);
    }
}
