//! Repeats calls that failed, where a repeat can do no harm and there is time and budget for it.

use super::budget::Budget;
use super::forward::{Call, forward_verbs};
use super::timeout::late;
use super::verb::Verb;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How a [`Retry`] repeats.
///
/// ```
/// use cache_core::layers::RetryRules;
/// use std::time::Duration;
///
/// let rules = RetryRules::default().attempts(2).within(Duration::from_millis(40));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryRules {
    attempts: u32,
    within: Duration,
    first_pause: Duration,
    longest_pause: Duration,
    share: f64,
    per_second: u32,
    burst: u32,
}

impl Default for RetryRules {
    fn default() -> Self {
        let (first_pause, longest_pause) = (Duration::from_millis(5), Duration::from_millis(50));
        Self { attempts: 3, within: Duration::from_millis(100), first_pause, longest_pause, share: 0.1, per_second: 1, burst: 10 }
    }
}

impl RetryRules {
    /// How often a call is made at most, the first time included. Default: 3. One, or zero: nothing is repeated.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The time from the beginning of the first attempt in which repeats must have ended. Default: 100 ms. The first attempt is
    /// not bounded by it: that is for the tier, or a [`Timeout`](super::Timeout) inside.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// The pause before a repeat is random, between zero and `first`; twice that before the next one, and so on up to `longest`.
    /// Default: 5 ms, 50 ms.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// The budget: repeats are at most this `share` of calls, and `per_second` more; `burst` of them may come at once. Default:
    /// 0.1, 1 and 10. A share outside 0 to 1 counts as the nearer of them.
    pub fn budget(mut self, share: f64, per_second: u32, burst: u32) -> Self {
        self.share = share;
        self.per_second = per_second;
        self.burst = burst;
        self
    }
}

/// What a [`Retry`] has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RetryStats {
    /// Calls made once more.
    pub repeats: u64,
    /// Calls that would have been repeated, had the budget allowed it.
    pub over_budget: u64,
}

/// Repeats a call that failed with [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`], after a random pause, and returns the last
/// attempt's answer. An attempt is not repeated if less time is left than it took.
///
/// An error leaves open whether the command ran, or will *still* run: it may stand in the buffer of a connection that has been given
/// up, and land after its repeat. So a verb is repeated only if running it twice, the first time later than the second, changes nothing
/// that matters:
///
/// | verb | repeated | because |
/// |---|---|---|
/// | `get`, `get_many` | yes | they change nothing |
/// | `invalidate` | yes | a second tombstone costs a miss at most; a value at least as new as the version stays |
/// | `mark` | yes | a token names one write, ever. One that lands behind its `unmark` keeps values off for the mark's life, and does no other harm |
/// | `unmark` | yes | it takes its own mark and no other, and is an invalidation besides |
/// | `release` | yes | a token names one lease, ever. `false` may then mean that an earlier attempt released it |
/// | `acquire` | **no** | it could let an overtaken value in, see below; and a repeat takes its own lease for another's |
/// | `fill` | no | a repeat finds its own value, hears that the lease is lost, and L1 throws the value away |
/// | `put` | no | the first attempt, landing after an invalidation without a version, stores the value again. The stack invalidates instead |
/// | `clear` | no | it walks the whole store; its caller decides |
///
/// What a second acquire could do: the repeat is granted the lease, the load reads the old row, the row is written and the key
/// invalidated, and only now the first attempt lands and takes the lease anew, under the same token. The fill would be accepted.
///
/// Repeats are paid from a budget, so that an outage is never multiplied: see [`RetryRules::budget`].
///
/// Costs a load of an atomic where nothing fails. Cancelling a call ends its repeats.
///
/// ```
/// use cache_core::layers::{Retry, RetryRules};
/// use cache_core::{EmbeddedTier, Namespace, RemoteTier};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tier = Retry::new(EmbeddedTier::new(), RetryRules::default());
/// let key = Namespace::new("app", "product")?.key(&7_u64);
/// tier.get(&key).await?;
/// assert_eq!(tier.stats().repeats, 0);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Retry<T> {
    inner: T,
    rules: RetryRules,
    budget: Budget,
    repeats: AtomicU64,
    over_budget: AtomicU64,
}

impl<T> Retry<T> {
    /// A tier whose failed calls are repeated by these rules.
    pub fn new(inner: T, rules: RetryRules) -> Self {
        let budget = budget(&rules, Clock::default());
        Self { inner, rules, budget, repeats: AtomicU64::new(0), over_budget: AtomicU64::new(0) }
    }

    /// The clock of the budget; it starts anew. Pauses and `within` go by tokio's time.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.budget = budget(&self.rules, clock);
        self
    }

    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What it has done since it was made.
    pub fn stats(&self) -> RetryStats {
        // Ordering: relaxed here and where it is counted: counts, which guard nothing.
        RetryStats { repeats: self.repeats.load(Ordering::Relaxed), over_budget: self.over_budget.load(Ordering::Relaxed) }
    }

    async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        if !may_run_twice(verb) || self.rules.attempts <= 1 {
            return call().await;
        }
        let began = Instant::now();
        self.budget.earn();
        let mut answer = call().await;
        let (mut attempts, mut took) = (1, began.elapsed());
        while let Err(err) = &answer {
            if attempts >= self.rules.attempts || !is_worth_it(err) {
                break;
            }
            let pause = self.pause(attempts);
            let left = self.rules.within.saturating_sub(began.elapsed());
            // Cut short, it would hide what the tier has said.
            if pause + took >= left {
                break;
            }
            if !self.budget.spend() {
                self.over_budget.fetch_add(1, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(pause).await;
            self.repeats.fetch_add(1, Ordering::Relaxed);
            attempts += 1;
            let left = self.rules.within.saturating_sub(began.elapsed());
            let again = Instant::now();
            answer = tokio::time::timeout(left, call()).await.unwrap_or_else(|_| Err(late()));
            took = again.elapsed();
        }
        answer
    }

    /// Full jitter: those who failed together do not come back together.
    fn pause(&self, attempts: u32) -> Duration {
        let doubled = self.rules.first_pause.saturating_mul(1 << (attempts - 1).min(20));
        doubled.min(self.rules.longest_pause).mul_f64(fastrand::f64())
    }
}

// Repeats end within the rules' time, counted from the beginning of the first attempt.
forward_verbs!(Retry, |layer, inner| Some(inner?.max(layer.rules.within)));

fn budget(rules: &RetryRules, clock: Clock) -> Budget {
    Budget::new(rules.share, rules.per_second, rules.burst, clock)
}

/// See the table at [`Retry`].
fn may_run_twice(verb: Verb) -> bool {
    match verb {
        Verb::Get | Verb::GetMany | Verb::Invalidate | Verb::Release | Verb::Mark | Verb::Unmark => true,
        Verb::Acquire | Verb::Fill | Verb::Put | Verb::Clear => false,
    }
}

/// Not every transient error: who was refused by a limit of ours should not come back for more.
fn is_worth_it(err: &Error) -> bool {
    matches!(err.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}
