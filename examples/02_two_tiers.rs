//! Two nodes of a service share a second level: what one has loaded, the other need not load.
//!
//! `cargo run --example 02_two_tiers`. In a service the shared tier is `RedisTier::connect(url).await?`.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachestack::{BoxError, EmbeddedTier, ManualClock, MemoryTier, Result, Tier, TieredCache, Ttl};

type Prices = TieredCache<String, u32>;

/// One node's cache. A price lives for five minutes, and for a second in L1 before L2 is asked again.
fn node(shared: &EmbeddedTier, clock: &ManualClock, database: &Arc<Mutex<u32>>) -> Result<Prices> {
    let database = database.clone();
    Prices::builder("price")
        .l1(MemoryTier::new(1_000))
        .l2(shared.clone())
        .ttl(Ttl::minutes(5).l1_at_most(Duration::from_secs(1)))
        .clock(clock.clock())
        .origin(move |_product: String| {
            let price = *database.lock().expect("no holder panics");
            async move { Ok::<_, io::Error>(price) }
        })
        .build()
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (clock, database) = (ManualClock::new(), Arc::new(Mutex::new(100)));
    let shared = EmbeddedTier::new().clock(clock.clock());
    let (paris, tokyo) = (node(&shared, &clock, &database)?, node(&shared, &clock, &database)?);

    let first = paris.load_cached("lamp").await?;
    let second = tokyo.load_cached("lamp").await?;
    let third = tokyo.load_cached("lamp").await?;
    assert_eq!([first.tier, second.tier, third.tier], [Tier::Origin, Tier::L2, Tier::L1]);
    assert_eq!(paris.stats().loads + tokyo.stats().loads, 1);
    println!("paris asked the database, tokyo found the price in L2, then in its own L1: one query for both");

    *database.lock().expect("no holder panics") = 80;
    paris.invalidate("lamp").await?;
    assert_eq!(paris.load("lamp").await?, 80);
    println!("the price fell, paris said so: paris reads 80 at once");

    assert_eq!(tokyo.load("lamp").await?, 100);
    clock.advance(Duration::from_secs(1));
    assert_eq!(tokyo.load("lamp").await?, 80);
    assert_eq!(tokyo.stats().loads, 0);
    println!("tokyo reads 80 a second later, when its L1 asks L2 again, and has still not asked the database");
    Ok(())
}
