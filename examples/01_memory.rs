//! A cache in memory: a thousand callers ask for one product at the same time, and the database is asked once.
//!
//! `cargo run --example 01_memory`

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cachestack::{BoxError, MemoryTier, TieredCache, Ttl};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let queries = Arc::new(AtomicU32::new(0));
    let database = {
        let queries = queries.clone();
        move |id: u64| {
            let queries = queries.clone();
            async move {
                queries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, io::Error>(format!("product {id}"))
            }
        }
    };

    let cache = TieredCache::<u64, String>::builder("product")
        .l1(MemoryTier::new(10_000))
        .ttl(Ttl::minutes(5).jitter(0.1))
        .origin(database)
        .build()?;

    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let cache = cache.clone();
        callers.spawn(async move { cache.load(&7).await });
    }
    for product in callers.join_all().await {
        assert_eq!(product?, "product 7");
    }

    let stats = cache.stats();
    assert_eq!(queries.load(Ordering::Relaxed), 1);
    assert_eq!((stats.loads, stats.l1.hits + stats.coalesced), (1, 999));
    println!("1,000 callers, {} query; {} waited for it, {} came later", stats.loads, stats.coalesced, stats.l1.hits);

    assert_eq!(cache.get(&7).await.as_deref(), Some("product 7"));
    assert_eq!(cache.get(&8).await, None, "get never asks the database");
    cache.invalidate(&7).await?;
    assert_eq!(cache.get(&7).await, None);
    println!("get finds what was loaded, and no longer what was invalidated");
    Ok(())
}
