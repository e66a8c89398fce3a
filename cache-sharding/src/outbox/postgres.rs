//! The outbox in PostgreSQL, by sqlx.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::error::Error;
use super::row::{Row, runs};
use super::statements::{DEFAULT_TABLE, Statements};
use super::store::{Backlog, Claimed, Postponed, Store};

/// Rows in one statement.
const ROWS: usize = 1000;
/// Whoever creates the table holds this advisory lock: two `CREATE TABLE IF NOT EXISTS` at once make one of them fail. Drawn once.
const CREATE_LOCK: i64 = 0x6f75_7462_6f78_51c7;

/// An outbox in a PostgreSQL database. A clone is the same outbox, by the same pool.
///
/// Autovacuum must be on, as it is by default: a row that was relayed leaves two dead ones behind. A transaction that stays open for
/// long holds the dead ones of all tables back, and claims then take longer.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// use cache_sharding::outbox::{PostgresOutbox, Row};
///
/// let outbox = PostgresOutbox::new(pool.clone());
/// outbox.create_table().await?;
///
/// let mut transaction = pool.begin().await?;
/// let (version,): (i64,) = sqlx::query_as("UPDATE product SET price = 12, version = version + 1 WHERE id = 17 RETURNING version")
///     .fetch_one(&mut *transaction).await?;
/// let row = Row::new("product", 17_u64.to_be_bytes())?.with_version(version.cast_unsigned());
/// outbox.add(&mut transaction, &row).await?;
/// transaction.commit().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresOutbox {
    pool: PgPool,
    sql: Statements,
}

impl PostgresOutbox {
    /// The outbox in the table [`DEFAULT_TABLE`]. The pool is the relay's; the table need not exist yet.
    ///
    /// # Panics
    /// Never: the default name is a good one.
    pub fn new(pool: PgPool) -> Self {
        Self::with_table(pool, DEFAULT_TABLE).expect("the default name is a good one")
    }

    /// The outbox in another table.
    ///
    /// # Errors
    /// [`Error::TableName`].
    pub fn with_table(pool: PgPool, table: &str) -> Result<Self, Error> {
        Ok(Self { pool, sql: Statements::postgres(table)? })
    }

    /// The SQL, for a migration or another driver.
    pub fn statements(&self) -> &Statements {
        &self.sql
    }

    /// Creates the table and its index if they are missing. Nodes that start together may all call it.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn create_table(&self) -> Result<(), Error> {
        let create = AssertSqlSafe(self.sql.create.clone());
        let mut transaction = self.pool.begin().await.map_err(Error::store)?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(CREATE_LOCK);
        lock.execute(&mut *transaction).await.map_err(Error::store)?;
        sqlx::raw_sql(create).execute(&mut *transaction).await.map_err(Error::store)?;
        transaction.commit().await.map_err(Error::store)
    }

    /// Adds a row to the transaction that is open on this connection; without one, the row is committed at once. A round trip.
    ///
    /// # Errors
    /// [`Error::Store`]: the transaction can only be rolled back.
    ///
    /// # Cancellation
    /// Drop the transaction as well: whether the row is in it is not known.
    pub async fn add(&self, transaction: &mut PgConnection, row: &Row) -> Result<(), Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.add.clone()));
        let query = query.bind(row.topic()).bind(row.key()).bind(row.signed_version());
        query.execute(transaction).await.map(drop).map_err(Error::store)
    }

    /// Adds many rows, by a round trip for each 1,000 rows or MiB.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    ///
    /// # Cancellation
    /// As [`add`](Self::add).
    pub async fn add_all(&self, transaction: &mut PgConnection, rows: &[Row]) -> Result<(), Error> {
        let Some(add_many) = &self.sql.add_many else { return Ok(()) };
        for run in runs(rows, ROWS) {
            let query = sqlx::query(AssertSqlSafe(add_many.clone()))
                .bind(run.iter().map(Row::topic).collect::<Vec<_>>())
                .bind(run.iter().map(Row::key).collect::<Vec<_>>())
                .bind(run.iter().map(Row::signed_version).collect::<Vec<_>>());
            query.execute(&mut *transaction).await.map_err(Error::store)?;
        }
        Ok(())
    }
}

impl Store for PostgresOutbox {
    async fn claim(&self, most: u32, lease: Duration) -> Result<Vec<Claimed>, Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.claim.clone())).bind(i64::from(most)).bind(lease.as_secs_f64());
        query.try_map(|row| claimed(&row)).fetch_all(&self.pool).await.map_err(Error::store)
    }

    async fn delete(&self, ids: &[i64]) -> Result<(), Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.delete.clone())).bind(ids);
        query.execute(&self.pool).await.map(drop).map_err(Error::store)
    }

    async fn postpone(&self, rows: &[Postponed]) -> Result<(), Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.postpone.clone()))
            .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.attempt.cast_signed()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.delay.as_secs_f64()).collect::<Vec<_>>());
        query.execute(&self.pool).await.map(drop).map_err(Error::store)
    }

    async fn backlog(&self) -> Result<Backlog, Error> {
        let query = sqlx::query_as(AssertSqlSafe(self.sql.backlog.clone()));
        let (pending, oldest): (i64, Option<i64>) = query.fetch_one(&self.pool).await.map_err(Error::store)?;
        Ok(Backlog::counted(pending, oldest))
    }
}

fn claimed(row: &PgRow) -> Result<Claimed, sqlx::Error> {
    Ok(Claimed {
        id: row.try_get(0)?,
        attempt: row.try_get::<i32, _>(4)?.cast_unsigned(),
        row: Row::stored(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?),
    })
}
