//! Reads from replicas: which replica is asked, when the master is, and which keys only the master may answer.

mod named;
mod written;

pub(crate) use named::Named;

use crate::cluster::Cluster;
use crate::config::{Address, Config};
use crate::error::from_driver;
use crate::live::Wire;
use crate::multiplexer::Request;
use crate::node::{Called, Node};
use crate::nodes::{Nodes, Outcome};
use cache_core::{Error, ErrorKind, Result, Source};
use futures_util::future::{join, join_all};
use redis::{RedisError, RedisResult, Value, from_redis_value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::debug;
use written::Written;

/// How long a replica that failed a read is left alone: reads would pay for each new attempt.
const REST: Duration = Duration::from_secs(1);

/// When reads go to replicas. For [`RedisTierBuilder::read_from_replicas`](crate::RedisTierBuilder::read_from_replicas).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReplicaReads {
    /// Only while the master is away: there is no connection to it, or it is loading its data. What would be a load from the origin, or an
    /// error, is a value that may be old. A master that hangs is away once its connection has been given up, after five timeouts in a row.
    WhenMasterIsAway,
    /// Always, and the master only where no replica answers: it spreads the load of reads. **L1 keeps none of these values**, so most of what L1
    /// holds then are this process's own loads and writes: for caches without an L1, or of more keys than it can hold.
    Preferred,
}

/// What a tier knows of its replicas.
pub(crate) struct Replicas {
    when: ReplicaReads,
    place: Place,
    written: Written,
}

/// Where replicas are found.
pub(crate) enum Place {
    /// The cluster's map names them.
    Map,
    /// They were listed.
    Listed(Vec<Arc<Replica>>),
    /// Sentinels name them.
    Named(Named),
}

impl Place {
    pub(crate) fn listed(config: &Arc<Config>, addresses: Vec<Address>) -> Self {
        Self::Listed(addresses.into_iter().map(|address| Arc::new(Replica::new(config.clone(), address))).collect())
    }
}

/// A replica, and whether it is of use at the moment.
pub(crate) struct Replica {
    node: Node,
    origin: Instant,
    /// In ms since the origin.
    rests_until: AtomicU64,
}

