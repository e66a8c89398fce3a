//! Placement and routing for database shards.
//!
//! A [`ShardRouter`] holds one handle a shard (a connection pool, a client, an address) and says which of them a key belongs to. A
//! [`Placement`] makes that choice, and makes it for ever: the hash, its seed and the rules are fixed, and golden tests pin where keys land. A
//! [`scatter`](ShardRouter::scatter) asks many shards at once and brings back each one's answer or error.
//!
//! The router opens no connection and speaks no SQL: it works with any driver. Beside it stands the [`outbox`]: messages that commit with a
//! change, for PostgreSQL and SQLite by sqlx or for a driver of your own.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use cache_sharding::{Shard, ShardRouter, ShardSpec};
//!
//! # #[derive(Clone)] struct Pool(&'static str);
//! # impl Pool {
//! #     fn connect(url: &'static str) -> Pool { Pool(url) }
//! #     async fn products(&self, ids: &[u64]) -> Result<Vec<(u64, String)>, std::io::Error> {
//! #         if self.0.contains("west") { return Err(std::io::ErrorKind::ConnectionRefused.into()); }
//! #         Ok(ids.iter().map(|id| (*id, format!("product {id}"))).collect())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = ShardRouter::builder()
//!     .shard("east", Pool::connect("postgres://east/products"))
//!     .spec(ShardSpec::new("north", Pool::connect("postgres://north/products")).replica(Pool::connect("postgres://north-2/products")))
//!     .spec(ShardSpec::new("west", Pool::connect("postgres://west/products")).weight(2))
//!     .rendezvous()?;
//!
//! // One key: its shard, for writes and for reads that must see them.
//! let shard = router.route(&17_u64);
//! let _pool = shard.primary();
//!
//! // Many keys: one query a shard. The west is down, which costs its keys and no others.
//! let ask = |shard: Shard<Pool>, ids: Arc<[u64]>| async move { shard.reader().products(&ids).await };
//! let products = router.scatter().deadline(Duration::from_secs(1)).keys(0..100_u64, ask).await.merge();
//!
//! assert!(products.found.len() > 30);
//! for (id, failed) in products.failed_keys() {
//!     assert_eq!((router.route(id).name(), failed.shard.name()), ("west", "west"));
//! }
//! # assert_eq!(products.found.len() + products.failed_keys().count(), 100);
//! # Ok(()) }
//! ```
//!
//! # Which placement
//!
//! [`Rendezvous`], unless something in this table speaks for another.
//!
//! | | [`Rendezvous`] | [`Ring`] | [`Jump`] | [`Modulo`] |
//! |---|---|---|---|---|
//! | A shard is known by | name | name | position | position |
//! | Keys that move when a shard joins `n` | `1 / (n + 1)` | `1 / (n + 1)` | `1 / (n + 1)` | `n / (n + 1)` |
//! | … from 16 to 17 (ideal: 5.9 %) | 5.9 % | 5.9 % | 5.9 % | 94.2 % |
//! | … farthest from the ideal, of all keys¹ | 0.5 % | 0.9 % | 0.1 % | |
//! | What can be removed | any shard | any shard | the last only | the last, and most keys move |
//! | Weights | yes | yes, small ones | no | no |
//! | Emptiest and fullest of 16, to fair | 0.96, 1.04 | 0.98, 1.02 | 1.00, 1.00 | 1.00, 1.00 |
//! | A lookup over 16 shards² | 2.4 ns | 7.6 ns | 13.4 ns | 2.8 ns |
//! | A lookup over 256 shards² | 2.5 ns | 13 ns | 29 ns | as over 16 |
//! | Memory | 128 KiB | 64 KiB a shard | none | none |
//! | Building, for 16 shards | 25 ms | 3 ms | none | none |
//!
//! ¹ The worst of 30 sets of names (8 for rendezvous above 8 shards), over 1, 2, 3, 4, 8, 16 and 32 shards and 400,000 keys. Where names
//! decide, the draw of a name makes the difference, so it is largest where shards are few: over a ring, the step from one shard to two is more
//! than 1 % of all keys off for about one pair of names in a hundred (0.39 % in the mean square).
//!
//! ² The whole of [`ShardRouter::route`], hash included, over 65,536 different keys of 16 bytes; one key repeated would be faster, by predicted
//! branches and warm tables. AMD EPYC, 2 cores, otherwise idle, Rust 1.95, November 2026; `cargo bench --bench route` repeats it. The ring's table
//! for 256 shards takes 16 MiB: where other work fills the caches, expect 20 to 80 ns.
//!
//! With jump and modulo the order of the list is part of the data: keep it. With rendezvous and ring the names are: give a shard a name that
//! outlives its server (`orders-3`, not a host name).
//!
//! # Adding a shard
//!
//! Nothing moves rows by itself. Build a second router with the new list; the keys on which the two differ are the ones to copy before the second
//! takes over. With every placement but modulo, they all move to the new shard.
//!
//! # What it is not
//!
//! No secondary indexes, no query planner, no transactions over shards, no moving of rows: Vitess and Citus do that, as servers.
#![forbid(unsafe_code)]

pub mod outbox;

mod builder;
mod error;
mod gathered;
mod hash;
mod key;
mod placement;
mod router;
mod scatter;
mod shard;

pub use builder::{ShardRouterBuilder, ShardSpec};
pub use error::BuildError;
pub use gathered::{FailedKeys, Gathered, GatheredKeys, KeysAnswer, Merged, ShardAnswer, ShardError};
pub use hash::SEED;
pub use key::{KeyBytes, ShardKey};
pub use placement::{Jump, MAX_SHARDS, MAX_WEIGHT, Modulo, Placement, Rendezvous, Ring, ShardIndex};
pub use router::{ShardBatch, ShardRouter};
pub use scatter::Scatter;
pub use shard::{Shard, ShardId};
