//! One attempt at a connection: connect, log in, measure the clock, learn the server's history, load the scripts.

use crate::backplane::Server;
use crate::config::{Address, Config, Login};
use crate::error::{config_error, from_driver, is_refusal};
use crate::first::first;
use crate::live::{Live, Wire};
use crate::multiplexer::{Guard, Many, Multiplexer};
use crate::replicas;
use crate::resp3;
use crate::script::SCRIPTS;
use crate::sentinel;
use crate::tls::{Tls, late_refusal};
use cache_core::{Error, ErrorKind};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, RedisError, Value, from_redis_value};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What `CLIENT LIST` shows for our connections.
pub(crate) const CLIENT_NAME: &str = concat!("cachestack-", env!("CARGO_PKG_VERSION"));

/// A connection attempt that is silent for so long gets another one beside it, up to this many. In a data centre an answer takes a hundredth of it.
const SILENCE: Duration = Duration::from_millis(150);
const MOST_ATTEMPTS: usize = 6;

/// A connection and the task that reads and writes it, which ends when the connection does.
pub(crate) type Dialed = (Live, JoinHandle<()>);

/// Dials once, within the connect timeout. To a replica, so that it may be read from.
///
/// The error's kind tells what to do: [`ErrorKind::Credentials`] and [`ErrorKind::Config`] need a person, all else is weather.
pub(crate) async fn dial(config: &Config, address: &Address, to_replica: bool) -> Result<Dialed, Error> {
    let dialed = async {
        let Address::Sentinel(sentinels) = address else {
            let (live, task) = connect(config, address).await?;
            if to_replica {
                replicas::arm(&live.wire).await?;
            }
            return Ok((live, task));
        };
        let (host, port) = sentinel::master(config.tls.as_ref(), sentinels).await?;
        let (live, task) = connect(config, &Address::Tcp(host, port)).await?;
        // Sentinels may be behind the times.
        sentinel::check_role(&live.wire).await?;
        Ok((live, task))
    };
    // A Redis that has no TLS at this port waits for more of what it takes for a command.
    let why = if config.tls.is_some() { ", or not by TLS" } else { "" };
    let late = || Error::new(ErrorKind::Unavailable, format!("Redis did not answer the dial in time{why}"));
    timeout(config.connect_timeout, dialed).await.unwrap_or_else(|_| Err(late()))
}

/// Connects to a server and logs in.
async fn connect(config: &Config, at: &Address) -> Result<Dialed, Error> {
    let most = config.max_record_bytes;
    let own = match at {
        Address::Tcp(host, port) => reach(config.tls.as_ref(), host, *port, most, config.gathers).await?,
        #[cfg(unix)]
        Address::Unix(path) => opened(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?, most, config.gathers),
        Address::Sentinel(_) => return Err(Error::new(ErrorKind::Unavailable, "Redis Sentinels named no master")),
    };
    let own = log_in(config, own).await?;
    #[cfg(feature = "fred")]
    if config.driver == crate::config::Driver::Fred {
        // Ours goes first, to say what is wrong: of fred's refusals there is text only, and one of them it takes for consent.
        drop(own);
        let (fred, task) = crate::fred::open(config, at).await?;
        return log_in(config, (Wire::Fred(fred), task)).await;
    }
    Ok(own)
}

/// A connection, and the task that keeps it going.
type Opened = (Wire, JoinHandle<()>);

fn opened<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S, most: usize, gathers: bool) -> Opened {
    let (multiplexer, task) = Multiplexer::open(stream, most, gathers);
    (Wire::Own(multiplexer), task)
}

/// A connection without a login, by TLS if that is given: nothing is sent in plain then, whatever the server says.
///
/// The name is looked up anew each time: after a failover it leads to another server.
pub(crate) async fn reach(tls: Option<&Tls>, host: &str, port: u16, most: usize, gathers: bool) -> Result<Opened, Error> {
    let stream = tcp(host, port).await?;
    match tls {
        None => Ok(opened(stream, most, gathers)),
        Some(tls) => Ok(opened(tls.connect(host, stream).await?, most, gathers)),
    }
}

/// A connection without anything on it.
pub(crate) async fn tcp(host: &str, port: u16) -> Result<TcpStream, Error> {
    tcp_to(lookup_host((host, port)).await.map_err(unreachable)?).await
}

/// The same to whichever of a name's addresses takes it: the first may lead nowhere.
async fn tcp_to(addresses: impl Iterator<Item = SocketAddr>) -> Result<TcpStream, Error> {
    let none = Error::new(ErrorKind::Unavailable, "Redis cannot be reached: its host name has no address");
    let reach = |address| async move { again(|| TcpStream::connect(address)).await.map_err(unreachable) };
    let stream = first(addresses.map(reach), none).await?;
    // Nagle's algorithm holds a command back until the reply to the one before has come. Few concurrent calls are the rule behind an L1, and
    // they pay for it; many are gathered here and need no Nagle.
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

/// The outcome of an attempt, beside which another one begins each time that all are silent for a while: a SYN that is lost is repeated by the kernel
/// only after a second, when the dial has ended. Whichever ends first, well or not, is the outcome: who refuses is asked once. Safe to cancel.
async fn again<T, A: Future<Output = io::Result<T>>>(attempt: impl Fn() -> A) -> io::Result<T> {
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.push(attempt());
        // After the last one the kernel's own repetitions come.
        let silence = if attempts.len() < MOST_ATTEMPTS { SILENCE } else { Duration::MAX };
        if let Ok(Some(ended)) = timeout(silence, attempts.next()).await {
            return ended;
        }
    }
}

