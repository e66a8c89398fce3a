//! The proxy's faults, as the two ends of a connection see them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use test_servers::Proxy;

const SILENCE: Duration = Duration::from_millis(80);

/// A server that sends back what it gets; it ends with the test process.
fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound listener").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("the proxy accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
    stream
}

fn send(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("the kernel accepts");
}

fn receive(mut stream: &TcpStream, text: &str) {
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).expect("an echo");
    assert_eq!(reply, text.as_bytes());
}

fn assert_silent(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).expect("a valid timeout");
    let silence = stream.read(&mut [0; 16]).expect_err("nothing arrives and nothing is closed");
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
}

fn assert_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 16]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn forwards_both_ways_and_passes_the_end_on() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    let long = "0123456789".repeat(100_000);
    let sender = stream.try_clone().expect("a second handle");
    let (copy, text) = (long.clone(), &long);
    let writer = thread::spawn(move || {
        send(&sender, &copy);
        sender.shutdown(std::net::Shutdown::Write).expect("an open socket");
    });
    receive(&stream, text);
    writer.join().expect("sent");
    assert_eq!((&stream).read(&mut [0; 1]).expect("an orderly end"), 0);
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn stalled_holds_everything_and_loses_nothing() {
    let proxy = Proxy::start(echo());
    let old = connect(&proxy);
    send(&old, "one");
    receive(&old, "one");
    proxy.stall();
    let new = connect(&proxy);
    send(&old, "two");
    send(&new, "three");
    assert_silent(&old);
    assert_silent(&new);
    proxy.forward();
    receive(&old, "two");
    receive(&new, "three");
}

#[test]
fn replies_are_held_behind_so_many_bytes_and_requests_are_not() {
    let proxy = Proxy::start(echo());
    let (stream, other) = (connect(&proxy), connect(&proxy));
    proxy.forward_bytes(5);
    send(&stream, "one");
    receive(&stream, "one");
    assert!(!proxy.has_forwarded());
    send(&stream, "two and three");
    receive(&stream, "tw");
    assert_silent(&stream);
    assert!(proxy.has_forwarded());
    send(&other, "of another");
    assert_silent(&other);
    proxy.forward_bytes(1);
    // Whoever is first.
    send(&stream, "!");
    let start = Instant::now();
    while !proxy.has_forwarded() {
        assert!(start.elapsed() < Duration::from_secs(5), "it waits for a byte that is there");
        thread::sleep(Duration::from_millis(1));
    }
    proxy.forward();
    receive(&stream, "o and three!");
    receive(&other, "of another");
}

#[test]
fn only_connections_that_have_sent_a_word_are_stalled_by_it() {
    let proxy = Proxy::start(echo());
    let (talks, listens) = (connect(&proxy), connect(&proxy));
    for (stream, text) in [(&talks, "data"), (&listens, "I LISTEN to all")] {
        send(stream, text);
        receive(stream, text);
    }
    proxy.stall_that_sent(b"LISTEN");
    for (stream, text) in [(&talks, "more"), (&listens, "late")] {
        send(stream, text);
    }
    receive(&talks, "more");
    assert_silent(&listens);
    let new = connect(&proxy);
    send(&new, "data");
    receive(&new, "data");
    send(&new, "LISTEN");
    assert_silent(&new);
    proxy.forward();
    receive(&listens, "late");
    receive(&new, "LISTEN");
}

#[test]
fn stranded_connections_never_speak_again_and_new_ones_work() {
    let proxy = Proxy::start(echo());
    let old = connect(&proxy);
    send(&old, "one");
    receive(&old, "one");
    proxy.strand();
    send(&old, "two");
    let new = connect(&proxy);
    send(&new, "three");
    receive(&new, "three");
    proxy.forward();
    assert_silent(&old);
}

#[test]
fn refusing_resets_what_is_open_and_comes_back_on_the_same_port() {
    let proxy = Proxy::start(echo());
    let old = connect(&proxy);
    send(&old, "one");
    receive(&old, "one");
    proxy.refuse();
    assert_reset(&old);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.forward();
    let new = connect(&proxy);
    send(&new, "two");
    receive(&new, "two");
}

#[test]
fn resetting_resets_what_is_open_and_what_comes() {
    let proxy = Proxy::start(echo());
    let old = connect(&proxy);
    send(&old, "one");
    receive(&old, "one");
    proxy.reset();
    assert_reset(&old);
    // The reset may overtake the end of the handshake, so connecting itself may fail with it.
    match TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())) {
        Ok(new) => assert_reset(&new),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_stalled_connection_can_be_reset() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    proxy.stall();
    send(&stream, "one");
    assert_silent(&stream);
    proxy.reset();
    assert_reset(&stream);
}

#[test]
fn delayed_replies_come_no_sooner() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    proxy.delay(SILENCE);
    let start = Instant::now();
    send(&stream, "one");
    receive(&stream, "one");
    assert!(start.elapsed() >= SILENCE);
}

#[test]
fn an_upstream_that_is_down_resets_the_client() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = free.local_addr().expect("a bound listener").port();
    drop(free);
    let proxy = Proxy::start(port);
    let stream = connect(&proxy);
    assert_reset(&stream);
}

#[test]
fn dropping_it_resets_what_is_open_and_closes_the_port() {
    let proxy = Proxy::start(echo());
    let stream = connect(&proxy);
    proxy.stall();
    let port = proxy.port();
    drop(proxy);
    assert_reset(&stream);
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("nobody listens");
}

#[test]
fn a_reset_by_the_upstream_reaches_the_client() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let proxy = Proxy::start(server.local_addr().expect("a bound listener").port());
    let stream = connect(&proxy);
    send(&stream, "never read");
    let (accepted, _) = server.accept().expect("the proxy connects");
    // Closing with bytes unread sends a reset.
    accepted.peek(&mut [0; 1]).expect("a byte arrives");
    drop(accepted);
    assert_reset(&stream);
}
