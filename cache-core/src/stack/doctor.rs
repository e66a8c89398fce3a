//! The doctor: one call that looks at a live set-up and says in words what is wrong.

use super::checker::Checker;
use super::second::Second;
use super::{Inner, TieredCache};
use crate::clock::Clock;
use crate::coherence::{Ear, Frame};
use crate::diagnosis::{Diagnosis, Examine, Examined, Finding, Severity};
use crate::key::RemoteKey;
use crate::local::LocalTier;
use crate::partition::Partition;
use crate::record::{Body, Life, Record};
use crate::remote::{Acquire, Acquired, Claim, Fill, Filled, Invalidated, Invalidation, Receipt};
use crate::token::Token;
use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long listening may take to begin, and a message to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// A message that takes longer than this is one that readers notice.
const SLOW_MESSAGE: Duration = Duration::from_millis(100);
/// The same of an answer of L2.
const SLOW_ANSWER: Duration = Duration::from_millis(20);
/// How often each record is read.
const READS: usize = 5;
/// Clocks that are further apart than this were not set by anybody.
const SKEW: Duration = Duration::from_secs(2);
/// What the record of the test lives for.
const LIFE: Duration = Duration::from_secs(60);

impl<K, V, L> TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Looks at the set-up as it is now, and says in words what is wrong with it and what to do: for a deployment's smoke test, an admin page, the first
    /// minute of an incident.
    ///
    /// It writes a record of its own into L2, in a cluster one on each master, reads it back, invalidates it, and listens for that message as another node would;
    /// compares clocks; asks whether L1 is verified within its bound; looks for options that do nothing; and has L2 [examined](crate::RemoteTier::examine): of Redis
    /// that is its version, the eviction policy that this cache needs, replicas and how far they lag, the keys that count invalidations, the coverage of a cluster, and
    /// the versions of all nodes that listen there.
    ///
    /// Takes a few round trips, and up to 15 s where something is broken. Needs a tokio runtime. Safe to cancel, and to call beside traffic: its records, under random keys
    /// that no key of the cache is, are gone after a minute.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::{EmbeddedTier, TieredCache};
    ///
    /// let cache = TieredCache::<u64, String>::builder("product").l2(EmbeddedTier::new()).build()?;
    /// let diagnosis = cache.doctor().await;
    /// assert!(diagnosis.is_well(), "{diagnosis}");
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    pub async fn doctor(&self) -> Diagnosis {
        let inner = &self.inner;
        let mut findings = inner.idle_options();
        match &inner.l2 {
            None => findings.push(Finding::new(Severity::Note, "L2", "there is none: each process has what it loaded itself")),
            Some(l2) => {
                let examine = Examine { prefix: l2.namespace.prefix(), strict: inner.strict };
                let Examined { findings: examined, partitions } = l2.tier.examine(&examine).await;
                let works = Visit { l2, clock: &inner.clock }.pay(&partitions, &mut findings).await;
                if works {
                    inner.examine_bound(&mut findings).await;
                }
                findings.extend(examined);
            }
        }
        Diagnosis::new(findings)
    }
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// What was asked for and has no effect.
    fn idle_options(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut idle = |applies: bool, text: &str| {
            if applies {
                findings.push(Finding::new(Severity::Warning, "options", text));
            }
        };
        let has_l1 = self.l1.capacity().is_some();
        idle(!has_l1 && self.ttl.l1_limit().is_some(), "l1_at_most does nothing: there is no L1");
        idle(!has_l1 && self.ttl.idle().is_some(), "time_to_idle does nothing: there is no L1");
        let outlives = |limit| limit >= self.ttl.longest();
        idle(has_l1 && self.ttl.l1_limit().is_some_and(outlives), "l1_at_most does nothing: values do not live that long");
        idle(has_l1 && self.ttl.idle().is_some_and(outlives), "time_to_idle does nothing: values do not live that long");
        idle(
            self.ttl.is_stale_for_a_while() && self.origin.is_none(),
            "without an origin nobody refreshes behind `get`: stale values are served until their hard end, unless get_or_load is called",
        );
        idle(
            self.ttl.outlives_errors() && self.origin.is_none(),
            "stale_if_error does nothing for `get` without an origin, which alone can fail: only get_or_load makes use of it",
        );
        idle(self.version_of.is_some() && self.l2.is_none(), "versioned does nothing: there is no L2");
        for option in &self.without_l2 {
            idle(true, &format!("{option} does nothing: there is no L2"));
        }
        let hears = self.coherent.is_some();
        idle(
            self.checker.is_some() && !hears,
            "checked does nothing: this cache is incoherent, or its L2 has no messages, and without them there is no bound to hold",
        );
        let cannot_read = self.checker.as_ref().is_some_and(Checker::cannot_read);
        idle(
            hears && cannot_read,
            "checked does nothing for keys that cannot be read from how they are encoded: give their type a Key::read",
        );
        let shares = has_l1 && self.l2.is_some() && self.coherent.is_none();
        if shares {
            let text = "L1 does not follow other nodes: it serves what they overwrote until its TTL ends. With more than one process leave `incoherent` out, \
                and take an L2 that has messages";
            findings.push(Finding::new(Severity::Note, "coherence", text));
        }
        findings
    }

    /// Whether L1 may be relied on.
    async fn examine_bound(&self, findings: &mut Vec<Finding>) {
        let Some(coherent) = self.coherent.as_ref().filter(|_| self.l1.capacity().is_some()) else { return };
        let bound = coherent.coherence.bound;
        coherent.deployment.start();
        let verified = coherent.deployment.verified(bound, PATIENCE).await;
        findings.push(if verified {
            Finding::new(Severity::Fine, "bound", format!("all partitions are verified, within {bound:?}"))
        } else {
            let count = coherent.deployment.unverified(bound);
            let text = format!(
                "{count} of 256 partitions are not verified within {bound:?}: L1 asks L2 again for what it has of them. Either messages do not come, or \
                polls fail; Stats::coherence has both"
            );
            Finding::new(Severity::Fault, "bound", text)
        });
        let owed = self.recovery.owed();
        if owed > 0 {
            let text = format!("{owed} keys were invalidated here while L2 could not be told; they are told when it can be");
            findings.push(Finding::new(Severity::Warning, "owed", text));
        }
    }
}

