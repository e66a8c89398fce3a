//! Layers around any [`RemoteTier`](crate::RemoteTier): each is a tier again, and does one thing.
//!
//! | layer | what it does | what it refuses or ends with |
//! |---|---|---|
//! | [`Timeout`] | ends each call within a time | [`Timeout`](crate::ErrorKind::Timeout): the outcome is unknown |
//! | [`Retry`] | repeats what may run twice, within a time and a budget | the last attempt's error |
//! | [`Breaker`] | stops asking a tier that keeps failing | [`Unavailable`](crate::ErrorKind::Unavailable), at once |
//! | [`Bulkhead`] | bounds the calls inside, and those that wait | [`Overloaded`](crate::ErrorKind::Overloaded) |
//! | `RateLimit` (feature `rate-limit`) | bounds the calls a second | [`Overloaded`](crate::ErrorKind::Overloaded), at once |
//! | [`Observed`] | counts, times and traces calls | nothing |
//!
//! What is refused was not sent, and is an error: an invalidation that did not reach L2 never looks as if it had. Reads of a
//! [`TieredCache`](crate::TieredCache) go on to the origin after any of these errors.
//!
//! # The right stack
//!
//! [`Guarded`] builds it:
//!
//! ```text
//! the stack of tiers
//!   └ Observed        sees what the cache sees: queueing, repeats, refusals
//!      └ Bulkhead     when the breaker opens, the queue empties at once: whoever gets a place is refused inside
//!         └ Breaker   counts a call with its repeats once; with the circuit open nothing is repeated and nothing waits
//!            └ Retry  each attempt has a timeout; all attempts together have one time
//!               └ Timeout
//!                  └ RedisTier
//! ```
//!
//! A `RateLimit` goes around it all, or between `Observed` and `Bulkhead`: what is over the limit should not take a place in the queue.
//!
//! ```
//! use cache_core::layers::{Breaker, BreakerRules, Bulkhead, BulkheadRules, Observed, Retry, RetryRules, Timeout};
//! use cache_core::{EmbeddedTier, TieredCache};
//! use std::time::Duration;
//!
//! // By hand, what `Guarded::new(tier)` does.
//! let tier = Timeout::new(EmbeddedTier::new(), Duration::from_millis(120));
//! let tier = Retry::new(tier, RetryRules::default().within(Duration::from_millis(120)));
//! let tier = Breaker::new(tier, BreakerRules::default());
//! let tier = Bulkhead::new(tier, BulkheadRules::default().queue(2_048, Duration::from_millis(30)));
//! let cache = TieredCache::<u64, u64>::builder("n").l2(Observed::new(tier)).build()?;
//! # Ok::<_, cache_core::Error>(())
//! ```
//!
//! # A wrong stack
//!
//! `Timeout(Retry(Breaker(Bulkhead(Observed(RedisTier)))))` compiles, and looks careful. From the outside in:
//!
//! | what | goes wrong |
//! |---|---|
//! | `Timeout` outermost | it *cancels* calls that hang, which tells the breaker nothing: no circuit opens, every read waits for all of it |
//! | `Retry` around `Breaker` | a refusal looks like a failure: an open circuit costs pauses, and the budget is spent on calls that are not sent |
//! | `Breaker` around `Bulkhead` | with the circuit open, those who queue go on waiting for places behind calls that hang |
//! | `Observed` innermost | it times the server only: what the service waits for, and what is refused, is not seen |
//!
//! # Cost
//!
//! Each layer boxes one future a call, as all object-safe async traits do.

mod breaker;
mod budget;
mod bulkhead;
mod circuit;
mod forward;
mod guarded;
mod latency;
mod observed;
#[cfg(feature = "rate-limit")]
mod rate_limit;
mod retry;
#[cfg(test)]
mod tests;
mod timeout;
mod verb;

pub use breaker::Breaker;
pub use bulkhead::{Bulkhead, BulkheadRules, BulkheadStats};
pub use circuit::{BreakerRules, BreakerState, CircuitStats};
pub use guarded::{Guarded, GuardedBuilder};
pub use latency::Latency;
pub use observed::{CallStats, Observed, VerbStats};
#[cfg(feature = "rate-limit")]
pub use rate_limit::RateLimit;
pub use retry::{Retry, RetryRules, RetryStats};
pub use timeout::Timeout;
pub use verb::Verb;
