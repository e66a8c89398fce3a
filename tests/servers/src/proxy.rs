//! A TCP proxy that fails on demand.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::port;

/// How long a write may sit on a peer that does not read before it looks whether the proxy has changed its mind.
const WRITE_TURN: Duration = Duration::from_millis(50);
/// So much of what a client sends is looked through for a word.
const REMEMBERED: usize = 64 << 10;

/// A TCP proxy on a free loopback port that fails on demand, the way networks and dying servers do.
///
/// It starts by forwarding. Each method changes it at once, for connections that are open and for those to come; dropping it
/// resets what is open. Two threads a connection: for a test's handful of clients, not for load.
///
/// ```
/// use test_servers::{Proxy, Redis};
///
/// let redis = Redis::start();
/// let proxy = Proxy::start(redis.port());
/// // … connect a client to proxy.url() …
/// proxy.stall(); // nothing comes through, nothing is closed
/// proxy.forward(); // what was held back comes through now
/// ```
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    Delay(Duration),
    Bytes,
    Stall,
    StallThatSent(&'static [u8]),
    Reset,
    Refuse,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    state: Mutex<State>,
    changed: Condvar,
}

/// Connections are numbered in the order of their arrival, so "all that are open now" is one comparison.
#[derive(Debug)]
struct State {
    mode: Mode,
    accepted: u64,
    /// Connections below this number never carry a byte again.
    stranded_below: u64,
    /// Connections below this number are to be closed by a reset.
    reset_below: u64,
    /// Bytes of replies that may pass in [`Mode::Bytes`]; and of those that did, how many are not yet written.
    allowed: usize,
    unwritten: usize,
    connections: Vec<Weak<Connection>>,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    client: TcpStream,
    upstream: Mutex<Option<Arc<TcpStream>>>,
    /// By the client, at first.
    sent: Mutex<Vec<u8>>,
}

/// What a pump does with the bytes it holds.
enum Verdict {
    /// So many of them pass, after so long; `counted` is to be told of when they are written.
    Pass {
        delay: Duration,
        most: usize,
        counted: bool,
    },
    Close,
}

