//! What the second level costs a read while its circuit is open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cachestack::layers::{BreakerRules, BreakerState, Guarded};
use cachestack::{RedisTier, TieredCache};
use test_servers::Redis;

use crate::error::Error;
use crate::remote::{Failure, Verb};
use crate::resident::{forget_peak, peak_bytes, resident_bytes};

use super::OURS;
use super::roster::TIMEOUT;
use super::row::{Row, in_mib};
use super::trial::Keys;

pub(crate) const NAME: &str = "open-breaker";
pub(crate) const ABOUT: &str = "SIGSTOP until the breaker opens; then reads that miss L1, one at a time. The slowest of them";
const READS: u64 = 5_000;

/// Reads of a cache whose Redis hangs, with the circuit open: none of them waits for Redis.
pub(crate) fn measure() -> Result<Row, Error> {
    let redis = Redis::try_start().map_err(|err| Error::Server(err.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
    let (slowest, growth) =
        runtime.block_on(slowest_read(&redis)).map_err(|source| Error::Client { work: NAME, subject: OURS, source })?;
    Ok(Row {
        fault: NAME.into(),
        subject: OURS.into(),
        keys: Keys::All,
        ok: READS as usize,
        failed: 0,
        slowest_ms: BTreeMap::from([(Verb::Get, slowest.as_secs_f64() * 1_000.0)]),
        recovery_ms: None,
        last_failure_ms: 0.0,
        wrong: 0,
        hung: 0,
        growth_mib: growth.map(in_mib),
    })
}

/// And by how much the process grew, from just before the fault on.
async fn slowest_read(redis: &Redis) -> Result<(Duration, Option<u64>), Failure> {
    let tier = RedisTier::builder(&redis.url()).timeout(TIMEOUT).connect().await?;
    // Open for longer than it takes to measure: what a probe costs is another figure.
    let rules = BreakerRules::default().open_for(Duration::from_mins(10));
    let l2 = Guarded::builder(tier).timeout(TIMEOUT).breaker(rules).build();
    let cache = TieredCache::<u64, u64>::builder("breaker").l2(l2.clone()).build()?;
    let before = forget_peak().and_then(|()| resident_bytes());
    redis.pause();
    let mut key = 0;
    while l2.reads().state != BreakerState::Open {
        key += 1;
        cache.get(&key).await;
    }
    let mut slowest = Duration::ZERO;
    for key in key..key + READS {
        let began = Instant::now();
        cache.get(&key).await;
        slowest = slowest.max(began.elapsed());
    }
    redis.resume();
    Ok((slowest, before.zip(peak_bytes()).map(|(before, peak)| peak.saturating_sub(before))))
}
