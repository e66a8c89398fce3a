//! The tier's handle: it finds the node for each call, and says how it ended.

use crate::builder::RedisTierBuilder;
use crate::config::Config;
use crate::error::{from_driver, is_moving, is_no_script, is_out_of_memory};
use crate::loads::Loads;
use crate::multiplexer::{Request, late};
use crate::node::Called;
use crate::nodes::Nodes;
use crate::replicas::Replicas;
use crate::script::{Answer, Each, Script, Verb};
use crate::verbs::not_understood;
use bytes::Bytes;
use cache_core::record::HEADER_LEN;
use cache_core::{Deployments, Error, ErrorKind};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value, from_redis_value};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout_at;
use tracing::debug;

type Result<T, E = Error> = std::result::Result<T, E>;

/// How often a call brings its script along: once is enough, unless somebody flushes between that and the call.
const MOST_LOADS: usize = 3;

/// The Redis tier: a [`RemoteTier`](cache_core::RemoteTier) on one Redis node. See the crate's documentation.
///
/// Cloning shares the connection. When the last clone is dropped, the connection and the task behind it are gone too. A call
/// may be cancelled by dropping its future; its command may run nonetheless, and no other call sees its reply.
///
/// ```no_run
/// # async fn example() -> cache_core::Result<()> {
/// use cache_redis::RedisTier;
/// use std::time::Duration;
///
/// let tier = RedisTier::connect("redis://localhost/").await?;
/// let other = RedisTier::builder("redis://:password@localhost:6380/1").timeout(Duration::from_millis(50)).connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisTier {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<Config>,
    nodes: Nodes,
    /// If they are read from.
    replicas: Option<Replicas>,
    deployments: Deployments,
    loads: Loads,
    /// Whether the tier is closed.
    closed: watch::Sender<bool>,
}

