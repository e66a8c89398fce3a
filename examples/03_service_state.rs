//! A cache in a service's state, behind one trait; and the service's own test, with a fake in its place.
//!
//! `cargo run --example 03_service_state`. The fake needs the feature `testing`, as a dev-dependency.

use std::io;
use std::sync::Arc;

use cachestack::testing::FakeCache;
use cachestack::{BoxError, Cache, ErrorKind, MemoryTier, Result, SharedCache, TieredCache};

/// The service knows a cache of names, not which.
#[derive(Clone)]
struct Greeter {
    names: SharedCache<u64, String>,
}

impl Greeter {
    async fn greet(&self, id: u64) -> Result<String> {
        Ok(format!("hello {}", self.names.load(&id).await?))
    }

    /// Says whether the new name is certain to be seen.
    async fn rename(&self, id: u64) -> &'static str {
        match self.names.invalidate(&id).await {
            Ok(()) => "renamed",
            Err(_) => "renamed; elsewhere the old name may show for a while",
        }
    }
}

fn production() -> Result<Greeter> {
    let cache = TieredCache::<u64, String>::builder("name")
        .l1(MemoryTier::new(10_000))
        .origin(|id| async move { Ok::<_, io::Error>(format!("user {id}")) })
        .build()?;
    Ok(Greeter { names: Arc::new(cache) })
}

async fn test() -> Result<()> {
    let fake = FakeCache::new().with_origin(|_| async { Ok::<_, io::Error>("ada".to_owned()) });
    let greeter = Greeter { names: Arc::new(fake.clone()) };
    assert_eq!(greeter.greet(1).await?, "hello ada");
    assert_eq!(fake.peek(&1).as_deref(), Some("ada"));

    // The branch that no test reaches with a Redis that works.
    fake.fail_with(Some(ErrorKind::Unavailable));
    assert_eq!(greeter.greet(1).await?, "hello ada", "a hit needs nobody");
    assert_eq!(greeter.greet(2).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(greeter.rename(1).await, "renamed; elsewhere the old name may show for a while");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let greeter = production()?;
    assert_eq!(greeter.greet(7).await?, "hello user 7");
    assert_eq!(greeter.greet(7).await?, "hello user 7");
    let stats = greeter.names.stats();
    assert_eq!((stats.loads, stats.l1.hits), (1, 1));
    println!("in production: {} load, {} hit", stats.loads, stats.l1.hits);

    test().await?;
    println!("in its test: the fake answered, then failed on demand");
    Ok(())
}
