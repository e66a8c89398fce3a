//! What a flight's leader does: ask L2, take the lease, load, fill, keep.

use super::allowance::Allowance;
use super::chain::{Chain, LOADING};
use super::fill::{Filling, Lease, Stowed};
use super::origin::{Loader, guarded};
use super::second::{Read, Second};
use super::{Inner, Recalled, from_l1};
use crate::answer::{Answer, Freshness, Tier, Why};
use crate::coherence::Standing;
use crate::counters::Event;
use crate::error::{Error, ErrorKind, Result};
use crate::flights::{Flight, Lead, Outcome};
use crate::key::RemoteKey;
use crate::local::{Local, LocalTier, Stamp, Terms};
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use crate::places::NoPlace;
use crate::remote::{Acquired, Claim};
use crate::token::Token;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use tracing::Instrument;

/// How often a waiter asks L2 whether the lease's holder is done: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A value that a read does not see and an acquire does, this often in a row, is a clock gone wrong: load without L2.
const MOST_DISAGREEMENTS: u32 = 3;

/// A load about to run.
pub(super) struct Job<V> {
    loader: Loader<V>,
    claim: Claim,
    last_resort: Option<LastResort<V>>,
    /// What L1 has and cannot vouch for, in case that L2 cannot be asked.
    doubtful: Option<Local<V>>,
    /// A replica's word is worth nothing: it may be older than what was asked for.
    without_replicas: bool,
}

/// A value past its soft life, for when the load fails.
struct LastResort<V> {
    value: V,
    stamp: Stamp,
    /// To keep it on in L1; `None` where it came from there.
    terms: Option<Terms>,
    /// Where it came from L1: it was verified when the flight began, and may not be any more when it lands.
    recalled: Option<Partition>,
}

impl<V> Job<V> {
    /// A load, and what L1 has of the key.
    pub(super) fn new(loader: Loader<V>, claim: Claim, recalled: Recalled<V>) -> Self {
        let (last_resort, doubtful) = match recalled {
            Recalled::Known(local) => {
                let Local { value, stamp, partition, .. } = local;
                (Some(LastResort { value, stamp, terms: None, recalled: Some(partition) }), None)
            }
            Recalled::Doubtful(local) => (None, Some(local)),
            Recalled::None => (None, None),
        };
        Self { loader, claim, last_resort, doubtful, without_replicas: false }
    }

    pub(super) fn without_replicas(self) -> Self {
        Self { without_replicas: true, ..self }
    }
}

/// What L2 had to say before a load.
enum Before<V> {
    Answer(Answer<V>),
    Lease(Lease),
    /// L2 is down, or must be left alone: the value goes to L1 only.
    Nothing,
    /// Another load took too long, or an announced write, before whose commit this load may read; or the floor is not known, below which nothing may be kept: the value
    /// is kept nowhere.
    Beside,
    /// The same, and this token may hold a lease all the same: the reply was lost.
    Lost(Token),
}

