//! A reader's way to Redis: a proxy before each server, which knows replies apart and so can lose messages while all else goes through.
//!
//! A cluster names its nodes by their own ports, so a proxy puts the proxies' in their place, and the reader's whole traffic goes this way.

use crate::resp::{is_message, is_subscription, reply_length};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Whole,
    /// Everything comes through but what was published.
    LosesMessages,
    /// Nothing comes through and nothing is closed; later it all comes.
    Silent,
}

/// The proxies of one reader. They end with this value, and connections with them.
pub(crate) struct Proxies {
    state: watch::Sender<State>,
    shared: Arc<Shared>,
    urls: Vec<String>,
    _servers: JoinSet<()>,
}

#[derive(Clone, Copy)]
struct State {
    network: Network,
    /// Connections that subscribed and have a lower number carry nothing more, ever, and stay open.
    stranded_below: u64,
}

/// What all connections of one reader share.
struct Shared {
    state: watch::Receiver<State>,
    connections: AtomicU64,
    /// What has been done to them: messages that were lost, connections that became half-open, and transfers that were held back.
    harm: AtomicU64,
    /// Places of servers, as replies name them, and those of their proxies.
    names: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Connection {
    number: u64,
    subscribes: AtomicBool,
    /// It has swallowed something.
    is_half_open: AtomicBool,
    shared: Arc<Shared>,
}

enum Verdict {
    Pass(Network),
    /// It is lost, and so is all that follows.
    Swallow,
}

impl Proxies {
    /// Before each server of the loopback interface that listens on one of these ports.
    pub(crate) async fn start(ports: &[u16]) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for &port in ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            listeners.push((port, listener.local_addr()?.port(), listener));
        }
        let names = listeners.iter().flat_map(|&(real, ours, _)| {
            // As CLUSTER SLOTS has it, and as redirections do.
            let slots = |port: u16| format!("127.0.0.1\r\n:{port}\r\n").into_bytes();
            let redirection = |port: u16| format!(" 127.0.0.1:{port}\r\n").into_bytes();
            [(slots(real), slots(ours)), (redirection(real), redirection(ours))]
        });
        let names = names.collect();
        let (state, receiver) = watch::channel(State { network: Network::Whole, stranded_below: 0 });
        let shared = Arc::new(Shared { state: receiver, connections: AtomicU64::new(0), harm: AtomicU64::new(0), names });
        let urls = listeners.iter().map(|(_, ours, _)| format!("redis://127.0.0.1:{ours}/")).collect();
        let mut servers = JoinSet::new();
        for (port, _, listener) in listeners {
            servers.spawn(accept(listener, port, shared.clone()));
        }
        Ok(Self { state, shared, urls, _servers: servers })
    }

    /// In the order of the ports.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    pub(crate) fn set(&self, network: Network) {
        self.state.send_modify(|state| state.network = network);
    }

    /// How often anything came to harm here.
    pub(crate) fn harm(&self) -> u64 {
        // Ordering: relaxed; a count.
        self.shared.harm.load(Ordering::Relaxed)
    }

    /// Makes the connections that have subscribed so far half-open: new ones work.
    pub(crate) fn strand_subscribers(&self) {
        // Ordering: relaxed; one that is accepted this moment may be spared.
        let accepted = self.shared.connections.load(Ordering::Relaxed);
        self.state.send_modify(|state| state.stranded_below = accepted);
    }
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // Ordering: relaxed; a number that nobody else gets.
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let (subscribes, is_half_open) = (AtomicBool::new(false), AtomicBool::new(false));
        let connection = Arc::new(Connection { number, subscribes, is_half_open, shared: shared.clone() });
        connections.spawn(async move {
            // A server that is away refuses, and so does its proxy, by closing.
            let _ = connection.serve(client, port).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Connection {
    async fn serve(self: Arc<Self>, client: TcpStream, port: u16) -> io::Result<()> {
        if let Verdict::Swallow = self.verdict().await {
            return Ok(());
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        // Either end takes the other with it.
        tokio::select! {
            ended = self.carry_requests(from_client, to_server) => ended,
            ended = self.carry_replies(from_server, to_client) => ended,
        }
    }

    async fn carry_requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut bytes = vec![0; 1 << 14];
        loop {
            let length = from.read(&mut bytes).await?;
            if length == 0 {
                return Ok(());
            }
            let request = &bytes[..length];
            // Ordering: relaxed, here and below; a reply to a subscription comes long after it was sent.
            if !self.subscribes.load(Ordering::Relaxed) && is_subscription(request) {
                self.subscribes.store(true, Ordering::Relaxed);
            }
            if let Verdict::Pass(_) = self.verdict().await {
                to.write_all(request).await?;
            }
        }
    }

    async fn carry_replies(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(1 << 14);
        loop {
            if from.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            let Verdict::Pass(network) = self.verdict().await else {
                bytes.clear();
                continue;
            };
            let (mut taken, mut passed) = (0, Vec::new());
            while taken < bytes.len()
                && let Some(length) = reply_length(&bytes[taken..])
            {
                let reply = &bytes[taken..taken + length];
                taken += length;
                if network == Network::LosesMessages && is_message(reply) {
                    self.shared.count_harm();
                } else {
                    self.shared.rename(reply, &mut passed);
                }
            }
            bytes.drain(..taken);
            to.write_all(&passed).await?;
        }
    }

    /// Waits until what this connection holds may pass, or is lost.
    async fn verdict(&self) -> Verdict {
        let mut state = self.shared.state.clone();
        let mut is_held = false;
        loop {
            let State { network, stranded_below } = *state.borrow_and_update();
            if self.subscribes.load(Ordering::Relaxed) && self.number < stranded_below {
                if !self.is_half_open.swap(true, Ordering::Relaxed) {
                    self.shared.count_harm();
                }
                return Verdict::Swallow;
            }
            if network != Network::Silent {
                return Verdict::Pass(network);
            }
            if !std::mem::replace(&mut is_held, true) {
                self.shared.count_harm();
            }
            if state.changed().await.is_err() {
                return Verdict::Swallow;
            }
        }
    }
}

impl Shared {
    fn count_harm(&self) {
        self.harm.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a reply to `passed`, with the proxies' places in place of the servers'. Values are strings, and left alone.
    fn rename(&self, reply: &[u8], passed: &mut Vec<u8>) {
        if !matches!(reply.first(), Some(b'*' | b'-')) {
            return passed.extend_from_slice(reply);
        }
        let mut at = 0;
        while at < reply.len() {
            if let Some((real, ours)) = self.names.iter().find(|(real, _)| reply[at..].starts_with(real)) {
                passed.extend_from_slice(ours);
                at += real.len();
            } else {
                passed.push(reply[at]);
                at += 1;
            }
        }
    }
}
