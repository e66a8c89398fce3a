//! The Redis of a run, or its cluster, and what is done to them. Each call may take seconds and runs on a thread where that harms nobody.

use cachestack::BoxError;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use test_servers::{Redis, RedisCluster};

/// How long a slot stands half moved.
const HALF_MOVED: Duration = Duration::from_millis(300);
const SLOTS: u16 = 16_384;
/// At most so many slots are moved at a time, and so many keys of each before it stands half moved.
const MOVED: usize = 16;
const FIRST_KEYS: usize = 2;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// An answer that has come is read in less.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Cloning shares them. They end with the last clone, or with the process.
#[derive(Clone)]
pub(crate) struct Servers(Arc<Mutex<Kind>>);

enum Kind {
    One(Redis),
    Cluster(RedisCluster),
}

impl Servers {
    pub(crate) async fn start(is_cluster: bool) -> Result<Self, BoxError> {
        let start = move || {
            Ok::<_, test_servers::StartError>(if is_cluster {
                Kind::Cluster(RedisCluster::builder().try_start()?)
            } else {
                Kind::One(Redis::try_start()?)
            })
        };
        Ok(Self(Arc::new(Mutex::new(tokio::task::spawn_blocking(start).await??))))
    }

    async fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Kind) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, BoxError> {
        let servers = self.0.clone();
        // What panics there has printed why.
        tokio::task::spawn_blocking(move || act(&mut servers.lock().unwrap_or_else(PoisonError::into_inner))).await?
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        let kind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kind.servers().iter().map(Redis::port).collect()
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        let kind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kind.servers().iter().map(Redis::url).collect()
    }

    /// Asks every server: the sum of their answers.
    async fn sum(&self, ask: impl Fn(&mut redis::Connection) -> Result<u64, BoxError> + Send + 'static) -> Result<u64, BoxError> {
        self.act(move |kind| kind.servers().iter().map(|server| ask(&mut connect(server)?)).sum()).await
    }

    /// Has every master forget everything. How many keys that were.
    pub(crate) async fn flush(&self) -> Result<u64, BoxError> {
        self.sum(|connection| {
            // A replica refuses, and follows its master.
            if field(connection, "replication", "role")? != "master" {
                return Ok(0);
            }
            // In one step: the load goes on.
            let mut flush = redis::pipe();
            flush.atomic().cmd("DBSIZE").cmd("FLUSHALL").ignore().cmd("DBSIZE");
            let (before, after): (u64, u64) = flush.query(connection)?;
            Ok(before.saturating_sub(after))
        })
        .await
    }

    /// Closes every client's connection but the asking one. How many that were.
    pub(crate) async fn kill_clients(&self) -> Result<u64, BoxError> {
        self.sum(|connection| {
            let kill = |kind: &str, connection: &mut redis::Connection| {
                redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).query::<u64>(connection)
            };
            Ok(kill("normal", connection)? + kill("pubsub", connection)?)
        })
        .await
    }

    /// So many bytes are every server's, and where they are used up none is given for another; 0: no limit.
    pub(crate) async fn limit_memory(&self, bytes: u64) -> Result<(), BoxError> {
        let set = move |connection: &mut redis::Connection| {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("maxmemory-policy").arg("noeviction").arg("maxmemory").arg(bytes).exec(connection)?;
            Ok(0)
        };
        self.sum(set).await.map(drop)
    }

    /// How many commands the servers have refused for want of memory, since each was started.
    pub(crate) async fn refused(&self) -> Result<u64, BoxError> {
        self.sum(|connection| {
            let count = field(connection, "errorstats", "errorstat_OOM")?;
            Ok(count.strip_prefix("count=").map_or(Ok(0), str::parse)?)
        })
        .await
    }

    /// Stops the only server for so long, or a master until its replica has taken its place. `round` chooses the master. For how many milliseconds it
    /// answered nothing.
    pub(crate) async fn stop(&self, round: usize, time: Duration) -> Result<u64, BoxError> {
        self.act(move |kind| match kind {
            Kind::One(redis) => silence(redis, || thread::sleep(time)),
            Kind::Cluster(cluster) => {
                let master = cluster.master_of(third(round));
                let silent = silence(cluster.node(master), || {
                    cluster.await_failover(master);
                });
                cluster.await_settled();
                silent
            }
        })
        .await
    }

    /// Kills the only server and starts it again after so long, or a master, and starts it again when its replica has taken its place. 1 if it is another
    /// server now, and in a cluster another one's replica; 0 if not.
    pub(crate) async fn kill(&self, round: usize, time: Duration) -> Result<u64, BoxError> {
        self.act(move |kind| match kind {
            Kind::One(redis) => {
                let before = run_id(redis)?;
                redis.kill();
                thread::sleep(time);
                redis.restart();
                Ok(u64::from(run_id(redis)? != before))
            }
            Kind::Cluster(cluster) => {
                let slot = third(round);
                let master = cluster.master_of(slot);
                let before = run_id(cluster.node(master))?;
                cluster.node_mut(master).kill();
                cluster.await_failover(master);
                cluster.node_mut(master).restart();
                cluster.await_settled();
                Ok(u64::from(run_id(cluster.node(master))? != before && cluster.master_of(slot) != master))
            }
        })
        .await
    }

    /// Moves slots that have keys from one master to another; for a while each has a part of them. In a cluster only. How many are the other's now.
    pub(crate) async fn migrate(&self, round: usize) -> Result<u64, BoxError> {
        self.act(move |kind| {
            let Kind::Cluster(cluster) = kind else { return Err("slots are a cluster's".into()) };
            let from = cluster.master_of(third(round));
            let others = [1, 2].map(|further| cluster.master_of(third(round + further)));
            let to = others.into_iter().find(|&to| to != from).ok_or("one master has all the slots")?;
            let slots = used_slots(cluster.node(from))?;
            for &slot in &slots {
                cluster.begin_migration(slot, from, to);
                cluster.migrate_keys(slot, from, to, FIRST_KEYS);
            }
            thread::sleep(HALF_MOVED);
            for &slot in &slots {
                while cluster.migrate_keys(slot, from, to, 100) > 0 {}
                cluster.finish_migration(slot, from, to);
            }
            Ok(slots.iter().filter(|&&slot| cluster.master_of(slot) == to).count() as u64)
        })
        .await
    }
}

