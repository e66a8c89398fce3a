//! The recommended stack of layers, in the recommended order.

use super::breaker::Breaker;
use super::bulkhead::{Bulkhead, BulkheadRules, BulkheadStats};
use super::circuit::{BreakerRules, CircuitStats};
use super::forward::{Call, forward_verbs};
use super::observed::{CallStats, Observed};
use super::retry::{Retry, RetryRules, RetryStats};
use super::timeout::Timeout;
use super::verb::Verb;
use crate::clock::Clock;
use crate::error::Result;
use crate::remote::RemoteTier;
use std::sync::Arc;
use std::time::Duration;

type Stack<T> = Observed<Bulkhead<Breaker<Retry<Timeout<T>>>>>;

/// A tier in all its layers: observed, then the bulkhead, the breaker, retries, and the timeout of each attempt. See
/// [`layers`](super) for why in this order.
///
/// Every call except `clear` and `close` ends within one time, 150 ms unless told, in whatever mixture of queueing, attempts and pauses.
///
/// A tier's own timeout should be shorter than the four fifths of that which a call has here: the default of Redis' tier is, with 100 ms of 120.
/// Otherwise this layer gives up calls that the tier was about to end, and loses what only the tier knows: the values of a `get_many` that did
/// come, and that it was [a part](crate::Error::is_partial) that failed.
///
/// Errors are [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded), [`Unavailable`](crate::ErrorKind::Unavailable) at once with the
/// breaker open, [`Timeout`](crate::ErrorKind::Timeout), and whatever the tier says. A cancelled call leaves nothing behind in any layer.
///
/// Cloning shares it: keep one for its counts and give the other to the cache.
///
/// ```
/// use cache_core::layers::{BreakerState, Guarded, Verb};
/// use cache_core::{EmbeddedTier, TieredCache};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let l2 = Guarded::builder(EmbeddedTier::new()).timeout(Duration::from_millis(50)).build();
/// let cache = TieredCache::<u64, u64>::builder("n").l2(l2.clone()).build()?;
/// cache.get(&1).await;
/// assert_eq!(l2.calls().of(Verb::Get).errors(), 0);
/// assert_eq!(l2.reads().state, BreakerState::Closed);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Guarded<T> {
    inner: Arc<Stack<T>>,
}

impl<T> Clone for Guarded<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T: RemoteTier> Guarded<T> {
    /// A tier in all layers, with the defaults of [`GuardedBuilder`].
    pub fn new(tier: T) -> Self {
        Self::builder(tier).build()
    }

    /// The same with options.
    pub fn builder(tier: T) -> GuardedBuilder<T> {
        GuardedBuilder {
            tier,
            timeout: Duration::from_millis(150),
            clear_within: None,
            retry: RetryRules::default(),
            breaker: BreakerRules::default(),
            bulkhead: BulkheadRules::default(),
            clock: Clock::default(),
        }
    }

    /// Calls as the stack sees them: queueing, repeats and refusals included.
    pub fn calls(&self) -> CallStats {
        self.inner.stats()
    }

    /// What the bulkhead holds and refused.
    pub fn bulkhead(&self) -> BulkheadStats {
        self.inner.inner().stats()
    }

    /// The breaker's circuit of reads.
    pub fn reads(&self) -> CircuitStats {
        self.breaker().reads()
    }

    /// The breaker's circuit of what changes the store, invalidations excepted.
    pub fn changes(&self) -> CircuitStats {
        self.breaker().changes()
    }

    /// What was repeated.
    pub fn retries(&self) -> RetryStats {
        self.breaker().inner().stats()
    }

    /// The tier inside all layers.
    pub fn inner(&self) -> &T {
        self.breaker().inner().inner().inner()
    }

    fn breaker(&self) -> &Breaker<Retry<Timeout<T>>> {
        self.inner.inner().inner()
    }

    async fn through<'a, R>(&'a self, _verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        call().await
    }
}

forward_verbs!(Guarded);

/// Options of a [`Guarded`] tier.
///
/// | option | default | |
/// |---|---|---|
/// | [`timeout`](Self::timeout) | 150 ms | a fifth of it for the queue, the rest for attempts and pauses |
/// | [`clear_within`](Self::clear_within) | 60 s | the same for `clear` |
/// | [`concurrency`](Self::concurrency) | 2,048 and 2,048 | calls inside, calls that wait |
/// | [`breaker`](Self::breaker) | 50 failures of 100 or 10 in a row, open for 50 to 100 ms, 2 probes | |
/// | [`retry`](Self::retry) | 3 attempts, pauses up to 5 and 10 ms, budget 10 % of calls and 1 a second, 10 at once | |
/// | [`clock`](Self::clock) | the kernel's | of breaker and budget |
#[derive(Debug, Clone)]
#[must_use]
pub struct GuardedBuilder<T> {
    tier: T,
    timeout: Duration,
    clear_within: Option<Duration>,
    retry: RetryRules,
    breaker: BreakerRules,
    bulkhead: BulkheadRules,
    clock: Clock,
}

impl<T: RemoteTier> GuardedBuilder<T> {
    /// Every call but `clear` ends within this. The tier's own timeout should be shorter than four fifths of it: see [`Guarded`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `clear` ends within this, after its wait for a place.
    pub fn clear_within(mut self, limit: Duration) -> Self {
        self.clear_within = Some(limit);
        self
    }

    /// How many calls are inside at once, and how many more may wait.
    pub fn concurrency(mut self, inside: usize, queue: usize) -> Self {
        // The queue's time is a part of the timeout, and set with it.
        self.bulkhead = self.bulkhead.inside(inside).queue(queue, Duration::ZERO);
        self
    }

    /// When the breaker opens and closes.
    pub fn breaker(mut self, rules: BreakerRules) -> Self {
        self.breaker = rules;
        self
    }

    /// How calls are repeated. Its `within` is overruled by the timeout.
    pub fn retry(mut self, rules: RetryRules) -> Self {
        self.retry = rules;
        self
    }

    /// The clock of the breaker's delay and of the budget.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The tier in its layers.
    pub fn build(self) -> Guarded<T> {
        let queue_for = self.timeout / 5;
        let call = self.timeout.saturating_sub(queue_for);
        let mut timeout = Timeout::new(self.tier, call);
        if let Some(limit) = self.clear_within {
            timeout = timeout.clear_within(limit);
        }
        // Attempts share the time of one: what fails at once is repeated, what took all the time is not.
        let retry = Retry::new(timeout, self.retry.within(call)).clock(self.clock.clone());
        let breaker = Breaker::new(retry, self.breaker).clock(self.clock);
        let bulkhead = Bulkhead::new(breaker, self.bulkhead.queue_for(queue_for));
        Guarded { inner: Arc::new(Observed::new(bulkhead)) }
    }
}
