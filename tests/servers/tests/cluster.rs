//! The Redis Cluster as tests use it.

#[path = "support/tls.rs"]
mod tls;

use std::time::{Duration, Instant};

use redis::{Connection, Value};
use test_servers::{CertificateAuthority, Redis, RedisCluster};

/// In the last third of the slots; from the specification.
const TAG: &str = "{123456789}";
const SLOT: u16 = 12_739;

fn connect(node: &Redis) -> Connection {
    let client = redis::Client::open(node.url()).expect("a valid URL");
    let connection = client.get_connection_with_timeout(Duration::from_secs(5)).expect("the node accepts");
    connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    connection
}

/// The answer to words apart by spaces, errors included.
fn ask(node: &Redis, command: &str) -> String {
    let mut words = redis::Cmd::new();
    for word in command.split(' ') {
        words.arg(word);
    }
    match words.query::<Value>(&mut connect(node)) {
        Ok(value) => format!("{value:?}"),
        Err(err) => format!("{} {}", err.code().unwrap_or("?"), err.detail().unwrap_or("")),
    }
}

fn write_keys(cluster: &RedisCluster, count: usize) {
    let mut connection = connect(cluster.node(cluster.master_of(SLOT)));
    for number in 0..count {
        redis::cmd("SET").arg(format!("{TAG}{number}")).arg(number).exec(&mut connection).expect("the master writes");
    }
}

fn keys_in_slot(node: &Redis) -> String {
    ask(node, &format!("CLUSTER COUNTKEYSINSLOT {SLOT}"))
}

#[test]
fn three_masters_share_the_slots_and_have_a_replica_each() {
    let start = Instant::now();
    let cluster = RedisCluster::start();
    println!("started in {:?}", start.elapsed());
    assert_eq!([0, 5461, 5462, 10_922, 10_923, 16_383].map(|slot| cluster.master_of(slot)), [0, 0, 1, 1, 2, 2]);
    assert_eq!([0, 1, 2, 3].map(|master| cluster.replica_of(master)), [Some(3), Some(4), Some(5), None]);
    assert_eq!(ask(cluster.node(2), &format!("SET {TAG} value")), "ok");
    assert_eq!(ask(cluster.node(0), &format!("GET {TAG}")), format!("MOVED {SLOT} 127.0.0.1:{}", cluster.node(2).port()));
}

#[test]
fn a_killed_master_is_replaced_and_comes_back_as_a_replica() {
    let mut cluster = RedisCluster::start();
    cluster.node_mut(2).kill();
    let start = Instant::now();
    assert_eq!(cluster.await_failover(2), 5);
    println!("replaced in {:?}", start.elapsed());
    assert_eq!(cluster.master_of(SLOT), 5);
    assert_eq!(ask(cluster.node(5), &format!("SET {TAG} value")), "ok");
    cluster.node_mut(2).restart();
    cluster.await_settled();
    assert_eq!(cluster.replica_of(5), Some(2));
}

#[test]
fn a_paused_master_is_replaced_and_comes_back_as_a_replica() {
    let cluster = RedisCluster::builder().node_timeout(Duration::from_millis(600)).start();
    cluster.node(0).pause();
    assert_eq!(cluster.await_failover(0), 3);
    cluster.node(0).resume();
    cluster.await_settled();
    assert_eq!(cluster.master_of(0), 3);
    assert_eq!(cluster.replica_of(3), Some(0));
}

#[test]
fn with_partial_coverage_a_dead_master_delays_only_its_own_slots() {
    let mut cluster = RedisCluster::builder().partial_coverage().start();
    cluster.node_mut(3).kill();
    cluster.node_mut(0).kill();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ask(cluster.node(1), "CLUSTER INFO").contains("cluster_slots_fail:5462") {
        assert!(Instant::now() < deadline, "the dead master is not noticed");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ask(cluster.node(2), &format!("SET {TAG} value")), "ok");
}

#[test]
fn a_failover_in_order_loses_nothing() {
    let cluster = RedisCluster::start();
    write_keys(&cluster, 100);
    assert_eq!(cluster.failover(2), 5);
    assert_eq!(cluster.master_of(SLOT), 5);
    assert_eq!(keys_in_slot(cluster.node(5)), "int(100)");
    assert_eq!(cluster.replica_of(5), Some(2));
}

#[test]
fn slots_move_with_their_keys() {
    let cluster = RedisCluster::start();
    write_keys(&cluster, 250);
    let start = Instant::now();
    cluster.migrate_slots(SLOT - 10..=SLOT + 10, 2, 0);
    println!("21 slots and 250 keys moved in {:?}", start.elapsed());
    assert_eq!([SLOT - 11, SLOT - 10, SLOT + 10, SLOT + 11].map(|slot| cluster.master_of(slot)), [2, 0, 0, 2]);
    assert_eq!(keys_in_slot(cluster.node(0)), "int(250)");
    assert_eq!(keys_in_slot(cluster.node(2)), "int(0)");
}