impl Proxy {
    /// Forwards a free loopback port to `upstream_port` of the loopback interface.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(upstream_port: u16) -> Self {
        let listener = port::listen();
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let state = State {
            mode: Mode::Forward,
            accepted: 0,
            stranded_below: 0,
            reset_below: 0,
            allowed: 0,
            unwritten: 0,
            connections: Vec::new(),
        };
        let shared = Arc::new(Shared { upstream: upstream_port, state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = Mutex::new(Some(accept_on(listener, &shared)));
        Self { shared, acceptor, port }
    }

    /// The port that clients connect to; the same for the proxy's whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/`, for a proxy in front of Redis.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// How many connections it has accepted so far, those it reset at once not among them.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Carries bytes both ways, those held back by [`stall`](Self::stall) first.
    pub fn forward(&self) {
        self.set(Mode::Forward);
    }

    /// Holds each piece of a reply back for `delay` (at most twice that, when it arrives behind another). Requests pass at once.
    pub fn delay(&self, delay: Duration) {
        self.set(Mode::Delay(delay));
    }

    /// Carries so many more bytes of replies, of all connections together, and holds the rest. Requests pass. A reply that is cut
    /// anywhere, and goes on with [`forward`](Self::forward).
    ///
    /// ```
    /// # use test_servers::{Proxy, Redis};
    /// # let redis = Redis::start();
    /// # let proxy = Proxy::start(redis.port());
    /// proxy.forward_bytes(3); // `+PO`
    /// // … send PING …
    /// # assert!(!proxy.has_forwarded());
    /// let arrived = proxy.has_forwarded(); // once it is true the client can read them
    /// ```
    pub fn forward_bytes(&self, count: usize) {
        self.shared.lock().allowed = count;
        self.set(Mode::Bytes);
    }

    /// Whether all that [`forward_bytes`](Self::forward_bytes) lets pass has been written to the clients.
    pub fn has_forwarded(&self) -> bool {
        let state = self.shared.lock();
        state.mode == Mode::Bytes && state.allowed == 0 && state.unwritten == 0
    }

    /// Carries nothing and closes nothing; new connections are accepted, and carry nothing either. A network that swallows
    /// packets, or a server that hangs.
    pub fn stall(&self) {
        self.set(Mode::Stall);
    }

    /// The same on the connections alone whose client has sent this word, among the first 64 KiB, and on new ones once it does; all others work. What it is
    /// when of several connections to a server one is dead and nobody knows.
    ///
    /// ```
    /// # use test_servers::{Proxy, Redis};
    /// # let redis = Redis::start();
    /// # let proxy = Proxy::start(redis.port());
    /// proxy.stall_that_sent(b"SUBSCRIBE"); // subscribers hear nothing more; data comes and goes
    /// ```
    pub fn stall_that_sent(&self, word: &'static [u8]) {
        self.set(Mode::StallThatSent(word));
    }

    /// Carries nothing ever again on the connections open now and leaves them open until the proxy is dropped; new ones work.
    /// What a client sees after a failover or an expired NAT entry: a half-open connection.
    pub fn strand(&self) {
        let mut state = self.shared.lock();
        state.stranded_below = state.accepted;
        drop(state);
        self.set(Mode::Forward);
    }

    /// Resets the open connections (`ECONNRESET`), and each new one as soon as it is accepted.
    pub fn reset(&self) {
        self.set(Mode::Reset);
    }

    /// Resets the open connections and closes the port, so that new ones are refused (`ECONNREFUSED`). A server that is down.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    fn set(&self, mode: Mode) {
        // Held throughout: two threads that change the mode do so one after the other.
        let mut acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.shared.lock();
        state.mode = mode;
        if matches!(mode, Mode::Reset | Mode::Refuse) {
            state.reset_below = state.accepted;
            state.connections.drain(..).filter_map(|connection| connection.upgrade()).for_each(|connection| connection.abort());
        }
        drop(state);
        self.shared.changed.notify_all();
        match mode {
            Mode::Refuse => {
                if let Some(thread) = acceptor.take() {
                    // Wakes the thread from `accept`; it sees the mode, ends, and closes the port.
                    let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
                    let _ = thread.join();
                }
            }
            _ if acceptor.is_none() => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port));
                let listener = listener.unwrap_or_else(|error| panic!("the proxy's port was taken while it refused: {error}"));
                *acceptor = Some(accept_on(listener, &self.shared));
            }
            _ => {}
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until some of the connection's bytes may pass, or it must close.
    fn verdict(&self, connection: &Connection, is_reply: bool, count: usize) -> Verdict {
        let mut state = self.lock();
        loop {
            if connection.number < state.reset_below {
                return Verdict::Close;
            }
            let pass = |delay| Verdict::Pass { delay, most: count, counted: false };
            match state.mode {
                _ if connection.number < state.stranded_below => {}
                Mode::StallThatSent(word) if connection.has_sent(word) => {}
                Mode::Bytes if is_reply && count > 0 => {
                    let most = count.min(state.allowed);
                    if most > 0 {
                        state.allowed -= most;
                        state.unwritten += most;
                        return Verdict::Pass { delay: Duration::ZERO, most, counted: true };
                    }
                }
                Mode::Forward | Mode::Bytes | Mode::StallThatSent(_) => return pass(Duration::ZERO),
                Mode::Delay(delay) => return pass(delay),
                Mode::Reset | Mode::Refuse => return Verdict::Close,
                Mode::Stall => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Connection {
    fn remember(&self, sent: &[u8]) {
        let mut all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let room = REMEMBERED - all.len();
        all.extend_from_slice(&sent[..sent.len().min(room)]);
    }

    fn has_sent(&self, word: &[u8]) -> bool {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).windows(word.len()).any(|sent| sent == word)
    }

    /// Closes both sides, the client's by a reset. The socket itself closes when the last thread that uses it lets go.
    fn abort(&self) {
        let _ = set_socket_linger(&self.client, Some(Duration::ZERO));
        // Reading only: ending the writing side too would send the orderly end that a reset is not.
        let _ = self.client.shutdown(Shutdown::Read);
        if let Some(upstream) = &*self.upstream.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = upstream.shutdown(Shutdown::Both);
        }
    }
}

fn accept_on(listener: TcpListener, shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut state = shared.lock();
            let mode = state.mode;
            if let Ok(client) = client {
                let upstream = Mutex::new(None);
                let connection = Arc::new(Connection { number: state.accepted, client, upstream, sent: Mutex::default() });
                if matches!(mode, Mode::Reset | Mode::Refuse) {
                    connection.abort();
                } else {
                    state.accepted += 1;
                    state.connections.retain(|connection| connection.strong_count() > 0);
                    state.connections.push(Arc::downgrade(&connection));
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || serve(&connection, &shared));
                }
            }
            if mode == Mode::Refuse {
                return;
            }
        }
    })
}

fn serve(connection: &Arc<Connection>, shared: &Arc<Shared>) {
    // Not before bytes may pass: a stalled network reaches no server, so there need not be one.
    let Verdict::Pass { .. } = shared.verdict(connection, false, 0) else { return connection.abort() };
    let upstream = match TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream)) {
        Ok(upstream) => Arc::new(upstream),
        Err(_) => return connection.abort(),
    };
    *connection.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&upstream));
    for stream in [&connection.client, &*upstream] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(WRITE_TURN));
    }
    let replies = {
        let (connection, shared, upstream) = (Arc::clone(connection), Arc::clone(shared), Arc::clone(&upstream));
        move || {
            if pump(&upstream, &connection.client, true, &connection, &shared).is_err() {
                connection.abort();
            }
        }
    };
    thread::spawn(replies);
    if pump(&connection.client, &upstream, false, connection, shared).is_err() {
        connection.abort();
    }
}

/// Carries one direction to its orderly end, which it passes on. An error means that the connection must not end orderly.
fn pump(mut from: &TcpStream, to: &TcpStream, is_reply: bool, connection: &Connection, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        if !is_reply {
            connection.remember(&buffer[..length]);
        }
        if length == 0 {
            let Verdict::Pass { .. } = shared.verdict(connection, is_reply, 0) else { return Err(closed()) };
            return to.shutdown(Shutdown::Write);
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let verdict = shared.verdict(connection, is_reply, rest.len());
            let Verdict::Pass { delay, most, counted } = verdict else { return Err(closed()) };
            if is_reply {
                thread::sleep(delay);
            }
            let outcome = write(&rest[..most], to, || shared.verdict(connection, is_reply, 0));
            if counted {
                shared.lock().unwritten -= most;
            }
            outcome?;
            rest = &rest[most..];
        }
    }
}

/// Writes what may pass, unless all is stalled or over by the time that the other end reads.
fn write(mut bytes: &[u8], mut to: &TcpStream, verdict: impl Fn() -> Verdict) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let Verdict::Pass { .. } = verdict() else { return Err(error) };
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn closed() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
