//! A shard as a PostgreSQL database that `SHARD_URLS` names. Its table `quickstart_product` stays there.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, QueryBuilder};

use super::{CREATE, INSERT, ROWS, UPSERT};
use crate::product::Product;

/// 64 clients over four shards.
const CONNECTIONS: u32 = 16;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn open(url: &str) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(CONNECT_LIMIT).connect(url).await
}

pub(super) async fn fill(pool: &PgPool, rows: &[Product]) -> Result<(), sqlx::Error> {
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
