//! In-process tiers of cachestack.
//!
//! [`MemoryTier`] is the first level that a service names. With the feature `moka` there is [`MokaTier`] as well, for those who
//! want its TinyLFU or to compare.
#![forbid(unsafe_code)]

#[cfg(feature = "moka")]
mod moka_tier;
mod policy;
mod sharded;

#[cfg(feature = "moka")]
pub use moka_tier::MokaTier;
pub use sharded::MemoryTier;
