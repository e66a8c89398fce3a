//! The Redis of a run, or its cluster, and what is done to them. Each call may take seconds and runs on a thread where that harms nobody.

use cachestack::BoxError;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use test_servers::{Redis, RedisCluster};

/// How long a slot stands half moved.
const HALF_MOVED: Duration = Duration::from_millis(300);
const SLOTS: u16 = 16_384;
/// At most so many slots are moved at a time, and so many keys of each before it stands half moved.
const MOVED: usize = 16;
const FIRST_KEYS: usize = 2;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

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

    /// Sends a command, written as one would type it, to every server. What a server answers is not looked at: a replica refuses some, and a connection
    /// that kills connections may lose its own.
    pub(crate) async fn tell_all(&self, command: &'static str) -> Result<(), BoxError> {
        self.act(move |kind| {
            for server in kind.servers() {
                let mut words = command.split(' ');
                let mut request = redis::cmd(words.next().unwrap_or_default());
                words.for_each(|word| {
                    request.arg(word);
                });
                let mut connection = connect(server)?;
                let _ = request.query::<redis::Value>(&mut connection);
            }
            Ok(())
        })
        .await
    }

    /// Stops the only server for so long, or a master until its replica has taken its place. `round` chooses the master.
    pub(crate) async fn stop(&self, round: usize, time: Duration) -> Result<(), BoxError> {
        self.act(move |kind| {
            match kind {
                Kind::One(redis) => {
                    redis.pause();
                    thread::sleep(time);
                    redis.resume();
                }
                Kind::Cluster(cluster) => {
                    let master = cluster.master_of(third(round));
                    cluster.node(master).pause();
                    cluster.await_failover(master);
                    cluster.node(master).resume();
                    cluster.await_settled();
                }
            }
            Ok(())
        })
        .await
    }

    /// Kills the only server and starts it again after so long, or a master, and starts it again when its replica has taken its place.
    pub(crate) async fn kill(&self, round: usize, time: Duration) -> Result<(), BoxError> {
        self.act(move |kind| {
            match kind {
                Kind::One(redis) => {
                    redis.kill();
                    thread::sleep(time);
                    redis.restart();
                }
                Kind::Cluster(cluster) => {
                    let master = cluster.master_of(third(round));
                    cluster.node_mut(master).kill();
                    cluster.await_failover(master);
                    cluster.node_mut(master).restart();
                    cluster.await_settled();
                }
            }
            Ok(())
        })
        .await
    }

    /// Moves slots that have keys from one master to another; for a while each has a part of them. In a cluster only.
    pub(crate) async fn migrate(&self, round: usize) -> Result<(), BoxError> {
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
            Ok(())
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
    Ok(redis::Client::open(server.url())?.get_connection_with_timeout(ANSWER_LIMIT)?)
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