async fn log_in(config: &Config, (wire, task): Opened) -> Result<Dialed, Error> {
    let guard = Guard(task.abort_handle());
    handshake(config, &wire).await?;
    Ok((Live::new(wire, guard), task))
}

/// Sends commands over a connection that is not in use yet; the dial keeps the time. A refusal of our certificate is told from other ends.
pub(crate) async fn ask(wire: &Wire, commands: &Pipeline) -> Result<Many, Error> {
    let many = wire.send_all(commands).await;
    many.map_err(|err| wire.cause().as_ref().and_then(late_refusal).unwrap_or(err))
}

/// Everything in one round trip. Servers answer in order, and go on after an error.
async fn handshake(config: &Config, wire: &Wire) -> Result<(), Error> {
    let mut pipeline = redis::pipe();
    if config.resp3 {
        pipeline.add_command(resp3::hello(config.login.as_ref()));
    } else if let Some(Login { username, password }) = &config.login {
        pipeline.cmd("AUTH").arg(username).arg(password);
    }
    if config.database != 0 {
        pipeline.cmd("SELECT").arg(config.database);
    }
    pipeline.cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME);
    pipeline.cmd("TIME");
    pipeline.add_command(Server::ask());
    for script in SCRIPTS.at_dial() {
        pipeline.add_command(script.load());
    }
    let Many { replies, sent } = ask(wire, &pipeline).await?;
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Ok(Value::Nil));

    if config.resp3 {
        next().map_err(|err| resp3::refused(&err))?;
    } else if config.login.is_some() {
        next().map_err(|err| wrong_password(&err))?;
    }
    if config.database != 0 {
        next().map_err(|err| wrong_database(&err))?;
    }
    // The name is a courtesy; a user may lack the permission for it.
    let _ = next();
    let time = next().and_then(|time| Ok(from_redis_value::<(i64, i64)>(time)?));
    let (seconds, micros) = time.map_err(|err| from_driver(&err))?;
    // A user may lack the permission for it, and is told when others are to be told of something.
    if let Ok(Value::BulkString(info)) = next()
        && let Some(server) = Server::read(&info)
    {
        wire.vitals().know(&server);
    }
    for _ in SCRIPTS.at_dial() {
        next().map_err(|err| from_driver(&err))?;
    }
    wire.vitals().observe(sent, seconds * 1_000_000 + micros);
    Ok(())
}

/// AUTH's errors: `WRONGPASS`, and plain `ERR` when the server knows no password. A full or loading server says so here too.
pub(crate) fn wrong_password(err: &RedisError) -> Error {
    let about_us = is_refusal(err) || err.detail().is_some_and(|detail| detail.contains("AUTH"));
    if about_us { Error::new(ErrorKind::Credentials, "Redis refused the user name or password") } else { from_driver(err) }
}

fn wrong_database(err: &RedisError) -> Error {
    if err.code() == Some("ERR") { config_error("Redis has no database of the number in its URL") } else { from_driver(err) }
}

/// An address is a secret to logs; the kind of failure is not.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn unreachable(err: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("Redis cannot be reached: {}", err.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::pending;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::{Instant, sleep};

    /// An address at which connections are neither taken nor refused: the few that the kernel takes for a listener that accepts none are there.
    async fn nowhere() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let listener = socket.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let mut taken = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            taken.push(stream.expect("a listener"));
            assert!(taken.len() < 100, "the kernel takes all there are");
        }
        (address, listener, taken)
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn an_address_that_leads_nowhere_holds_up_no_other_of_the_same_name() {
        let (nowhere, _listener, _taken) = nowhere().await;
        let living = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let living = living.local_addr().map(|address| (address, living)).expect("it is bound");
        let reached = timeout(Duration::from_secs(20), tcp_to([nowhere, nowhere, living.0].into_iter())).await;
        let reached = reached.expect("the third is asked").expect("and takes it");
        assert_eq!(reached.peer_addr().expect("it is connected"), living.0);
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn an_address_whose_packets_were_lost_for_a_moment_is_reached_before_the_kernel_asks_again() {
        let (address, listener, taken) = nowhere().await;
        let began = std::time::Instant::now();
        let heal = async {
            // The first attempt's packet is lost by then.
            sleep(Duration::from_millis(50)).await;
            for _ in &taken {
                listener.accept().await.expect("it waits there");
            }
        };
        let (reached, ()) = tokio::join!(tcp_to([address].into_iter()), heal);
        reached.expect("there is room again");
        assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_attempt_gets_others_beside_it_and_one_that_fails_gets_none() {
        let (begun, start) = (Cell::new(0), Instant::now());
        // The first is heard of at last, beside the others.
        let slow = again(|| async {
            begun.set(begun.get() + 1);
            if begun.get() > 1 {
                pending::<()>().await;
            } else {
                sleep(SILENCE * 20).await;
            }
            Ok(())
        });
        slow.await.expect("it succeeds");
        assert_eq!((begun.get(), start.elapsed()), (MOST_ATTEMPTS, SILENCE * 20));

        for after in [Duration::ZERO, SILENCE / 2] {
            let begun = Cell::new(0);
            let refused = again(|| async {
                begun.set(begun.get() + 1);
                sleep(after).await;
                Err::<(), _>(io::ErrorKind::ConnectionRefused.into())
            });
            assert!(refused.await.is_err());
            assert_eq!(begun.get(), 1);
        }
    }

    #[tokio::test]
    async fn addresses_that_all_refuse_are_weather_and_none_is_shown() {
        let free = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port");
        for addresses in [vec![free, free], vec![]] {
            let err = tcp_to(addresses.into_iter()).await.expect_err("nobody is there");
            assert!(err.kind() == ErrorKind::Unavailable && !format!("{err:?}").contains("127"), "{err:?}");
        }
    }
}
