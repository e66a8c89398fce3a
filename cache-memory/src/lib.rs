//! In-process tiers of cachestack.
//!
//! [`MemoryTier`] is the first level that a service names; it is the best engine of this crate, at present [`MokaTier`].
#![forbid(unsafe_code)]

#[cfg(feature = "moka")]
mod moka_tier;

#[cfg(feature = "moka")]
pub use moka_tier::MokaTier;

/// The first level of a cache: bounded by entries, `MemoryTier::new(100_000)`.
///
/// The name for whichever engine of this crate is the default; today [`MokaTier`].
#[cfg(feature = "moka")]
pub type MemoryTier<K, V> = MokaTier<K, V>;