impl Replica {
    pub(crate) fn new(config: Arc<Config>, address: Address) -> Self {
        Self { node: Node::replica(config, address), origin: Instant::now(), rests_until: AtomicU64::new(0) }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    fn is_usable(&self, now: Instant) -> bool {
        if !self.node.is_connected() {
            // Its supervisor sees to it, if it runs.
            self.node.revive();
            return false;
        }
        self.rests_until.load(Ordering::Relaxed) <= self.ms(now)
    }

    fn rest(&self) {
        self.rests_until.store(self.ms(Instant::now() + REST), Ordering::Relaxed);
    }

    fn ms(&self, when: Instant) -> u64 {
        u64::try_from(when.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

/// One of those that are of use, by chance, so that none has to bear the others' part. `ticket` is drawn once a call: many keys go together.
pub(crate) fn pick<'a>(among: impl Iterator<Item = &'a Arc<Replica>>, ticket: usize, now: Instant) -> Option<Arc<Replica>> {
    let usable: Vec<_> = among.filter(|replica| replica.is_usable(now)).collect();
    (!usable.is_empty()).then(|| usable[ticket % usable.len()].clone())
}

impl Replicas {
    pub(crate) fn new(when: ReplicaReads, place: Place) -> Self {
        Self { when, place, written: Written::new(Instant::now()) }
    }

    /// From now on, and for so long, only the master may answer for this key.
    pub(crate) fn note(&self, key: &[u8], retain: Duration) {
        self.written.note(key, Instant::now(), retain);
    }

    /// The same for all keys.
    pub(crate) fn note_all(&self, retain: Duration) {
        self.written.note_all(Instant::now(), retain);
    }

    /// Waits for the first dials. Only what a person must mend is an error.
    pub(crate) async fn first_dial(&self) -> Result<()> {
        let listed = match &self.place {
            // With its masters.
            Place::Map => return Ok(()),
            Place::Listed(replicas) => replicas.clone(),
            Place::Named(named) => named.first().await?,
        };
        for replica in listed {
            replica.node.first_dial().await?;
        }
        Ok(())
    }

    /// Reads one key, and says from where. Of the time left a replica gets half at most while the master can still be asked.
    pub(crate) async fn read(&self, nodes: &Nodes, deadline: Instant, key: &[u8]) -> (Outcome, Source) {
        let now = Instant::now();
        let may_lag = !self.written.holds(key, now);
        if may_lag && self.when == ReplicaReads::Preferred {
            let replica = self.pick(nodes, key, fastrand::usize(..), now);
            if let Some(called) = self.ask(nodes, replica, now + deadline.saturating_duration_since(now) / 2, key).await {
                return (Ok(called), Source::Replica);
            }
        }
        let outcome = nodes.send(deadline, key, Request::Get(key)).await;
        self.stand_in(nodes, deadline, key, may_lag, outcome).await
    }

    /// Reads many keys. As for one, each for itself, and those for one node together.
    pub(crate) async fn read_many(&self, nodes: &Nodes, deadline: Instant, keys: &[&[u8]]) -> Vec<(Outcome, Source)> {
        let (now, ticket) = (Instant::now(), fastrand::usize(..));
        let half = now + deadline.saturating_duration_since(now) / 2;
        let may_lag: Vec<_> = keys.iter().map(|key| !self.written.holds(key, now)).collect();
        let of_replicas = |place: &usize| self.when == ReplicaReads::Preferred && may_lag[*place];
        let (lagging, mut of_master): (Vec<usize>, Vec<usize>) = (0..keys.len()).partition(of_replicas);
        let mut answers: Vec<Option<(Outcome, Source)>> = keys.iter().map(|_| None).collect();

        // All are packed before the first is waited for.
        let asked = lagging.iter().map(|place| self.ask(nodes, self.pick(nodes, keys[*place], ticket, now), half, keys[*place]));
        let requests = |places: &[usize]| places.iter().map(|place| (keys[*place], Request::Get(keys[*place]))).collect();
        let (called, outcomes) = join(join_all(asked), nodes.send_many(deadline, requests(&of_master))).await;
        let mut left = Vec::new();
        for (place, called) in lagging.into_iter().zip(called) {
            match called {
                Some(called) => answers[place] = Some((Ok(called), Source::Replica)),
                None => left.push(place),
            }
        }
        let more = nodes.send_many(deadline, requests(&left)).await;
        of_master.extend(left);
        let outcomes = of_master.iter().zip(outcomes.into_iter().chain(more));
        let stood_in = outcomes.map(|(place, outcome)| self.stand_in(nodes, deadline, keys[*place], may_lag[*place], outcome));
        for (place, answer) in of_master.iter().zip(join_all(stood_in).await) {
            answers[*place] = Some(answer);
        }
        let missing = || (Err(Error::new(ErrorKind::Unavailable, "a key was not asked for")), Source::Master);
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    /// The master's outcome, or a replica's answer in its place if the master is away.
    async fn stand_in(&self, nodes: &Nodes, deadline: Instant, key: &[u8], may_lag: bool, outcome: Outcome) -> (Outcome, Source) {
        if may_lag && is_away(&outcome) {
            let replica = self.pick(nodes, key, fastrand::usize(..), Instant::now());
            if let Some(called) = self.ask(nodes, replica, deadline, key).await {
                return (Ok(called), Source::Replica);
            }
        }
        (outcome, Source::Master)
    }

    fn pick(&self, nodes: &Nodes, key: &[u8], ticket: usize, now: Instant) -> Option<Arc<Replica>> {
        match &self.place {
            Place::Map => nodes.cluster()?.replica(key, ticket, now),
            Place::Listed(replicas) => pick(replicas.iter(), ticket, now),
            Place::Named(named) => named.pick(ticket, now),
        }
    }

    /// Asks a replica; `None` if it has no answer to give, whatever it is that it lacks.
    async fn ask(
        &self,
        nodes: &Nodes,
        replica: Option<Arc<Replica>>,
        deadline: Instant,
        key: &[u8],
    ) -> Option<Called<RedisResult<Value>>> {
        let replica = replica?;
        // The master's clock has stamped the records. Where it is known, it counts, unless the replica's is ahead.
        let now = nodes.latest_ms(key, Instant::now());
        let called = replica.node.send(deadline, Request::Get(key)).await;
        match called {
            Ok(called) if called.reply.as_ref().is_ok_and(|reply| matches!(reply, Value::Nil | Value::BulkString(_))) => {
                Some(called.not_before(now))
            }
            Ok(Called { reply: Err(err), .. }) => {
                debug!(error = %from_driver(&err), "a replica of Redis does not answer for a key");
                self.leave(nodes, &replica);
                None
            }
            Err(err) => {
                debug!(error = %err, "a replica of Redis did not answer");
                self.leave(nodes, &replica);
                None
            }
            Ok(_) => None,
        }
    }

    /// Lets a replica rest, and has those who name replicas asked again.
    fn leave(&self, nodes: &Nodes, replica: &Replica) {
        replica.rest();
        match &self.place {
            Place::Map => nodes.cluster().into_iter().for_each(Cluster::doubt),
            Place::Listed(_) => {}
            Place::Named(named) => named.doubt(),
        }
    }

    pub(crate) async fn stop(&self) {
        match &self.place {
            // With its masters.
            Place::Map => {}
            Place::Listed(replicas) => {
                for replica in replicas {
                    replica.node.stop().await;
                }
            }
            Place::Named(named) => named.stop().await,
        }
    }
}

/// Whether the master is away, so that a replica may answer in its place. One that is late has left no time for that.
fn is_away(outcome: &Outcome) -> bool {
    match outcome {
        Err(err) => err.kind() == ErrorKind::Unavailable,
        Ok(Called { reply: Err(err), .. }) => matches!(err.code(), Some("LOADING" | "CLUSTERDOWN" | "MASTERDOWN")),
        Ok(_) => false,
    }
}

/// Makes a connection fit to read from: for a cluster's replica, which answers MOVED otherwise; and only if it is a replica, for a server that
/// follows nobody has values of its own.
pub(crate) async fn arm(wire: &Wire) -> Result<()> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("READONLY").cmd("ROLE");
    let mut replies = crate::dial::ask(wire, &pipeline).await?.replies.into_iter();
    let mut next = || replies.next().unwrap_or(Ok(Value::Nil));
    match next() {
        // Without a cluster there is no such command, and no need for it.
        Err(err) if err.code() != Some("ERR") => return Err(from_driver(&err)),
        _ => {}
    }
    let role = next().and_then(|role| from_redis_value::<Vec<Value>>(role).map_err(RedisError::from));
    let role = role.map_err(|err| from_driver(&err))?.into_iter().next();
    match role.and_then(|role| from_redis_value::<String>(role).ok()).as_deref() {
        Some("slave") => Ok(()),
        _ => Err(Error::new(ErrorKind::Unavailable, "a server that should be a replica of Redis is none")),
    }
}
