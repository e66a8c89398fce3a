//! Tests of the layers, alone and together.

mod breaker;
mod bulkhead;
mod circuit;
mod guarded;
mod observed;
#[cfg(feature = "rate-limit")]
mod rate_limit;
mod retry;
mod suite;
mod support;
mod timeout;
