//! The origin: products spread over database shards, each a network away.

mod postgres;
mod sqlite;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachestack::BoxError;
use cachestack::sharding::{Shard, ShardRouter};
use sqlx::{PgPool, SqlitePool};
use tempfile::TempDir;

use crate::product::{Product, ProductId};

/// What a query to a database in the same data centre takes at least. Embedded or on this machine it would be over before
/// another client could ask for the same product.
pub(crate) const NETWORK: Duration = Duration::from_millis(2);

const SQLITE_SHARDS: usize = 4;
/// Rows a statement. Three parameters each, of which PostgreSQL takes 65,535 and the embedded database half.
const ROWS: usize = 2_000;

const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS quickstart_product (id BIGINT PRIMARY KEY, name TEXT NOT NULL, cents BIGINT NOT NULL)";
const INSERT: &str = "INSERT INTO quickstart_product (id, name, cents) ";
const UPSERT: &str = " ON CONFLICT (id) DO UPDATE SET name = excluded.name, cents = excluded.cents";
const SELECT: &str = "SELECT name, cents FROM quickstart_product WHERE id = $1";

/// Cloning shares it.
#[derive(Clone)]
pub(crate) struct Database {
    shards: ShardRouter<Store>,
    kind: &'static str,
    /// Where the files of embedded shards lie; gone with the last clone.
    _directory: Option<Arc<TempDir>>,
}

/// One shard.
struct Store {
    pool: Pool,
    queries: AtomicU64,
}

enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// The PostgreSQL shards that `SHARD_URLS` names, else four embedded ones.
    pub(crate) async fn open() -> Result<Self, BoxError> {
        match std::env::var("SHARD_URLS") {
            Ok(urls) => Self::postgres(&urls).await,
            Err(_) => Self::sqlite().await,
        }
    }

    async fn sqlite() -> Result<Self, BoxError> {
        let directory = tempfile::Builder::new().prefix("quickstart-").tempdir()?;
        let mut pools = Vec::new();
        for shard in 0..SQLITE_SHARDS {
            pools.push(Pool::Sqlite(sqlite::open(&directory.path().join(format!("shard-{shard}.db"))).await?));
        }
        Self::over(pools, "SQLite files", Some(Arc::new(directory)))
    }

    async fn postgres(urls: &str) -> Result<Self, BoxError> {
        let mut pools = Vec::new();
        for (shard, url) in urls.split(',').enumerate() {
            // Which one, without its URL: that may hold a password.
            let pool = postgres::open(url.trim()).await.map_err(|err| match err {
                sqlx::Error::Configuration(_) => format!("URL {shard} of SHARD_URLS, from 0, is not a postgres:// URL"),
                sqlx::Error::PoolTimedOut => format!("the database of URL {shard} of SHARD_URLS, from 0, does not answer"),
                err => format!("the database of URL {shard} of SHARD_URLS, from 0: {err}"),
            })?;
            pools.push(Pool::Postgres(pool));
        }
        Self::over(pools, "PostgreSQL shards", None)
    }

    fn over(pools: Vec<Pool>, kind: &'static str, directory: Option<Arc<TempDir>>) -> Result<Self, BoxError> {
        let stores = pools.into_iter().map(|pool| Store { pool, queries: AtomicU64::new(0) });
        // A shard's name decides which products it holds, wherever it lies.
        let named = stores.enumerate().map(|(shard, store)| (format!("shard-{shard}"), store));
        Ok(Self { shards: ShardRouter::builder().shards(named).rendezvous()?, kind, _directory: directory })
    }

    /// Gives every product its row, each on the shard it belongs to.
    pub(crate) async fn fill(&self, ids: &[ProductId]) -> Result<(), sqlx::Error> {
        for batch in self.shards.route_many(ids.iter().map(|id| id.0)) {
            let rows: Vec<Product> = batch.keys.into_iter().map(|id| Product::made_up(ProductId(id))).collect();
            match &batch.shard.primary().pool {
                Pool::Sqlite(pool) => sqlite::fill(pool, &rows).await?,
                Pool::Postgres(pool) => postgres::fill(pool, &rows).await?,
            }
        }
        Ok(())
    }

    /// One query to one shard.
    pub(crate) async fn product(&self, id: ProductId) -> Result<Arc<Product>, sqlx::Error> {
        let shard = self.shards.route(&id.0).primary();
        // Ordering: counted for a report that is read when the clients have ended.
        shard.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(NETWORK).await;
        let (name, cents) = match &shard.pool {
            Pool::Sqlite(pool) => sqlx::query_as(SELECT).bind(id.row_id()).fetch_one(pool).await?,
            Pool::Postgres(pool) => sqlx::query_as(SELECT).bind(id.row_id()).fetch_one(pool).await?,
        };
        Ok(Arc::new(Product { id, name, cents }))
    }

    /// Queries so far, by shard.
    pub(crate) fn queries(&self) -> Vec<u64> {
        self.shards.shards().iter().map(|shard| shard.primary().queries.load(Ordering::Relaxed)).collect()
    }

    pub(crate) fn shard_names(&self) -> impl Iterator<Item = &str> {
        self.shards.shards().iter().map(Shard::name)
    }

    pub(crate) fn describe(&self) -> String {
        format!("{} {}, {NETWORK:?} added to each query for the network", self.shards.shards().len(), self.kind)
    }

    pub(crate) async fn close(&self) {
        for shard in self.shards.shards() {
            match &shard.primary().pool {
                Pool::Sqlite(pool) => pool.close().await,
                Pool::Postgres(pool) => pool.close().await,
            }
        }
    }
}
