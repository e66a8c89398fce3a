//! A server and a runtime of its own for a work, and the nodes over it.

use std::time::Duration;

use cachestack::{Codec, MemoryTier, RedisTier, TieredCache, Ttl};
use test_servers::Redis;
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;
use crate::remote::Failure;

use super::OURS;

/// Of the runtime: one a core of the machine that the bars were set on.
const WORKERS: usize = 2;
/// So long that a hiccup of the machine fails no call.
const TIMEOUT: Duration = Duration::from_millis(500);
pub(crate) const READY: Duration = Duration::from_secs(10);
/// Of the caches that a work is measured with.
pub(crate) const NAME: &str = "compare";

/// A node's cache: L1, and Redis by connections of its own.
pub(crate) type Node = TieredCache<u64, Vec<u8>>;

/// Runs a work. What of it still runs when it ends is not waited for.
pub(crate) fn with_server<T>(work: &'static str, body: impl FnOnce(&Redis, &Runtime) -> Result<T, Failure>) -> Result<T, Error> {
    let redis = Redis::try_start().map_err(|error| Error::Server(error.to_string()))?;
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().map_err(Error::Runtime)?;
    let outcome = body(&redis, &runtime);
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome.map_err(|source| Error::Client { work, subject: OURS, source })
}

pub(crate) async fn tier(redis: &Redis) -> Result<RedisTier, Failure> {
    Ok(RedisTier::builder(&redis.url()).timeout(TIMEOUT).connect().await?)
}

/// The same, and it follows foreign writers.
pub(crate) async fn tracking_tier(redis: &Redis) -> Result<RedisTier, Failure> {
    Ok(RedisTier::builder(&redis.url()).timeout(TIMEOUT).tracking().connect().await?)
}

/// A node that follows the others, by the defaults.
pub(crate) async fn node(redis: &Redis) -> Result<Node, Failure> {
    let tier = tier(redis).await?;
    let node = Node::builder(NAME).l1(MemoryTier::new(100_000)).l2_with(tier, AsIs).ttl(Ttl::minutes(60)).build()?;
    if node.ready(READY).await { Ok(node) } else { Err("the node is not verified".into()) }
}

/// Stores a value of so many bytes under each key, in L1 of this node and in L2.
pub(crate) async fn store(node: &Node, ids: impl Iterator<Item = u64> + Send, bytes: usize) -> Result<(), Failure> {
    for stored in node.insert_many(ids.map(|id| (id, vec![7; bytes])).collect::<Vec<_>>()).await {
        stored?;
    }
    Ok(())
}

/// Bytes as they are, so that a value's size in Redis is what was asked for, and a record's header.
pub(crate) struct AsIs;

impl Codec<Vec<u8>> for AsIs {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &Vec<u8>) -> Result<Vec<u8>, cachestack::BoxError> {
        Ok(value.clone())
    }

    fn decode(&self, payload: &[u8]) -> Result<Vec<u8>, cachestack::BoxError> {
        Ok(payload.to_vec())
    }
}
