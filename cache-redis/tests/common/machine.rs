//! The state machine, run by many at once on a server or a cluster.

use super::Raw;
use async_trait::async_trait;
use cache_core::RemoteKey;
use cache_core::testing::{Plant, remote_suite};
use cache_redis::RedisTier;
use std::sync::Arc;
use test_servers::RedisCluster;

/// The slot of a key, by the cluster's own account.
pub(crate) async fn slot(node: &Raw, key: &RemoteKey) -> u16 {
    node.query(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key.as_bytes())).await
}

/// Plants at the node of a cluster that has the key.
pub(crate) struct Planter(Vec<Raw>);

impl Planter {
    pub(crate) async fn new(cluster: &RedisCluster) -> Self {
        let mut nodes = Vec::new();
        for node in cluster.nodes() {
            nodes.push(Raw::connect(&node.url()).await);
        }
        Self(nodes)
    }
}

#[async_trait]
impl Plant for Planter {
    async fn plant(&self, key: &RemoteKey, bytes: Option<Vec<u8>>) {
        let master = match slot(&self.0[0], key).await {
            0..5461 => 0,
            5461..10_923 => 1,
            _ => 2,
        };
        self.0[master].plant(key, bytes).await;
    }
}

/// Twenty runs of the machine, no two of the same keys.
pub(crate) async fn runs_the_machine(tier: &RedisTier, plant: impl Plant + 'static) {
    let plant = Arc::new(plant);
    let suites: Vec<_> = (0..20)
        .map(|seed| {
            let (tier, plant) = (tier.clone(), plant.clone());
            tokio::spawn(async move { remote_suite(&tier, &*plant, seed, 60).await })
        })
        .collect();
    for suite in suites {
        suite.await.expect("no difference");
    }
}
