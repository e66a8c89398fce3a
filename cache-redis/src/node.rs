//! One Redis node: it finds its connection for each call, bounds the call, and accounts for how it ended.

use crate::builder::{Address, Config};
use crate::coalescer::{Reply, Request};
use crate::error::{config_error, from_driver, is_read_only};
use crate::link::{Link, State, supervise};
use crate::live::Live;
use cache_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{Pipeline, RedisResult, Value};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// A node. Its supervisor starts with its first call and ends with it.
pub(crate) struct Node {
    link: Arc<Link>,
    supervisor: Mutex<Supervisor>,
}

enum Supervisor {
    /// Not needed so far.
    None,
    Running(JoinHandle<()>),
    Closed,
}

/// A reply, the connection it came over, and when its command was sent.
pub(crate) struct Called<T> {
    pub(crate) reply: T,
    live: Arc<Live>,
    sent: Instant,
}

impl<T> Called<T> {
    /// The server's time when the call was sent, as late as it may have been.
    pub(crate) fn now(&self) -> u64 {
        self.live.latest_ms(self.sent.into_std())
    }

    /// Takes in the server's time, in microseconds, that the reply tells.
    pub(crate) fn observe(&self, server_us: i64) {
        self.live.observe(self.sent.into_std(), server_us);
    }

    pub(crate) fn map<U>(self, read: impl FnOnce(T) -> Result<U>) -> Result<Called<U>> {
        let Self { reply, live, sent } = self;
        Ok(Called { reply: read(reply)?, live, sent })
    }
}

impl Node {
    pub(crate) fn new(config: Arc<Config>, address: Address) -> Self {
        Self { link: Arc::new(Link::new(config, address)), supervisor: Mutex::new(Supervisor::None) }
    }

    /// Whether there is a connection at the moment. Nothing is sent.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(**self.link.state(), State::Up(_))
    }

    /// Waits for the first dial. Only what a person must mend is an error.
    pub(crate) async fn first_dial(&self) -> Result<()> {
        self.start()?;
        self.link.settled().await;
        match &**self.link.state() {
            State::Down(err) if matches!(err.kind(), ErrorKind::Config | ErrorKind::Credentials) => Err(err.clone()),
            _ => Ok(()),
        }
    }

    /// Sends a command, together with those of other calls where there are many. An error that the server answered with is a reply.
    pub(crate) async fn send(&self, deadline: Instant, request: Request) -> Result<Called<RedisResult<Value>>> {
        let live = self.live(deadline).await?;
        let Ok(reply) = timeout_at(deadline, live.send(request)).await else {
            live.timed_out();
            return Err(late());
        };
        let Some(Reply { value, sent }) = reply else {
            // The supervisor sees it by itself, unless the runtime that it ran on has ended.
            self.start()?;
            return Err(Error::new(ErrorKind::Unavailable, "the connection to Redis was lost"));
        };
        if let Err(err) = &value {
            self.accept(&live, err)?;
        }
        live.answered();
        Ok(Called { reply: value, live, sent })
    }

    /// Sends commands in one write, by themselves. Replies in their order; errors that the server answered with are replies.
    pub(crate) async fn send_all(&self, deadline: Instant, commands: &Pipeline) -> Result<Called<Vec<RedisResult<Value>>>> {
        let live = self.live(deadline).await?;
        let sent = Instant::now();
        let mut connection = live.connection();
        let Ok(replies) = timeout_at(deadline, connection.send_packed_commands(commands, 0, commands.len())).await else {
            live.timed_out();
            return Err(late());
        };
        let replies = match replies {
            Ok(replies) => replies.into_iter().map(Value::extract_error).collect::<Vec<_>>(),
            Err(err) => {
                self.accept(&live, &err)?;
                return Err(from_driver(&err));
            }
        };
        for err in replies.iter().filter_map(|reply| reply.as_ref().err()) {
            self.accept(&live, err)?;
        }
        live.answered();
        Ok(Called { reply: replies, live, sent })
    }

    /// Takes an error as a reply, unless it is the connection's.
    fn accept(&self, live: &Live, err: &redis::RedisError) -> Result<()> {
        if err.is_connection_dropped() {
            self.start()?;
            return Err(from_driver(err));
        }
        if is_read_only(err) {
            live.read_only();
        }
        Ok(())
    }

    /// The connection: at once if there is one or none, else when the first dial has ended.
    async fn live(&self, deadline: Instant) -> Result<Arc<Live>> {
        if let State::Up(live) = &**self.link.state() {
            return Ok(live.clone());
        }
        self.start()?;
        timeout_at(deadline, self.link.settled()).await.map_err(|_| late())?;
        match &**self.link.state() {
            State::Up(live) => Ok(live.clone()),
            State::Down(err) => Err(err.clone()),
            State::Closed => Err(closed()),
            State::Idle | State::Dialing => Err(Error::new(ErrorKind::Unavailable, "there is no connection to Redis")),
        }
    }

    /// Starts the supervisor if none runs: at first use, and after the runtime it ran on has ended.
    pub(crate) fn start(&self) -> Result<()> {
        let mut supervisor = self.supervisor.lock();
        match &*supervisor {
            Supervisor::Running(task) if !task.is_finished() => return Ok(()),
            Supervisor::Closed => return Err(closed()),
            _ => {}
        }
        let runtime = Handle::try_current();
        let runtime = runtime.map_err(|_| config_error("the Redis tier must be used from within a tokio runtime"))?;
        self.link.publish(State::Dialing);
        *supervisor = Supervisor::Running(runtime.spawn(supervise(self.link.clone())));
        Ok(())
    }

    /// Ends the supervisor. Calls under way still end by themselves; later ones fail.
    pub(crate) async fn stop(&self) {
        let supervisor = std::mem::replace(&mut *self.supervisor.lock(), Supervisor::Closed);
        if let Supervisor::Running(task) = supervisor {
            task.abort();
            let _ = task.await;
        }
        // After the supervisor is gone, or it could still publish.
        self.link.publish(State::Closed);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Supervisor::Running(task) = self.supervisor.get_mut() {
            task.abort();
        }
    }
}

fn late() -> Error {
    Error::new(ErrorKind::Timeout, "Redis did not answer in time")
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the Redis tier is closed")
}
