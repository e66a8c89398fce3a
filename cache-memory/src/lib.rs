//! In-process tiers of cachestack.
//!
//! [`MemoryTier`] is the first level that a service names; [`MemoryCache`] is the same as a cache of its own, for a program that needs no
//! second one. With the feature `moka` there is [`MokaTier`] as well, for those who
//! want its TinyLFU or to compare.
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

mod cache;
#[allow(unsafe_code)]
mod fetch;
#[allow(unsafe_code)]
mod grace;
#[allow(unsafe_code)]
mod memory;
#[cfg(feature = "moka")]
mod moka_tier;
mod policy;
mod sync;

pub use cache::{Compute, Expiry, MemoryCache, MemoryCacheBuilder, MemoryStats};
pub use memory::{Cause, Computed, MemoryTier, MemoryTierBuilder};
#[cfg(feature = "moka")]
pub use moka_tier::MokaTier;
pub use policy::Kind as Policy;
