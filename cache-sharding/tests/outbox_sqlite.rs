//! The outbox in a SQLite file: what commits is relayed, whoever is killed.
#![cfg(unix)]

mod outbox;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_sharding::outbox::{Error, MAX_KEY, Postponed, Relay, Row, SqliteOutbox, Statements, Store};
use outbox::{Delivered, Stuck, hostile, killed_after, numbered, report_and_wait, second, within};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use tempfile::TempDir;

const LEASE: Duration = Duration::from_secs(30);

async fn open(file: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
    SqlitePoolOptions::new().max_connections(4).connect_with(options.busy_timeout(Duration::from_secs(30))).await.unwrap()
}

struct Shop {
    pool: SqlitePool,
    outbox: SqliteOutbox,
    file: PathBuf,
    _folder: TempDir,
}

async fn shop() -> Shop {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("shop");
    let pool = open(&file).await;
    sqlx::query("CREATE TABLE product (id INTEGER PRIMARY KEY, price INTEGER NOT NULL)").execute(&pool).await.unwrap();
    let outbox = SqliteOutbox::new(pool.clone());
    outbox.create_table().await.unwrap();
    Shop { pool, outbox, file, _folder: folder }
}

/// What a service does: the change and its row in one transaction.
async fn write(pool: &SqlitePool, outbox: &SqliteOutbox, rows: &[Row]) -> sqlx::Transaction<'static, sqlx::Sqlite> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
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
async fn let_claims_end(pool: &SqlitePool) {
    sqlx::query("UPDATE cachestack_outbox SET due_at = due_at - 3600000 WHERE due_at > 0").execute(pool).await.unwrap();
}

#[tokio::test]
async fn a_row_shares_the_fate_of_its_transaction() {
    let shop = shop().await;
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
    let shop = shop().await;
    let rows = hostile();
    let mut transaction = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    shop.outbox.add(&mut transaction, &rows[0]).await.unwrap();
    shop.outbox.add_all(&mut transaction, &rows[1..]).await.unwrap();
    transaction.commit().await.unwrap();
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(rows.len()).await, rows.into_iter().collect());
}

#[tokio::test]
async fn many_rows_take_several_statements_and_all_arrive() {
    let shop = shop().await;
    commit(&shop, &[]).await;
    commit(&shop, &numbered(0..1201)).await;
    assert_eq!(pending(&shop).await, 1201);
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(1201).await, numbered(0..1201).into_iter().collect());
}

#[tokio::test]
async fn the_table_refuses_what_a_row_would_not_hold_and_what_could_not_be_read() {
    let shop = shop().await;
    for (topic, key, version) in [
        ("zeroblob(129)", "x''".to_owned(), "NULL"),
        ("x''", format!("zeroblob({})", MAX_KEY + 1), "NULL"),
        ("'text'", "x''".to_owned(), "NULL"),
        ("x''", "x''".to_owned(), "'abc'"),
    ] {
        let sql = format!("INSERT INTO cachestack_outbox (topic, key, version) VALUES ({topic}, {key}, {version})");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).execute(&shop.pool).await;
        assert!(matches!(refused, Err(sqlx::Error::Database(_))), "{sql}");
    }
    assert_eq!(pending(&shop).await, 0);
}

#[tokio::test]
async fn what_was_committed_is_delivered_though_the_writer_was_killed() {
    if let Some(file) = second() {
        let pool = open(Path::new(&file)).await;
        let outbox = SqliteOutbox::new(pool.clone());
        write(&pool, &outbox, &numbered(0..5)).await.commit().await.unwrap();
        // And one that is still open when the process ends.
        let open = write(&pool, &outbox, &numbered(100..105)).await;
        report_and_wait().await;
        drop(open);
    }
    let shop = shop().await;
    killed_after("what_was_committed_is_delivered_though_the_writer_was_killed", &shop.file.to_string_lossy());
    let prices: i64 = sqlx::query_scalar("SELECT count(*) FROM product").fetch_one(&shop.pool).await.unwrap();
    assert_eq!((prices, pending(&shop).await), (1, 5), "one transaction was committed, and its rows");
    let mut delivered = Delivered::new();
    let _relay = delivered.relay(shop.outbox.clone());
    assert_eq!(delivered.next(5).await, numbered(0..5).into_iter().collect());
}

