//! Bounds how many calls a second reach a tier.

use super::forward::{Call, forward_verbs};
use super::verb::Verb;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

/// At most so many calls a second, and so many at once. What is over the limit fails at once with [`ErrorKind::Overloaded`], and was
/// not sent; nothing waits.
///
/// For a Redis that is shared with others and must be kept from this service. All verbs count, a call for many keys as one; an
/// invalidation that is refused is an error to its caller. The limiter is [governor]'s, behind the feature `rate-limit`.
///
/// Costs a read of the clock and one operation on an atomic. Cancelling a call gives nothing back: it was sent.
///
/// ```
/// use cache_core::layers::RateLimit;
/// use cache_core::{EmbeddedTier, ErrorKind, Namespace, RemoteTier};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tier = RateLimit::new(EmbeddedTier::new(), 1, 1);
/// let key = Namespace::new("app", "product")?.key(&7_u64);
/// tier.get(&key).await?;
/// assert_eq!(tier.get(&key).await.unwrap_err().kind(), ErrorKind::Overloaded);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
///
/// [governor]: https://docs.rs/governor
pub struct RateLimit<T> {
    inner: T,
    quota: Quota,
    limiter: Limiter,
    refused: AtomicU64,
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

/// Our clock, as governor reads one.
#[derive(Clone)]
struct Ticks(Clock);

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.now().as_nanos())
    }
}

impl<T> RateLimit<T> {
    /// A tier that takes `per_second` calls (1 to 10⁹), and up to `burst` of them at once (at least 1). The clock moves in steps of up
    /// to 10 ms: with a burst under a hundredth of the rate, less than the rate is reached.
    pub fn new(inner: T, per_second: u32, burst: u32) -> Self {
        let least = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(least(per_second.min(1_000_000_000))).allow_burst(least(burst));
        Self { inner, quota, limiter: limiter(quota, Clock::default()), refused: AtomicU64::new(0) }
    }

    /// The clock that earns calls; the limit starts anew.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.limiter = limiter(self.quota, clock);
        self
    }

    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// Calls refused since it was made.
    pub fn refused(&self) -> u64 {
        // Ordering: relaxed here and where it is counted: a count, which guards nothing.
        self.refused.load(Ordering::Relaxed)
    }

    async fn through<'a, R>(&'a self, _verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        if self.limiter.check().is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Overloaded, "too many calls of L2 in this second"));
        }
        call().await
    }
}

forward_verbs!(RateLimit);

impl<T: fmt::Debug> fmt::Debug for RateLimit<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("inner", &self.inner).field("quota", &self.quota).finish_non_exhaustive()
    }
}

fn limiter(quota: Quota, clock: Clock) -> Limiter {
    RateLimiter::direct_with_clock(quota, Ticks(clock))
}
