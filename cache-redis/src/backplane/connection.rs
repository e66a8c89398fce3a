//! A connection that only listens: dialled as the others are, read reply by reply.

use super::history::Server;
use crate::config::{Address, Config, Login};
use crate::dial::{CLIENT_NAME, tcp, unreachable, wrong_password};
use crate::error::{from_driver, is_refusal};
use crate::multiplexer::lost;
use crate::multiplexer::replies::Replies;
use crate::resp3;
use crate::sentinel;
use crate::tls::late_refusal;
use cache_core::{Error, ErrorKind};
use redis::{Pipeline, RedisResult, Value};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A message that is longer is none of ours.
const LONGEST: usize = 1 << 20;

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

pub(super) struct Connection {
    stream: Pin<Box<dyn Stream>>,
    replies: Replies,
    server: Server,
}

impl Connection {
    /// Dials once, within the connect timeout, and takes none but a master. The error's kind tells what to do, as that of any dial.
    pub(super) async fn dial(config: &Config, address: &Address) -> Result<Self, Error> {
        let dialed = timeout(config.connect_timeout, Self::connect(config, address)).await;
        dialed.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "Redis did not answer the dial in time")))
    }

    async fn connect(config: &Config, address: &Address) -> Result<Self, Error> {
        let mut stream: Pin<Box<dyn Stream>> = match address {
            Address::Tcp(host, port) => secured(config, host, *port).await?,
            #[cfg(unix)]
            Address::Unix(path) => Box::pin(tokio::net::UnixStream::connect(path).await.map_err(unreachable)?),
            Address::Sentinel(sentinels) => {
                let (host, port) = sentinel::master(config.tls.as_ref(), sentinels).await?;
                secured(config, &host, port).await?
            }
        };
        // No string alone is a message, and INFO is no longer than this.
        let mut replies = Replies::new(LONGEST, 0).in_parts_of(LONGEST).with_pushes();

        let mut commands = Pipeline::new();
        if config.resp3 {
            commands.add_command(resp3::hello(config.login.as_ref()));
        } else if let Some(Login { username, password }) = &config.login {
            commands.cmd("AUTH").arg(username).arg(password);
        }
        commands.cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME);
        commands.add_command(Server::ask());
        stream.write_all(&commands.get_packed_pipeline()).await.map_err(ended)?;
        stream.flush().await.map_err(ended)?;
        if config.resp3 {
            next(&mut stream, &mut replies).await?.map_err(|err| resp3::refused(&err))?;
        } else if config.login.is_some() {
            next(&mut stream, &mut replies).await?.map_err(|err| wrong_password(&err))?;
        }
        // The name is a courtesy.
        let _ = next(&mut stream, &mut replies).await?;
        let info = match next(&mut stream, &mut replies).await? {
            Ok(Value::BulkString(info)) => info,
            Err(err) if is_refusal(&err) => {
                return Err(Error::new(
                    ErrorKind::Credentials,
                    "the Redis user may not call INFO, which listening to invalidations needs",
                ));
            }
            reply => return Err(reply.err().map_or_else(lost, |err| from_driver(&err))),
        };
        let server = Server::read(&info).ok_or_else(lost)?;
        if !server.is_master {
            return Err(Error::new(ErrorKind::Unavailable, "Redis is a replica and does not tell of invalidations"));
        }
        Ok(Self { stream, replies, server })
    }

    /// What the server said of itself.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Writes commands. Short ones: so they are taken at once, unless nobody reads at the other end.
    pub(super) async fn send(&mut self, commands: &[u8]) -> Result<(), Error> {
        self.stream.write_all(commands).await.map_err(ended)?;
        self.stream.flush().await.map_err(ended)
    }

    /// The next reply or message. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<RedisResult<Value>, Error> {
        next(&mut self.stream, &mut self.replies).await
    }
}

/// A connection by TLS if that is given.
async fn secured(config: &Config, host: &str, port: u16) -> Result<Pin<Box<dyn Stream>>, Error> {
    let stream = tcp(host, port).await?;
    Ok(match &config.tls {
        None => Box::pin(stream),
        Some(tls) => Box::pin(tls.connect(host, stream).await?),
    })
}

async fn next(stream: &mut Pin<Box<dyn Stream>>, replies: &mut Replies) -> Result<RedisResult<Value>, Error> {
    poll_fn(|cx| {
        loop {
            match replies.next() {
                Ok(Some(reply)) => return Poll::Ready(Ok(reply.extract_error())),
                Ok(None) => {}
                Err(_) => {
                    let garbled = "what came over the subscription to Redis was not understood";
                    return Poll::Ready(Err(Error::new(ErrorKind::Unavailable, garbled)));
                }
            }
            match replies.poll_more(cx, stream.as_mut()) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Err(lost())),
                Poll::Ready(Err(err)) => return Poll::Ready(Err(ended(err))),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn ended(err: io::Error) -> Error {
    late_refusal(&err).unwrap_or_else(lost)
}