/// A test of L2 with records of its own, one on each server.
struct Visit<'a, K, V> {
    l2: &'a Second<K, V>,
    clock: &'a Clock,
}

/// How long something took, or why it failed.
type Took = Result<Duration, String>;

impl<K, V: 'static> Visit<'_, K, V> {
    /// Whether L2 works, on one server at least.
    async fn pay(&self, partitions: &[Partition], findings: &mut Vec<Finding>) -> bool {
        let keys: Vec<_> = match partitions {
            [] => vec![self.key(None)],
            each => each.iter().map(|partition| self.key(Some(*partition))).collect(),
        };
        let visits = join_all(keys.iter().map(|key| self.write_and_read(key))).await;
        let worked = keys.into_iter().zip(&visits).filter(|(_, visit)| visit.is_ok()).map(|(key, _)| key);
        let keys: Vec<_> = worked.collect();
        findings.extend(of_each("L2", &visits, |quickest| {
            let text = format!("written and read back, {quickest:.1?} a read");
            if quickest > SLOW_ANSWER {
                (Severity::Warning, format!("{text}: each miss of L1 waits for that"))
            } else {
                (Severity::Fine, text)
            }
        }));
        if keys.is_empty() {
            return false;
        }
        findings.push(self.compare_clocks(&keys).await);
        if self.l2.notice.is_some() {
            findings.extend(self.publish_and_receive(&keys).await);
        }
        true
    }

    /// A key of this partition, random, so that it is no other key's.
    fn key(&self, of: Option<Partition>) -> RemoteKey {
        loop {
            let key = self.l2.namespace.encode(|parts| {
                parts.push(b"!doctor");
                parts.push(Token::unique().as_bytes());
                parts.push(b"");
            });
            // One in 256 is.
            if of.is_none_or(|partition| partition == key.partition()) {
                return key;
            }
        }
    }

    /// The quickest of some reads.
    async fn write_and_read(&self, key: &RemoteKey) -> Took {
        let tier = &self.l2.tier;
        let token = Token::unique();
        let Second { lease, retain, schema, .. } = *self.l2;
        let acquire = Acquire { token, claim: Claim::Vacant, lease, retain, schema, generation: 0 };
        let granted = tier.acquire(key, &acquire).await.map_err(|err| format!("a record cannot be written: {err}"))?;
        let Acquired::Granted { at, .. } = granted else {
            return Err("a key that nobody else has is not vacant: is something else writing here?".to_owned());
        };
        let life = Life { soft: LIFE, hard: LIFE, last: LIFE };
        let payload = Bytes::copy_from_slice(token.as_bytes());
        let body = Body { life, payload: payload.clone(), ..Body::empty(self.l2.schema, 0, key.echo()) };
        let filled = tier.fill(key, &Fill { token, version: 0, created: at, body }).await;
        match filled.map_err(|err| format!("a record cannot be stored: {err}"))? {
            Filled::Stored => {}
            refused => {
                return Err(format!(
                    "a lease that was just given is not honoured ({refused:?}): is another server answering in turns?"
                ));
            }
        }
        // The quickest of some: the others had to wait for something else.
        let mut quickest = PATIENCE;
        for _ in 0..READS {
            let began = Instant::now();
            let fetched = tier.get(key).await.map_err(|err| format!("a record cannot be read: {err}"))?;
            quickest = quickest.min(began.elapsed());
            let read = fetched
                .record
                .ok_or("what was just stored is not there: does L2 evict at once, or does a replica answer that lags?")?;
            match Record::decode(&read, key.echo()) {
                Ok(record) if record.body.payload == payload => {}
                _ => return Err("what was stored is not what is read: something between here and L2 changes bytes".to_owned()),
            }
        }
        Ok(quickest)
    }

