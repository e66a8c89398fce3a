//! The outbox in PostgreSQL: what commits is relayed, whoever is killed.
#![cfg(unix)]

mod outbox;

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use cache_sharding::outbox::{Error, MAX_KEY, PostgresOutbox, Postponed, Relay, Row, Statements, Store};
use outbox::{Delivered, Stuck, hostile, killed_after, numbered, report_and_wait, second, within};
use sqlx::postgres::{PgPool, PgPoolOptions};
use test_servers::Postgres;
use tokio::time;

const LEASE: Duration = Duration::from_secs(30);

/// One server for the tests of this file; each test has a database of its own.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

fn open(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(5)).connect_lazy(url).unwrap()
}

struct Shop {
    pool: PgPool,
    outbox: PostgresOutbox,
    url: String,
}

async fn shop(database: &str) -> Shop {
    server().create_database(database);
    let url = server().url(database);
    let pool = open(&url);
    sqlx::query("CREATE TABLE product (price BIGINT NOT NULL)").execute(&pool).await.unwrap();
    let outbox = PostgresOutbox::new(pool.clone());
    outbox.create_table().await.unwrap();
    Shop { pool, outbox, url }
}

/// What a service does: the change and its row in one transaction.
async fn write(pool: &PgPool, outbox: &PostgresOutbox, rows: &[Row]) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("INSERT INTO product (price) VALUES (12)").execute(&mut *transaction).await.unwrap();
    outbox.add_all(&mut transaction, rows).await.unwrap();
    transaction
}

async fn commit(shop: &Shop, rows: &[Row]) {
    write(&shop.pool, &shop.outbox, rows).await.commit().await.unwrap();
}

async fn pending(shop: &Shop) -> u64 {
    shop.outbox.backlog().await.unwrap().pending
}

/// As if the database's clock had gone on: all that waits for a time is due.
async fn let_claims_end(pool: &PgPool) {
    sqlx::query("UPDATE cachestack_outbox SET due_at = due_at - interval '1 hour'").execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_row_shares_the_fate_of_its_transaction() {
    let shop = shop("fate").await;
    write(&shop.pool, &shop.outbox, &numbered(0..3)).await.rollback().await.unwrap();
    assert_eq!(pending(&shop).await, 0);

    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    commit(&shop, &numbered(7..9)).await;
    assert_eq!(delivered.next(2).await, numbered(7..9).into_iter().collect());
    within(async || while pending(&shop).await > 0 {}).await;
    assert_eq!(shop.outbox.backlog().await.unwrap().oldest, None);
}

#[tokio::test]
async fn any_bytes_and_all_64_bits_of_a_version_survive() {
    let shop = shop("bytes").await;
    let rows = hostile();
    let mut transaction = shop.pool.begin().await.unwrap();
    shop.outbox.add(&mut transaction, &rows[0]).await.unwrap();
    shop.outbox.add(&mut transaction, &rows[2]).await.unwrap();
    shop.outbox.add_all(&mut transaction, &[&rows[1..2], &rows[3..]].concat()).await.unwrap();
    transaction.commit().await.unwrap();
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(rows.len()).await, rows.into_iter().collect());
}

#[tokio::test]
async fn many_rows_take_several_statements_and_all_arrive() {
    let shop = shop("many").await;
    commit(&shop, &[]).await;
    commit(&shop, &numbered(0..2001)).await;
    assert_eq!(pending(&shop).await, 2001);
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(2001).await, numbered(0..2001).into_iter().collect());
}

#[tokio::test]
async fn the_table_refuses_what_a_row_would_not_hold() {
    let shop = shop("checks").await;
    for (topic, key) in [(129, 0), (0, MAX_KEY + 1)] {
        let insert =
            sqlx::query("INSERT INTO cachestack_outbox (topic, key) VALUES ($1, $2)").bind(vec![0; topic]).bind(vec![0; key]);
        assert!(matches!(insert.execute(&shop.pool).await, Err(sqlx::Error::Database(_))), "{topic} {key}");
    }
    assert_eq!(pending(&shop).await, 0);
}

