//! What the tests of this folder share.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod machine;
pub(crate) mod relay;

use async_trait::async_trait;
use bytes::Bytes;
use cache_core::record::{Body, Flags, Life};
use cache_core::testing::Plant;
use cache_core::{Acquire, Acquired, Claim, Fill, Filled, Invalidation, Namespace, RemoteKey, RemoteTier, Token};
use cache_redis::{RedisTier, RedisTierBuilder};
use redis::aio::MultiplexedConnection;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use test_servers::Redis;

/// How long the tests allow for what should take milliseconds, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A timeout for tests in which none should occur.
pub(crate) const AMPLE: Duration = Duration::from_secs(10);
/// How much later than its timeout a call may end on a busy machine.
pub(crate) const MARGIN: Duration = Duration::from_millis(400);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// One server for all tests of a binary that do it no harm.
pub(crate) fn shared() -> &'static Redis {
    static SHARED: OnceLock<Redis> = OnceLock::new();
    SHARED.get_or_init(Redis::start)
}

/// A builder for the driver that this test binary is about: `fred.rs` runs some of the others' tests once more.
pub(crate) fn driven(builder: RedisTierBuilder) -> RedisTierBuilder {
    #[cfg(feature = "fred")]
    if env!("CARGO_CRATE_NAME") == "fred" {
        return builder.driver(cache_redis::Driver::Fred);
    }
    builder
}

/// A tier on a server, for tests in which no timeout should occur.
pub(crate) async fn tier(url: &str) -> RedisTier {
    driven(RedisTier::builder(url)).timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("the server runs")
}

/// The driver alone, to look and to plant behind the tier's back.
#[derive(Clone)]
pub(crate) struct Raw(pub(crate) MultiplexedConnection);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(AMPLE));
        let client = redis::Client::open(url).expect("a URL");
        Self(client.get_multiplexed_async_connection_with_config(&config).await.expect("the server runs"))
    }

    pub(crate) async fn query<T: redis::FromRedisValue>(&self, cmd: &redis::Cmd) -> T {
        cmd.query_async(&mut self.0.clone()).await.expect("the server answers")
    }

    /// A command of words.
    pub(crate) async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut cmd = redis::Cmd::new();
        cmd.arg(words);
        self.query(&cmd).await
    }

    /// A command of one key and nothing more.
    pub(crate) async fn of<T: redis::FromRedisValue>(&self, word: &str, key: &RemoteKey) -> T {
        self.query(redis::cmd(word).arg(key.as_bytes())).await
    }

    /// The server's clock in microseconds.
    pub(crate) async fn time_us(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.run(&["TIME"]).await;
        seconds * 1_000_000 + micros
    }
}

#[async_trait]
impl Plant for Raw {
    async fn plant(&self, key: &RemoteKey, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => self.query(redis::cmd("SET").arg(key.as_bytes()).arg(bytes)).await,
            None => self.of("DEL", key).await,
        }
    }
}

/// A namespace no other test uses.
pub(crate) fn namespace() -> Namespace {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    Namespace::new("test", &format!("n{}", COUNT.fetch_add(1, Ordering::Relaxed))).expect("a plain name")
}

pub(crate) fn key() -> RemoteKey {
    namespace().key(&1)
}

pub(crate) fn body(key: &RemoteKey, payload: impl Into<Bytes>, life: Duration) -> Body {
    let life = Life { soft: life, hard: life, last: life };
    Body { schema: 1, generation: 0, life, flags: Flags::NONE, codec: 1, echo: key.echo(), payload: payload.into() }
}

pub(crate) fn asks(token: Token, claim: Claim) -> Acquire {
    Acquire { token, lease: HOUR, retain: HOUR, claim, schema: 1, generation: 0 }
}

pub(crate) fn fills(key: &RemoteKey, token: Token, payload: impl Into<Bytes>) -> Fill {
    Fill { token, version: 0, created: local_ms(), body: body(key, payload, HOUR) }
}

/// The servers run on this machine, by the same clock.
pub(crate) fn local_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    u64::try_from(now.as_millis()).expect("a time in this era")
}

pub(crate) fn invalidation(key: &RemoteKey) -> Invalidation {
    Invalidation { key: key.clone(), version: None }
}

/// Stores a value the way a load does.
pub(crate) async fn store(tier: &RedisTier, key: &RemoteKey, payload: impl Into<Bytes>) {
    store_version(tier, key, payload, 0).await;
}

pub(crate) async fn store_version(tier: &RedisTier, key: &RemoteKey, payload: impl Into<Bytes>, version: u64) {
    let token = Token::unique();
    let acquired = tier.acquire(key, &asks(token, Claim::Force)).await.expect("the tier answers");
    assert!(matches!(acquired, Acquired::Granted { .. }), "{acquired:?}");
    let fill = Fill { version, ..fills(key, token, payload) };
    assert_eq!(tier.fill(key, &fill).await.expect("the tier answers"), Filled::Stored);
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the tier answers again.
pub(crate) async fn until_back(tier: &RedisTier) {
    let key = key();
    until("the tier is back", async || tier.get(&key).await.is_ok()).await;
}
