//! Concurrent calls over one connection, made few: gets become one MGET, all else one write of many commands.
//!
//! A driver's call costs some 4 µs of this process, whatever it carries: a message to the task that owns the socket, a write, a parse, a wake. An
//! MGET of 64 costs about as much once. But to gather calls is to wait for them, and where there are few the wait costs more than the calls do.
//! So:
//!
//! - Up to [`DIRECT`] calls inside go each by itself, at once. Behind an L1 that is the rule, and it costs nothing.
//! - With more, calls queue, and [`LANES`] tasks take what has queued, as it is, send it, and hand out the replies. Nobody waits for a batch to
//!   fill: what one batch takes is what came while the others were under way, as with Nagle's algorithm (RFC 896), but by calls and not by bytes.
//! - Values that are large on the average go by themselves: copying is what they cost, and a batch would only hold the first of them up.
//!
//! A caller that goes away leaves its command to run and its reply unheard. No other caller gets it: each has a channel of its own.

use crate::error::is_wrong_type;
use cache_core::RemoteKey;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// So many calls at once go by themselves: two or three more gain nothing from company, and would pay for the way through a lane.
const DIRECT: usize = 2;
/// Batches under way at once: while Redis works on one, the next is made.
const LANES: usize = 2;
/// The most calls of a batch: Redis does nothing else for some 100 µs.
const MOST: usize = 512;
/// Replies that are longer on the average are not gathered.
const LARGE: usize = 16 << 10;

/// What to send.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// GET of a key.
    Get(RemoteKey),
    /// Any command with one reply.
    Run(Arc<Cmd>),
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) value: RedisResult<Value>,
    /// When it was sent, or some time before.
    pub(crate) sent: Instant,
}

struct Waiting {
    request: Request,
    reply: oneshot::Sender<Reply>,
}

/// What callers and lanes share.
struct Queue {
    waiting: Mutex<Vec<Waiting>>,
    came: Notify,
    /// Calls that have begun and not ended.
    inside: AtomicUsize,
    /// The length of a value that was read, averaged.
    length: AtomicUsize,
    /// Whether keys of a batch are in one place, as MGET needs them.
    mget: bool,
}

/// The front of one connection.
pub(crate) struct Coalescer {
    connection: MultiplexedConnection,
    queue: Arc<Queue>,
    lanes: [AbortHandle; LANES],
}

impl Coalescer {
    /// To be called within a tokio runtime, where its lanes run until it is dropped. `mget` where the server takes keys of any slots in one MGET.
    pub(crate) fn new(connection: MultiplexedConnection, mget: bool) -> Self {
        let queue = Arc::new(Queue {
            waiting: Mutex::new(Vec::new()),
            came: Notify::new(),
            inside: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            mget,
        });
        let lanes = std::array::from_fn(|_| tokio::spawn(lane(queue.clone(), connection.clone())).abort_handle());
        Self { connection, queue, lanes }
    }

    /// The connection, for what is a batch in itself.
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// Sends a request and waits for its reply, for as long as the connection lives; `None` if it does not. Safe to cancel.
    pub(crate) async fn send(&self, request: Request) -> Option<Reply> {
        let _inside = Inside::enter(&self.queue);
        if self.queue.goes_alone(&request) {
            return Some(self.send_alone(request).await);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Waiting { request, reply });
        answer.await.ok()
    }

    async fn send_alone(&self, request: Request) -> Reply {
        let mut connection = self.connection.clone();
        let sent = Instant::now();
        let value = match request {
            Request::Get(key) => self.queue.read(one(&mut connection, &get(&key)).await),
            Request::Run(cmd) => one(&mut connection, &cmd).await,
        };
        Reply { value, sent }
    }
}

impl Drop for Coalescer {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.abort();
        }
    }
}

/// Counts a call for as long as it is inside, cancelled or not.
struct Inside<'a>(&'a Queue);

