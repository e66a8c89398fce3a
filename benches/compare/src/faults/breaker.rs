//! What the second level costs a read while its circuit is open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cachestack::TieredCache;
use cachestack::layers::{BreakerRules, BreakerState};
use test_servers::Redis;

use crate::error::Error;
use crate::remote::{Failure, Verb};
use crate::resident::{forget_peak, peak_bytes, resident_bytes};

use super::OURS;
use super::row::{Row, in_mib};
use super::stack;
use super::trial::Keys;

/// How long the circuit stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// For longer than it takes to measure.
    Open,
    /// As it does by default: some of the reads are probes, which go to the tier.
    Probing,
}

pub(crate) const BREAKERS: [Breaker; 2] = [Breaker::Open, Breaker::Probing];

/// Through some dozens of half-open moments.
const PROBING: Duration = Duration::from_secs(3);
const READS: usize = 5_000;

impl Breaker {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open-breaker",
            Self::Probing => "probing-breaker",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Open => "SIGSTOP until the breaker opens; then reads that miss L1, one at a time. The slowest of them",
            Self::Probing => "the same by the default rules, for three seconds, its probes among the reads. No bar",
        }
    }

    fn rules(self) -> BreakerRules {
        match self {
            Self::Open => BreakerRules::default().open_for(Duration::from_mins(10)),
            Self::Probing => BreakerRules::default(),
        }
    }

    fn is_done(self, reads: usize, began: Instant) -> bool {
        match self {
            Self::Open => reads >= READS,
            Self::Probing => began.elapsed() >= PROBING,
        }
    }

    /// Reads of a cache whose Redis hangs, once the circuit is open.
    pub(crate) fn measure(self) -> Result<Row, Error> {
        let redis = Redis::try_start().map_err(|err| Error::Server(err.to_string()))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
        let reads = runtime.block_on(self.read(&redis));
        let Reads { count, slowest, growth } =
            reads.map_err(|source| Error::Client { work: self.name(), subject: OURS, source })?;
        Ok(Row {
            fault: self.name().into(),
            subject: OURS.into(),
            keys: Keys::All,
            ok: count,
            failed: 0,
            slowest_ms: BTreeMap::from([(Verb::Get, slowest.as_secs_f64() * 1_000.0)]),
            recovery_ms: None,
            last_failure_ms: 0.0,
            wrong: 0,
            hung: 0,
            growth_mib: growth.map(in_mib),
        })
    }

    async fn read(self, redis: &Redis) -> Result<Reads, Failure> {
        let l2 = stack::second_level(&redis.url(), self.rules()).await?;
        let cache = TieredCache::<u64, u64>::builder("breaker").l2(l2.clone()).build()?;
        let before = forget_peak().and_then(|()| resident_bytes());
        redis.pause();
        let mut key = 0;
        while l2.reads().state != BreakerState::Open {
            key += 1;
            cache.get(&key).await;
        }
        let (mut count, mut slowest, began) = (0, Duration::ZERO, Instant::now());
        while !self.is_done(count, began) {
            let called = Instant::now();
            cache.get(&(key + count as u64)).await;
            slowest = slowest.max(called.elapsed());
            count += 1;
        }
        redis.resume();
        let growth = before.zip(peak_bytes()).map(|(before, peak)| peak.saturating_sub(before));
        Ok(Reads { count, slowest, growth })
    }
}

struct Reads {
    count: usize,
    slowest: Duration,
    /// From just before the fault on.
    growth: Option<u64>,
}
