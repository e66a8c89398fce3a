//! The origin: one SQLite file with a write-ahead log, open in every process.

use crate::item::Item;
use cachestack::BoxError;
use cachestack::sharding::outbox::{Backlog, Row, SqliteOutbox, Store};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

const FILE: &str = "origin.db";
const CONNECTIONS: u32 = 4;
/// For a writer that waits for others: longer than any of them may be stopped.
const BUSY_LIMIT: Duration = Duration::from_secs(20);

/// How long an answer is on its way, at most, and how long one in a hundred is: a database is not in this process as a rule, and it is the slow load that
/// brings an old value back.
const NETWORK: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(40);

/// Cloning shares it.
#[derive(Clone)]
pub(crate) struct Database {
    pool: SqlitePool,
    pub(crate) outbox: SqliteOutbox,
}

impl Database {
    /// Makes the file, with all rows at version 1.
    pub(crate) async fn create(folder: &Path, keys: u64) -> Result<Self, BoxError> {
        let database = Self::connect(folder, true).await?;
        database.outbox.create_table().await?;
        sqlx::query("CREATE TABLE item (key INTEGER PRIMARY KEY, version INTEGER NOT NULL, text TEXT NOT NULL)")
            .execute(&database.pool)
            .await?;
        let fill = "WITH RECURSIVE n(key) AS (SELECT 0 UNION ALL SELECT key + 1 FROM n WHERE key + 1 < ?)
             INSERT INTO item SELECT key, 1, printf('%064d', key) FROM n";
        sqlx::query(fill).bind(keys.cast_signed()).execute(&database.pool).await?;
        Ok(database)
    }

    pub(crate) async fn open(folder: &Path) -> Result<Self, BoxError> {
        Self::connect(folder, false).await
    }

    async fn connect(folder: &Path, create: bool) -> Result<Self, BoxError> {
        let file = SqliteConnectOptions::new()
            .filename(folder.join(FILE))
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            // Processes are killed here, machines are not.
            .synchronous(SqliteSynchronous::Off)
            .busy_timeout(BUSY_LIMIT);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(BUSY_LIMIT).connect_with(file).await?;
        Ok(Self { outbox: SqliteOutbox::new(pool.clone()), pool })
    }

    /// The row, as a network brings it.
    pub(crate) async fn read(&self, key: u64) -> Result<Item, sqlx::Error> {
        let query = sqlx::query_as("SELECT version, text FROM item WHERE key = ?").bind(key.cast_signed());
        let (version, text): (i64, String) = query.fetch_one(&self.pool).await?;
        let limit = if fastrand::u8(..100) == 0 { SLOW } else { NETWORK };
        tokio::time::sleep(limit.mul_f64(fastrand::f64())).await;
        Ok(Item { key, version: version.cast_unsigned(), text })
    }

    /// Raises the row's version, in the same transaction with an outbox row if `message` makes one of the new version.
    pub(crate) async fn raise(&self, key: u64, message: impl FnOnce(u64) -> Option<Row>) -> Result<Item, BoxError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let raise = "UPDATE item SET version = version + 1 WHERE key = ? RETURNING version, text";
        let (version, text): (i64, String) = sqlx::query_as(raise).bind(key.cast_signed()).fetch_one(&mut *transaction).await?;
        let version = version.cast_unsigned();
        if let Some(row) = message(version) {
            self.outbox.add(&mut transaction, &row).await?;
        }
        transaction.commit().await?;
        Ok(Item { key, version, text })
    }

    /// All versions, by key.
    pub(crate) async fn versions(&self) -> Result<Vec<u64>, BoxError> {
        let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM item ORDER BY key").fetch_all(&self.pool).await?;
        Ok(versions.into_iter().map(i64::cast_unsigned).collect())
    }

    pub(crate) async fn backlog(&self) -> Result<Backlog, BoxError> {
        Ok(self.outbox.backlog().await?)
    }
}
