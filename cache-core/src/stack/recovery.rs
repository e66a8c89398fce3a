//! Invalidations that L2 could not be told: their keys stay blocked, and L2 is told as soon as it can be.

use super::Inner;
use super::second::Second;
use crate::counters::Event;
use crate::error::{Error, ErrorKind};
use crate::key::RemoteKey;
use crate::local::LocalTier;
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use crate::remote::Invalidation;
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// More keys than that become a clear of the cache.
const MOST: usize = 10_000;
const BATCH: usize = 128;
/// First and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// What is owed to L2.
pub(super) struct Recovery<K>(Mutex<Owed<K>>);

struct Owed<K> {
    keys: BTreeMap<RemoteKey, Debt<K>>,
    /// A clear, which covers all keys; how often one came to be owed.
    clears: u64,
    /// How many invalidations of keys have failed.
    failures: u64,
    /// Where the next batch begins, so that keys which cannot be told keep no others waiting.
    from: usize,
    /// A task is at it.
    is_running: bool,
}

#[derive(Clone)]
struct Debt<K> {
    key: K,
    hash: u64,
    version: Option<u64>,
    /// Which of all failures the key's last one was: what was sent before does not settle that.
    failure: u64,
}

impl<K> Default for Recovery<K> {
    fn default() -> Self {
        Self(Mutex::new(Owed { keys: BTreeMap::new(), clears: 0, failures: 0, from: 0, is_running: false }))
    }
}

impl<K: Clone> Recovery<K> {
    /// How many keys are owed; `usize::MAX` stands for all.
    pub(super) fn owed(&self) -> usize {
        let owed = self.0.lock();
        if owed.clears > 0 { usize::MAX } else { owed.keys.len() }
    }

    /// What to try next: keys, or a clear if that is owed.
    fn next(&self) -> Option<Next<K>> {
        let mut owed = self.0.lock();
        if owed.clears > 0 {
            return Some(Next::Clear(owed.clears));
        }
        if owed.keys.is_empty() {
            owed.is_running = false;
            return None;
        }
        let (from, count) = (owed.from % owed.keys.len(), BATCH.min(owed.keys.len()));
        owed.from = from + count;
        let batch = owed.keys.iter().cycle().skip(from).take(count);
        Some(Next::Keys(batch.map(|(key, debt)| (key.clone(), debt.clone())).collect()))
    }

    /// To be given to `no_longer_owed` by who asks this before L2 is told.
    pub(super) fn failures(&self) -> u64 {
        self.0.lock().failures
    }

    /// Whether something is owed and nobody is at it: the runtime of who was has ended.
    fn is_left(&self) -> bool {
        let owed = self.0.lock();
        !owed.is_running && (owed.clears > 0 || !owed.keys.is_empty())
    }
}

enum Next<K> {
    Keys(Vec<(RemoteKey, Debt<K>)>),
    Clear(u64),
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Takes over a key whose invalidation failed, and its block. `false` if there is no use in trying again.
    pub(super) fn owe(self: &Arc<Self>, key: &K, hash: u64, told: &Invalidation, err: &Error) -> bool {
        if matches!(err.kind(), ErrorKind::Foreign | ErrorKind::Config | ErrorKind::Closed) || is(Mutant::NotOwed) {
            return false;
        }
        let mut owed = self.recovery.0.lock();
        owed.failures += 1;
        let failure = owed.failures;
        if let Some(debt) = owed.keys.get_mut(&told.key) {
            debt.failure = failure;
            // Without a version it is the stronger.
            debt.version = debt.version.zip(told.version).map(|(one, other)| one.max(other));
            self.flights.unblock(hash);
        } else if owed.clears > 0 {
            owed.clears += 1;
            self.flights.unblock(hash);
        } else if owed.keys.len() < MOST {
            let debt = Debt { key: key.clone(), hash, version: told.version, failure };
            owed.keys.insert(told.key.clone(), debt);
        } else {
            warn!(cache = %self.name, "too many invalidations could not be told: the whole cache will be cleared");
            owed.clears = 1;
            self.flights.block_all();
            let hashes: Vec<_> = std::mem::take(&mut owed.keys).into_values().map(|debt| debt.hash).collect();
            hashes.into_iter().chain([hash]).for_each(|hash| self.flights.unblock(hash));
        }
        self.settle_soon(owed);
        true
    }

    /// A key was invalidated after all, by somebody who asked again when there were so many [failures](Recovery::failures): nothing older than that is owed.
    pub(super) fn no_longer_owed(&self, told: &Invalidation, failures: u64) {
        let mut owed = self.recovery.0.lock();
        let reaches = |owed: Option<u64>| match (told.version, owed) {
            (None, _) => true,
            (Some(told), Some(owed)) => told >= owed,
            (Some(_), None) => false,
        };
        let covered = |debt: &Debt<K>| debt.failure <= failures && reaches(debt.version);
        if owed.keys.get(&told.key).is_some_and(covered)
            && let Some(debt) = owed.keys.remove(&told.key)
        {
            self.flights.unblock(debt.hash);
            self.counters.count(Event::Recovered);
        }
    }

