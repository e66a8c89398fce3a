//! Reads: get, load and their kin. A hit is decided here, synchronously, before anything is boxed.

use super::chain::is_loading;
use super::lead::Job;
use super::origin::{BoxFuture, Loader, loader};
use super::second::{Found, Read};
use super::{Inner, NotFresh, Recalled, TieredCache, from_l1, is_fresh};
use crate::answer::{Answer, Cached, Freshness, Tier, Why};
use crate::counters::Event;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::flights::{Outcome, Ticket, Turn};
use crate::local::{Local, LocalTier};
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use crate::remote::Claim;
use crate::written::WriteToken;
use std::borrow::Borrow;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// How much longer than a load may take its callers wait: for L2 before and behind it.
const GRACE: Duration = Duration::from_secs(1);

/// A key that L1 has no answer for.
struct Missing<V> {
    /// Its place among the keys that were asked for.
    at: usize,
    hash: u64,
    /// What L1 has, in case that L2 cannot be asked.
    doubtful: Option<Local<V>>,
}

/// How a load flies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flying {
    /// With whoever loads the key already.
    Joined,
    /// Anew, and asking no replica.
    Alone,
}

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
        match self.inner.look(key, |local| local.value.clone()) {
            Ok(value) => Some(value),
            Err(looked) => self.inner.get_slow(key, looked).await.ok().flatten().map(|answer| answer.value),
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
        let answer = match self.inner.look(key, |local| from_l1(local.cloned(), Freshness::Fresh)) {
            Ok(answer) => Some(answer),
            Err(looked) => self.inner.get_slow(key, looked).await?,
        };
        Ok(answer.map(|answer| answer.into_cached(self.inner.clock.now())))
    }

    /// The value if L1 has it fresh: synchronous, and counted only when it hits. For a fast path of your own.
    #[inline]
    pub fn get_local<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.with_local(key, V::clone)
    }

    /// As [`get_local`](Self::get_local), read in its place instead of taken out by a clone: for values that are dear to
    /// clone, or an `Arc` whose count many threads would fight over.
    ///
    /// `f` may do anything, use the cache included. But memory of removed entries may not come back before it returns: keep
    /// it short.
    ///
    /// ```
    /// # use cache_core::{LocalTier, TieredCache};
    /// fn title_length<L: LocalTier<u64, String>>(cache: &TieredCache<u64, String, L>) -> Option<usize> {
    ///     cache.with_local(&7, |title| title.len())
    /// }
    /// ```
    #[inline]
    pub fn with_local<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let inner = &self.inner;
        let (hash, now) = (inner.hash(key), inner.moment());
        if !inner.is_verified(now) {
            let local = inner.recall_known(hash, key, now).filter(|local| now < local.stamp.soft)?;
            inner.counters.count(Event::L1Hit);
            return Some(f(&local.value));
        }
        let read = inner.l1.with(hash, key, now, |local| is_fresh(&local, now).then(|| f(local.value))).flatten()?;
        inner.counters.count(Event::L1Hit);
        Some(read)
    }

    /// The values of many keys, in their order: L1 first, then one request to L2 for all that L1 lacks.
    ///
    /// A key that L2 could not be asked for is `None` here; [`get_many_cached`](Self::get_many_cached) tells it from a miss.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        let values = self.inner.get_many(keys, |local| local.value.clone(), |answer| answer.value).await;
        values.into_iter().map(|value| value.ok().flatten()).collect()
    }

    /// As [`get_many`](Self::get_many), with provenance and a result for each key: where keys are on several servers, one that is away fails its own.
    ///
    /// # Errors
    /// For each key as [`get_cached`](Self::get_cached).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::{EmbeddedTier, Tier, TieredCache};
    ///
    /// let cache = TieredCache::<u64, u64>::builder("n").l2(EmbeddedTier::new()).build()?;
    /// cache.insert(&1, 7).await?;
    /// let found = cache.get_many_cached(&[1, 2]).await;
    /// assert_eq!(found[0].as_ref().unwrap().as_ref().map(|one| (one.value, one.tier)), Some((7, Tier::L2)));
    /// assert!(found[1].as_ref().unwrap().is_none());
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    pub async fn get_many_cached(&self, keys: &[K]) -> Vec<Result<Option<Cached<V>>>> {
        let fresh = |local: Local<&V>| from_l1(local.cloned(), Freshness::Fresh);
        let answers = self.inner.get_many(keys, fresh, |answer| answer).await;
        let now = self.inner.clock.now();
        answers.into_iter().map(|answer| answer.map(|answer| answer.map(|answer| answer.into_cached(now)))).collect()
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
        match self.inner.look(key, |local| local.value.clone()) {
            Ok(value) => Ok(value),
            Err(looked) => self.inner.load_slow(key, looked, None).await.map(|answer| answer.value),
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
        let answer = match self.inner.look(key, |local| from_l1(local.cloned(), Freshness::Fresh)) {
            Ok(answer) => answer,
            Err(looked) => self.inner.load_slow(key, looked, None).await?,
        };
        Ok(answer.into_cached(self.inner.clock.now()))
    }

    /// As [`load_cached`](Self::load_cached), and nothing older than the write that the token is from: read your writes, on whatever node.
    ///
    /// Where this node has not heard of that write yet, its L1 lets go of the key and L2's master is asked, or the origin if L2 has no value. Such a read
    /// joins no load of another's.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn load_after<Q>(&self, key: &Q, token: &WriteToken) -> Result<Cached<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (inner, key) = (&self.inner, key.to_owned());
        if inner.covers(token)
            && let Ok(answer) = inner.look::<K, _>(&key, |local| from_l1(local.cloned(), Freshness::Fresh))
        {
            return Ok(answer.into_cached(inner.clock.now()));
        }
        let hash = inner.hash(&key);
        if !inner.covers(token) {
            inner.let_go(hash, &key, None);
        }
        let answer = inner.load_missing::<K>(hash, &key, None, None, Flying::Alone).await?;
        Ok(answer.into_cached(inner.clock.now()))
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
        match self.inner.look(key, |local| local.value.clone()) {
            Ok(value) => Ok(value),
            Err(looked) => self.inner.load_slow(key, looked, Some(loader(load))).await.map(|answer| answer.value),
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
    fn get_slow<Q>(self: &Arc<Self>, key: &Q, looked: NotFresh<V>) -> BoxFuture<Result<Option<Answer<V>>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (hash, doubtful) = match looked {
            NotFresh::Stale(local) => {
                self.refresh(self.hash(key), key, None);
                return ready(Ok(Some(from_l1(local, Freshness::Stale { why: Why::Refreshing }))));
            }
            NotFresh::Doubtful { local, grace: true, .. } => return ready(Ok(Some(self.unverified(local)))),
            NotFresh::Doubtful { hash, local, grace: false } => (hash, Some(local)),
            NotFresh::Miss { hash, .. } => (hash, None),
        };
        let (inner, key) = (self.clone(), key.to_owned());
        Box::pin(async move {
            inner.open()?;
            inner.wake();
            let doubtful = match doubtful {
                Some(local) => match inner.after_poll(&key, &local).await {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(NotFresh::Stale(local)) => {
                        inner.refresh::<K>(hash, &key, None);
                        return Ok(Some(from_l1(local, Freshness::Stale { why: Why::Refreshing })));
                    }
                    Err(NotFresh::Doubtful { local, grace: true, .. }) => return Ok(Some(inner.unverified(local))),
                    Err(NotFresh::Doubtful { local, .. }) => {
                        inner.missed();
                        Some(local)
                    }
                    Err(NotFresh::Miss { .. }) => None,
                },
                None => None,
            };
            let Some(l2) = &inner.l2 else { return Ok(None) };
            // Before the request: an invalidation from here on keeps the answer out of L1.
            let mut boarding = inner.flights.ticket(inner.passage(hash, &key));
            if boarding.is_barred() {
                inner.counters.count(Event::L2Miss);
                return Ok(None);
            }
            let remote = l2.key(&key);
            let mut allowance = l2.allowance();
            let admit = || inner.admits(boarding.is_live());
            if let Some(answer) = inner.revalidated(hash, &key, l2, &remote, &mut allowance, &admit).await {
                inner.counters.count(Event::L2Hit);
                return Ok(Some(answer));
            }
            let read = match allowance.of(l2.read(&remote, &inner.clock)).await {
                Ok(read) => read,
                Err(err) => {
                    inner.l2_failed("get", &err);
                    let local = doubtful.filter(|local| boarding.is_live() && inner.in_grace(local, &err, inner.clock.now()));
                    let Some(local) = local else {
                        inner.counters.count(Event::L2Miss);
                        return Err(err);
                    };
                    return Ok(Some(inner.unverified_after_all(local)));
                }
            };
            if is(Mutant::TicketAfterReply) {
                boarding = inner.flights.ticket(inner.passage(hash, &key));
            }
            let answer = inner.promote(hash, &key, remote.partition(), read, &|| inner.admits(boarding.is_live()));
            if answer.as_ref().is_some_and(Answer::is_stale) {
                inner.refresh::<K>(hash, &key, None);
            }
            Ok(answer)
        })
    }

    /// What L1 says of a key whose entry was doubtful, once a poll had time to end.
    async fn after_poll(self: &Arc<Self>, key: &K, doubtful: &Local<V>) -> Result<Answer<V>, NotFresh<V>> {
        self.await_poll(doubtful.partition).await;
        self.look::<K, _>(key, |local| from_l1(local.cloned(), Freshness::Fresh))
    }

    /// A fresh hit of L1 gives what `fresh` takes of it, and all else is an answer first: most callers want the value alone.
    async fn get_many<T>(
        self: &Arc<Self>,
        keys: &[K],
        fresh: impl Fn(Local<&V>) -> T,
        slow: impl Fn(Answer<V>) -> T,
    ) -> Vec<Result<Option<T>>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            values.push(Ok(match self.look(key, &fresh) {
                Ok(value) => Some(value),
                Err(NotFresh::Stale(local)) => {
                    self.refresh(self.hash(key), key, None);
                    Some(slow(from_l1(local, Freshness::Stale { why: Why::Refreshing })))
                }
                Err(NotFresh::Doubtful { local, grace: true, .. }) => Some(slow(self.unverified(local))),
                Err(NotFresh::Doubtful { hash, local, grace: false }) => {
                    self.missed();
                    missing.push(Missing { at, hash, doubtful: Some(local) });
                    None
                }
                Err(NotFresh::Miss { hash, .. }) => {
                    missing.push(Missing { at, hash, doubtful: None });
                    None
                }
            }));
        }
        if !missing.is_empty() {
            self.get_missing(keys, &missing, |at, answer| values[at] = answer.map(|answer| answer.map(&slow))).await;
        }
        values
    }

    async fn get_missing(
        self: &Arc<Self>,
        keys: &[K],
        missing: &[Missing<V>],
        mut answered: impl FnMut(usize, Result<Option<Answer<V>>>),
    ) {
        if let Err(err) = self.open() {
            return missing.iter().for_each(|missing| answered(missing.at, Err(err.clone())));
        }
        let Some(l2) = &self.l2 else { return };
        self.wake();
        let boarding = |missing: &Missing<V>| self.flights.ticket(self.passage(missing.hash, &keys[missing.at]));
        let mut boarded: Vec<_> = missing.iter().map(|missing| (missing, boarding(missing))).collect();
        boarded.retain(|(_, boarding)| {
            if boarding.is_barred() {
                self.counters.count(Event::L2Miss);
            }
            !boarding.is_barred()
        });
        let remote: Vec<_> = boarded.iter().map(|(missing, _)| l2.key(&keys[missing.at])).collect();
        if remote.is_empty() {
            return;
        }
        let (reads, mut failed) = match l2.read_many(&remote, &self.clock).await {
            Ok(reads) => (reads, None),
            Err(err) => (remote.iter().map(|_| Err(err.clone())).collect(), Some(err)),
        };
        for (((missing, boarding), remote), read) in boarded.iter().zip(&remote).zip(reads) {
            let (at, hash) = (missing.at, missing.hash);
            let read = match read {
                Ok(read) => read,
                Err(err) => {
                    let now = self.clock.now();
                    let local = missing.doubtful.as_ref().filter(|local| boarding.is_live() && self.in_grace(local, &err, now));
                    if let Some(local) = local {
                        answered(at, Ok(Some(self.unverified_after_all(local.clone()))));
                    } else {
                        self.counters.count(Event::L2Miss);
                        answered(at, Err(err.clone()));
                    }
                    failed = Some(err);
                    continue;
                }
            };
            let admit = || self.admits(boarding.is_live());
            let answer = self.promote(hash, &keys[at], remote.partition(), read, &admit);
            if answer.as_ref().is_some_and(Answer::is_stale) {
                self.refresh::<K>(hash, &keys[at], None);
            }
            answered(at, Ok(answer));
        }
        // One error a call, whether some of it failed or all.
        if let Some(err) = failed {
            self.l2_failed("get_many", &err);
        }
    }

    /// Turns a read of L2 into an answer, counted, and keeps it in L1 if `admit` says so.
    fn promote(&self, hash: u64, key: &K, partition: Partition, read: Read<V>, admit: &dyn Fn() -> bool) -> Option<Answer<V>> {
        match read {
            Read::Value(found, _) if found.is_servable() => {
                self.counters.count(Event::L2Hit);
                let terms = self.terms(found.created, found.life, partition, found.version, found.token);
                self.keep_newest(hash, key, &found.value, &terms, admit);
                let freshness = if found.is_fresh() {
                    Freshness::Fresh
                } else {
                    self.counters.count(Event::Stale);
                    Freshness::Stale { why: Why::Refreshing }
                };
                Some(Answer { value: found.value, tier: Tier::L2, created: found.created, freshness })
            }
            Read::FromReplica(Some(found)) => {
                if is(Mutant::KeptFromReplica) {
                    let terms = self.terms(found.created, found.life, partition, found.version, found.token);
                    self.keep_newest(hash, key, &found.value, &terms, admit);
                }
                let answer = self.echo(found);
                if answer.is_stale() {
                    self.counters.count(Event::Stale);
                }
                self.counters.count(Event::L2Hit);
                Some(answer)
            }
            read => {
                self.counters.count(Event::L2Miss);
                if let Read::Damaged(event) | Read::NotOurs(event) = read {
                    self.counters.count(event);
                }
                None
            }
        }
    }

    /// The answer that a replica gives, counted as one. L1 never keeps it: an invalidation may have been here before it was there.
    pub(super) fn echo(&self, found: Found<V>) -> Answer<V> {
        self.counters.count(Event::L2Replica);
        let is_fresh = found.is_fresh();
        Answer::from_replica(found.value, found.created, is_fresh)
    }

    /// All of `load` but a fresh hit. Boxed, so that the caller's future stays small.
    fn load_slow<Q>(self: &Arc<Self>, key: &Q, looked: NotFresh<V>, one_off: Option<Loader<V>>) -> BoxFuture<Outcome<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        match looked {
            NotFresh::Stale(local) => {
                self.refresh(self.hash(key), key, one_off);
                ready(Ok(from_l1(local, Freshness::Stale { why: Why::Refreshing })))
            }
            NotFresh::Doubtful { local, grace: true, .. } => ready(Ok(self.unverified(local))),
            NotFresh::Doubtful { hash, local, grace: false } => {
                let (inner, key) = (self.clone(), key.to_owned());
                Box::pin(async move {
                    inner.wake();
                    match inner.after_poll(&key, &local).await {
                        Ok(answer) => Ok(answer),
                        Err(NotFresh::Stale(local)) => {
                            inner.refresh::<K>(hash, &key, one_off);
                            Ok(from_l1(local, Freshness::Stale { why: Why::Refreshing }))
                        }
                        Err(NotFresh::Doubtful { local, grace: true, .. }) => Ok(inner.unverified(local)),
                        Err(NotFresh::Doubtful { .. }) => {
                            inner.missed();
                            inner.load_missing::<K>(hash, &key, None, one_off, Flying::Joined).await
                        }
                        Err(NotFresh::Miss { last_resort, .. }) => {
                            inner.load_missing::<K>(hash, &key, last_resort.as_ref(), one_off, Flying::Joined).await
                        }
                    }
                })
            }
            NotFresh::Miss { hash, last_resort } => self.load_missing(hash, key, last_resort.as_ref(), one_off, Flying::Joined),
        }
    }

    /// Joins the key's flight, or begins one.
    fn load_missing<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        last_resort: Option<&Local<V>>,
        one_off: Option<Loader<V>>,
        flying: Flying,
    ) -> BoxFuture<Outcome<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.wake();
        let now = self.clock.now();
        if let Some(local) = last_resort.filter(|_| self.backoffs.holds(hash, now)) {
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
        let may_join = |ticket: &Ticket| flying == Flying::Joined && self.may_join(ticket);
        let turn = self.flights.join_or_begin(hash, key, |key| self.passage(hash, key), may_join);
        let flight = match turn {
            Turn::Follow(flight) => {
                self.counters.count(Event::Coalesced);
                flight
            }
            Turn::Lead(lead) => {
                // Once more, now under the ticket: another flight may have landed since this call looked into L1, and an
                // invalidation may have taken away what was there, which is then no last resort.
                let now = self.clock.now();
                let recalled = if flying == Flying::Alone { Recalled::None } else { self.recall(hash, key, now) };
                if let Recalled::Known(local) = &recalled
                    && now < local.stamp.soft
                {
                    self.counters.count(Event::Coalesced);
                    let answer = from_l1(local.clone(), Freshness::Fresh);
                    lead.land(Ok(answer.clone()));
                    return ready(Ok(answer));
                }
                let flight = lead.flight().clone();
                let job = Job::new(loader, Claim::Vacant, recalled);
                let job = if flying == Flying::Alone { job.without_replicas() } else { job };
                if let Err(err) = self.take_off(lead, job) {
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
            if let Ok(Answer { tier: Tier::L2 | Tier::L2Replica, freshness: Freshness::Stale { .. }, .. }) = &outcome {
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
        // Whoever flies, also if those who come now may not wait for it.
        let turn = self.flights.join_or_begin(hash, key, |key| self.passage(hash, key), |_| true);
        let Turn::Lead(lead) = turn else { return };
        // As for a load: what the caller saw may have been replaced or invalidated before the ticket was taken.
        let now = self.clock.now();
        match self.recall(hash, key, now) {
            Recalled::Known(local) if now < local.stamp.soft => lead.land(Ok(from_l1(local, Freshness::Fresh))),
            recalled => {
                self.counters.count(Event::Refresh);
                // Where it cannot be started there is no runtime, and the stale answer stands.
                let _ = self.take_off(lead, Job::new(loader, Claim::Stale, recalled));
            }
        }
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(std::future::ready(value))
}
