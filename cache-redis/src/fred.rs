//! fred as the driver of a connection, under the same supervisor, slot map and verbs as our own [multiplexer](crate::multiplexer).
//!
//! One centralised client a connection, with no reconnection of its own: once its connection has ended it takes calls and answers none of them, so
//! each call here also waits for that end. Of its answers only frames are used; its errors are text, and none of it is passed on.

use crate::config::{Address, Config, Login};
use crate::error::is_read_only;
use crate::multiplexer::{Guard, MOST_WAITING, Many, Reply, late, lost};
use crate::vitals::Vitals;
use ::fred::clients::Client;
use ::fred::error::{Error as FredError, ErrorKind as FredErrorKind};
use ::fred::interfaces::ClientLike;
use ::fred::types::config::{Config as FredConfig, ConnectionConfig, PerformanceConfig, Server, ServerConfig, TcpConfig};
use ::fred::types::{ClusterHash, CustomCommand, Resp3Frame, RespVersion, Value as FredValue};
use bytes::Bytes;
use cache_core::{Error, ErrorKind};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use redis::{Arg, Cmd, Pipeline, RedisResult, Value, parse_redis_value};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::sleep_until;

type Result<T, E = Error> = std::result::Result<T, E>;
type Frame = BoxFuture<'static, Result<Resp3Frame, FredError>>;

/// The callers' end of a connection.
#[derive(Clone)]
pub(crate) struct Fred(Arc<Shared>);

struct Shared {
    client: Client,
    /// Held while commands are handed over, so that those of one call stay together: `ASKING` is for the command after it.
    order: Mutex<()>,
    /// Bytes of commands that fred has not done with.
    waiting: Arc<AtomicUsize>,
    vitals: Arc<Vitals>,
    /// Closed when the connection has ended.
    ended: watch::Receiver<()>,
    task: AbortHandle,
}

/// A command under way.
pub(crate) struct Call {
    frame: Frame,
    deadline: Instant,
    sent: Instant,
    now: u64,
    wire: Fred,
}

/// Connects and logs in, no more. Whatever a person must mend should be known before: what fails here is weather.
pub(crate) async fn open(config: &Config, at: &Address) -> Result<(Fred, JoinHandle<()>)> {
    let client = client(config, at)?;
    let (running, guard) = {
        let mut connected = pin!(client.wait_for_connect());
        // It listens from its first poll on. Later, the connection may be there, or refused, already.
        let early = connected.as_mut().now_or_never();
        let running = client.connect();
        let guard = Guard(running.abort_handle());
        let connected = match early {
            Some(connected) => connected,
            None => connected.await,
        };
        connected.map_err(|err| unreachable(&err))?;
        (running, guard)
    };

    let (ends, ended) = watch::channel(());
    let task = running.abort_handle();
    let watcher = tokio::spawn(async move {
        // Both go when this task is aborted, too.
        let (_guard, _ends) = (guard, ends);
        let _ = running.await;
    });
    let shared = Shared { client, order: Mutex::default(), waiting: Arc::default(), vitals: Arc::default(), ended, task };
    Ok((Fred(Arc::new(shared)), watcher))
}

fn client(config: &Config, at: &Address) -> Result<Client> {
    let server = match at {
        Address::Tcp(host, port) => ServerConfig::Centralized { server: Server::new(host.clone(), *port) },
        #[cfg(unix)]
        Address::Unix(path) => ServerConfig::Unix { path: path.clone() },
        Address::Sentinel(_) => return Err(Error::new(ErrorKind::Unavailable, "Redis Sentinels named no master")),
    };
    let (username, password) = match &config.login {
        Some(Login { username, password }) => (username.clone(), Some(password.clone())),
        None => (None, None),
    };
    let mut fred = FredConfig { server, username, password, fail_fast: true, ..FredConfig::default() };
    if config.resp3 {
        fred.version = RespVersion::RESP3;
    }
    #[cfg(feature = "tls")]
    if matches!(at, Address::Tcp(..)) {
        fred.tls = config.tls.as_ref().map(|tls| tls.connector().into());
    }
    let connection = ConnectionConfig {
        connection_timeout: config.connect_timeout,
        internal_command_timeout: config.connect_timeout,
        // A command whose connection broke may have run: nothing is repeated.
        max_command_attempts: 1,
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    };
    Ok(Client::new(fred, Some(PerformanceConfig::default()), Some(connection), None))
}

/// fred's text may show an address, a user or what the server says of them.
fn unreachable(err: &FredError) -> Error {
    match err.kind() {
        FredErrorKind::Auth => Error::new(ErrorKind::Credentials, "Redis refused the user name or password"),
        _ => Error::new(ErrorKind::Unavailable, "Redis cannot be reached by fred"),
    }
}

