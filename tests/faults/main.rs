//! Faults of a real Redis under the whole stack, each named in its tests: reads go on, writes say so, and no answer is ever false.
//! What needs no server, or no stack above it, is tested where it lives.
#![cfg(unix)]

mod giants;
mod keys;
mod leases;
mod outages;
mod records;
mod refusals;
#[cfg(feature = "tls")]
mod tls;

use cachestack::{NoLocal, RedisTier, RemoteTier, TieredCache};
use redis::aio::MultiplexedConnection;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A timeout for tests in which none should occur.
const AMPLE: Duration = Duration::from_secs(10);
/// How long the tests wait for what a real server, or the task that watches it, does in its own time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Without an L1, so that every read goes to Redis.
type Bare<K, V> = TieredCache<K, V, NoLocal>;

/// A tier on a server, for tests in which no timeout should occur.
async fn tier(url: &str) -> RedisTier {
    RedisTier::builder(url).timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("the server runs")
}

/// A node without an L1 whose values are twice their keys.
fn doubling(l2: impl RemoteTier) -> Bare<u64, u64> {
    let load = |key: u64| async move { Ok::<_, io::Error>(key * 2) };
    cache_core::TieredCache::<u64, u64>::builder("t").l2(l2).origin(load).build().expect("a good configuration")
}

/// Twice the key, and how often it was asked for.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl Counting {
    fn loads(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn load(self, key: u64) -> Result<u64, io::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        // Everybody who asks at the same time comes while it runs.
        tokio::task::yield_now().await;
        Ok(key * 2)
    }
}

/// The driver alone, to look and to plant behind the stack's back.
#[derive(Clone)]
struct Raw(MultiplexedConnection);

impl Raw {
    async fn connect(url: &str) -> Self {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(AMPLE));
        let client = redis::Client::open(url).expect("a URL");
        Self(client.get_multiplexed_async_connection_with_config(&config).await.expect("the server runs"))
    }

    async fn query<T: redis::FromRedisValue>(&self, cmd: &redis::Cmd) -> redis::RedisResult<T> {
        cmd.query_async(&mut self.0.clone()).await
    }

    /// A command of words.
    async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.query(redis::Cmd::new().arg(words)).await.expect("the server answers")
    }

    async fn get(&self, key: &[u8]) -> Vec<u8> {
        self.query(redis::cmd("GET").arg(key)).await.expect("a string")
    }

    async fn set(&self, key: &[u8], value: &[u8]) {
        self.query::<()>(redis::cmd("SET").arg(key).arg(value)).await.expect("the server answers");
    }
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
