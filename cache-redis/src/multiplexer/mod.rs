//! One connection for all calls: what is asked at the same time goes out in one write, and replies are matched to calls by their order.
//!
//! The drivers measured stop at 0.2 to 0.45 million GETs a second over one connection, where the machine does 2.5: a call goes through a channel to
//! the task that owns the socket, is packed there or copied, and has a timer, a channel for its reply and some ten allocations of its own. Here:
//!
//! - A caller packs its command into one buffer that all share, under a lock held for as long as that takes. The [task](task) takes the buffer as it
//!   is and writes it at once. Nobody waits for a batch to fill: what one write takes is what came while the task was at work, as with Nagle's
//!   algorithm (RFC 896), but by what this process does and not by the network's round trip.
//! - GETs of one time are MGETs of up to 64 keys, whose replies are handed out one by one: a third of Redis' work.
//! - Scripts of one time are one for up to 16 calls likewise, where there is one for many: half of Redis' work.
//! - The task keeps the time for all: calls have the same timeout and come in order, so one timer for the oldest is enough.
//! - A GET's only allocations are the channel for its reply and the value.
//!
//! A caller that goes away leaves its command to run and its reply unheard. No other caller gets it: each has a channel of its own, in the order of
//! the commands.

mod line;
mod lot;
#[cfg(test)]
mod lot_tests;
pub(crate) mod replies;
#[cfg(test)]
mod slow_tests;
mod task;
#[cfg(test)]
mod tests;

use crate::script::{Each, SCRIPTS, Script};
use crate::vitals::Vitals;
use cache_core::{Error, ErrorKind};
use lot::Lot;
use parking_lot::Mutex;
use redis::{Arg, Cmd, Pipeline, RedisResult, Value};
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot::{self, error::RecvError};
use tokio::task::{AbortHandle, JoinHandle};

