//! A shard as a file, for this run only: nothing of it need survive a crash.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{QueryBuilder, SqlitePool};

use super::{CREATE, INSERT, ROWS, UPSERT};
use crate::product::Product;

/// Each connection is a thread, and a query takes some 20 µs of it.
const CONNECTIONS: u32 = 2;

pub(super) async fn open(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let file = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Off)
        .synchronous(SqliteSynchronous::Off);
    // A connection to a file does not break, so nothing is to be tested before each query.
    SqlitePoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false).connect_with(file).await
}

pub(super) async fn fill(pool: &SqlitePool, rows: &[Product]) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query(CREATE).execute(&mut *transaction).await?;
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::new(INSERT);
        insert.push_values(rows, |mut row, product| {
            row.push_bind(product.row_id()).push_bind(&product.name).push_bind(product.cents);
        });
        insert.push(UPSERT).build().execute(&mut *transaction).await?;
    }
    transaction.commit().await
}
