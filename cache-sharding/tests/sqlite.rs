//! Four database files as shards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use cache_sharding::{Rendezvous, Shard, ShardError, ShardRouter};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tempfile::TempDir;

type Router = ShardRouter<SqlitePool, Rendezvous>;

const NAMES: [&str; 4] = ["products-0", "products-1", "products-2", "products-3"];

async fn open(folder: &Path, name: &str) -> SqlitePool {
    let file = SqliteConnectOptions::new().filename(folder.join(name)).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(2).connect_with(file).await.unwrap();
    sqlx::query("CREATE TABLE IF NOT EXISTS product (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").execute(&pool).await.unwrap();
    pool
}

async fn router(folder: &Path) -> Router {
    let mut builder = ShardRouter::builder();
    for name in NAMES {
        builder = builder.shard(name, open(folder, name).await);
    }
    builder.rendezvous().unwrap()
}

async fn insert(router: &Router, ids: std::ops::Range<i64>) {
    for id in ids {
        let pool = router.route(&id).primary();
        sqlx::query("INSERT INTO product VALUES (?, ?)").bind(id).bind(format!("product {id}")).execute(pool).await.unwrap();
    }
}

async fn products(shard: Shard<SqlitePool>, ids: Arc<[i64]>) -> Result<Vec<(i64, String)>, sqlx::Error> {
    let mut query = sqlx::QueryBuilder::new("SELECT id, name FROM product WHERE id IN (");
    let mut list = query.separated(", ");
    for id in &*ids {
        list.push_bind(*id);
    }
    list.push_unseparated(")");
    query.build_query_as().fetch_all(shard.reader()).await
}

#[tokio::test]
async fn rows_lie_where_they_were_routed_and_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let router = router(folder.path()).await;
    insert(&router, 0..200).await;
    let mut seen = BTreeSet::new();
    for shard in router.shards() {
        let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM product").fetch_all(shard.primary()).await.unwrap();
        assert!(ids.len() > 20, "{} holds {} of 200 rows", shard.name(), ids.len());
        assert!(ids.iter().all(|id| router.route(id).name() == shard.name()));
        seen.extend(ids);
    }
    assert!(seen.into_iter().eq(0..200));
}

#[tokio::test]
async fn a_scatter_over_all_shards_reads_every_row() {
    let folder = TempDir::new().unwrap();
    let router = router(folder.path()).await;
    insert(&router, 0..200).await;
    let count = |shard: Shard<SqlitePool>| async move {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM product").fetch_one(shard.reader()).await
    };
    let counts = router.scatter().all(count).await.complete().unwrap();
    assert_eq!(counts.len(), 4);
    assert_eq!(counts.iter().sum::<i64>(), 200);
}

#[tokio::test]
async fn a_scatter_over_keys_finds_each_by_one_query_a_shard() {
    let folder = TempDir::new().unwrap();
    let router = router(folder.path()).await;
    insert(&router, 0..50).await;
    let gathered = router.scatter().keys(0..60_i64, products).await;
    assert_eq!(gathered.answers().len(), 4);
    let merged = gathered.merge();
    assert!(merged.is_complete());
    let expected: BTreeMap<_, _> = (0..50).map(|id| (id, format!("product {id}"))).collect();
    assert_eq!(merged.found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    assert!(merged.absent.into_iter().collect::<BTreeSet<_>>().into_iter().eq(50..60));
}

#[tokio::test]
async fn a_shard_without_its_table_fails_its_keys_only() {
    let folder = TempDir::new().unwrap();
    let router = router(folder.path()).await;
    insert(&router, 0..100).await;
    sqlx::query("DROP TABLE product").execute(router.shards()[1].primary()).await.unwrap();
    let merged = router.scatter().keys(0..100_i64, products).await.merge();
    assert_eq!(merged.failed.len(), 1);
    let failed = &merged.failed[0];
    assert_eq!(failed.shard.name(), NAMES[1]);
    assert!(
        matches!(&failed.error, ShardError::Failed(sqlx::Error::Database(error)) if error.message().contains("no such table"))
    );
    assert_eq!(merged.found.len() + failed.keys.len(), 100);
    assert!(merged.absent.is_empty());
}

#[tokio::test]
async fn rows_are_found_again_by_a_router_that_lists_the_shards_otherwise() {
    let folder = TempDir::new().unwrap();
    let first = router(folder.path()).await;
    insert(&first, 0..50).await;
    for shard in first.shards() {
        shard.primary().close().await;
    }
    let mut builder = ShardRouter::builder();
    for name in NAMES.into_iter().rev() {
        builder = builder.shard(name, open(folder.path(), name).await);
    }
    let second = builder.rendezvous().unwrap();
    assert_eq!(second.scatter().keys(0..50_i64, products).await.merge().found.len(), 50);
}