impl RedisTier {
    /// Connects with the defaults: `redis://[user:password@]host[:port][/database]`, or `unix:///path`.
    ///
    /// Returns after one dial, within 500 ms. A Redis that is down is no error: the calls of the tier then fail at once, and it
    /// comes up by itself.
    ///
    /// # Errors
    /// See [`RedisTierBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        Self::builder(url).connect().await
    }

    /// A tier with the defaults that dials at its first call, which must come from within a tokio runtime.
    ///
    /// # Errors
    /// See [`RedisTierBuilder::lazy`].
    pub fn lazy(url: &str) -> Result<Self> {
        Self::builder(url).lazy()
    }

    /// Options besides the URL.
    pub fn builder(url: &str) -> RedisTierBuilder {
        RedisTierBuilder::new(url)
    }

    /// A Redis Cluster, found through any of its nodes: `redis://[user:password@]host[:port]`. Login and options are the first URL's, for all nodes;
    /// a URL that has another login is refused.
    ///
    /// The map of slots is read at start, when a node redirects or fails, and every 10 s or so. A node that is away fails the calls for its own
    /// keys, at once where the connection is known to be gone, and none of the others.
    ///
    /// ```no_run
    /// # async fn example() -> cache_core::Result<()> {
    /// let tier = cache_redis::RedisTier::cluster(["redis://node-0:6379", "redis://node-1:6379"]).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn cluster<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> RedisTierBuilder {
        RedisTierBuilder::cluster(urls)
    }

    /// The master that Sentinels know by this name. The URLs are the Sentinels', with their login; the data nodes' is given by
    /// [`RedisTierBuilder::login`]. Each dial asks the Sentinels anew, the next one after 50 ms until one answers, and makes sure that what it
    /// reached is a master. The Sentinels have one login, that of the first URL; a URL that has another, or another database, is refused.
    pub fn sentinel<U: AsRef<str>>(master: &str, urls: impl IntoIterator<Item = U>) -> RedisTierBuilder {
        RedisTierBuilder::sentinel(master, urls)
    }

    /// Whether there is a connection at the moment, for a health page; in a cluster: to every master. Nothing is sent.
    pub fn is_connected(&self) -> bool {
        self.shared.nodes.is_connected()
    }

    pub(crate) fn new(config: Arc<Config>, nodes: Nodes, replicas: Option<Replicas>) -> Self {
        let (deployments, closed) = (Deployments::new(), watch::Sender::new(false));
        Self { shared: Arc::new(Shared { config, nodes, replicas, deployments, loads: Loads::default(), closed }) }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    pub(crate) fn nodes(&self) -> &Nodes {
        &self.shared.nodes
    }

    pub(crate) fn replicas(&self) -> Option<&Replicas> {
        self.shared.replicas.as_ref()
    }

    pub(crate) fn shared_deployments(&self) -> &Deployments {
        &self.shared.deployments
    }

    /// Returns when the tier is closed.
    pub(crate) async fn closed(&self) {
        let _ = self.shared.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Has the master alone answer for a key for so long, before it is written there.
    pub(crate) fn note(&self, key: &[u8], retain: Duration) {
        if let Some(replicas) = self.replicas() {
            replicas.note(key, retain);
        }
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        const DECADE: Duration = Duration::from_secs(10 * 365 * 86_400);
        Instant::now() + self.config().timeout.min(DECADE)
    }

    /// Runs a script on the node of a key, and takes its answer's word and detail.
    pub(crate) async fn run(
        &self,
        verb: &'static str,
        deadline: Instant,
        key: &[u8],
        script: &Script,
        call: &Cmd,
    ) -> Result<(Bytes, Bytes)> {
        let run = async { self.call(deadline, key, script, script.request(call)).await.and_then(answer) };
        run.await.inspect_err(|err| failed(verb, err))
    }

    /// The same, with [`Unable`] where the server refuses the script for a reason that leaves another way.
    pub(crate) async fn try_run(
        &self,
        verb: &'static str,
        deadline: Instant,
        key: &[u8],
        script: &Script,
        call: &Cmd,
    ) -> Result<Result<(Bytes, Bytes), Unable>> {
        let run = async {
            let called = self.call(deadline, key, script, script.request(call)).await?;
            match able(called) {
                Ok(called) => answer(called).map(Ok),
                Err(unable) => Ok(Err(unable)),
            }
        };
        run.await.inspect_err(|err| failed(verb, err))
    }

    /// The same for a script whose answer is nothing but a string, without the time.
    pub(crate) async fn try_plain(
        &self,
        verb: &'static str,
        deadline: Instant,
        key: &[u8],
        script: &Script,
        call: Request<'_>,
    ) -> Result<Result<Bytes, Unable>> {
        let run = async {
            let called = self.call(deadline, key, script, call).await?;
            match able(called) {
                Ok(called) => read(called.reply).map(Ok),
                Err(unable) => Ok(Err(unable)),
            }
        };
        run.await.inspect_err(|err| failed(verb, err))
    }

    /// Runs a script for one key, together with others of the same time.
    pub(crate) async fn run_each(
        &self,
        verb: &'static str,
        key: &[u8],
        script: Verb,
        arguments: &[&[u8]],
    ) -> Result<Called<RedisResult<Value>>> {
        let each = Each { verb: script, first: None, keys: &[key], arguments };
        let called = self.call(self.deadline(), key, each.script(), Request::Each(each)).await;
        called.inspect_err(|err| failed(verb, err))
    }

    /// Sends a script's call, and the script first where the server has forgotten it.
    async fn call(
        &self,
        deadline: Instant,
        key: &[u8],
        script: &Script,
        call: Request<'_>,
    ) -> Result<Called<RedisResult<Value>>> {
        let mut ended = self.shared.loads.ended();
        let mut called = self.shared.nodes.send(deadline, key, call).await?;
        for _ in 0..MOST_LOADS {
            if !called.reply.as_ref().is_err_and(is_no_script) {
                break;
            }
            // The server has forgotten the script: a restart behind a proxy, `SCRIPT FLUSH`. It gets it again.
            Box::pin(self.load(deadline, key, script, ended)).await?;
            ended = self.shared.loads.ended();
            called = self.shared.nodes.send(deadline, key, call).await?;
        }
        Ok(called)
    }

    /// Has the key's node load a script, unless it was loaded there since as many loads had ended. One load is for all who wait for it.
    async fn load(&self, deadline: Instant, key: &[u8], script: &Script, ended: u64) -> Result<()> {
        let Shared { nodes, loads, .. } = &*self.shared;
        let node = nodes.of(deadline, key).await?;
        let gate = loads.gate(Arc::as_ptr(&node).addr(), std::ptr::from_ref(script).addr());
        // Given up or failed, it is begun anew by the next one here.
        let mut last = timeout_at(deadline.into(), gate.lock()).await.map_err(|_| late())?;
        if *last <= ended {
            nodes.send(deadline, key, Request::Run(&script.load())).await?;
            *last = loads.note_end();
        }
        Ok(())
    }

    pub(crate) async fn stop(&self) {
        self.shared.closed.send_replace(true);
        self.shared.nodes.stop().await;
        if let Some(replicas) = self.replicas() {
            replicas.stop().await;
        }
    }

    /// A record as it is handed out: cut off after its header, and so unreadable, if it is too large.
    pub(crate) fn bounded(&self, record: Bytes) -> Bytes {
        if record.len() <= self.config().max_record_bytes {
            return record;
        }
        debug!(bytes = record.len(), "a record in Redis is larger than max_record_bytes");
        // Copied, so that the rest is freed.
        Bytes::copy_from_slice(&record[..HEADER_LEN])
    }
}

/// Why a server did not run a script, which has done nothing then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unable {
    /// It is out of memory.
    Memory,
    /// The script's keys are on both sides of a slot on the move.
    Moving,
}

