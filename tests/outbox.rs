//! An outbox and a cache together: a commit whose writer dies before it invalidates is followed all the same.
#![cfg(feature = "outbox-sqlite")]

use cachestack::sharding::outbox::{Relay, Row, SqliteOutbox};
use cachestack::{EmbeddedTier, MemoryTier, TieredCache, Ttl};
use sqlx::sqlite::SqlitePoolOptions;
use std::time::Duration;

mod support;
use support::until;

#[tokio::test]
async fn i6_what_was_committed_is_invalidated_though_its_writer_never_said_so() {
    let database = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
    sqlx::query("create table product (id integer primary key, price integer)").execute(&database).await.unwrap();
    sqlx::query("insert into product values (7, 100)").execute(&database).await.unwrap();
    let outbox = SqliteOutbox::new(database.clone());
    outbox.create_table().await.unwrap();

    let store = EmbeddedTier::new();
    let node = || {
        let database = database.clone();
        let price = move |id: u64| {
            let database = database.clone();
            async move {
                let query = sqlx::query_scalar::<_, i64>("select price from product where id = ?").bind(id as i64);
                query.fetch_one(&database).await
            }
        };
        let cache = TieredCache::<u64, i64>::builder("price").l1(MemoryTier::new(100)).l2(store.as_another_node());
        cache.ttl(Ttl::minutes(5)).origin(price).build().unwrap()
    };
    let (writer, reader) = (node(), node());
    assert_eq!(reader.load(&7).await.unwrap(), 100);

    // The row commits with the change; what would have come next, an invalidation, never does.
    let mut change = database.begin().await.unwrap();
    sqlx::query("update product set price = 90 where id = 7").execute(&mut *change).await.unwrap();
    outbox.add(&mut change, &Row::new("price", writer.encode_key(&7)).unwrap()).await.unwrap();
    change.commit().await.unwrap();
    drop(writer);
    assert_eq!(reader.load(&7).await.unwrap(), 100);

    let cache = reader.clone();
    let relay = Relay::builder(outbox).poll_every(Duration::from_millis(10)).start(move |claimed| {
        let cache = cache.clone();
        async move { cache.invalidate_encoded(claimed.row.key(), claimed.row.version()).await.map(drop) }
    });
    let relay = relay.unwrap();
    until("the relay has told the cache", || relay.stats().delivered == 1).await;
    assert_eq!(reader.load(&7).await.unwrap(), 90);
    relay.close(Duration::from_secs(1)).await;
}
