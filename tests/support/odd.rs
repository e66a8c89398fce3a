//! A store that does one thing wrong.

use async_trait::async_trait;
use cachestack::{
    Acquire, Acquired, Deployments, Ear, EmbeddedTier, Error, ErrorKind, Fetched, Fill, Filled, Invalidated, Invalidation,
    Listening, Mark, Marked, Meta, Namespace, Notice, Partition, Put, PutOutcome, RemoteKey, RemoteTier, Result, Token, Told,
    Unmark,
};
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// So many times a doctor reads each record, before it asks for the time.
const READS: u64 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    None,
    SlowReads,
    LosesLeases,
    ChangesBytes,
    Forgets,
    TellsTimeNoMore,
    SlowMessages,
    NoMemoryToTell,
    LeavesRecords,
}

pub(crate) struct Odd {
    inner: EmbeddedTier,
    oddity: Oddity,
    reads: AtomicU64,
}

impl Odd {
    pub(crate) fn new(oddity: Oddity) -> Self {
        Self { inner: EmbeddedTier::new(), oddity, reads: AtomicU64::new(0) }
    }

    fn is(&self, oddity: Oddity) -> bool {
        self.oddity == oddity
    }
}

#[async_trait]
impl RemoteTier for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        let reads = self.reads.fetch_add(1, Ordering::SeqCst);
        if self.is(Oddity::TellsTimeNoMore) && reads >= READS {
            return Err(Error::new(ErrorKind::Unavailable, "it is away"));
        }
        if self.is(Oddity::SlowReads) {
            sleep(Duration::from_millis(30)).await;
        }
        let mut fetched = self.inner.get(key).await?;
        if self.is(Oddity::Forgets) {
            fetched.record = None;
        }
        if self.is(Oddity::ChangesBytes) {
            fetched.record = fetched.record.map(|record| {
                let mut record = record.to_vec();
                *record.last_mut().unwrap() ^= 1;
                record.into()
            });
        }
        Ok(fetched)
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        self.inner.get_many(keys).await
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        self.inner.acquire(key, acquire).await
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        if self.is(Oddity::LosesLeases) { Ok(Filled::LeaseLost) } else { self.inner.fill(key, fill).await }
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        self.inner.release(key, token).await
    }

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        if self.is(Oddity::SlowMessages) {
            sleep(Duration::from_millis(200)).await;
        }
        let mut told = self.inner.invalidate(keys, retain, notice).await?;
        if self.is(Oddity::NoMemoryToTell) {
            told.receipts.clear();
        }
        if self.is(Oddity::LeavesRecords) {
            told.outcome.fill(Invalidated::Foreign);
        }
        Ok(told)
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        self.inner.put(key, put, retain, notice).await
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        self.inner.mark(key, mark).await
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        self.inner.unmark(key, unmark, notice).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        self.inner.clear(namespace, retain, notice).await
    }

    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        self.inner.poll(prefix, partitions).await
    }

    fn listen(&self, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
        self.inner.listen(prefix, ear)
    }

    fn deployments(&self) -> Option<&Deployments> {
        self.inner.deployments()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