    /// Takes over a clear that failed, and its block of all keys.
    pub(super) fn owe_clear(self: &Arc<Self>) {
        let mut owed = self.recovery.0.lock();
        owed.clears += 1;
        if owed.clears > 1 {
            // The one that is owed already has a block.
            self.flights.unblock_all();
        }
        let hashes: Vec<_> = std::mem::take(&mut owed.keys).into_values().map(|debt| debt.hash).collect();
        for hash in hashes {
            self.flights.unblock(hash);
        }
        self.settle_soon(owed);
    }

    fn settle_soon(self: &Arc<Self>, mut owed: parking_lot::MutexGuard<'_, Owed<K>>) {
        if !owed.is_running
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            owed.is_running = true;
            drop(owed);
            // A runtime that ends drops the task; the next call that goes to L2 starts another.
            let running = Running { inner: Arc::downgrade(self), has_ended: false };
            runtime.spawn(self.clock.held(settle(running)));
        }
    }

    /// Goes on with what a runtime that has ended has left.
    pub(super) fn settle_left(self: &Arc<Self>) {
        if self.recovery.is_left() {
            self.settle_soon(self.recovery.0.lock());
        }
    }

    /// `true` once nothing is owed. An error if nothing could be told.
    async fn settle_some(self: &Arc<Self>) -> Result<bool, Error> {
        let Some(l2) = &self.l2 else { return Ok(true) };
        let Some(next) = self.recovery.next() else { return Ok(true) };
        match next {
            Next::Clear(clears) => {
                let servers = self.servers();
                let told = l2.clear(None).await?;
                // While all is still blocked: who may keep something from here on finds nothing older.
                self.let_go_of_all();
                self.note_cleared(servers, &told.receipts);
                let mut owed = self.recovery.0.lock();
                owed.clears = owed.clears.saturating_sub(clears);
                if owed.clears == 0 {
                    self.flights.unblock_all();
                }
            }
            Next::Keys(debts) => {
                // A partition's by themselves: the master of one may be away, and another's not.
                let mut lots: BTreeMap<Partition, Vec<_>> = BTreeMap::new();
                for debt in debts {
                    lots.entry(debt.0.partition()).or_default().push(debt);
                }
                let told = join_all(lots.into_values().map(|lot| self.settle_lot(l2, lot))).await;
                if !told.iter().any(Result::is_ok) {
                    return told.into_iter().next().unwrap_or(Ok(())).map(|()| false);
                }
            }
        }
        Ok(false)
    }

    async fn settle_lot(self: &Arc<Self>, l2: &Second<K, V>, debts: Vec<(RemoteKey, Debt<K>)>) -> Result<(), Error> {
        let invalidations: Vec<_> =
            debts.iter().map(|(key, debt)| Invalidation { key: key.clone(), version: debt.version }).collect();
        let servers = self.servers();
        let told = l2.invalidate_many(&invalidations).await?;
        self.note_told(servers, &invalidations, &told.receipts);
        for (remote, debt) in debts {
            self.let_go(debt.hash, &debt.key, debt.version);
            let mut owed = self.recovery.0.lock();
            if owed.keys.get(&remote).is_some_and(|now| now.failure == debt.failure) {
                owed.keys.remove(&remote);
                self.flights.unblock(debt.hash);
                self.counters.count(Event::Recovered);
            }
        }
        Ok(())
    }
}

/// The task's claim to be the one that runs.
struct Running<K, V, L> {
    inner: Weak<Inner<K, V, L>>,
    /// It has said so itself, and there may be another one by now.
    has_ended: bool,
}

impl<K, V, L> Drop for Running<K, V, L> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade().filter(|_| !self.has_ended) {
            inner.recovery.0.lock().is_running = false;
        }
    }
}

/// Tries until nothing is owed, or the cache is gone.
async fn settle<K, V, L>(mut running: Running<K, V, L>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    let mut pause = PAUSES.0;
    loop {
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        let Some(inner) = running.inner.upgrade() else { return };
        match inner.settle_some().await {
            Ok(true) => {
                running.has_ended = true;
                info!(cache = %inner.name, "all invalidations that could not be told have been told now");
                return;
            }
            Ok(false) => pause = Duration::ZERO,
            Err(err) => {
                debug!(cache = %inner.name, kind = ?err.kind(), "invalidations could not be told yet");
                pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
            }
        }
    }
}