    async fn compare_clocks(&self, keys: &[RemoteKey]) -> Finding {
        let mut furthest = Duration::ZERO;
        for fetched in join_all(keys.iter().map(|key| self.l2.tier.get(key))).await {
            let Ok(fetched) = fetched else {
                return Finding::new(Severity::Warning, "clock", "L2 did not tell its time");
            };
            furthest = furthest.max(Duration::from_millis(fetched.now.abs_diff(self.clock.unix_ms())));
        }
        if furthest > SKEW {
            let text = format!(
                "this machine's and L2's are {furthest:.1?} apart. Lives and leases go by L2's, so nothing breaks; but logs will not fit together: set them (NTP)"
            );
            Finding::new(Severity::Warning, "clock", text)
        } else {
            Finding::new(Severity::Fine, "clock", format!("this machine's and L2's are {furthest:.1?} apart"))
        }
    }

    /// Listens as another node would, by a subscription of its own.
    async fn publish_and_receive(&self, keys: &[RemoteKey]) -> Vec<Finding> {
        let hearing = Arc::new(Hearing::default());
        let ear: Arc<dyn Ear> = hearing.clone();
        let Some(_listening) = self.l2.tier.listen(self.l2.namespace.prefix(), Arc::downgrade(&ear)) else {
            return vec![Finding::new(Severity::Fault, "messages", "L2 has no messages")];
        };
        let told = join_all(keys.iter().map(|key| self.tell(key, &hearing))).await;
        of_each("messages", &told, |took| {
            let text = format!("published and received, {took:.1?} from the call to the message");
            if took > SLOW_MESSAGE {
                (Severity::Warning, format!("{text}: other nodes' L1 is older by that"))
            } else {
                (Severity::Fine, text)
            }
        })
    }

    /// From the call to the message.
    async fn tell(&self, key: &RemoteKey, hearing: &Hearing) -> Took {
        let mut heard = hearing.changed.subscribe();
        let partition = key.partition();
        let listens = heard.wait_for(|()| hearing.state.lock().listening.contains(&partition));
        timeout(PATIENCE, listens).await.ok().and_then(Result::ok).ok_or(
            "nobody can listen to invalidations: may this user SUBSCRIBE, PUBLISH and use the channels? Until then L1 asks L2 about all it has",
        )?;
        let invalidation = Invalidation { key: key.clone(), version: None };
        let began = Instant::now();
        let told = self.l2.tier.invalidate(&[invalidation], self.l2.retain, self.l2.notice.as_ref()).await;
        let told = told.map_err(|err| format!("an invalidation cannot be told: {err}"))?;
        if told.outcome != [Invalidated::Tombstoned] {
            return Err("an invalidation leaves the record as it was".to_owned());
        }
        let [receipt] = told.receipts[..] else {
            return Err("L2 had no memory to tell other nodes of an invalidation: they notice by their next polls".to_owned());
        };
        let comes = heard.wait_for(|()| hearing.state.lock().messages.contains(&receipt));
        timeout(PATIENCE, comes).await.ok().and_then(Result::ok).ok_or(
            "the message of an invalidation does not come to who has subscribed: other nodes follow by polls alone, within the bound",
        )?;
        Ok(began.elapsed())
    }
}

/// What several servers have in common is said once, with how many they are; of those that are well, of the slowest.
fn of_each(about: &'static str, took: &[Took], say: impl Fn(Duration) -> (Severity, String)) -> Vec<Finding> {
    let all = took.len();
    let found = |(severity, text): (Severity, String), count: usize| {
        let text = if all > 1 { format!("on {count} of {all} servers: {text}") } else { text };
        Finding::new(severity, about, text)
    };
    let mut failed: BTreeMap<&str, usize> = BTreeMap::new();
    took.iter().filter_map(|took| took.as_ref().err()).for_each(|text| *failed.entry(text).or_default() += 1);
    let worked: Vec<_> = took.iter().filter_map(|took| took.as_ref().ok()).collect();
    let well = worked.iter().max().map(|slowest| found(say(**slowest), worked.len()));
    let broken = failed.into_iter().map(|(text, count)| found((Severity::Fault, text.to_owned()), count));
    broken.chain(well).collect()
}

/// What is heard by the doctor's own subscription.
#[derive(Default)]
struct Hearing {
    state: Mutex<Heard>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Heard {
    listening: Vec<Partition>,
    messages: Vec<Receipt>,
}

impl Ear for Hearing {
    fn listening(&self, partitions: &[Partition]) {
        self.state.lock().listening.extend(partitions);
        self.changed.send_replace(());
    }

    fn deaf(&self, partitions: &[Partition]) {
        self.state.lock().listening.retain(|partition| !partitions.contains(partition));
    }

    fn hear(&self, partition: Partition, message: &[u8]) {
        let Some(Frame { incarnation, sequence, .. }) = Frame::decode(message) else { return };
        self.state.lock().messages.push(Receipt { partition, incarnation, sequence });
        self.changed.send_replace(());
    }

    fn changed(&self, _: &[u8]) {}

    fn may_have_changed(&self, _: &[Partition]) {}
}
