//! 64 clients who view the products of a trace, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cachestack::{BoxError, Tier};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::product::ProductId;
use crate::stop::Stop;
use crate::ways::Way;

pub(crate) const CLIENTS: usize = 64;

/// How much of the trace.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    /// All of it, once.
    Once,
    /// Again and again, until then.
    Until(Instant),
}

/// Clients at work.
pub(crate) struct Replay {
    clients: JoinSet<Tally>,
    progress: Arc<Progress>,
    began: Instant,
}

/// What the clients share while they work.
#[derive(Default)]
pub(crate) struct Progress {
    /// The next view that a client takes. Runs past the end by one for each client.
    next: AtomicUsize,
    failed: AtomicU64,
}

/// What came of it.
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    pub(crate) l1_hits: Latencies,
    pub(crate) l2_hits: Latencies,
    /// Loads, and waits for another client's load.
    pub(crate) loads: Latencies,
    pub(crate) took: Duration,
}

/// Nanoseconds, with an error under 1 %.
pub(crate) type Latencies = Histogram<u64>;

impl Replay {
    pub(crate) fn start(way: &Way, views: &Arc<[ProductId]>, extent: Extent, stop: &Stop) -> Self {
        let progress = Arc::new(Progress::default());
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(client(way.clone(), views.clone(), extent, stop.clone(), progress.clone()));
        }
        Self { clients, progress, began: Instant::now() }
    }

    /// Waits for all clients, and shows their progress once a period.
    pub(crate) async fn finish(mut self, period: Duration, mut show: impl FnMut(&Progress)) -> Result<Tally, BoxError> {
        let mut ticks = tokio::time::interval_at((self.began + period).into(), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut total = Tally::default();
        loop {
            tokio::select! {
                client = self.clients.join_next() => match client {
                    Some(tally) => total.add(tally?)?,
                    None => break,
                },
                _ = ticks.tick() => show(&self.progress),
            }
        }
        total.took = self.began.elapsed();
        Ok(total)
    }
}

impl Progress {
    pub(crate) fn requests(&self) -> u64 {
        // Ordering: relaxed, here and below; it is shown to a person.
        self.next.load(Ordering::Relaxed) as u64
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

async fn client(way: Way, views: Arc<[ProductId]>, extent: Extent, stop: Stop, progress: Arc<Progress>) -> Tally {
    let mut tally = Tally::default();
    while !stop.is_requested() {
        let turn = progress.next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let over = match extent {
            Extent::Once => turn >= views.len(),
            Extent::Until(end) => began >= end,
        };
        if over {
            break;
        }
        let id = views[turn % views.len()];
        let failure = match way.product(id).await {
            Ok((product, tier)) if product.id == id => {
                tally.record(tier, began.elapsed());
                None
            }
            Ok((product, _)) => Some(format!("asked for {id:?} and was given {:?}", product.id)),
            Err(err) => Some(with_causes(&*err)),
        };
        tally.requests += 1;
        if failure.is_some() {
            tally.failed += 1;
            progress.failed.fetch_add(1, Ordering::Relaxed);
            tally.first_failure = tally.first_failure.or(failure);
        }
    }
    tally
}

pub(crate) fn with_causes(err: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Default for Tally {
    fn default() -> Self {
        let empty = || Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("bounds that a histogram takes");
        Self {
            requests: 0,
            failed: 0,
            first_failure: None,
            l1_hits: empty(),
            l2_hits: empty(),
            loads: empty(),
            took: Duration::ZERO,
        }
    }
}

impl Tally {
    fn record(&mut self, tier: Tier, latency: Duration) {
        let latencies = match tier {
            Tier::L1 => &mut self.l1_hits,
            Tier::L2 => &mut self.l2_hits,
            _ => &mut self.loads,
        };
        latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: Self) -> Result<(), BoxError> {
        self.requests += other.requests;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.l1_hits.add(other.l1_hits)?;
        self.l2_hits.add(other.l2_hits)?;
        self.loads.add(other.loads)?;
        Ok(())
    }
}