/// Some slots of a master that have keys.
fn used_slots(master: &Redis) -> Result<BTreeSet<u16>, BoxError> {
    let mut connection = connect(master)?;
    let mut slots = BTreeSet::new();
    for _ in 0..MOVED {
        if let Some(key) = redis::cmd("RANDOMKEY").query::<Option<Vec<u8>>>(&mut connection)? {
            slots.insert(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut connection)?);
        }
    }
    Ok(slots)
}

fn connect(server: &Redis) -> Result<redis::Connection, BoxError> {
    let connection = redis::Client::open(server.url())?.get_connection_with_timeout(ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(connection)
}

/// What a server says of itself; nothing where it does not say.
fn field(connection: &mut redis::Connection, section: &str, name: &str) -> Result<String, BoxError> {
    let info: String = redis::cmd("INFO").arg(section).query(connection)?;
    let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(found.unwrap_or_default().to_owned())
}

/// Another one after each start.
fn run_id(server: &Redis) -> Result<String, BoxError> {
    field(&mut connect(server)?, "server", "run_id")
}

/// Stops a server for as long as `meanwhile` takes. For how many milliseconds that it was asked it answered nothing; 0 if it did.
fn silence(server: &Redis, meanwhile: impl FnOnce()) -> Result<u64, BoxError> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))?;
    connection.set_read_timeout(Some(AT_ONCE))?;
    server.pause();
    let since = Instant::now();
    let asked = connection.write_all(b"PING\r\n");
    meanwhile();
    let answer = connection.read(&mut [0]);
    let silent = since.elapsed().as_millis() as u64;
    server.resume();
    asked?;
    let is_silent = answer.is_err_and(|err| matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    Ok(if is_silent { silent } else { 0 })
}

impl Kind {
    fn servers(&self) -> &[Redis] {
        match self {
            Self::One(redis) => std::slice::from_ref(redis),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }
}

/// A slot in a third of them.
fn third(round: usize) -> u16 {
    // Three by remainder: always small.
    (round % 3) as u16 * (SLOTS / 3) + SLOTS / 6
}
