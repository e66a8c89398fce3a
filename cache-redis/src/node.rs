//! One Redis node: it finds its connection for each call, bounds the call, and accounts for how it ended.

use crate::config::{Address, Config};
use crate::error::config_error;
use crate::link::{Link, State, supervise};
use crate::live::Live;
use crate::multiplexer::{Request, Underway, late, lost};
use crate::vitals::Vitals;
use cache_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisResult, Value};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

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

/// A reply, and what it says of the server's time.
pub(crate) struct Called<T> {
    pub(crate) reply: T,
    now: u64,
    /// Where to note the server's time, and when the call was sent.
    measured: Option<(Arc<Vitals>, Instant)>,
}

impl<T> Called<T> {
    /// The server's time in ms when the call was sent, as late as it may have been.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The same with a time that is no earlier than this.
    pub(crate) fn not_before(self, now: u64) -> Self {
        Self { now: self.now.max(now), ..self }
    }

    /// Takes in the server's time, in microseconds, that the reply tells.
    pub(crate) fn observe(&self, server_us: i64) {
        if let Some((vitals, sent)) = &self.measured {
            vitals.observe(*sent, server_us);
        }
    }

    pub(crate) fn map<U>(self, read: impl FnOnce(T) -> Result<U>) -> Result<Called<U>> {
        let Self { reply, now, measured } = self;
        Ok(Called { reply: read(reply)?, now, measured })
    }
}

/// The reply to a call under way. Safe to cancel.
pub(crate) async fn called(underway: Underway) -> Result<Called<RedisResult<Value>>> {
    let (reply, vitals) = underway.reply().await?;
    Ok(Called { reply: reply.value, now: reply.now, measured: vitals.map(|vitals| (vitals, reply.sent)) })
}

impl Node {
    pub(crate) fn new(config: Arc<Config>, address: Address) -> Self {
        Self::of(Link::new(config, address))
    }

    /// A node that is only read from, and only while it is a replica.
    pub(crate) fn replica(config: Arc<Config>, address: Address) -> Self {
        Self::of(Link::to_replica(config, address))
    }

    fn of(link: Link) -> Self {
        Self { link: Arc::new(link), supervisor: Mutex::new(Supervisor::None) }
    }

    /// The server's time in ms at a moment, as late as it may have been; 0 if there is no connection.
    pub(crate) fn latest_ms(&self, when: Instant) -> u64 {
        match &**self.link.state() {
            State::Up(live) => live.vitals().latest_ms(when),
            _ => 0,
        }
    }

    /// Whether there is a connection at the moment. Nothing is sent.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(**self.link.state(), State::Up(_))
    }

    /// Whether there is a connection, and calls over it are answered. Nothing is sent.
    pub(crate) fn is_well(&self) -> bool {
        matches!(&**self.link.state(), State::Up(live) if live.vitals().is_answering())
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

    /// Sends a command if there is a connection. Never waits.
    pub(crate) fn begin(&self, deadline: Instant, request: Request<'_>) -> Option<Result<Underway>> {
        match &**self.link.state() {
            State::Up(live) => Some(live.wire.send(deadline, request)),
            _ => None,
        }
    }

    /// Sends a command, together with those of other calls. An error that the server answered with is a reply.
    pub(crate) async fn send(&self, deadline: Instant, request: Request<'_>) -> Result<Called<RedisResult<Value>>> {
        let underway = self.live(deadline).await?.wire.send(deadline, request);
        let called = async { called(underway?).await };
        called.await.inspect_err(|_| self.revive())
    }

    /// Sends commands in one write, by themselves. Replies in their order; errors that the server answered with are replies.
    pub(crate) async fn send_all(&self, deadline: Instant, commands: &Pipeline) -> Result<Called<Vec<RedisResult<Value>>>> {
        let live = self.live(deadline).await?;
        let vitals = live.vitals();
        let many = timeout_at(deadline.into(), live.wire.send_all(commands)).await;
        let many = many.unwrap_or_else(|_| {
            vitals.timed_out();
            Err(late())
        });
        let many = many.inspect_err(|_| self.revive())?;
        Ok(Called { reply: many.replies, now: vitals.latest_ms(many.sent), measured: Some((vitals.clone(), many.sent)) })
    }

    /// Sends one command behind another that is only for it.
    pub(crate) async fn send_behind(
        &self,
        deadline: Instant,
        first: Cmd,
        request: Request<'_>,
    ) -> Result<Called<RedisResult<Value>>> {
        let history = self.live(deadline).await?.vitals().history();
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(first).add_command(request.command(history)?);
        self.send_all(deadline, &commands).await?.map(|mut replies| replies.pop().ok_or_else(lost))
    }

    /// What is known of the server at the other end of the connection, if there is one.
    pub(crate) fn vitals(&self) -> Option<Arc<Vitals>> {
        match &**self.link.state() {
            State::Up(live) => Some(live.vitals().clone()),
            _ => None,
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &Address {
        &self.link.address
    }

    /// After a failed call: the supervisor sees by itself what is wrong, unless the runtime that it ran on has ended.
    pub(crate) fn revive(&self) {
        // Refused only once it is closed.
        let _ = self.start();
    }

    /// The connection: at once if there is one or none, else when the first dial has ended.
    async fn live(&self, deadline: Instant) -> Result<Arc<Live>> {
        if let State::Up(live) = &**self.link.state() {
            return Ok(live.clone());
        }
        self.start()?;
        let settled = timeout_at(deadline.into(), self.link.settled()).await;
        settled.map_err(|_| late())?;
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

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the Redis tier is closed")
}