impl Fred {
    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.0.vitals
    }

    /// Hands a command to fred's task. Never waits. What is returned may be dropped: the command runs nonetheless.
    pub(crate) fn send(&self, deadline: Instant, cmd: &Cmd) -> Result<Call> {
        let command = self.command(cmd)?;
        let sent = Instant::now();
        let frame = {
            let _order = self.0.order.lock();
            self.hand_over(command)
        };
        Ok(Call { frame, deadline, sent, now: self.0.vitals.latest_ms(sent), wire: self.clone() })
    }

    /// Hands over commands, no other's between them, and waits for their replies, in their order, for as long as the connection lives; errors that
    /// the server answered with are replies. Safe to cancel.
    pub(crate) async fn send_all(&self, commands: &Pipeline) -> Result<Many> {
        let commands = commands.cmd_iter().map(|cmd| self.command(cmd)).collect::<Result<Vec<_>>>()?;
        let sent = Instant::now();
        let frames: Vec<_> = {
            let _order = self.0.order.lock();
            commands.into_iter().map(|command| self.hand_over(command)).collect()
        };
        let mut replies = Vec::with_capacity(frames.len());
        for frame in frames {
            replies.push(self.reply(frame).await?);
        }
        Ok(Many { replies, sent })
    }

    /// A command as fred takes it. Its bytes count until fred has let go of the last of them, whether or not its caller waits.
    fn command(&self, cmd: &Cmd) -> Result<(CustomCommand, Vec<FredValue>)> {
        let args = cmd.args_iter().map(|arg| match arg {
            Arg::Simple(arg) => arg,
            // The tier's commands bring their own.
            _ => b"0",
        });
        let length = args.clone().map(<[u8]>::len).sum();
        if self.0.waiting.load(Ordering::Relaxed) + length > MOST_WAITING {
            return Err(Error::new(ErrorKind::Overloaded, "too much waits to be written to Redis"));
        }
        let bytes = args.clone().fold(Vec::with_capacity(length), |mut bytes, arg| {
            bytes.extend_from_slice(arg);
            bytes
        });
        self.0.waiting.fetch_add(length, Ordering::Relaxed);
        let bytes = Bytes::from_owner(Load { bytes, waiting: self.0.waiting.clone() });
        let mut end = 0;
        let mut parts = args.map(|arg| {
            end += arg.len();
            bytes.slice(end - arg.len()..end)
        });
        let name = parts.next().unwrap_or_default();
        let name = CustomCommand::new(String::from_utf8_lossy(&name).into_owned(), ClusterHash::FirstKey, false);
        Ok((name, parts.map(FredValue::Bytes).collect()))
    }

    fn hand_over(&self, (name, args): (CustomCommand, Vec<FredValue>)) -> Frame {
        let client = self.0.client.clone();
        let mut frame: Frame = async move { client.custom_raw(name, args).await }.boxed();
        // It is sent by its first poll, and other calls shall not wait for somebody to wait for this one.
        match (&mut frame).now_or_never() {
            None => frame,
            Some(frame) => ready(frame).boxed(),
        }
    }

    async fn reply(&self, frame: Frame) -> Result<RedisResult<Value>> {
        let mut ended = self.0.ended.clone();
        let frame = tokio::select! {
            biased;
            frame = frame => frame,
            _ = ended.changed() => return Err(lost()),
        };
        let value = frame.ok().and_then(value).ok_or_else(|| {
            // What comes after is not to be told apart, or does not come.
            self.0.task.abort();
            lost()
        })?;
        self.0.vitals.answered();
        let value = value.extract_error();
        if value.as_ref().is_err_and(is_read_only) {
            self.0.vitals.read_only();
        }
        Ok(value)
    }
}

impl Call {
    /// Waits for the reply. Safe to cancel.
    pub(crate) async fn reply(self) -> Result<(Reply, Option<Arc<Vitals>>)> {
        let Self { frame, deadline, sent, now, wire } = self;
        let value = tokio::select! {
            biased;
            value = wire.reply(frame) => value?,
            () = sleep_until(deadline.into()) => {
                wire.vitals().timed_out();
                return Err(late());
            }
        };
        Ok((Reply { value, sent, now }, Some(wire.0.vitals.clone())))
    }
}

