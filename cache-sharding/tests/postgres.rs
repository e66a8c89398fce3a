//! PostgreSQL databases as shards, one of them on a server that is down.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cache_sharding::{Rendezvous, Shard, ShardError, ShardRouter, ShardSpec};
use sqlx::postgres::{PgPool, PgPoolOptions};
use test_servers::Postgres;

type Router = ShardRouter<PgPool, Rendezvous>;

/// One server for the tests of this file; each test has databases of its own.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

/// Connects when it is first used, and gives up soon: a pool tries a refused connection again until this time is over.
fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(2)).connect_lazy(url).unwrap()
}

fn database(name: &str) -> PgPool {
    server().create_database(name);
    pool(&server().url(name))
}

async fn with_table(pool: PgPool) -> PgPool {
    sqlx::query("CREATE TABLE account (id BIGINT PRIMARY KEY, owner TEXT NOT NULL)").execute(&pool).await.unwrap();
    pool
}

async fn insert(router: &Router, id: i64) -> Result<(), sqlx::Error> {
    let pool = router.route(&id).primary();
    sqlx::query("INSERT INTO account VALUES ($1, $2)").bind(id).bind(format!("owner {id}")).execute(pool).await?;
    Ok(())
}

async fn accounts(shard: Shard<PgPool>, ids: Arc<[i64]>) -> Result<Vec<(i64, String)>, sqlx::Error> {
    sqlx::query_as("SELECT id, owner FROM account WHERE id = ANY($1)").bind(&*ids).fetch_all(shard.reader()).await
}

#[tokio::test]
async fn a_stopped_server_costs_its_own_keys_and_the_rest_answer() {
    let mut builder = ShardRouter::builder();
    for i in 0..4 {
        builder = builder.shard(format!("accounts-{i}"), with_table(database(&format!("accounts_{i}"))).await);
    }
    let mut doomed = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    doomed.create_database("accounts_4");
    let lost = with_table(pool(&doomed.url("accounts_4"))).await;
    let router = builder.shard("accounts-4", lost).rendezvous().unwrap();
    for id in 0..100 {
        insert(&router, id).await.unwrap();
    }
    let before = router.scatter().keys(0..100_i64, accounts).await.merge();
    assert_eq!((before.found.len(), before.is_complete()), (100, true));

    doomed.stop();

    let after = router.scatter().keys(0..100_i64, accounts).await.merge();
    assert_eq!(after.failed.len(), 1);
    let failed = &after.failed[0];
    assert_eq!(failed.shard.name(), "accounts-4");
    assert!(matches!(&failed.error, ShardError::Failed(_)), "{:?}", failed.error);
    assert!(failed.keys.len() > 5);
    assert_eq!(after.found.len(), 100 - failed.keys.len());
    assert!(after.found.iter().all(|(id, owner)| *owner == format!("owner {id}") && router.route(id).name() != "accounts-4"));
    assert!(after.absent.is_empty(), "nothing is known of the lost shard's keys");

    let count = |shard: Shard<PgPool>| async move {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM account").fetch_one(shard.reader()).await
    };
    let counts = router.scatter().all(count).await;
    assert_eq!(counts.successes().sum::<i64>(), after.found.len() as i64);
    assert_eq!(counts.failures().map(|(shard, _)| shard.name()).collect::<Vec<_>>(), ["accounts-4"]);
}

#[tokio::test]
async fn a_shard_slower_than_the_deadline_is_reported_before_its_query_ends() {
    let router = ShardRouter::builder().shard("quick", database("quick")).shard("slow", database("slow")).rendezvous().unwrap();
    // Connected before it counts, so that the deadline is for the query alone.
    for shard in router.shards() {
        sqlx::query("SELECT 1").execute(shard.primary()).await.unwrap();
    }
    let deadline = Duration::from_secs(1);
    let ask = |shard: Shard<PgPool>| async move {
        let sql = if shard.name() == "slow" { "SELECT 1 FROM pg_sleep(3600)" } else { "SELECT 1" };
        sqlx::query_scalar::<_, i32>(sql).fetch_one(shard.primary()).await
    };
    let gathered = router.scatter().deadline(deadline).all(ask).await;
    let failures: Vec<_> = gathered.failures().map(|(shard, error)| (shard.name(), error)).collect();
    assert!(matches!(failures[..], [("slow", ShardError::DeadlineExceeded { .. })]), "{failures:?}");
    assert_eq!(gathered.successes().copied().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn reads_go_to_the_replicas_in_turn_and_to_the_primary_on_demand() {
    // Databases that do not replicate: a replica that lags for ever, so that it shows who was asked.
    let primary = with_table(database("ledger")).await;
    let (first, second) = (with_table(database("ledger_replica_1")).await, with_table(database("ledger_replica_2")).await);
    let router =
        ShardRouter::builder().spec(ShardSpec::new("ledger", primary).replica(first).replica(second)).rendezvous().unwrap();

    insert(&router, 7).await.unwrap();

    let shard = router.route(&7_i64);
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM account").fetch_one(shard.primary()).await.unwrap();
    assert_eq!(written, 1, "the primary sees the write at once");
    let mut asked = Vec::new();
    for _ in 0..4 {
        let (name, rows): (String, i64) = sqlx::query_as("SELECT current_database()::text, (SELECT count(*) FROM account)")
            .fetch_one(shard.reader())
            .await
            .unwrap();
        assert_eq!(rows, 0, "a replica that lags does not have the write yet");
        asked.push(name);
    }
    assert_eq!(asked, ["ledger_replica_1", "ledger_replica_2", "ledger_replica_1", "ledger_replica_2"]);
}