#[tokio::test]
async fn a_relay_killed_between_delivery_and_delete_leads_to_a_second_delivery() {
    if let Some(file) = second() {
        let mut delivered = Delivered::new();
        let _relay = delivered.relay(Stuck(SqliteOutbox::new(open(Path::new(&file)).await)));
        delivered.next(5).await;
        report_and_wait().await;
    }
    let shop = shop().await;
    commit(&shop, &numbered(0..5)).await;
    killed_after("a_relay_killed_between_delivery_and_delete_leads_to_a_second_delivery", &shop.file.to_string_lossy());

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
    let shop = shop().await;
    commit(&shop, &numbered(0..400)).await;
    let mut delivered = Delivered::new();
    // Each in a pool of its own, as two processes are.
    let relays =
        [delivered.relay(SqliteOutbox::new(open(&shop.file).await)), delivered.relay(SqliteOutbox::new(open(&shop.file).await))];
    assert_eq!(delivered.next(400).await, numbered(0..400).into_iter().collect());
    within(async || while pending(&shop).await > 0 {}).await;
    assert_eq!(relays.iter().map(|relay| relay.stats().delivered).sum::<u64>(), 400, "none twice");
}

#[tokio::test]
async fn a_row_that_fails_holds_up_no_others_and_comes_again() {
    let shop = shop().await;
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
    let shop = shop().await;
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
async fn a_number_is_never_given_again_so_a_late_delete_hits_nothing_new() {
    let shop = shop().await;
    commit(&shop, &numbered(0..1)).await;
    let claimed = shop.outbox.claim(1, LEASE).await.unwrap();
    shop.outbox.delete(&[claimed[0].id]).await.unwrap();
    commit(&shop, &numbered(1..2)).await;
    shop.outbox.delete(&[claimed[0].id]).await.unwrap();
    assert_eq!(pending(&shop).await, 1, "the second row is another one");
}

#[tokio::test]
async fn new_rows_come_before_those_that_wait_for_another_attempt() {
    let shop = shop().await;
    commit(&shop, &numbered(0..3)).await;
    shop.outbox.claim(10, LEASE).await.unwrap();
    let_claims_end(&shop.pool).await;
    commit(&shop, &numbered(3..4)).await;
    let claimed = shop.outbox.claim(1, LEASE).await.unwrap();
    assert_eq!(claimed[0].row, numbered(3..4)[0]);
}

#[tokio::test]
async fn an_idle_relay_does_not_wait_for_a_writer() {
    let shop = shop().await;
    let held = write(&shop.pool, &shop.outbox, &numbered(0..1)).await;
    // The file's one writer is another; a claim that finds nothing is answered all the same.
    assert!(shop.outbox.claim(10, LEASE).await.unwrap().is_empty());
    held.commit().await.unwrap();
    assert_eq!(shop.outbox.claim(10, LEASE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_table_has_any_plain_name_and_no_other() {
    let shop = shop().await;
    let other = SqliteOutbox::with_table(shop.pool.clone(), "select").unwrap();
    other.create_table().await.unwrap();
    other.create_table().await.unwrap();
    other.add(&mut shop.pool.acquire().await.unwrap(), &numbered(0..1)[0]).await.unwrap();
    assert_eq!((other.backlog().await.unwrap().pending, pending(&shop).await), (1, 0));

    let hostile = "x (id INTEGER); DROP TABLE product; --";
    assert!(matches!(SqliteOutbox::with_table(shop.pool.clone(), hostile), Err(Error::TableName)));
    assert!(Statements::sqlite(hostile).is_err());
}

#[tokio::test]
async fn a_relay_without_its_table_says_so_and_works_once_it_is_there() {
    let folder = TempDir::new().unwrap();
    let pool = open(&folder.path().join("new")).await;
    let outbox = SqliteOutbox::new(pool.clone());
    let mut delivered = Delivered::new();
    let relay = Relay::builder(outbox.clone()).retry_after(Duration::from_millis(10), Duration::from_millis(10));
    let relay = delivered.start(relay);
    within(async || {
        while relay.trouble().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(format!("{:?}", relay.trouble().unwrap()).contains("no such table"));
    outbox.create_table().await.unwrap();
    outbox.add(&mut pool.acquire().await.unwrap(), &numbered(0..1)[0]).await.unwrap();
    delivered.next(1).await;
    within(async || {
        while relay.trouble().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
