//! A test of your own in simulated time: does my service keep to the bound with every message lost? A minute of it takes milliseconds, and a seed is always the
//! same run. In tests you would not print, but assert.
//!
//! ```sh
//! cargo run --features testing --example 08_simulation
//! ```

use cachestack::testing::simulation::{Event, Fault, Script, Simulation};
use cachestack::{Coherence, MemoryTier, TieredCache, Ttl};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Cache = TieredCache<u64, u64, MemoryTier<u64, u64>>;

fn main() {
    for (name, is_coherent) in [("with coherence", true), ("without", false)] {
        let longest = (0..20).map(|seed| longest_staleness(seed, is_coherent)).max().unwrap_or_default();
        println!("{name}: the older price was read for {longest:?} after invalidate said Ok");
        if is_coherent {
            assert!(longest <= Duration::from_secs(3));
        }
    }
}

/// For how long the second node goes on with the older price, with all its messages lost from the first second on.
fn longest_staleness(seed: u64, is_coherent: bool) -> Duration {
    let lost = Event::at(Duration::from_secs(1), Fault::MessagesLost(100)).on(1).lasting(Duration::from_secs(60));
    let ran = Simulation::new(seed).script(Script::new().with(lost)).run(|world| async move {
        let price = Arc::new(AtomicU64::new(100));
        let cache = || -> cachestack::Result<Cache> {
            let (node, price) = (world.node(), price.clone());
            let load = move |_product| {
                let price = price.load(Ordering::SeqCst);
                async move { Ok::<_, io::Error>(price) }
            };
            let builder = TieredCache::<u64, u64>::builder("prices").l1(MemoryTier::new(100)).l2(node.tier());
            let builder = builder.clock(node.clock()).ttl(Ttl::seconds(30)).origin(load);
            if is_coherent { builder.coherence(Coherence::new()).build() } else { builder.incoherent().build() }
        };
        let (writes, reads) = (cache()?, cache()?);
        world.sleep(Duration::from_secs(2)).await;
        reads.load(&1).await?;
        price.store(120, Ordering::SeqCst);
        writes.invalidate(&1).await?;
        let told = world.now();
        while reads.load(&1).await? != 120 {
            world.sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, cachestack::Error>(world.now().saturating_sub(told))
    });
    ran.outcome.expect("the simulated server answers")
}
