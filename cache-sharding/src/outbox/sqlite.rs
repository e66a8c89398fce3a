//! The outbox in SQLite, by sqlx.

use std::fmt::Write;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _};

use super::error::Error;
use super::row::{Row, runs};
use super::statements::{DEFAULT_TABLE, Statements};
use super::store::{Backlog, Claimed, Postponed, Store};

/// Rows in one statement. SQLite takes 32,766 parameters, of which a row has three.
const ROWS: usize = 500;

/// An outbox in a SQLite database. A clone is the same outbox, by the same pool.
///
/// SQLite has one writer at a time, and a relay that finds something is one: where it meets a user's transaction, one waits for the
/// other, as long as the pool's `busy_timeout` says. Begin the user's with `BEGIN IMMEDIATE`: one that has read before it writes is
/// refused at once otherwise. An idle relay only reads.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cache_sharding::outbox::{Row, SqliteOutbox, Store};
///
/// # let folder = tempfile::tempdir()?;
/// # let file = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("shop")).create_if_missing(true);
/// # let pool = sqlx::SqlitePool::connect_with(file).await?;
/// let outbox = SqliteOutbox::new(pool.clone());
/// outbox.create_table().await?;
///
/// let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
/// // … the UPDATE, and in the same transaction:
/// outbox.add(&mut transaction, &Row::new("product", 17_u64.to_be_bytes())?).await?;
/// transaction.rollback().await?;
///
/// assert_eq!(outbox.backlog().await?.pending, 0, "what is rolled back is not relayed");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SqliteOutbox {
    pool: SqlitePool,
    sql: Statements,
}

impl SqliteOutbox {
    /// The outbox in the table [`DEFAULT_TABLE`]. The pool is the relay's; the table need not exist yet.
    ///
    /// # Panics
    /// Never: the default name is a good one.
    pub fn new(pool: SqlitePool) -> Self {
        Self::with_table(pool, DEFAULT_TABLE).expect("the default name is a good one")
    }

    /// The outbox in another table.
    ///
    /// # Errors
    /// [`Error::TableName`].
    pub fn with_table(pool: SqlitePool, table: &str) -> Result<Self, Error> {
        Ok(Self { pool, sql: Statements::sqlite(table)? })
    }

    /// The SQL, for a migration or another driver.
    pub fn statements(&self) -> &Statements {
        &self.sql
    }

    /// Creates the table and its index if they are missing.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn create_table(&self) -> Result<(), Error> {
        let create = AssertSqlSafe(self.sql.create.clone());
        sqlx::raw_sql(create).execute(&self.pool).await.map(drop).map_err(Error::store)
    }

    /// Adds a row to the transaction that is open on this connection; without one, the row is committed at once. Some 10 µs.
    ///
    /// # Errors
    /// [`Error::Store`]: roll the transaction back, or its change has no row.
    ///
    /// # Cancellation
    /// Drop the transaction as well: whether the row is in it is not known.
    pub async fn add(&self, transaction: &mut SqliteConnection, row: &Row) -> Result<(), Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.add.clone()));
        let query = query.bind(row.topic()).bind(row.key()).bind(row.signed_version());
        query.execute(transaction).await.map(drop).map_err(Error::store)
    }

    /// Adds many rows, by a statement for each 500 rows or MiB.
    ///
    /// # Errors
    /// As [`add`](Self::add); some of the rows may be in the transaction then.
    ///
    /// # Cancellation
    /// As [`add`](Self::add).
    pub async fn add_all(&self, transaction: &mut SqliteConnection, rows: &[Row]) -> Result<(), Error> {
        for run in runs(rows, ROWS) {
            let mut query = QueryBuilder::new(&*self.sql.add);
            query.push(", (?, ?, ?)".repeat(run.len() - 1));
            // Its text depends on the number of rows: not worth a place among the prepared ones.
            let mut query = query.build().persistent(false);
            for row in run {
                query = query.bind(row.topic()).bind(row.key()).bind(row.signed_version());
            }
            query.execute(&mut *transaction).await.map_err(Error::store)?;
        }
        Ok(())
    }

    async fn is_due(&self) -> Result<bool, sqlx::Error> {
        match self.sql.is_due.clone() {
            Some(is_due) => sqlx::query_scalar(AssertSqlSafe(is_due)).fetch_one(&self.pool).await,
            None => Ok(true),
        }
    }
}

impl Store for SqliteOutbox {
    async fn claim(&self, most: u32, lease: Duration) -> Result<Vec<Claimed>, Error> {
        if !self.is_due().await.map_err(Error::store)? {
            return Ok(Vec::new());
        }
        let query = sqlx::query(AssertSqlSafe(self.sql.claim.clone())).bind(most).bind(milliseconds(lease));
        let rows = query.try_map(|row| claimed(&row)).fetch_all(&self.pool).await;
        rows.map_err(Error::store)
    }

    async fn delete(&self, ids: &[i64]) -> Result<(), Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.delete.clone())).bind(json(ids, |text, id| write!(text, "{id}")));
        query.execute(&self.pool).await.map(drop).map_err(Error::store)
    }

    async fn postpone(&self, rows: &[Postponed]) -> Result<(), Error> {
        let list = json(rows, |text, row| write!(text, "[{},{},{}]", row.id, row.attempt, milliseconds(row.delay)));
        let query = sqlx::query(AssertSqlSafe(self.sql.postpone.clone())).bind(list);
        query.execute(&self.pool).await.map(drop).map_err(Error::store)
    }

    async fn backlog(&self) -> Result<Backlog, Error> {
        let query = sqlx::query_as(AssertSqlSafe(self.sql.backlog.clone()));
        let (pending, oldest): (i64, Option<i64>) = query.fetch_one(&self.pool).await.map_err(Error::store)?;
        Ok(Backlog::counted(pending, oldest))
    }
}

fn claimed(row: &SqliteRow) -> Result<Claimed, sqlx::Error> {
    Ok(Claimed {
        id: row.try_get(0)?,
        attempt: row.try_get(4)?,
        row: Row::stored(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?),
    })
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A list as JSON. One text of SQL serves any number of ids that way.
fn json<T>(items: &[T], mut write_item: impl FnMut(&mut String, &T) -> std::fmt::Result) -> String {
    let mut text = String::from("[");
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        write_item(&mut text, item).expect("a String takes all that is written to it");
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::json;
    use std::fmt::Write;

    #[test]
    fn ids_of_all_64_bits_become_json() {
        let list = |ids: &[i64]| json(ids, |text, id| write!(text, "{id}"));
        assert_eq!(list(&[]), "[]");
        assert_eq!(list(&[1, i64::MAX, i64::MIN]), "[1,9223372036854775807,-9223372036854775808]");
    }
}
