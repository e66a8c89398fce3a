//! Which clients take part in which work.

use std::time::Duration;

use cachestack::RedisTier;
use fred::prelude::{Builder, Config};
use redis::cluster::ClusterClientBuilder;

use crate::error::Error;
use crate::remote::{
    BareConnection, Client, ClusterClient, Failure, FredClient, ManagedConnection, MultiTierL2, OursRemote, fred_cluster_url,
};

use super::OURS;
use super::contender::{Contender, Entrant};
use super::servers::Servers;
use super::work::{Load, Topology, Work};

/// Of those that have one: as long as the redis crate's own for one node, so that a hiccup of the machine fails nobody's calls.
const TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) const MANAGED: &str = "redis-manager";
pub(crate) const BARE: &str = "redis-multiplexed";
pub(crate) const CLUSTER: &str = "redis-cluster";
pub(crate) const FRED: &str = "fred";
pub(crate) const MULTI_TIER: &str = "multi-tier-cache";

/// Those that take part.
pub(crate) fn names(work: &Work) -> Vec<&'static str> {
    match (work.topology, work.load, work.value_bytes) {
        (Topology::OneNode, Load::Get, 128) => vec![OURS, MANAGED, BARE, FRED, MULTI_TIER],
        // What a second client of the same driver and another driver cost is told by the small fill.
        (Topology::OneNode, Load::Fill, 4_096..) => vec![OURS, MANAGED],
        (Topology::OneNode, ..) => vec![OURS, MANAGED, BARE, FRED],
        (Topology::Cluster, ..) => vec![OURS, CLUSTER, FRED],
    }
}

/// Connects a client, and stores what the work reads. To be called within the runtime that it is to be sampled in.
pub(crate) async fn enter(name: &'static str, work: &Work, servers: &Servers) -> Result<Box<dyn Contender>, Error> {
    let urls = servers.urls();
    let entered = match work.topology {
        Topology::OneNode => enter_one(name, work, &urls[0]).await,
        Topology::Cluster => enter_cluster(name, work, urls).await,
    };
    entered.map_err(|source| Error::Client { work: work.name, subject: name, source })
}

async fn enter_one(name: &'static str, work: &Work, url: &str) -> Result<Box<dyn Contender>, Failure> {
    match name {
        OURS => boxed(name, "the tier", work, OursRemote::connect(RedisTier::builder(url), TIMEOUT).await?).await,
        MANAGED => {
            let client = ManagedConnection::new(redis::Client::open(url)?.get_connection_manager().await?);
            boxed(name, "ConnectionManager, defaults", work, client).await
        }
        BARE => {
            let client = BareConnection::new(redis::Client::open(url)?.get_multiplexed_async_connection().await?);
            boxed(name, "MultiplexedConnection, defaults", work, client).await
        }
        FRED => boxed(name, "defaults, no timeout", work, fred(url).await?).await,
        _ => boxed(name, "GET and PTTL; its L1 has no room", work, MultiTierL2::connect(url).await?).await,
    }
}

async fn enter_cluster(name: &'static str, work: &Work, urls: Vec<String>) -> Result<Box<dyn Contender>, Failure> {
    let many = matches!(work.load, Load::GetMany(_));
    match name {
        OURS => boxed(name, "the tier", work, OursRemote::connect(RedisTier::cluster(&urls), TIMEOUT).await?).await,
        CLUSTER => {
            let builder = ClusterClientBuilder::new(urls).response_timeout(TIMEOUT);
            let client = ClusterClient::new(builder.build()?.get_async_connection().await?);
            boxed(name, if many { "MGET, split by slot" } else { "defaults and a timeout" }, work, client).await
        }
        _ => {
            let note = if many { "a pipeline of GETs" } else { "defaults, no timeout" };
            boxed(name, note, work, fred(&fred_cluster_url(&urls)).await?).await
        }
    }
}

async fn fred(url: &str) -> Result<FredClient, Failure> {
    FredClient::connect(Builder::from_config(Config::from_url(url)?).build()?).await
}

async fn boxed<C: Client>(name: &'static str, note: &'static str, work: &Work, client: C) -> Result<Box<dyn Contender>, Failure> {
    Ok(Box::new(Entrant::enter(name, note, work, client).await?))
}