/// A flight's end, and what is to be done behind it.
struct Landing<'a, V> {
    outcome: Outcome<V>,
    /// A lease to give back.
    release: Option<Token>,
    /// A fill to be waited for.
    late: Option<(Token, Filling<'a>)>,
    /// A loader that was not needed, because L2 had a stale value: for the refresh.
    refresh: Option<Loader<V>>,
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Runs a flight in a task of its own. An error means that it could not be started; its followers are told.
    pub(super) fn take_off(self: &Arc<Self>, lead: Lead<K, V>, job: Job<V>) -> Result<()> {
        let hash = lead.flight().ticket.hash();
        let chain = Chain::link(&self.flights, hash);
        let span = tracing::debug_span!("cache.load", cache = %self.name, claim = ?job.claim, tier = tracing::field::Empty);
        let inner = self.clone();
        let flight = async move {
            let remote = inner.l2.as_ref().map(|l2| (l2, l2.key(&lead.flight().key)));
            let landing = inner.fly(lead.flight(), remote.as_ref(), job, chain).await;
            match &landing.outcome {
                Ok(answer) => drop(tracing::Span::current().record("tier", tracing::field::debug(answer.tier))),
                Err(err) => tracing::debug!(kind = ?err.kind(), "the load failed"),
            }
            let refresh = landing.refresh.map(|loader| (lead.flight().key.clone(), loader));
            let late = landing.late.map(|(token, filling)| (lead.flight().key.clone(), token, filling));
            lead.land(landing.outcome);
            if let Some((key, loader)) = refresh {
                inner.refresh(hash, key.borrow(), Some(loader));
            }
            // Behind the landing: nobody should wait for an answer because L2 is slow.
            let mut release = landing.release;
            if let Some((key, token, filling)) = late {
                let (keep, lease) = inner.filled(token, filling.await);
                release = lease;
                if !keep {
                    // L1 was given the value, for nobody had said so.
                    inner.let_go(hash, &key, None);
                }
            }
            if let (Some(token), Some((l2, key))) = (release, &remote)
                && !is(Mutant::NoRelease)
                && let Err(err) = l2.release(key, token).await
            {
                inner.l2_failed("release", &err);
            }
        };
        self.tasks.spawn(self.clock.held(flight.instrument(span))).map(drop)
    }

    async fn fly<'a>(
        &'a self,
        flight: &Flight<K, V>,
        remote: Option<&'a (&'a Second<K, V>, RemoteKey)>,
        mut job: Job<V>,
        chain: Arc<Chain>,
    ) -> Landing<'a, V> {
        let deadline = Instant::now() + self.load_timeout;
        let mut allowance = remote.map_or_else(|| Allowance::new(None), |(l2, _)| l2.allowance());
        let before = match remote {
            // Its invalidation is under way, or could not be told: L2 may have the older value, and must not get this one.
            Some(_) if flight.ticket.is_barred() => Before::Nothing,
            Some((l2, key)) => {
                // Half the time at most goes into waiting for another's load: the other half is for our own.
                let patience = Instant::now() + self.load_timeout / 2;
                let before = self.ask_l2(flight, l2, key, &mut job, patience, &mut allowance).await;
                if job.claim != Claim::Stale {
                    let is_hit = matches!(&before, Before::Answer(answer) if answer.tier != Tier::L1);
                    self.counters.count(if is_hit { Event::L2Hit } else { Event::L2Miss });
                }
                before
            }
            None => Before::Nothing,
        };
        let beside = matches!(before, Before::Beside);
        let (lease, lost) = match before {
            Before::Answer(answer) => {
                let stale = job.claim == Claim::Vacant && answer.is_stale();
                return Landing { outcome: Ok(answer), release: None, late: None, refresh: stale.then_some(job.loader) };
            }
            Before::Lease(lease) => (Some(lease), None),
            Before::Lost(token) => (None, Some(token)),
            Before::Nothing | Before::Beside => (None, None),
        };
        let place = match self.place(&chain, deadline).await {
            Ok(place) => place,
            Err(err) => {
                let release = lease.map(|lease| lease.token).or(lost);
                return self.failed(flight, job.last_resort, release, err);
            }
        };
        // The start of the load stamps its value: what it reads is no younger than that.
        let began = self.clock.now();
        self.counters.count(Event::Load);
        let left = deadline.saturating_duration_since(Instant::now());
        let version_of = self.version_of;
        // The version is asked for in here too: it is the user's code, and may panic.
        let load = async move {
            let value = (job.loader)().await?;
            Ok((version_of.map_or(0, |version_of| version_of(&value)), value))
        };
        let loaded = LOADING.scope(chain, guarded("load", left, Box::pin(load))).await;
        drop(place);
        match loaded {
            Ok((version, value)) => {
                self.backoffs.succeeded(flight.ticket.hash());
                let life = self.ttl.life();
                let Stowed { keep, release, late } = match (lease, remote) {
                    (Some(lease), Some((l2, key))) => self.fill(l2, key, lease, version, life, &value, &mut allowance).await,
                    _ => Stowed::settled((!beside, lost)),
                };
                if keep {
                    // The token names the load, whether or not L2 took its value.
                    let (partition, token) = (partition(remote), lease.map(|lease| lease.token).unwrap_or_default());
                    self.keep(flight, &value, &self.terms(began, life, partition, version, token));
                }
                let answer = Answer { value, tier: Tier::Origin, created: began, freshness: Freshness::Fresh };
                Landing { outcome: Ok(answer), release, late, refresh: None }
            }
            Err(err) => {
                self.counters.count(Event::LoadError);
                let release = lease.map(|lease| lease.token).or(lost);
                self.failed(flight, job.last_resort, release, err)
            }
        }
    }

    /// A place among those who ask the origin; `None` for what another load has asked for, which has one.
    async fn place(&self, chain: &Chain, deadline: Instant) -> Result<Option<SemaphorePermit<'_>>> {
        if chain.is_inner() {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        self.places.enter(left).await.map(Some).map_err(|none| {
            self.counters.count(Event::LoadRefused);
            let text = match none {
                NoPlace::Full => "too many loads of this cache are waiting already",
                NoPlace::Late => "the load waited too long for its turn at the origin",
            };
            Error::new(ErrorKind::Overloaded, text)
        })
    }

    fn failed<'a>(
        &self,
        flight: &Flight<K, V>,
        last_resort: Option<LastResort<V>>,
        release: Option<Token>,
        err: Error,
    ) -> Landing<'a, V> {
        self.backoffs.failed(flight.ticket.hash(), self.clock.now());
        Landing { outcome: self.fall_back(flight, last_resort, err), release, late: None, refresh: None }
    }

    /// Reads L2, and takes the lease if there is no value to serve; waits while another load holds it.
    async fn ask_l2(
        &self,
        flight: &Flight<K, V>,
        l2: &Second<K, V>,
        key: &RemoteKey,
        job: &mut Job<V>,
        patience: Instant,
        allowance: &mut Allowance,
    ) -> Before<V> {
        if job.claim == Claim::Vacant && !job.without_replicas {
            let admit = || self.admits(flight.ticket.is_live());
            if let Some(answer) = self.revalidated(flight.ticket.hash(), &flight.key, l2, key, allowance, &admit).await {
                return Before::Answer(answer);
            }
        }
        let token = Token::unique();
        let mut claim = job.claim;
        let mut pause = FIRST_PAUSE;
        let mut disagreements = 0;
        loop {
            let busy = match allowance.of(l2.read(key, &self.clock)).await {
                Err(err) => {
                    self.l2_failed("get", &err);
                    let doubtful = job.doubtful.take().filter(|_| job.claim == Claim::Vacant && flight.ticket.is_live());
                    let Some(local) = doubtful.filter(|local| self.in_grace(local, &err, self.clock.now())) else {
                        return Before::Nothing;
                    };
                    self.counters.count(Event::Unverified);
                    return Before::Answer(from_l1(local, Freshness::Unverified));
                }
                Ok(Read::Value(found, leased)) => {
                    claim = job.claim;
                    let terms = self.terms(found.created, found.life, key.partition(), found.version, found.token);
                    let (serve, fresh) = (claim == Claim::Vacant && found.is_servable(), found.is_fresh());
                    if fresh || serve {
                        self.keep(flight, &found.value, &terms);
                        let freshness = if fresh { Freshness::Fresh } else { Freshness::Stale { why: Why::Refreshing } };
                        return Before::Answer(Answer { value: found.value, tier: Tier::L2, created: found.created, freshness });
                    }
                    job.last_resort =
                        Some(LastResort { value: found.value, stamp: terms.stamp, terms: Some(terms), recalled: None });
                    (!leased.is_zero()).then_some(leased)
                }
                Ok(Read::FromReplica(Some(found))) if job.claim == Claim::Vacant && !job.without_replicas => {
                    return Before::Answer(self.echo(found));
                }
                Ok(Read::Leased(left)) => Some(left),
                // From a replica, nothing to serve, or something for a refresh, which wants the master's: the acquire says what that has, and the
                // next read sees it.
                Ok(Read::Nothing | Read::FromReplica(_)) => None,
                Ok(Read::Damaged(event)) => {
                    self.counters.count(event);
                    tracing::debug!("an unreadable record in L2 will be replaced");
                    claim = Claim::Force;
                    None
                }
                Ok(Read::NotOurs(event)) => return self.leave_alone(event),
            };
            let busy = match busy {
                Some(left) => left,
                None => match allowance.of(l2.acquire(key, token, claim)).await {
                    Ok(Acquired::Granted { at, floor }) => return Before::Lease(Lease { token, at, floor }),
                    Ok(Acquired::Busy(left)) => left,
                    Ok(Acquired::Hit) => {
                        disagreements += 1;
                        if disagreements >= MOST_DISAGREEMENTS {
                            return Before::Nothing;
                        }
                        continue;
                    }
                    Ok(Acquired::Newer | Acquired::Foreign) => return self.leave_alone(Event::L2Unreadable),
                    Err(err) => {
                        self.l2_failed("acquire", &err);
                        return Before::Lost(token);
                    }
                },
            };
            // Another node refreshes already: what there is to serve is being served.
            if let (Claim::Stale, Some(resort)) = (job.claim, &job.last_resort)
                && self.clock.now() < resort.stamp.hard
                && self.resorts_to(resort) == Standing::Verified
                && flight.ticket.is_live()
            {
                // Nobody needs to ask again before that load may be done.
                self.backoffs.hold(flight.ticket.hash(), self.clock.now(), busy.min(LONGEST_PAUSE));
                let (value, created) = (resort.value.clone(), resort.stamp.created);
                return Before::Answer(Answer {
                    value,
                    tier: Tier::L2,
                    created,
                    freshness: Freshness::Stale { why: Why::Refreshing },
                });
            }
            if Instant::now() + pause >= patience {
                let beside = self.strict && !is(Mutant::KeptBesideMark) || self.version_of.is_some();
                return if beside { Before::Beside } else { Before::Nothing };
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(busy)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            allowance.renew();
        }
    }

    fn leave_alone(&self, event: Event) -> Before<V> {
        self.counters.count(event);
        tracing::debug!("L2 holds something foreign or newer under a key of this cache; it is left alone");
        Before::Nothing
    }

    /// Stores in L1, unless the key was invalidated since the flight began.
    fn keep(&self, flight: &Flight<K, V>, value: &V, terms: &Terms) {
        let ticket = &flight.ticket;
        self.keep_newest(ticket.hash(), &flight.key, value, terms, &|| self.admits(ticket.is_live()));
    }

    /// The last resort of a failed load, or its error.
    fn fall_back(&self, flight: &Flight<K, V>, last_resort: Option<LastResort<V>>, err: Error) -> Outcome<V> {
        // Before the ticket: what is verified from now on poisons first.
        let standing = last_resort.as_ref().map_or(Standing::Unknown, |resort| self.resorts_to(resort));
        match last_resort {
            Some(resort) if standing != Standing::Unknown && self.clock.now() < resort.stamp.last && flight.ticket.is_live() => {
                let LastResort { value, stamp, terms, .. } = resort;
                self.counters.count(Event::StaleIfError);
                tracing::debug!(kind = ?err.kind(), "the load failed; a stale value is served");
                // The next read finds it here, beside the backoff.
                if let Some(terms) = terms {
                    self.keep(flight, &value, &terms);
                }
                let freshness = if standing == Standing::Grace {
                    self.counters.count(Event::Unverified);
                    Freshness::Unverified
                } else {
                    Freshness::Stale { why: Why::OriginFailed }
                };
                Ok(Answer { value, tier: Tier::L1, created: stamp.created, freshness })
            }
            _ => Err(err),
        }
    }

    /// How a last resort stands. One from L1 is as old as the last poll that counted: whoever has joined the flight since it began may come later than a bound after.
    fn resorts_to(&self, resort: &LastResort<V>) -> Standing {
        let now = self.clock.now();
        let standing = |partition| self.standing(partition, resort.stamp.created, now);
        resort.recalled.map_or(Standing::Verified, standing)
    }

    pub(super) fn l2_failed(&self, verb: &'static str, err: &Error) {
        self.counters.count(Event::L2Error);
        tracing::debug!(cache = %self.name, verb, kind = ?err.kind(), "L2 failed");
    }
}

/// Of the flight's key; without L2 nothing is ever suspected by partition, so the key is not encoded to know it.
fn partition<K, V>(remote: Option<&(&Second<K, V>, RemoteKey)>) -> Partition {
    remote.map_or_else(Partition::default, |(_, key)| key.partition())
}