#[tokio::test]
async fn what_was_committed_is_delivered_though_the_writer_was_killed() {
    if let Some(url) = second() {
        let pool = open(&url);
        let outbox = PostgresOutbox::new(pool.clone());
        write(&pool, &outbox, &numbered(0..5)).await.commit().await.unwrap();
        // And one that is still open when the process ends.
        let open = write(&pool, &outbox, &numbered(100..105)).await;
        report_and_wait().await;
        drop(open);
    }
    let shop = shop("writer_killed").await;
    killed_after("what_was_committed_is_delivered_though_the_writer_was_killed", &shop.url);
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(5).await, numbered(0..5).into_iter().collect());
    within(async || while pending(&shop).await > 0 {}).await;
    let prices: i64 = sqlx::query_scalar("SELECT count(*) FROM product").fetch_one(&shop.pool).await.unwrap();
    assert_eq!(prices, 1, "one transaction was committed, and its rows");
}

#[tokio::test]
async fn a_relay_killed_between_delivery_and_delete_leads_to_a_second_delivery() {
    if let Some(url) = second() {
        let mut delivered = Delivered::new();
        let _relay = delivered.relay(Stuck(PostgresOutbox::new(open(&url))));
        delivered.next(5).await;
        report_and_wait().await;
    }
    let shop = shop("relay_killed").await;
    commit(&shop, &numbered(0..5)).await;
    killed_after("a_relay_killed_between_delivery_and_delete_leads_to_a_second_delivery", &shop.url);

    assert!(shop.outbox.claim(10, LEASE).await.unwrap().is_empty(), "the claims of the dead still hold");
    let_claims_end(&shop.pool).await;
    let mut delivered = Delivered::new();
    let relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(5).await, numbered(0..5).into_iter().collect());
    assert_eq!(relay.stats().retried, 5);
    within(async || while pending(&shop).await > 0 {}).await;
}

#[tokio::test]
async fn two_relays_share_the_rows_and_deliver_each_once() {
    let shop = shop("share").await;
    commit(&shop, &numbered(0..1000)).await;
    let mut delivered = Delivered::new();
    // Each in a pool of its own, as two processes are.
    let relays = [0, 1].map(|_| delivered.relay(PostgresOutbox::new(open(&shop.url))));
    assert_eq!(delivered.next(1000).await, numbered(0..1000).into_iter().collect());
    within(async || while pending(&shop).await > 0 {}).await;
    assert_eq!(relays.iter().map(|relay| relay.stats().delivered).sum::<u64>(), 1000, "none twice");
}

#[tokio::test]
async fn two_claims_at_once_never_share_a_row_and_neither_waits() {
    let shop = shop("claims").await;
    commit(&shop, &numbered(0..10)).await;
    let mut open = shop.pool.begin().await.unwrap();
    let claim = sqlx::AssertSqlSafe(shop.outbox.statements().claim.clone());
    let first = sqlx::query(claim).bind(4_i64).bind(30.0_f64).fetch_all(&mut *open).await.unwrap();
    assert_eq!(first.len(), 4);
    let second =
        time::timeout(Duration::from_secs(20), shop.outbox.claim(10, LEASE)).await.expect("it waits for the first").unwrap();
    assert_eq!(second.len(), 6, "those that the first has locked are left out");
    open.rollback().await.unwrap();
    assert_eq!(shop.outbox.claim(10, LEASE).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_row_that_commits_after_younger_ones_were_relayed_is_relayed_as_well() {
    let shop = shop("order").await;
    let late = write(&shop.pool, &shop.outbox, &numbered(0..1)).await;
    commit(&shop, &numbered(1..2)).await;
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(1).await, numbered(1..2).into_iter().collect());
    within(async || while pending(&shop).await > 0 {}).await;
    late.commit().await.unwrap();
    assert_eq!(delivered.next(1).await, numbered(0..1).into_iter().collect());
}

#[tokio::test]
async fn a_row_that_fails_holds_up_no_others_and_comes_again() {
    let shop = shop("fails").await;
    commit(&shop, &numbered(0..50)).await;
    let mut delivered = Delivered::failing_once(numbered(3..4)[0].key());
    let relay = delivered.relay(shop.outbox.clone());
    let others = numbered(0..50).into_iter().filter(|row| row.key() != 3_u32.to_be_bytes()).collect::<BTreeSet<_>>();
    assert_eq!(delivered.next(49).await, others);
    assert_eq!(delivered.next(1).await, numbered(3..4).into_iter().collect());
    let stats = relay.stats();
    assert_eq!((stats.failed, stats.retried), (1, 1));
}

#[tokio::test]
async fn claims_end_by_the_database_s_clock_and_a_late_word_of_the_first_claimer_changes_nothing() {
    let shop = shop("leases").await;
    commit(&shop, &numbered(0..2)).await;
    let first = shop.outbox.claim(10, LEASE).await.unwrap();
    assert_eq!(first.iter().map(|claimed| claimed.attempt).collect::<Vec<_>>(), [1, 1]);
    assert!(shop.outbox.claim(10, LEASE).await.unwrap().is_empty());
    let_claims_end(&shop.pool).await;
    let second = shop.outbox.claim(10, LEASE).await.unwrap();
    assert_eq!(second.iter().map(|claimed| claimed.attempt).collect::<Vec<_>>(), [2, 2]);

    let late = |attempt| Postponed { id: first[0].id, attempt, delay: Duration::ZERO };
    shop.outbox.postpone(&[late(1)]).await.unwrap();
    assert!(shop.outbox.claim(10, LEASE).await.unwrap().is_empty(), "the claim is the second's");
    shop.outbox.postpone(&[late(2)]).await.unwrap();
    let third = shop.outbox.claim(10, LEASE).await.unwrap();
    assert_eq!(third.iter().map(|claimed| (claimed.id, claimed.attempt)).collect::<Vec<_>>(), [(first[0].id, 3)]);

    shop.outbox.postpone(&[Postponed { delay: Duration::from_secs(60), ..late(3) }]).await.unwrap();
    assert!(shop.outbox.claim(10, LEASE).await.unwrap().is_empty(), "it rests");
    assert_eq!(pending(&shop).await, 2);
}

#[tokio::test]
async fn a_claim_of_a_living_relay_that_ends_is_another_s() {
    let shop = shop("takeover").await;
    commit(&shop, &numbered(0..3)).await;
    let held = Relay::builder(Stuck(shop.outbox.clone())).timeout(Duration::from_millis(100)).lease(Duration::from_millis(300));
    let mut first = Delivered::new();
    let held = first.start(held);
    first.next(3).await;
    // It goes by the server's clock, for which this test waits.
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(3).await, numbered(0..3).into_iter().collect());
    within(async || while pending(&shop).await > 0 {}).await;
    drop(held);
}

