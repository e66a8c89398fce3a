//! The Redis server as tests use it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use test_servers::Redis;

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("redis accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    stream
}

/// Sends inline commands and returns everything up to the server's closing the connection.
fn ask(port: u16, commands: &str) -> String {
    let mut stream = connect(port);
    stream.write_all(format!("{commands}\r\nQUIT\r\n").as_bytes()).expect("redis reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("redis answers");
    reply
}

#[test]
fn answers_as_soon_as_it_is_started() {
    let redis = Redis::start();
    assert_eq!(ask(redis.port(), "PING"), "+PONG\r\n+OK\r\n");
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}/", redis.port()));
}

#[test]
fn two_run_side_by_side_with_data_of_their_own() {
    let (one, other) = (Redis::start(), Redis::start());
    assert_ne!(one.port(), other.port());
    ask(one.port(), "SET key value");
    assert_eq!(ask(other.port(), "GET key"), "$-1\r\n+OK\r\n");
}

#[test]
fn a_password_is_demanded() {
    let redis = Redis::builder().password("open sesame").start();
    assert!(ask(redis.port(), "PING").starts_with("-NOAUTH"));
    assert_eq!(ask(redis.port(), "AUTH \"open sesame\"\r\nPING"), "+OK\r\n+PONG\r\n+OK\r\n");
}

#[test]
fn killed_refuses_and_restarted_is_empty_on_the_same_port() {
    let mut redis = Redis::start();
    let port = redis.port();
    ask(port, "SET key value");
    redis.kill();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    redis.restart();
    assert_eq!(redis.port(), port);
    assert_eq!(ask(port, "GET key"), "$-1\r\n+OK\r\n");
}

#[test]
fn persistence_that_was_asked_for_survives_a_kill() {
    let mut redis = Redis::builder().arg("--appendonly").arg("yes").arg("--appendfsync").arg("always").start();
    ask(redis.port(), "SET key value");
    redis.restart();
    assert_eq!(ask(redis.port(), "GET key"), "$5\r\nvalue\r\n+OK\r\n");
}

#[test]
fn paused_stays_silent_and_answers_when_resumed() {
    let redis = Redis::start();
    let mut stream = connect(redis.port());
    redis.pause();
    stream.write_all(b"PING\r\n").expect("the kernel accepts");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a valid timeout");
    let silence = stream.read(&mut [0; 16]).expect_err("a paused server is silent");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    redis.resume();
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).expect("redis goes on");
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn nonsense_arguments_fail_with_what_redis_says_about_them() {
    let error = Redis::builder().arg("--no-such-directive").arg("1").try_start().expect_err("redis refuses");
    let text = error.to_string();
    assert!(text.contains("no-such-directive") && text.contains("Bad directive"), "{text}");
}

#[test]
fn a_port_in_use_is_an_error_and_not_another_server() {
    let first = Redis::start();
    let error = Redis::builder().port(first.port()).try_start().expect_err("the port is taken");
    assert!(error.to_string().contains("Address already in use"), "{error}");
}

#[test]
fn a_missing_server_is_named_with_what_to_install() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_test-servers"));
    let output = command.arg("redis").env("PATH", "/nonexistent").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("redis-server is not installed"), "{text}");
    assert!(text.contains("scripts/test") && text.contains("apt-get install redis-server"), "{text}");
}
