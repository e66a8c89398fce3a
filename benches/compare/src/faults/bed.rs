//! The servers of one trial, and how each fault is done to them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_servers::{Proxy, Redis, RedisCluster, StartError};

use crate::error::Error;

use super::fault::Fault;

/// A way to a server and back, without a fault and with one.
const NEAR: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_millis(10);
/// Between resets.
const RESET_EVERY: Duration = Duration::from_millis(500);
/// A promotion that takes longer is no figure.
const PROMOTION: Duration = Duration::from_secs(20);
/// Whose master dies.
const VICTIM_SLOT: u16 = 0;
/// The first slot that the victim does not serve: a third of all, rounded up.
const FIRST_OTHER_SLOT: u16 = 5_462;

pub(crate) enum Bed {
    One { redis: Redis, proxy: Proxy },
    Cluster(RedisCluster),
}

/// When the fault began and when it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Bed {
    pub(crate) fn make(fault: Fault) -> Result<Self, Error> {
        let failed = |error: StartError| Error::Server(error.to_string());
        if fault.is_of_cluster() {
            // The masters that live go on serving: what other keys suffer is then the client's doing.
            return RedisCluster::builder().partial_coverage().try_start().map(Self::Cluster).map_err(failed);
        }
        let redis = Redis::try_start().map_err(failed)?;
        let proxy = Proxy::start(redis.port());
        if fault == Fault::Slow {
            proxy.delay(NEAR);
        }
        Ok(Self::One { redis, proxy })
    }

    /// Where a client connects to: past the proxy where the server itself breaks.
    pub(crate) fn urls(&self, fault: Fault) -> Vec<String> {
        match self {
            Self::One { redis, .. } if matches!(fault, Fault::Stopped | Fault::Flooded | Fault::Killed) => vec![redis.url()],
            Self::One { proxy, .. } => vec![proxy.url()],
            Self::Cluster(cluster) => cluster.nodes()[..3].iter().map(Redis::url).collect(),
        }
    }

    /// Breaks, waits, and heals. Blocks for that long.
    pub(crate) fn break_and_heal(&mut self, fault: Fault, broken: Duration) -> Result<Broken, Error> {
        let from = Instant::now();
        match self {
            Self::One { redis, proxy } => match fault {
                Fault::Stopped | Fault::Flooded => {
                    redis.pause();
                    sleep(broken);
                    redis.resume();
                }
                Fault::Killed => {
                    redis.kill();
                    sleep(broken);
                    redis.restart();
                }
                Fault::Stalled => {
                    proxy.stall();
                    sleep(broken);
                    proxy.forward();
                }
                Fault::Slow => {
                    while from.elapsed() < broken {
                        proxy.reset();
                        proxy.delay(FAR);
                        sleep(RESET_EVERY.min(broken));
                    }
                    proxy.delay(NEAR);
                }
                Fault::Dead | Fault::DeadMaster => {
                    proxy.strand();
                    sleep(broken);
                }
            },
            Self::Cluster(cluster) => {
                let victim = cluster.master_of(VICTIM_SLOT);
                let replica = cluster.replica_of(victim).ok_or_else(|| Error::Server("the master has no replica".into()))?;
                let from = Instant::now();
                cluster.node_mut(victim).kill();
                let to = await_promotion(cluster.node(replica))?;
                return Ok(Broken { from, to });
            }
        }
        Ok(Broken { from, to: Instant::now() })
    }
}

/// Whether the master that dies serves this slot.
pub(crate) fn is_victims(slot: u16) -> bool {
    slot < FIRST_OTHER_SLOT
}

/// Returns the moment at which a replica calls itself a master.
fn await_promotion(replica: &Redis) -> Result<Instant, Error> {
    let failed = |error: redis::RedisError| Error::Server(format!("cannot ask the replica: {error}"));
    let mut connection = redis::Client::open(replica.url()).and_then(|client| client.get_connection()).map_err(failed)?;
    let start = Instant::now();
    while start.elapsed() < PROMOTION {
        let role: String = redis::cmd("INFO").arg("replication").query(&mut connection).map_err(failed)?;
        if role.contains("role:master") {
            return Ok(Instant::now());
        }
        sleep(Duration::from_millis(1));
    }
    Err(Error::Server(format!("the replica was not promoted within {PROMOTION:?}")))
}
