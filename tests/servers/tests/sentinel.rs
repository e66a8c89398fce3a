//! Redis under Sentinel as tests use it.

use std::time::{Duration, Instant};

use redis::Value;
use test_servers::{Redis, RedisSentinel};

/// The answers to the commands, over one connection.
fn ask<const N: usize>(server: &Redis, commands: [&str; N]) -> [Value; N] {
    let client = redis::Client::open(server.url()).expect("a valid URL");
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(5)).expect("the server accepts");
    commands.map(|command| {
        let mut words = redis::Cmd::new();
        words.arg(command.split(' ').collect::<Vec<_>>()).query(&mut connection).expect("the server answers")
    })
}

#[test]
fn every_sentinel_names_the_master_and_the_replica_follows_it() {
    let start = Instant::now();
    let group = RedisSentinel::start();
    println!("started in {:?}", start.elapsed());
    assert_eq!(group.master(), 0);
    let port = group.server(0).port().to_string();
    for sentinel in group.sentinels() {
        let [named] = ask(sentinel, ["SENTINEL GET-MASTER-ADDR-BY-NAME cache"]);
        assert_eq!(redis::from_redis_value::<Vec<String>>(named).expect("address and port"), ["127.0.0.1", &port]);
    }
    assert_eq!(ask(group.server(0), ["SET key value", "WAIT 1 5000"]), [Value::Okay, Value::Int(1)]);
    assert_eq!(ask(group.server(1), ["GET key"]), [Value::BulkString(b"value".to_vec())]);
}

#[test]
fn a_killed_master_is_replaced_and_comes_back_as_the_replica() {
    let mut group = RedisSentinel::start();
    group.server_mut(0).kill();
    let start = Instant::now();
    assert_eq!(group.await_failover(0), 1);
    println!("replaced in {:?}", start.elapsed());
    group.server_mut(0).restart();
    group.await_settled();
    assert_eq!(group.master(), 1);
    assert_eq!(ask(group.server(1), ["SET key value", "WAIT 1 5000"]), [Value::Okay, Value::Int(1)]);
    group.server_mut(1).kill();
    assert_eq!(group.await_failover(1), 0);
}

#[test]
fn a_paused_master_is_replaced_and_comes_back_as_the_replica() {
    let group = RedisSentinel::start();
    group.server(0).pause();
    assert_eq!(group.await_failover(0), 1);
    group.server(0).resume();
    group.await_settled();
    assert_eq!(group.master(), 1);
}

#[test]
fn two_sentinels_are_enough_and_the_third_catches_up() {
    let mut group = RedisSentinel::start();
    group.kill_sentinel(0);
    group.server_mut(0).kill();
    assert_eq!(group.await_failover(0), 1);
    group.restart_sentinel(0);
    assert_eq!(group.master(), 1);
}

#[test]
fn a_failover_can_be_asked_for() {
    let group = RedisSentinel::start();
    assert_eq!(group.failover(), 1);
    group.await_settled();
    assert_eq!(group.failover(), 0);
}

#[test]
fn a_password_reaches_the_replica_and_the_sentinels() {
    let mut group = RedisSentinel::start_with(Redis::builder().password("open sesame"));
    group.server_mut(0).kill();
    assert_eq!(group.await_failover(0), 1);
    group.server_mut(0).restart();
    group.await_settled();
}
