//! cachestack: a multi-level cache for Rust services. Memory over Redis over a sharded database, behind one trait.
#![forbid(unsafe_code)]

pub use cache_core::*;

pub use cache_memory::MemoryTier;
#[cfg(feature = "moka")]
pub use cache_memory::MokaTier;

/// A cache of up to two tiers over an origin, with [`MemoryTier`] as its first level unless another is named.
pub type TieredCache<K, V, L = MemoryTier<K, V>> = cache_core::TieredCache<K, V, L>;