impl Unable {
    fn text(self) -> &'static str {
        match self {
            Self::Memory => "Redis is out of memory and refuses writes (OOM)",
            Self::Moving => "the keys' slot of the Redis cluster is on the move",
        }
    }

    pub(crate) fn error(self) -> Error {
        Error::new(ErrorKind::Unavailable, self.text()).with_source(self)
    }

    /// Whether this is what an error of ours is about.
    pub(crate) fn is(self, err: &Error) -> bool {
        err.find() == Some(&self)
    }
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Unable {}

/// What was answered, unless that is a refusal which leaves another way.
fn able(called: Called<RedisResult<Value>>) -> Result<Called<RedisResult<Value>>, Unable> {
    match &called.reply {
        Err(err) if is_out_of_memory(err) => Err(Unable::Memory),
        Err(err) if is_moving(err) => Err(Unable::Moving),
        _ => Ok(called),
    }
}

/// What a script has answered: word and detail. Its time goes to the connection's clock.
fn answer(called: Called<RedisResult<Value>>) -> Result<(Bytes, Bytes)> {
    let Answer { word, detail, .. } = timed_answer(called)?;
    Ok((word, detail))
}

/// The same, with its time.
pub(crate) fn timed_answer(called: Called<RedisResult<Value>>) -> Result<Answer> {
    let called = called.map(read_answer)?;
    called.observe(called.reply.now_us);
    Ok(called.reply)
}

/// A reply as what it should be.
pub(crate) fn read<T: FromRedisValue>(reply: RedisResult<Value>) -> Result<T> {
    let value = reply.and_then(|value| from_redis_value(value).map_err(RedisError::from));
    value.map_err(|err| from_driver(&err))
}

/// A script's answer. Nothing but one string of the form that scripts write is understood.
fn read_answer(reply: RedisResult<Value>) -> Result<Answer> {
    match reply.map_err(|err| from_driver(&err))? {
        Value::BulkString(answer) => Answer::parse(&answer.into()).ok_or_else(not_understood),
        _ => Err(not_understood()),
    }
}

pub(crate) fn failed(verb: &'static str, err: &Error) {
    debug!(verb, kind = ?err.kind(), error = %err, "a call to Redis failed");
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("connected", &self.is_connected()).field("config", self.config()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_was_unable_to_is_known_by_its_type_and_not_by_words() {
        assert!(Unable::Moving.is(&Unable::Moving.error()) && Unable::Memory.is(&Unable::Memory.error()));
        assert!(!Unable::Moving.is(&Unable::Memory.error()));
        assert!(!Unable::Moving.is(&Error::new(ErrorKind::Unavailable, Unable::Moving.text())));
        assert_eq!(Unable::Moving.error().kind(), ErrorKind::Unavailable);
    }
}
