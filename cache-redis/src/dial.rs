//! One attempt at a connection: connect, log in, measure the clock, load the scripts.

use crate::builder::{Address, Config, Login};
use crate::error::{config_error, from_driver, is_refusal};
use crate::live::{Driver, Live};
use crate::script::SCRIPTS;
use crate::sentinel;
use crate::server_time::ServerTime;
use crate::tls::{Tls, late_refusal};
use cache_core::{Error, ErrorKind};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value, from_redis_value};
use std::io;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Calls that may wait in the driver for the socket; more wait outside, by their own timeout.
const PIPELINE: usize = 1_024;
/// What `CLIENT LIST` shows for our connections.
const CLIENT_NAME: &str = "cachestack";

/// A connection and the task that reads and writes it, which ends when the connection does.
pub(crate) type Dialed = (Live, JoinHandle<()>);

/// Dials once, within the connect timeout.
///
/// The error's kind tells what to do: [`ErrorKind::Credentials`] and [`ErrorKind::Config`] need a person, all else is weather.
pub(crate) async fn dial(config: &Config, address: &Address) -> Result<Dialed, Error> {
    let dialed = async {
        match address {
            Address::Tcp(host, port) => log_in(config, reach(config.tls.as_ref(), host, *port).await?).await,
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(unreachable)?;
                log_in(config, open(stream).await?).await
            }
            Address::Sentinel(sentinels) => {
                let (host, port) = sentinel::master(config.tls.as_ref(), sentinels).await?;
                let (live, driver) = log_in(config, reach(config.tls.as_ref(), &host, port).await?).await?;
                // Sentinels may be behind the times.
                sentinel::check_role(live.connection()).await?;
                Ok((live, driver))
            }
        }
    };
    // A Redis that has no TLS at this port waits for more of what it takes for a command.
    let why = if config.tls.is_some() { ", or not by TLS" } else { "" };
    let late = || Error::new(ErrorKind::Unavailable, format!("Redis did not answer the dial in time{why}"));
    tokio::time::timeout(config.connect_timeout, dialed).await.unwrap_or_else(|_| Err(late()))
}

/// The driver's handle, and the task that keeps it going.
type Opened = (MultiplexedConnection, JoinHandle<()>);

/// A connection without a login, by TLS if that is given: nothing is sent in plain then, whatever the server says.
///
/// The name is looked up anew each time: after a failover it leads to another server.
pub(crate) async fn reach(tls: Option<&Tls>, host: &str, port: u16) -> Result<Opened, Error> {
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    // Nagle's algorithm holds a command back until the reply to the one before has come. Few concurrent calls are the rule behind an L1, and
    // they pay for it; many are gathered here and need no Nagle.
    stream.set_nodelay(true).map_err(unreachable)?;
    match tls {
        None => open(stream).await,
        Some(tls) => open(tls.connect(host, stream).await?).await,
    }
}

async fn open<S>(stream: S) -> Result<Opened, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The driver would hide why AUTH failed, so it is told no password and sends nothing. It is given no timeout either:
    // each call brings its own.
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let driver = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(PIPELINE);
    let opened = MultiplexedConnection::new_with_config(&settings, stream, driver).await;
    let (connection, driver) = opened.map_err(|err| from_driver(&err))?;
    Ok((connection, tokio::spawn(driver)))
}

async fn log_in(config: &Config, (connection, task): Opened) -> Result<Dialed, Error> {
    let driver = Driver(task.abort_handle());
    let time = handshake(config, connection.clone()).await?;
    Ok((Live::new(connection, !config.cluster, time, driver), task))
}

/// Everything in one round trip. Servers answer in order, and go on after an error.
async fn handshake(config: &Config, mut connection: MultiplexedConnection) -> Result<ServerTime, Error> {
    let mut pipeline = redis::pipe();
    if let Some(Login { username, password }) = &config.login {
        pipeline.cmd("AUTH").arg(username).arg(password);
    }
    if config.database != 0 {
        pipeline.cmd("SELECT").arg(config.database);
    }
    pipeline.cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME);
    pipeline.cmd("TIME");
    for script in SCRIPTS.all() {
        pipeline.add_command(script.load());
    }
    let sent = Instant::now();
    let replies = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await.map_err(|err| broken(&err))?;
    let mut replies = replies.into_iter().map(Value::extract_error);
    let mut next = || replies.next().unwrap_or(Ok(Value::Nil));

    if config.login.is_some() {
        next().map_err(|err| wrong_password(&err))?;
    }
    if config.database != 0 {
        next().map_err(|err| wrong_database(&err))?;
    }
    // The name is a courtesy; a user may lack the permission for it.
    let _ = next();
    let time = next().and_then(|time| Ok(from_redis_value::<(i64, i64)>(time)?));
    let (seconds, micros) = time.map_err(|err| from_driver(&err))?;
    for _ in SCRIPTS.all() {
        next().map_err(|err| from_driver(&err))?;
    }
    Ok(ServerTime::new(sent, seconds * 1_000_000 + micros))
}

/// Why the first commands on a connection have no replies.
pub(crate) fn broken(err: &RedisError) -> Error {
    late_refusal(err).unwrap_or_else(|| from_driver(err))
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
fn unreachable(err: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("Redis cannot be reached: {}", err.kind()))
}