impl<'a> Inside<'a> {
    fn enter(queue: &'a Queue) -> Self {
        queue.inside.fetch_add(1, Ordering::Relaxed);
        Self(queue)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    fn goes_alone(&self, request: &Request) -> bool {
        self.inside.load(Ordering::Relaxed) <= DIRECT
            || (matches!(request, Request::Get(_)) && self.length.load(Ordering::Relaxed) > LARGE)
    }

    fn push(&self, waiting: Waiting) {
        let mut all = self.waiting.lock();
        all.push(waiting);
        // Whoever finds it empty wakes a lane. A lane that is under way looks again by itself.
        let first = all.len() == 1;
        drop(all);
        if first {
            self.came.notify_one();
        }
    }

    fn take(&self) -> Vec<Waiting> {
        let mut all = self.waiting.lock();
        if all.len() <= MOST {
            return std::mem::take(&mut *all);
        }
        // The rest is for another lane, if one is free.
        self.came.notify_one();
        all.drain(..MOST).collect()
    }

    /// Takes note of a value's length.
    fn read(&self, value: RedisResult<Value>) -> RedisResult<Value> {
        let length = match &value {
            Ok(Value::BulkString(bytes)) => bytes.len(),
            // A list, say, is as foreign as any foreign string.
            Err(err) if is_wrong_type(err) => return Ok(Value::BulkString(Vec::new())),
            _ => return value,
        };
        // By an eighth. Ordering: relaxed; of two at once one may be lost.
        let average = self.length.load(Ordering::Relaxed);
        let next = average - average / 8 + length / 8;
        if next != average {
            self.length.store(next, Ordering::Relaxed);
        }
        value
    }
}

/// Sends what has queued, again and again.
async fn lane(queue: Arc<Queue>, mut connection: MultiplexedConnection) {
    loop {
        let batch = queue.take();
        if batch.is_empty() {
            queue.came.notified().await;
            // The callers that one reply woke come one after the other: those that are about to run join this batch.
            tokio::task::yield_now().await;
            continue;
        }
        send(&queue, &mut connection, batch).await;
    }
}

/// Sends a batch in one write, and hands out the replies. When the connection breaks, the channels close.
async fn send(queue: &Queue, connection: &mut MultiplexedConnection, mut batch: Vec<Waiting>) {
    // Who has gone away in the queue need not be asked for.
    batch.retain(|waiting| !waiting.reply.is_closed());
    if batch.is_empty() {
        return;
    }
    let sent = Instant::now();
    let (gets, runs): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| matches!(waiting.request, Request::Get(_)));
    let mget = queue.mget && gets.len() > 1;
    let mut pipeline = redis::Pipeline::with_capacity(runs.len() + gets.len());
    if mget {
        pipeline.add_command(mget_of(&gets));
    }
    for waiting in gets.iter().filter(|_| !mget).chain(&runs) {
        match &waiting.request {
            Request::Get(key) => pipeline.add_command(get(key)),
            Request::Run(cmd) => pipeline.add_command(Cmd::clone(cmd)),
        };
    }
    let count = pipeline.len();
    let Ok(replies) = connection.send_packed_commands(&pipeline, 0, count).await else { return };
    let mut replies = replies.into_iter().map(Value::extract_error);
    if mget {
        hand_out_values(queue, gets, replies.next(), sent);
    } else {
        for (waiting, value) in gets.into_iter().zip(&mut replies) {
            let value = queue.read(value);
            let _ = waiting.reply.send(Reply { value, sent });
        }
    }
    for (waiting, value) in runs.into_iter().zip(replies) {
        let _ = waiting.reply.send(Reply { value, sent });
    }
}

/// Hands out what an MGET answered. A reply of another kind is an error to all.
fn hand_out_values(queue: &Queue, gets: Vec<Waiting>, reply: Option<RedisResult<Value>>, sent: Instant) {
    match reply {
        Some(Ok(Value::Array(values))) if values.len() == gets.len() => {
            for (waiting, value) in gets.into_iter().zip(values) {
                let value = queue.read(Ok(value));
                let _ = waiting.reply.send(Reply { value, sent });
            }
        }
        Some(Err(err)) => {
            for waiting in gets {
                let _ = waiting.reply.send(Reply { value: Err(err.clone()), sent });
            }
        }
        _ => {}
    }
}

fn get(key: &RemoteKey) -> Cmd {
    let mut cmd = redis::cmd("GET");
    cmd.arg(key.as_bytes());
    cmd
}

fn mget_of(gets: &[Waiting]) -> Cmd {
    let mut cmd = redis::cmd("MGET");
    for waiting in gets {
        if let Request::Get(key) = &waiting.request {
            cmd.arg(key.as_bytes());
        }
    }
    cmd
}

async fn one(connection: &mut MultiplexedConnection, cmd: &Cmd) -> Result<Value, RedisError> {
    connection.send_packed_command(cmd).await?.extract_error()
}