/// Bytes of a command.
struct Load {
    bytes: Vec<u8>,
    waiting: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Load {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// A frame as the verbs know replies, in which RESP3 has [no types of its own](crate::resp3); `None` for what is no reply. fred makes RESP3's frames of RESP2, too.
fn value(frame: Resp3Frame) -> Option<Value> {
    Some(match frame {
        Resp3Frame::BlobString { data, .. } | Resp3Frame::VerbatimString { data, .. } => Value::BulkString(data.into()),
        Resp3Frame::Boolean { data, .. } => Value::Int(data.into()),
        Resp3Frame::Double { data, .. } => Value::BulkString(data.to_string().into_bytes()),
        Resp3Frame::Set { data, .. } => Value::Array(data.into_iter().map(value).collect::<Option<_>>()?),
        Resp3Frame::Map { data, .. } => {
            Value::Array(data.into_iter().flat_map(|(name, of)| [value(name), value(of)]).collect::<Option<_>>()?)
        }
        Resp3Frame::Null => Value::Nil,
        Resp3Frame::Number { data, .. } => Value::Int(data),
        Resp3Frame::Array { data, .. } => Value::Array(data.into_iter().map(value).collect::<Option<_>>()?),
        // By the same code as from the wire, so that MOVED, NOSCRIPT and all others are what they are there.
        Resp3Frame::SimpleString { data, .. } => parse_redis_value(&[b"+", &data[..], b"\r\n"].concat()).ok()?,
        Resp3Frame::SimpleError { data, .. } => parse_redis_value(format!("-{data}\r\n").as_bytes()).ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Driver;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn read(frame: Resp3Frame) -> Value {
        value(frame).expect("a frame of RESP2")
    }

    fn string(data: &'static [u8]) -> Resp3Frame {
        Resp3Frame::BlobString { data: Bytes::from_static(data), attributes: None }
    }

    fn error(text: &'static str) -> Resp3Frame {
        Resp3Frame::SimpleError { data: text.into(), attributes: None }
    }

    #[test]
    fn frames_are_what_our_own_parser_makes_of_the_same_bytes() {
        let simple = |data| Resp3Frame::SimpleString { data: Bytes::from_static(data), attributes: None };
        let number = |data| Resp3Frame::Number { data, attributes: None };
        let array = |data| Resp3Frame::Array { data, attributes: None };
        for (frame, wire) in [
            (string(b"a\r\n\xff"), &b"$4\r\na\r\n\xff\r\n"[..]),
            (string(b""), b"$0\r\n\r\n"),
            (Resp3Frame::Null, b"$-1\r\n"),
            (number(-7), b":-7\r\n"),
            (simple(b"OK"), b"+OK\r\n"),
            (simple(b"QUEUED"), b"+QUEUED\r\n"),
            (error("MOVED 3999 127.0.0.1:6381"), b"-MOVED 3999 127.0.0.1:6381\r\n"),
            (error("NOSCRIPT No matching script."), b"-NOSCRIPT No matching script.\r\n"),
            (error(""), b"-\r\n"),
            (Resp3Frame::Boolean { data: true, attributes: None }, b":1\r\n"),
            (Resp3Frame::Map { data: [(string(b"a"), number(1))].into(), attributes: None }, b"*2\r\n$1\r\na\r\n:1\r\n"),
            (array(vec![number(1), string(b"x"), array(vec![]), error("ERR no")]), b"*4\r\n:1\r\n$1\r\nx\r\n*0\r\n-ERR no\r\n"),
        ] {
            let wanted = parse_redis_value(wire).map(|value| format!("{:?}", value.extract_error()));
            let wanted = wanted.unwrap_or_else(|err| panic!("{err}: {wire:?}"));
            assert_eq!(format!("{:?}", read(frame).extract_error()), wanted);
        }
    }

    /// Answers the three things that fred asks when it connects, and goes.
    async fn server() -> Address {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("fred connects");
            for _ in 0..3 {
                let _ = stream.read(&mut [0; 1_024]).await;
                stream.write_all(b"+OK\r\n").await.expect("fred reads");
            }
        });
        Address::Tcp("127.0.0.1".to_owned(), port)
    }

    fn config() -> Config {
        let ample = Duration::from_secs(20);
        Config {
            login: None,
            database: 0,
            timeout: ample,
            connect_timeout: ample,
            max_record_bytes: 1 << 20,
            resp3: false,
            tracks: false,
            gathers: true,
            tls: None,
            driver: Driver::Fred,
        }
    }

    #[tokio::test]
    async fn calls_after_the_end_of_the_connection_end_with_it_though_fred_takes_them() {
        let (fred, task) = open(&config(), &server().await).await.expect("the server answers");
        task.await.expect("it ends when the server goes");
        let call = fred.send(Instant::now() + Duration::from_secs(60), redis::cmd("GET").arg("key")).expect("fred takes it");
        assert_eq!(call.reply().await.map(drop).expect_err("there is no connection").kind(), ErrorKind::Unavailable);
        let all = fred.send_all(redis::pipe().cmd("TIME")).await;
        assert_eq!(all.expect_err("there is no connection").kind(), ErrorKind::Unavailable);
        assert!(Arc::strong_count(&fred.0) == 1, "nothing else holds it");
    }

    #[test]
    fn what_is_no_reply_is_none_and_neither_is_what_holds_it() {
        let push = || Resp3Frame::Push { data: Vec::new(), attributes: None };
        assert!(value(push()).is_none());
        assert!(value(Resp3Frame::Array { data: vec![push()], attributes: None }).is_none());
    }
}
