//! The PostgreSQL server as tests use it, through `psql`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use test_servers::Postgres;

/// The first message of the protocol, version 3.0: length, version, user, database, end. Answered with `R`: no password is
/// wanted.
fn greet(stream: &mut TcpStream) {
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = (body.len() as u32 + 4).to_be_bytes();
    stream.write_all(&[&length[..], body].concat()).expect("the kernel accepts");
}

#[test]
fn takes_sql_as_soon_as_it_is_started() {
    let postgres = Postgres::start();
    postgres.create_database("shard_0");
    postgres.execute("shard_0", "CREATE TABLE product (id BIGINT); INSERT INTO product VALUES (1)");
    assert_eq!(postgres.url("shard_0"), format!("postgres://postgres@127.0.0.1:{}/shard_0", postgres.port()));
}

#[test]
fn refused_sql_panics_with_the_reason() {
    let postgres = Postgres::start();
    let refused = catch_unwind(AssertUnwindSafe(|| postgres.execute("postgres", "SELECT no_such_column")));
    let text = refused.expect_err("PostgreSQL refuses").downcast::<String>().expect("a formatted message");
    assert!(text.contains("no_such_column"), "{text}");
}

#[test]
fn killed_refuses_and_restarted_has_what_was_committed() {
    let mut postgres = Postgres::start();
    postgres.execute("postgres", "CREATE TABLE kept (id BIGINT)");
    let mut open = TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port())).expect("PostgreSQL accepts");
    greet(&mut open);
    open.read_exact(&mut [0]).expect("a backend answers");
    postgres.kill();
    // The backend too is gone: its socket ends.
    open.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    match open.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port())).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    postgres.restart();
    postgres.execute("postgres", "INSERT INTO kept VALUES (1)");
    postgres.stop();
    postgres.restart();
    postgres.execute("postgres", "SELECT 1 / count(*) FROM kept");
}

#[test]
fn paused_backends_stay_silent_and_answer_when_resumed() {
    let postgres = Postgres::start();
    let mut open = TcpStream::connect((Ipv4Addr::LOCALHOST, postgres.port())).expect("PostgreSQL accepts");
    greet(&mut open);
    // AuthenticationOk, parameters and keys, ended by ReadyForQuery in state `I`.
    let mut seen = Vec::new();
    while !seen.ends_with(b"Z\0\0\0\x05I") {
        let mut byte = [0];
        open.read_exact(&mut byte).expect("a backend answers");
        seen.push(byte[0]);
    }
    postgres.pause();
    open.write_all(b"Q\0\0\0\x0dSELECT 1\0").expect("the kernel accepts");
    open.set_read_timeout(Some(Duration::from_millis(100))).expect("a valid timeout");
    let silence = open.read(&mut [0; 16]).expect_err("a paused backend is silent");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    postgres.resume();
    open.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    let mut kind = [0];
    open.read_exact(&mut kind).expect("the backend goes on");
    assert_eq!(&kind, b"T", "the answer starts with its row description");
}
