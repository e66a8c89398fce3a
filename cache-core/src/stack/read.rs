//! Reads: get, load and their kin. A hit is decided here, synchronously, before anything is boxed.

use super::lead::{Job, is_loading};
use super::origin::{BoxFuture, Loader, loader};
use super::second::Read;
use super::{Inner, Looked, TieredCache, from_l1};
use crate::answer::{Answer, Cached, Freshness, Tier, Why};
use crate::counters::Event;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::flights::{Outcome, Turn};
use crate::local::{Local, LocalTier};
use crate::remote::Claim;
use std::borrow::Borrow;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than a load may take its callers wait: for L2 before and behind it.
const GRACE: Duration = Duration::from_secs(1);

impl<K, V, L> TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// The value from L1 or L2, `None` if neither has it. An L2 that is down is a miss here, counted in
    /// [`TierStats::errors`](crate::TierStats::errors); [`get_cached`](Self::get_cached) tells the two apart.
    ///
    /// An L1 hit allocates nothing and takes no lock. Callers that ask L2 for the same key are not merged.
    pub async fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        match self.inner.look(key) {
            Looked::Fresh(local) => Some(local.value),
            looked => self.inner.get_slow(key, looked).await.ok().flatten().map(|answer| answer.value),
        }
    }

    /// As [`get`](Self::get), with provenance.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] if L1 has no answer and L2 cannot be asked;
    /// [`ErrorKind::Closed`].
    pub async fn get_cached<Q>(&self, key: &Q) -> Result<Option<Cached<V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let answer = match self.inner.look(key) {
            Looked::Fresh(local) => Some(from_l1(local, Freshness::Fresh)),
            looked => self.inner.get_slow(key, looked).await?,
        };
        Ok(answer.map(|answer| answer.into_cached(self.inner.clock.now())))
    }

    /// The value if L1 has it fresh: synchronous, and counted only when it hits. For a fast path of your own.
    pub fn get_local<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &self.inner;
        let (hash, now) = (inner.hash(key), inner.clock.now());
        let local = inner.l1.get(hash, key, now).filter(|local| now < local.stamp.soft)?;
        inner.counters.count(Event::L1Hit);
        Some(local.value)
    }

    /// The values of many keys, in their order: L1 first, then one request to L2 for all that L1 lacks.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            values.push(match self.inner.look(key) {
                Looked::Fresh(local) => Some(local.value),
                Looked::Stale(local) => {
                    self.inner.refresh(self.inner.hash(key), key, None);
                    Some(local.value)
                }
                Looked::Miss { hash, .. } => {
                    missing.push((at, hash));
                    None
                }
            });
        }
        if !missing.is_empty() {
            self.inner.get_missing(keys, &missing, &mut values).await;
        }
        values
    }

    /// The value from L1, L2 or the origin registered with [`Builder::origin`](crate::Builder::origin). Callers that ask
    /// for one key at the same time share one load, and its error.
    ///
    /// An L1 hit allocates nothing and takes no lock.
    ///
    /// # Errors
    /// The load's: see [`ErrorKind`]. L2 being down is no error: the origin is asked instead.
    pub async fn load<Q>(&self, key: &Q) -> Result<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        match self.inner.look(key) {
            Looked::Fresh(local) => Ok(local.value),
            looked => self.inner.load_slow(key, looked, None).await.map(|answer| answer.value),
        }
    }

    /// As [`load`](Self::load), with provenance.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn load_cached<Q>(&self, key: &Q) -> Result<Cached<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let answer = match self.inner.look(key) {
            Looked::Fresh(local) => from_l1(local, Freshness::Fresh),
            looked => self.inner.load_slow(key, looked, None).await?,
        };
        Ok(answer.into_cached(self.inner.clock.now()))
    }

    /// The value from L1 or L2, else from this closure, which runs once however many callers ask for the key.
    ///
    /// The closure runs in a task of its own, so it owns what it uses (`'static`); the result is stored as
    /// [`load`](Self::load) stores it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn get_or_load<Q, F, Fut, E>(&self, key: &Q, load: F) -> Result<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        match self.inner.look(key) {
            Looked::Fresh(local) => Ok(local.value),
            looked => self.inner.load_slow(key, looked, Some(loader(load))).await.map(|answer| answer.value),
        }
    }
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// All of `get` but a fresh hit. Boxed, so that the caller's future stays small.
    fn get_slow<Q>(self: &Arc<Self>, key: &Q, looked: Looked<V>) -> BoxFuture<Result<Option<Answer<V>>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = match looked {
            Looked::Fresh(local) => return ready(Ok(Some(from_l1(local, Freshness::Fresh)))),
            Looked::Stale(local) => {
                self.refresh(self.hash(key), key, None);
                return ready(Ok(Some(from_l1(local, Freshness::Stale { why: Why::Refreshing }))));
            }
            Looked::Miss { hash, .. } => hash,
        };
        let (inner, key) = (self.clone(), key.to_owned());
        Box::pin(async move {
            inner.open()?;
            let Some(l2) = &inner.l2 else { return Ok(None) };
            // Before the request: an invalidation from here on keeps the answer out of L1.
            let boarding = inner.flights.ticket(hash);
            let read = l2.read(&l2.key(&key), &inner.clock).await.inspect_err(|err| {
                inner.counters.count(Event::L2Miss);
                inner.l2_failed("get", err);
            })?;
            let answer = inner.promote(hash, &key, read, &|| inner.admits(boarding.is_live()));
            if answer.as_ref().is_some_and(|answer| answer.freshness != Freshness::Fresh) {
                inner.refresh(hash, key.borrow(), None);
            }
            Ok(answer)
        })
    }

    async fn get_missing(self: &Arc<Self>, keys: &[K], missing: &[(usize, u64)], values: &mut [Option<V>]) {
        let Some(l2) = self.l2.as_ref().filter(|_| self.open().is_ok()) else { return };
        let boardings: Vec<_> = missing.iter().map(|(_, hash)| self.flights.ticket(*hash)).collect();
        let remote: Vec<_> = missing.iter().map(|(at, _)| l2.key(&keys[*at])).collect();
        match l2.read_many(&remote, &self.clock).await {
            Ok(reads) => {
                for ((&(at, hash), boarding), read) in missing.iter().zip(&boardings).zip(reads) {
                    let answer = self.promote(hash, &keys[at], read, &|| self.admits(boarding.is_live()));
                    if answer.as_ref().is_some_and(|answer| answer.freshness != Freshness::Fresh) {
                        self.refresh(hash, keys[at].borrow(), None);
                    }
                    values[at] = answer.map(|answer| answer.value);
                }
            }
            Err(err) => {
                self.counters.add(Event::L2Miss, missing.len() as u64);
                self.l2_failed("get_many", &err);
            }
        }
    }

    /// Turns a read of L2 into an answer, counted, and keeps it in L1 if `admit` says so.
    fn promote(&self, hash: u64, key: &K, read: Read<V>, admit: &dyn Fn() -> bool) -> Option<Answer<V>> {
        match read {
            Read::Value(found, _) if found.is_servable() => {
                self.counters.count(Event::L2Hit);
                let stamp = found.stamp(self.clock.now(), self.ttl.l1_limit());
                let newer = |old: Local<V>| old.stamp.created > stamp.created;
                if !self.l1.get(hash, key.borrow(), self.clock.now()).is_some_and(newer) {
                    self.l1.insert(hash, key.clone(), found.value.clone(), stamp, admit);
                }
                let freshness = if found.is_fresh() {
                    Freshness::Fresh
                } else {
                    self.counters.count(Event::Stale);
                    Freshness::Stale { why: Why::Refreshing }
                };
                Some(Answer { value: found.value, tier: Tier::L2, created: found.created, freshness })
            }
            read => {
                self.counters.count(Event::L2Miss);
                if matches!(read, Read::Damaged | Read::NotOurs) {
                    self.counters.count(Event::L2Unreadable);
                }
                None
            }
        }
    }

    /// All of `load` but a fresh hit. Boxed, so that the caller's future stays small.
    fn load_slow<Q>(self: &Arc<Self>, key: &Q, looked: Looked<V>, one_off: Option<Loader<V>>) -> BoxFuture<Outcome<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (hash, last_resort) = match looked {
            Looked::Fresh(local) => return ready(Ok(from_l1(local, Freshness::Fresh))),
            Looked::Stale(local) => {
                self.refresh(self.hash(key), key, one_off);
                return ready(Ok(from_l1(local, Freshness::Stale { why: Why::Refreshing })));
            }
            Looked::Miss { hash, last_resort } => (hash, last_resort),
        };
        let now = self.clock.now();
        if let Some(local) = last_resort.as_ref().filter(|_| self.backoffs.holds(hash, now)) {
            self.counters.count(Event::StaleIfError);
            return ready(Ok(from_l1(local.clone(), Freshness::Stale { why: Why::OriginFailed })));
        }
        if let Err(err) = self.open() {
            return ready(Err(err));
        }
        if is_loading(&self.flights, hash) {
            return ready(Err(Error::new(ErrorKind::Recursive, "a loader asked for the key that it is loading")));
        }
        let Some(loader) = one_off.or_else(|| self.loader_of(key)) else {
            let text = "load needs an origin: give the builder one, or use get_or_load";
            return ready(Err(Error::new(ErrorKind::NoOrigin, text)));
        };
        let flight = match self.flights.join_or_begin(hash, key) {
            Turn::Follow(flight) => {
                self.counters.count(Event::Coalesced);
                flight
            }
            Turn::Lead(lead) => {
                // Once more, now under the ticket: another flight may have landed since this call looked into L1, and an
                // invalidation may have taken away what was there, which is then no last resort.
                let now = self.clock.now();
                let last_resort = self.l1.get(hash, key, now);
                if let Some(local) = last_resort.as_ref().filter(|local| now < local.stamp.soft) {
                    self.counters.count(Event::Coalesced);
                    let answer = from_l1(local.clone(), Freshness::Fresh);
                    lead.land(Ok(answer.clone()));
                    return ready(Ok(answer));
                }
                let flight = lead.flight().clone();
                if let Err(err) = self.take_off(lead, Job { loader, claim: Claim::Vacant, last_resort }) {
                    return ready(Err(err));
                }
                flight
            }
        };
        let inner = self.clone();
        Box::pin(async move {
            // The flight bounds itself; this is for a leader whose runtime has stopped or whose loader blocks its thread.
            let Ok(outcome) = tokio::time::timeout(inner.load_timeout + GRACE, flight.wait()).await else {
                inner.flights.give_up(&flight);
                return Err(Error::new(ErrorKind::Timeout, "the load did not end within its time"));
            };
            if let Ok(Answer { tier: Tier::L2, freshness: Freshness::Stale { .. }, .. }) = &outcome {
                inner.counters.count(Event::Stale);
            }
            outcome
        })
    }

    fn loader_of<Q>(&self, key: &Q) -> Option<Loader<V>>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        let (origin, key) = (self.origin.clone()?, key.to_owned());
        Some(Box::new(move || origin(key)))
    }

    /// Starts one load behind a stale answer, unless one runs, or the last one failed a moment ago.
    pub(super) fn refresh<Q>(self: &Arc<Self>, hash: u64, key: &Q, one_off: Option<Loader<V>>)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let idle = self.open().is_ok() && !self.backoffs.holds(hash, self.clock.now());
        let Some(loader) = idle.then(|| one_off.or_else(|| self.loader_of(key))).flatten() else { return };
        let Turn::Lead(lead) = self.flights.join_or_begin(hash, key) else { return };
        // As for a load: what the caller saw may have been replaced or invalidated before the ticket was taken.
        let now = self.clock.now();
        let last_resort = self.l1.get(hash, key, now);
        match last_resort {
            Some(local) if now < local.stamp.soft => lead.land(Ok(from_l1(local, Freshness::Fresh))),
            last_resort => {
                self.counters.count(Event::Refresh);
                // Where it cannot be started there is no runtime, and the stale answer stands.
                let _ = self.take_off(lead, Job { loader, claim: Claim::Stale, last_resort });
            }
        }
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(std::future::ready(value))
}
