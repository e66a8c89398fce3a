//! The servers of a run: processes of their own, so that what this process uses is the clients'.

use redis::{Client, cmd};
use test_servers::{Redis, RedisCluster, StartError};

use crate::error::Error;

use super::work::Topology;

/// One kind of server.
pub(crate) enum Servers {
    OneNode(Redis),
    Cluster(RedisCluster),
}

impl Servers {
    pub(crate) fn start(topology: Topology) -> Result<Self, Error> {
        let started = match topology {
            Topology::OneNode => Redis::try_start().map(Self::OneNode),
            Topology::Cluster => RedisCluster::builder().try_start().map(Self::Cluster),
        };
        started.map_err(|error: StartError| Error::Server(error.to_string()))
    }

    /// Where a client begins: of a cluster, its masters.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.masters().iter().map(Redis::url).collect()
    }

    /// Removes every key.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let flush = |url: String| cmd("FLUSHALL").exec(&mut Client::open(url)?.get_connection()?);
        self.urls().into_iter().try_for_each(flush).map_err(|error| Error::Server(format!("cannot empty the server: {error}")))
    }

    /// The process of the first node.
    pub(crate) fn process(&self) -> Option<u32> {
        self.masters().first().and_then(Redis::process)
    }

    fn masters(&self) -> &[Redis] {
        match self {
            Self::OneNode(node) => std::slice::from_ref(node),
            // Nothing fails over during a measurement, so the first three stay what they began as.
            Self::Cluster(cluster) => &cluster.nodes()[..3],
        }
    }
}
