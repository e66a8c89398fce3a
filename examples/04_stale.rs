//! Stale answers: while a refresh runs behind them, and while the database is down. Each is marked.
//!
//! `cargo run --example 04_stale`. The clock is moved by hand, so nothing here waits.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use cachestack::{BoxError, ErrorKind, Freshness, ManualClock, MemoryTier, TieredCache, Ttl, Why};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (stock, down) = (Arc::new(AtomicU32::new(10)), Arc::new(AtomicBool::new(false)));
    let database = {
        let (stock, down) = (stock.clone(), down.clone());
        move |_: &'static str| {
            let row = if down.load(Ordering::Relaxed) {
                Err(io::Error::from(io::ErrorKind::ConnectionRefused))
            } else {
                Ok(stock.load(Ordering::Relaxed))
            };
            async move { row }
        }
    };
    let clock = ManualClock::new();
    let cache = TieredCache::<&str, u32>::builder("stock")
        .l1(MemoryTier::new(1_000))
        .ttl(Ttl::new(MINUTE).stale_for(MINUTE).stale_if_error(60 * MINUTE))
        .clock(clock.clock())
        .origin(database)
        .build()?;
    assert_eq!(cache.load(&"lamp").await?, 10);
    println!("loaded: 10, fresh for a minute");

    stock.store(9, Ordering::Relaxed);
    clock.advance(MINUTE + Duration::from_secs(1));
    let answer = cache.load_cached(&"lamp").await?;
    assert_eq!((answer.value, answer.freshness), (10, Freshness::Stale { why: Why::Refreshing }));
    println!("a minute later: 10 at once, marked stale; a refresh runs behind");

    while cache.load_cached(&"lamp").await?.freshness != Freshness::Fresh {
        tokio::task::yield_now().await;
    }
    assert_eq!((cache.load(&"lamp").await?, cache.stats().refreshes), (9, 1));
    println!("then: 9, after one refresh");

    down.store(true, Ordering::Relaxed);
    clock.advance(5 * MINUTE);
    let answer = cache.load_cached(&"lamp").await?;
    assert_eq!((answer.value, answer.freshness), (9, Freshness::Stale { why: Why::OriginFailed }));
    println!("the database is down: 9 still, marked stale because of that");

    clock.advance(60 * MINUTE);
    assert_eq!(cache.load(&"lamp").await.unwrap_err().kind(), ErrorKind::Origin);
    println!("an hour later: the database's error, as the last moment has passed");
    Ok(())
}
