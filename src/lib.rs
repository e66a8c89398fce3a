//! A multi-level cache for Rust services: memory over Redis over a sharded database, behind one trait.
//!
//! A service describes its caches in code and gets hits from its own memory, one load a key however many ask, a Redis that
//! may die without an error page, and counts of all that happened.
//!
//! ```no_run
//! # use serde::{Deserialize, Serialize};
//! # use std::sync::Arc;
//! # #[derive(Serialize, Deserialize)] struct Product;
//! # #[derive(Clone, PartialEq, Eq, Hash)] struct ProductId(u64);
//! # impl cachestack::Key for ProductId { fn write(&self, parts: &mut cachestack::KeyParts) { self.0.write(parts) } }
//! # #[derive(Clone)] struct Db;
//! # impl Db { async fn product(&self, _: ProductId) -> Result<Arc<Product>, std::io::Error> { todo!() } }
//! # async fn example(db: Db, id: ProductId) -> cachestack::Result<()> {
//! use cachestack::{MemoryTier, RedisTier, TieredCache, Ttl};
//!
//! let cache = TieredCache::<ProductId, Arc<Product>>::builder("product")
//!     .l1(MemoryTier::new(100_000))
//!     .l2(RedisTier::connect("redis://127.0.0.1/").await?)
//!     .ttl(Ttl::minutes(5).jitter(0.1))
//!     .origin(move |id: ProductId| { let db = db.clone(); async move { db.product(id).await } })
//!     .build()?;
//!
//! let product = cache.load(&id).await?;
//! # Ok(()) }
//! ```
//!
//! # Where to look
//!
//! - [`TieredCache`] and its [`Builder`]: what a cache can do and how it is described.
//! - [`Cache`]: the trait to write a service against; [`SharedCache`]: a cache in the service's state;
//!   `testing::FakeCache` (feature `testing`): a cache for its tests.
//! - [`MemoryTier`]: the first level: lock-free to read, bounded by entries or weight, with a listener and a choice of [`Policy`].
//!   [`MemoryCache`]: the same as a cache of its own, synchronous, for a program that needs nothing behind it.
//! - [`Ttl`]: how long values live, and when a stale one may be served.
//! - [`Error`] and [`ErrorKind`]: what can fail. Reads degrade and say so in [`Stats`] and [`Cached`]; writes and
//!   invalidations return errors.
//! - [`RedisTier`]: what happens when Redis is away. [`EmbeddedTier`]: a second level without a server.
//! - [`layers`]: timeout, retry, circuit breaker and limits around any second level.
//! - [`sharding`]: which database shard a key belongs to, and asking many at once.
//! - [`sharding::outbox`]: invalidations that commit with the change, so that no crash in between loses one.
//! - [`record`]: what stands in Redis, byte by byte.
//!
//! # Features
//!
//! | feature | default | brings |
//! |---|---|---|
//! | `redis` | yes | [`RedisTier`] |
//! | `sharding` | yes | [`sharding`] |
//! | `fred` | no | `Driver`: fred under [`RedisTier`], in place of its own multiplexer |
//! | `moka` | no | `MokaTier`, moka as the first level |
//! | `json`, `postcard`, `bincode` | no | codecs beside [`MessagePack`] |
//! | `lz4`, `zstd` | no | `Compression`: larger values take less room in L2 |
//! | `encryption` | no | `Keyring`: values in L2 are encrypted, and forged ones are misses |
//! | `rate-limit` | no | `layers::RateLimit` |
//! | `outbox-postgres`, `outbox-sqlite` | no | [`sharding::outbox`] by sqlx: rows that commit with a change and are relayed at least once |
//! | `testing` | no | fakes, chaos, conformance suites, and a deterministic simulation of several nodes |
//!
//! A [`TieredCache`] runs on tokio, a [`MemoryCache`] in any program. The oldest Rust is 1.88 (1.94 with an outbox by sqlx), the oldest Redis 7.0.
#![forbid(unsafe_code)]

pub use cache_core::*;
#[cfg(feature = "moka")]
pub use cache_memory::MokaTier;
pub use cache_memory::{
    Cause, Compute, Computed, Expiry, MemoryCache, MemoryCacheBuilder, MemoryStats, MemoryTier, MemoryTierBuilder, Policy,
};
#[cfg(feature = "fred")]
pub use cache_redis::Driver;
#[cfg(feature = "redis")]
pub use cache_redis::{Health, NodeHealth, RedisTier, RedisTierBuilder, Remaining, ReplicaReads, Role, ServerInfo, Swept};
#[cfg(feature = "sharding")]
pub use cache_sharding as sharding;

/// A cache of up to two tiers over an origin, with [`MemoryTier`] as its first level unless another is named.
pub type TieredCache<K, V, L = MemoryTier<K, V>> = cache_core::TieredCache<K, V, L>;
