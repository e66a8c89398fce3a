//! Database shards: where a key lies, many keys at once, and what it costs when one shard of ten is down.
//!
//! `cargo run --example 05_shards`. An address stands for each connection pool.

use std::io;
use std::sync::Arc;

use cachestack::BoxError;
use cachestack::sharding::{Shard, ShardRouter};

/// One query for all ids of a shard, at its address.
async fn products(address: &str, ids: &[u64]) -> io::Result<Vec<(u64, String)>> {
    tokio::task::yield_now().await; // where a driver would wait for the network
    if address == "10.0.0.3" {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(ids.iter().map(|id| (*id, format!("product {id} of {address}"))).collect())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // The name decides which keys a shard holds; the address may change.
    let shards = (0..10).map(|shard| (format!("products-{shard}"), format!("10.0.0.{shard}")));
    let router = ShardRouter::builder().shards(shards).rendezvous()?;

    let shard = router.route(&42_u64);
    assert_eq!(shard.primary(), &format!("10.0.0.{}", shard.index().get()));
    println!("product 42 lies on {}, now at {}", shard.name(), shard.primary());

    let ask = |shard: Shard<String>, ids: Arc<[u64]>| async move { products(shard.primary(), &ids).await };
    let answers = router.scatter().keys(0..100, ask).await.merge();
    assert_eq!(answers.found.len() + answers.failed_keys().count(), 100);
    assert!(answers.absent.is_empty());
    for (id, failed) in answers.failed_keys() {
        assert_eq!((failed.shard.name(), router.route(id).name()), ("products-3", "products-3"));
    }
    println!("100 keys, one shard of ten down: {} answers", answers.found.len());
    for failed in &answers.failed {
        println!("and {} keys of {} without: {}", failed.keys.len(), failed.shard, failed.error);
    }

    let grown = (0..11).map(|shard| (format!("products-{shard}"), ()));
    let grown = ShardRouter::builder().shards(grown).rendezvous()?;
    let moved = (0..100_000_u64).filter(|id| router.route(id).name() != grown.route(id).name());
    let moved: Vec<_> = moved.inspect(|id| assert_eq!(grown.route(id).name(), "products-10")).collect();
    println!("an eleventh shard takes {} of 100,000 keys, its fair part, and no other key moves", moved.len());
    assert!((8_000..10_200).contains(&moved.len()));
    Ok(())
}
