//! Two nodes over one store: what one writes, the other follows; and a read that is given a write returns nothing older.
//!
//! `cargo run --example 07_nodes`

use cachestack::{Coherence, EmbeddedTier, MemoryTier, TieredCache, Ttl, WriteToken};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> cachestack::Result<()> {
    let rows: Arc<Mutex<HashMap<u64, &str>>> = Arc::new(Mutex::new(HashMap::from([(7, "blue")])));
    // Redis, or here what stands for it: each handle is a process of its own.
    let store = EmbeddedTier::new();
    let node = || {
        let rows = rows.clone();
        let colour = move |id: u64| {
            let row = rows.lock().unwrap().get(&id).copied().unwrap_or("none").to_owned();
            async move { Ok::<_, Infallible>(row) }
        };
        TieredCache::<u64, String>::builder("colour")
            .l1(MemoryTier::new(1_000))
            .l2(store.as_another_node())
            .ttl(Ttl::minutes(5))
            .coherence(Coherence::new().bound(Duration::from_secs(2)).grace(Duration::from_secs(10)))
            .origin(colour)
            .build()
    };
    let (a, b) = (node()?, node()?);
    assert!(a.ready(Duration::from_secs(1)).await && b.ready(Duration::from_secs(1)).await);
    println!("both nodes have read {} and {}", a.load(&7).await?, b.load(&7).await?);

    rows.lock().unwrap().insert(7, "red");
    let token = a.invalidate(&7).await?;
    println!("a has written; b's memory has {:?}: the message came", b.get_local(&7));
    println!("b reads {}", b.load(&7).await?);

    // As text it fits a cookie: the user's next request may come to any node.
    let token: WriteToken = token.to_string().parse()?;
    println!("b, asked for nothing older than write {token}, reads {}", b.load_after(&7, &token).await?.value);
    println!("{:#?}", b.stats().coherence);
    Ok(())
}
