//! The Redis server as tests use it.

#[path = "support/tls.rs"]
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use rustls::{CertificateError, Error};
use test_servers::{CertificateAuthority, Redis};

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

#[test]
fn a_user_may_do_what_its_rules_say() {
    let redis = Redis::builder().password("secret").user("reader", "open sesame", "~app:* -@all +get +ping").start();
    assert!(ask(redis.port(), "AUTH reader wrong").starts_with("-WRONGPASS"));
    let as_reader = |command: &str| ask(redis.port(), &format!("AUTH reader \"open sesame\"\r\n{command}"));
    assert_eq!(as_reader("GET app:1"), "+OK\r\n$-1\r\n+OK\r\n");
    assert!(as_reader("GET other").contains("-NOPERM"));
    assert!(as_reader("SET app:1 value").contains("-NOPERM"));
}

#[test]
fn a_unix_socket_answers_over_a_restart() {
    let mut redis = Redis::builder().unix_socket().start();
    redis.restart();
    let mut stream = std::os::unix::net::UnixStream::connect(redis.unix_socket()).expect("redis listens");
    stream.write_all(b"PING\r\nQUIT\r\n").expect("redis reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("redis answers");
    assert_eq!(reply, "+PONG\r\n+OK\r\n");
}

#[test]
fn tls_is_trusted_under_the_names_of_the_certificate_only() {
    let authority = CertificateAuthority::new();
    let mut redis = Redis::builder().tls(&authority.issue()).start();
    assert_eq!(redis.tls_url(), format!("rediss://localhost:{}/", redis.tls_port()));
    redis.restart();
    for host in ["localhost", "127.0.0.1", "::1"] {
        assert_eq!(tls::ask(redis.tls_port(), host, &authority.pem(), "PING"), Ok("+PONG\r\n".to_owned()));
    }
    let stranger = CertificateAuthority::new();
    let refused = |host, authority: &CertificateAuthority| tls::ask(redis.tls_port(), host, &authority.pem(), "PING");
    assert!(matches!(refused("localhost", &stranger), Err(Error::InvalidCertificate(_))));
    let error = refused("redis.example", &authority).expect_err("another name");
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })), "{error}");
}

#[test]
fn a_certificate_can_be_replaced_while_the_server_runs() {
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().password("open sesame").tls(&authority.issue()).start();
    let shown = || tls::ask(redis.tls_port(), "localhost", &authority.pem(), "PING");
    assert!(shown().expect("trusted").starts_with("-NOAUTH"));

    redis.set_certificate(&authority.issue_expired());
    let error = shown().expect_err("expired");
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })), "{error}");

    redis.set_certificate(&authority.issue_for("redis.example"));
    let error = shown().expect_err("another name");
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })), "{error}");

    redis.set_certificate(&authority.issue());
    assert!(shown().is_ok());
}

#[test]
fn a_running_server_is_told_from_a_paused_or_killed_one() {
    let mut redis = Redis::start();
    let first = redis.process().expect("it runs");
    redis.pause();
    assert!(!redis.is_running() && redis.process() == Some(first));
    redis.resume();
    assert!(redis.is_running());
    redis.kill();
    assert!(!redis.is_running() && redis.process().is_none());
    redis.restart();
    assert!(redis.is_running() && redis.process() != Some(first));
}
