//! In-process tiers of cachestack.
#![forbid(unsafe_code)]

#[cfg(feature = "moka")]
mod moka_tier;
mod policy;

#[cfg(feature = "moka")]
pub use moka_tier::MokaTier;
/// x
#[cfg(feature = "moka")]
pub type MemoryTier<K, V> = MokaTier<K, V>;