#[test]
fn a_master_that_joins_is_empty_until_slots_move_to_it_and_dies_alone() {
    let mut cluster = RedisCluster::builder().password("open sesame").partial_coverage().start();
    let start = Instant::now();
    assert_eq!(cluster.add_master(), 6);
    println!("joined in {:?}", start.elapsed());
    assert_eq!((cluster.nodes().len(), cluster.replica_of(6)), (7, None));
    assert_eq!([0, 5462, 10_923].map(|slot| cluster.master_of(slot)), [0, 1, 2]);
    cluster.migrate_slots(0..=9, 0, 6);
    assert_eq!([0, 9, 10].map(|slot| cluster.master_of(slot)), [6, 6, 0]);
    cluster.node_mut(0).kill();
    assert_eq!(cluster.await_failover(0), 3);
}

#[test]
fn a_slot_under_migration_answers_ask_tryagain_and_then_moved() {
    let cluster = RedisCluster::start();
    write_keys(&cluster, 2);
    cluster.begin_migration(SLOT, 2, 1);
    assert_eq!(cluster.migrate_keys(SLOT, 2, 1, 1), 1);
    let answers = [0, 1].map(|number| ask(cluster.node(2), &format!("GET {TAG}{number}")));
    let ask_answer = format!("ASK {SLOT} 127.0.0.1:{}", cluster.node(1).port());
    assert_eq!(answers.iter().filter(|&answer| *answer == ask_answer).count(), 1, "{answers:?}");
    assert!(ask(cluster.node(2), &format!("MGET {TAG}0 {TAG}1")).starts_with("TRYAGAIN"));
    assert_eq!(cluster.master_of(SLOT), 2);
    assert_eq!(cluster.migrate_keys(SLOT, 2, 1, 10), 1);
    cluster.finish_migration(SLOT, 2, 1);
    assert_eq!(cluster.master_of(SLOT), 1);
    assert!(ask(cluster.node(2), &format!("GET {TAG}0")).starts_with("MOVED"));
}

#[test]
fn a_slot_set_without_migration_leaves_its_keys_behind() {
    let cluster = RedisCluster::start();
    write_keys(&cluster, 3);
    cluster.set_slot_without_migrate(SLOT, 2, 0);
    assert_eq!(cluster.master_of(SLOT), 0);
    assert_eq!([0, 2].map(|node| keys_in_slot(cluster.node(node))), ["int(0)", "int(0)"]);
}

#[test]
fn nodes_name_themselves_by_their_host_name() {
    let cluster = RedisCluster::builder().hostname("localhost").start();
    let moved = ask(cluster.node(0), &format!("GET {TAG}"));
    assert_eq!(moved, format!("MOVED {SLOT} localhost:{}", cluster.node(2).port()));
}

#[test]
fn a_password_is_demanded_by_every_node_and_a_replica_knows_it() {
    let mut cluster = RedisCluster::builder().password("open sesame").start();
    assert!(cluster.nodes().iter().all(|node| ask(node, "PING").starts_with("NOAUTH")));
    cluster.migrate_slots(0..=0, 0, 1);
    cluster.node_mut(0).kill();
    assert_eq!(cluster.await_failover(0), 3);
}

#[test]
fn a_cluster_on_tls_names_its_tls_ports_to_whoever_comes_over_tls() {
    let authority = CertificateAuthority::new();
    let cluster = RedisCluster::builder().tls(&authority.issue()).hostname("localhost").start();
    write_keys(&cluster, 10);
    cluster.migrate_slots(SLOT..=SLOT, 2, 0);
    assert_eq!(keys_in_slot(cluster.node(0)), "int(10)");
    let reply = tls::ask(cluster.node(1).tls_port(), "localhost", &authority.pem(), &format!("GET {TAG}")).expect("trusted");
    assert_eq!(reply, format!("-MOVED {SLOT} localhost:{}\r\n", cluster.node(0).tls_port()));
    assert_eq!(ask(cluster.node(1), &format!("GET {TAG}")), format!("MOVED {SLOT} localhost:{}", cluster.node(0).port()));
}

#[test]
fn nonsense_arguments_fail_with_what_redis_says_about_them() {
    let error = RedisCluster::builder().arg("--no-such-directive").arg("1").try_start().expect_err("redis refuses");
    assert!(error.to_string().contains("no-such-directive"), "{error}");
}