#[tokio::test]
async fn new_rows_come_before_those_that_wait_for_another_attempt() {
    let shop = shop("new_first").await;
    commit(&shop, &numbered(0..3)).await;
    shop.outbox.claim(10, LEASE).await.unwrap();
    let_claims_end(&shop.pool).await;
    commit(&shop, &numbered(3..4)).await;
    let claimed = shop.outbox.claim(1, LEASE).await.unwrap();
    assert_eq!(claimed[0].row, numbered(3..4)[0]);
}

#[tokio::test]
async fn nodes_that_start_together_may_all_create_the_table() {
    server().create_database("create");
    let pools: Vec<_> = (0..8).map(|_| PostgresOutbox::new(open(&server().url("create")))).collect();
    let tasks: Vec<_> = pools.into_iter().map(|outbox| tokio::spawn(async move { outbox.create_table().await })).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_table_has_any_plain_name_and_no_other() {
    let shop = shop("names").await;
    let other = PostgresOutbox::with_table(shop.pool.clone(), "select").unwrap();
    other.create_table().await.unwrap();
    other.add(&mut shop.pool.acquire().await.unwrap(), &numbered(0..1)[0]).await.unwrap();
    assert_eq!((other.backlog().await.unwrap().pending, pending(&shop).await), (1, 0));

    let hostile = "x (id INTEGER); DROP TABLE product; --";
    assert!(matches!(PostgresOutbox::with_table(shop.pool.clone(), hostile), Err(Error::TableName)));
    assert!(Statements::postgres(hostile).is_err());
}

#[tokio::test]
async fn a_relay_goes_on_when_its_server_is_back() {
    let mut server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    server.create_database("shop");
    let outbox = PostgresOutbox::new(open(&server.url("shop")));
    outbox.create_table().await.unwrap();
    let mut delivered = Delivered::new();
    let relay = Relay::builder(outbox.clone()).retry_after(Duration::from_millis(50), Duration::from_millis(50));
    let relay = delivered.start(relay);
    let row = &numbered(0..2);
    let pool = open(&server.url("shop"));
    outbox.add(&mut pool.acquire().await.unwrap(), &row[0]).await.unwrap();
    delivered.next(1).await;

    server.kill();
    within(async || {
        while relay.trouble().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    let pool = open(&server.url("shop"));
    outbox.add(&mut pool.acquire().await.unwrap(), &row[1]).await.unwrap();
    // The first may come again: its delete may have been lost with the server.
    while !delivered.next(1).await.contains(&row[1]) {}
    within(async || {
        while relay.trouble().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