/// Bytes that wait for the socket at most. A server that does not read is replaced long before, unless values are huge.
pub(crate) const MOST_WAITING: usize = 64 << 20;
/// How much sooner than others before it a call may have to end and still leave it to the task to see to that. Its timer need not be set anew then.
const SLACK: Duration = Duration::from_millis(4);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    /// GET of a key.
    Get(&'a [u8]),
    /// A script that may go together with others.
    Each(Each<'a>),
    /// Any command with one reply.
    Run(&'a Cmd),
    /// The same, where the last argument, eight bytes, is the history of whatever server it is sent to.
    Sequenced(&'a Cmd),
}

/// What stands before the one key of a GET.
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n";

impl Request<'_> {
    /// The script that it calls, if it is a call of one.
    pub(crate) fn script(&self) -> Option<&'static Script> {
        match self {
            Self::Get(_) => None,
            Self::Each(each) => Some(each.script()),
            Self::Run(cmd) | Self::Sequenced(cmd) => match cmd.args_iter().nth(1) {
                Some(redis::Arg::Simple(digest)) => SCRIPTS.named(digest),
                _ => None,
            },
        }
    }

    /// Whether it can be sent only to a server whose history is known.
    pub(crate) fn needs_history(&self) -> bool {
        match self {
            Self::Get(_) | Self::Run(_) => false,
            Self::Each(each) => each.needs_history(),
            Self::Sequenced(_) => true,
        }
    }

    fn pack(self, vitals: &Vitals, out: &mut Vec<u8>) {
        match self {
            Self::Get(key) => {
                out.extend_from_slice(GET);
                pack_key(key, out);
            }
            Self::Each(each) => lot::pack_alone(&each, vitals.history().unwrap_or(0), out),
            Self::Run(cmd) => cmd.write_packed_command(out),
            Self::Sequenced(cmd) => {
                cmd.write_packed_command(out);
                // Before the line's end. It is known, or this was not sent.
                let end = out.len() - 2;
                out[end - 8..end].copy_from_slice(&vitals.history().unwrap_or(0).to_be_bytes());
            }
        }
    }

    /// The same as a command to a server of this history.
    pub(crate) fn command(self, history: Option<u64>) -> Result<Cmd> {
        match self {
            Self::Get(key) => {
                let mut cmd = redis::cmd("GET");
                cmd.arg(key);
                Ok(cmd)
            }
            Self::Each(each) if each.needs_history() => Ok(each.cmd(history.ok_or_else(no_history)?)),
            Self::Each(each) => Ok(each.cmd(0)),
            Self::Run(cmd) => Ok(cmd.clone()),
            Self::Sequenced(cmd) => {
                let history = history.ok_or_else(no_history)?.to_be_bytes();
                let mut whole = Cmd::new();
                let mut args = cmd.args_iter().peekable();
                while let Some(Arg::Simple(arg)) = args.next() {
                    match arg.len().checked_sub(history.len()) {
                        Some(end) if args.peek().is_none() => whole.arg([&arg[..end], &history].concat()),
                        _ => whole.arg(arg),
                    };
                }
                Ok(whole)
            }
        }
    }
}

/// An argument of a command, as `Cmd` packs it, without the two allocations of one.
fn pack_key(key: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    out.extend_from_slice(itoa::Buffer::new().format(key.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) value: RedisResult<Value>,
    /// When its command was written, or some time before.
    pub(crate) sent: Instant,
    /// The server's time then, as late as it may have been.
    pub(crate) now: u64,
}

/// What came back to several commands.
#[derive(Debug)]
pub(crate) struct Many {
    pub(crate) replies: Vec<RedisResult<Value>>,
    /// When they were written, or some time before.
    pub(crate) sent: Instant,
}

/// How a call ended. A channel that is closed without one: the connection broke.
type Ended<T> = Result<T, Late>;

type Result<T, E = Error> = std::result::Result<T, E>;

/// It was not answered in time.
#[derive(Debug)]
struct Late;

/// Whom replies are for.
enum Caller {
    /// One reply. `None` once it was told that it is late.
    One(Option<oneshot::Sender<Ended<Reply>>>),
    /// The callers behind this, whose GETs are one MGET, or whose scripts are one call.
    Group(usize),
    /// So many.
    Many { left: usize, replies: Vec<RedisResult<Value>>, caller: Option<oneshot::Sender<Ended<Many>>> },
}

struct Waiting {
    caller: Caller,
    /// `None` where the caller alone keeps its time.
    deadline: Option<tokio::time::Instant>,
}

/// What callers and the task share.
struct Shared {
    /// Whether GETs go together as MGETs, and scripts as one call, which a cluster takes for keys of one slot only.
    gathers: bool,
    state: Mutex<State>,
    vitals: Arc<Vitals>,
}

struct State {
    /// Commands that the task has not taken.
    packed: Vec<u8>,
    /// Their callers.
    waiting: Vec<Waiting>,
    /// Scripts that go together, each kind for itself. Behind `packed`; what is packed there later comes after them.
    lots: [Lot; Each::KINDS],
    /// Keys to GET that the task has not taken, packed, where each ends, and their callers.
    keys: Vec<u8>,
    ends: Vec<usize>,
    getters: Vec<Waiting>,
    /// Bytes that the task has taken and not let go of.
    unwritten: usize,
    /// Calls that the task has taken and that are not answered, and how many there may be with those that it has not taken.
    in_line: usize,
    most_in_line: usize,
    /// Those over that are refused if their deadline comes sooner.
    refused_until: tokio::time::Instant,
    /// The latest deadline that the task keeps.
    latest: tokio::time::Instant,
    /// The task's, while it sleeps.
    sleeper: Option<Waker>,
    /// Whether the task runs.
    is_open: bool,
    /// What ended it, if that is known.
    cause: Option<io::Error>,
}

/// The callers' end of a connection.
#[derive(Clone)]
pub(crate) struct Multiplexer {
    shared: Arc<Shared>,
}

/// Ends the task of a connection when it is dropped.
pub(crate) struct Guard(pub(crate) AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A command under way.
pub(crate) enum Underway {
    Own(Call),
    #[cfg(feature = "fred")]
    Fred(Box<crate::fred::Call>),
}

/// A command under way here.
pub(crate) struct Call {
    ended: oneshot::Receiver<Ended<Reply>>,
    /// Where the task does not keep its time.
    deadline: Option<Instant>,
    vitals: Option<Arc<Vitals>>,
}

impl Multiplexer {
    /// To be called within a tokio runtime, where its task runs until one of the ends closes the stream, or it is aborted. Of a string longer than
    /// `most` bytes and 1 MiB, no more than a record's header is kept. GETs and scripts of the same time go as one if it `gathers`.
    pub(crate) fn open<S>(stream: S, most: usize, gathers: bool) -> (Self, JoinHandle<()>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let now = tokio::time::Instant::now();
        let state = State {
            packed: Vec::new(),
            waiting: Vec::new(),
            lots: Default::default(),
            keys: Vec::new(),
            ends: Vec::new(),
            getters: Vec::new(),
            unwritten: 0,
            in_line: 0,
            most_in_line: line::MOST,
            refused_until: now,
            latest: now,
            sleeper: None,
            is_open: true,
            cause: None,
        };
        let shared = Arc::new(Shared { gathers, state: Mutex::new(state), vitals: Arc::default() });
        let task = tokio::spawn(task::Task::new(shared.clone(), stream, most));
        (Self { shared }, task)
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.shared.vitals
    }

    /// What ended the connection. Told once.
    pub(crate) fn cause(&self) -> Option<io::Error> {
        self.shared.state.lock().cause.take()
    }

    /// Packs a request for the next write. Never waits. What is returned may be dropped: the command runs nonetheless.
    pub(crate) fn send(&self, deadline: Instant, request: Request<'_>) -> Result<Underway> {
        if request.needs_history() && self.vitals().history().is_none() {
            return Err(no_history());
        }
        let (caller, ended) = oneshot::channel();
        let caller = Caller::One(Some(caller));
        let keeps_time = match request {
            Request::Get(key) if self.shared.gathers => self.push(Some(deadline), |state, waiting| {
                pack_key(key, &mut state.keys);
                state.ends.push(state.keys.len());
                state.getters.push(waiting(caller));
            }),
            Request::Each(each) if self.shared.gathers && Lot::suits(&each) => self.push(Some(deadline), |state, waiting| {
                let State { packed, waiting: callers, lots, .. } = state;
                let lot = &mut lots[each.kind()];
                if lot.push(&each, waiting(caller)) {
                    lot.close(self.shared.history(), packed, callers);
                }
            }),
            _ => self.push(Some(deadline), |state, waiting| {
                state.close_lots(self.shared.history());
                request.pack(&self.shared.vitals, &mut state.packed);
                state.waiting.push(waiting(caller));
            }),
        }?;
        // Callers of GETs are many, and would only take turns at the count of these.
        let vitals = (!matches!(request, Request::Get(_))).then(|| self.shared.vitals.clone());
        Ok(Underway::Own(Call { ended, deadline: (!keeps_time).then_some(deadline), vitals }))
    }

    /// Sends commands in one write, by themselves, and waits for their replies, in their order, for as long as the connection lives; errors that the
    /// server answered with are replies. Safe to cancel.
    pub(crate) async fn send_all(&self, commands: &Pipeline) -> Result<Many> {
        let (caller, ended) = oneshot::channel();
        let left = commands.len();
        if left == 0 {
            return Ok(Many { replies: Vec::new(), sent: Instant::now() });
        }
        let many = Caller::Many { left, replies: Vec::with_capacity(left), caller: Some(caller) };
        let bytes = commands.get_packed_pipeline();
        self.push(None, |state, waiting| {
            state.close_lots(self.shared.history());
            state.packed.extend_from_slice(&bytes);
            state.waiting.push(waiting(many));
        })?;
        outcome(ended.await)
    }

    /// Has a command packed, with its caller in line. Whether the task keeps the caller's time.
    fn push(&self, deadline: Option<Instant>, pack: impl FnOnce(&mut State, &dyn Fn(Caller) -> Waiting)) -> Result<bool> {
        let mut state = self.shared.state.lock();
        if !state.is_open {
            return Err(lost());
        }
        if state.len() + state.unwritten > MOST_WAITING {
            return Err(Error::new(ErrorKind::Overloaded, "too much waits to be written to Redis"));
        }
        let deadline = deadline.map(tokio::time::Instant::from);
        if state.calls() >= state.most_in_line && state.refuses(deadline) {
            return Err(Error::new(ErrorKind::Overloaded, "too many calls wait for Redis, whose replies come too slowly"));
        }
        let keeps_time = deadline.is_some_and(|deadline| deadline + SLACK >= state.latest);
        state.latest = state.latest.max(deadline.unwrap_or(state.latest));
        pack(&mut state, &|caller| Waiting { caller, deadline });
        let sleeper = state.sleeper.take();
        drop(state);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        Ok(keeps_time)
    }
}

impl Shared {
    /// The server's; 0 while it is not known, and nothing that needs it is sent.
    fn history(&self) -> u64 {
        self.vitals.history().unwrap_or(0)
    }
}

impl State {
    /// Bytes that the task has not taken.
    fn len(&self) -> usize {
        self.packed.len() + self.keys.len() + self.lots.iter().map(Lot::len).sum::<usize>()
    }

    /// Calls that are not answered. Not those of scripts that may still go with others: of these there are few.
    fn calls(&self) -> usize {
        self.in_line + self.waiting.len() + self.getters.len()
    }

    /// Whether a call may not come in addition to those in line. One whose time its caller keeps is one of few, and may.
    fn refuses(&self, deadline: Option<tokio::time::Instant>) -> bool {
        self.calls() >= line::MOST || deadline.is_some_and(|deadline| deadline < self.refused_until)
    }

    /// Whether there is nothing for the task to take.
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.getters.is_empty() && self.lots.iter().all(Lot::is_empty)
    }

    fn close_lots(&mut self, history: u64) {
        for lot in &mut self.lots {
            lot.close(history, &mut self.packed, &mut self.waiting);
        }
    }
}

impl Underway {
    /// Waits for the reply. Safe to cancel.
    pub(crate) async fn reply(self) -> Result<(Reply, Option<Arc<Vitals>>)> {
        let Call { ended, deadline, vitals } = match self {
            Self::Own(call) => call,
            // Boxed, so that our own way does not grow by it.
            #[cfg(feature = "fred")]
            Self::Fred(call) => return Box::pin(call.reply()).await,
        };
        let ended = match deadline {
            // Boxed, for it is rare and would make each call's future larger.
            Some(deadline) => Box::pin(in_time(deadline, ended)).await,
            None => ended.await,
        };
        Ok((outcome(ended)?, vitals))
    }
}

/// That it was late the task counts, with the next one that is.
async fn in_time<T>(deadline: Instant, ended: oneshot::Receiver<Ended<T>>) -> Result<Ended<T>, RecvError> {
    tokio::time::timeout_at(deadline.into(), ended).await.unwrap_or(Ok(Err(Late)))
}

fn outcome<T>(ended: Result<Ended<T>, RecvError>) -> Result<T> {
    match ended {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(Late)) => Err(late()),
        Err(_) => Err(lost()),
    }
}

pub(crate) fn late() -> Error {
    Error::new(ErrorKind::Timeout, "Redis did not answer in time")
}

fn no_history() -> Error {
    Error::new(ErrorKind::Credentials, "the Redis user may not call INFO, without which other nodes cannot be told")
}

pub(crate) fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to Redis was lost")
}
