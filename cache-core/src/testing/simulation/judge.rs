//! What a trial has seen, and what of it the promise does not allow.

use super::database::{Database, Row};
use super::plan::Plan;
use super::world::{Asked, Change, Executed, Node, Watch, World};
use crate::answer::{Freshness, Tier};
use crate::codec::{Codec, MessagePack};
use crate::coherence::Frame;
use crate::key::RemoteKey;
use crate::partition::Partition;
use crate::record::{Record, State};
use crate::remote::{Receipt, RemoteTier};
use crate::token::Token;
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

/// A server that was away and is back is known to be back so much later: a request's timeout, and a retry.
const SEEN_TO_BE_BACK: Duration = Duration::from_secs(3);

/// What must not have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which of the invariants (`I1` to `I14`, as DESIGN.md has them) does not hold.
    pub invariant: &'static str,
    /// What happened.
    pub text: String,
    /// Of which key.
    pub key: u64,
    /// When what it is about began, and when it was seen.
    pub span: (Duration, Duration),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (key {}, at {} ms): {}", self.invariant, self.key, self.span.1.as_millis(), self.text)
    }
}

/// An instant: time, and a number that orders what happens at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant {
    pub(super) time: Duration,
    order: u64,
}

impl Instant {
    /// Later than whatever happens at that time.
    fn end_of(time: Duration) -> Self {
        Self { time, order: u64::MAX }
    }
}

/// A read, as its client saw it.
pub(super) struct Read {
    pub(super) process: usize,
    pub(super) node: usize,
    pub(super) key: usize,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) row: Row,
    /// Where the answer was from, how it was marked, and its age; `None` where the call does not say.
    pub(super) marks: Option<(Tier, Freshness, Duration)>,
    /// What it was to cover.
    pub(super) after: Option<Written>,
}

/// A write that a token is from.
#[derive(Clone, Copy)]
pub(super) struct Written {
    pub(super) version: u64,
    pub(super) process: usize,
    pub(super) node: usize,
    pub(super) since: Instant,
}

/// Something that must not be read any more: what is older than this version.
struct Claim {
    key: usize,
    version: u64,
    /// Who has told the server, and not before when.
    process: usize,
    node: usize,
    since: Instant,
    from: Instant,
    /// Of the processes that are bound by it at once. All others are within the bound.
    only: Option<usize>,
    /// It is of L1 alone.
    kept: bool,
    /// A poll has told the process so, and no message: it is of what is served in grace alone.
    polled: bool,
}

#[derive(Clone, Copy)]
struct Message {
    key: usize,
    version: u64,
    process: usize,
    node: usize,
    at: Instant,
}

struct Execution {
    at: Instant,
    process: usize,
    node: usize,
    key: usize,
    version: u64,
}

/// Loads of a key by a process.
#[derive(Default)]
struct Loads {
    begun: u64,
    /// When those began that run.
    running: Vec<Duration>,
    /// From when on none may be given up and begun anew, as far as its own writes and messages go.
    untouched: Duration,
}

#[derive(Default)]
struct Seen {
    order: u64,
    executions: Vec<Execution>,
    /// What a message tells: keys and versions.
    messages: HashMap<Receipt, Vec<Message>>,
    /// What L2 must not fall below, and the same as the replica had it that will be promoted.
    floors: Vec<u64>,
    replicated: HashMap<Duration, (Instant, Vec<u64>)>,
    /// Snapshot and promotion of each failover.
    failovers: Vec<(Instant, Instant)>,
    claims: Vec<Claim>,
    reads: Vec<Read>,
    /// By process, since when it does not listen.
    deaf: HashMap<usize, Instant>,
    /// By process, how often it has begun to listen, and whether a poll was sent and answered under one subscription.
    subscriptions: HashMap<usize, (u64, bool)>,
    /// The version that polls have last told a process of, by process and key.
    polled: HashMap<(usize, usize), u64>,
    /// Marks by process and key, and what was committed under them: mark, commit, version.
    marks: HashMap<(usize, usize), Duration>,
    commits: Vec<(usize, usize, Duration, Duration, u64)>,
    loads: HashMap<(usize, usize), Loads>,
    /// Calls that have not come back: of which node and key, and since when.
    open: BTreeMap<u64, (Node, usize, Duration)>,
    /// By process: how often it has suspected something, and when that was last seen to have changed.
    suspicions: HashMap<usize, (u64, Duration)>,
    /// Who was granted a lease.
    granted: HashMap<Token, usize>,
    /// What a foreign program last committed of each key.
    foreign: HashMap<usize, u64>,
    violations: Vec<Violation>,
    history: Vec<(Option<usize>, Duration, String)>,
}

impl Seen {
    /// When the server was first told of a version by a process, after this.
    fn executed(&self, process: usize, key: usize, version: u64, after: Instant) -> Option<Instant> {
        let of = |one: &&Execution| one.process == process && one.key == key && one.at > after && one.version >= version;
        self.executions.iter().find(of).map(|one| one.at)
    }
}

/// See the module.
pub(super) struct Judge {
    pub(super) plan: Plan,
    pub(super) database: Database,
    world: World,
    keys: HashMap<Vec<u8>, usize>,
    remote: Vec<RemoteKey>,
    seen: Mutex<Seen>,
    /// Whether a history is written.
    writes: bool,
}

impl Judge {
    pub(super) fn new(plan: Plan, world: World, writes: bool) -> Self {
        let namespace = Plan::namespace();
        let remote: Vec<_> = plan.keys.iter().map(|key| namespace.key(key)).collect();
        let keys = remote.iter().enumerate().map(|(at, key)| (key.as_bytes().to_vec(), at)).collect();
        let seen = Seen { floors: vec![0; plan.keys.len()], ..Seen::default() };
        let database = Database::new(plan.keys.len());
        Self { plan, database, world, keys, remote, seen: Mutex::new(seen), writes }
    }

    /// A process begins, and does not listen so far.
    pub(super) fn begins(&self, process: usize) {
        self.listens(process, false);
    }

    pub(super) fn instant(&self) -> Instant {
        let mut seen = self.seen.lock();
        seen.order += 1;
        Instant { order: seen.order, time: self.world.now() }
    }

    /// A line of the history, of one key or of all.
    pub(super) fn note(&self, key: Option<usize>, text: impl FnOnce() -> String) {
        if self.writes {
            let at = self.world.now();
            self.seen.lock().history.push((key, at, text()));
        }
    }

    pub(super) fn violated(&self, invariant: &'static str, key: usize, since: Duration, text: String) {
        let span = (since, self.world.now());
        self.seen.lock().violations.push(Violation { invariant, text, key: self.plan.keys[key], span });
    }

    /// The record that the server has of a key, and the row in it.
    fn stored(&self, key: usize) -> Option<(Record, Option<Row>)> {
        let fetched = self.world.0.server.get(&self.remote[key]).now_or_never()?.ok()?;
        let record = Record::decode_any(&fetched.record?).ok()?;
        let has_value = matches!(record.state, State::Value | State::Refresh);
        let row = has_value.then(|| MessagePack.decode(&record.body.payload).ok()).flatten();
        Some((record, row))
    }

    /// Something was committed by a node's write.
    pub(super) fn committed(&self, process: usize, key: usize, version: u64) {
        let now = self.world.now();
        if !self.plan.strict {
            return;
        }
        if let Some((record, Some(row))) = self.stored(key)
            && row.version < version
        {
            let text = format!("version {version} is committed while L2 has {} ({:?})", row.version, record.state);
            self.violated("I11", key, now, text);
        }
        let mut seen = self.seen.lock();
        if let Some(mark) = seen.marks.get(&(process, key)).copied() {
            seen.commits.push((process, key, mark, now, version));
        }
    }

    /// A program that knows nothing of caches commits a row, and then removes what L2 has of it.
    pub(super) fn foreign(&self, key: usize) {
        let version = self.database.commit(key, self.world.now());
        self.note(Some(key), || format!("a foreign program commits version {version} and removes the record"));
        self.seen.lock().foreign.insert(key, version);
        self.world.0.server.unplant(&self.remote[key]);
    }

    /// A client calls.
    pub(super) fn opens(&self, node: &Node, key: usize) -> u64 {
        let began = self.instant();
        self.seen.lock().open.insert(began.order, (node.clone(), key, began.time));
        began.order
    }

    /// Its call has come back.
    pub(super) fn closes(&self, open: u64) {
        let call = self.seen.lock().open.remove(&open);
        if let Some((node, key, began)) = call {
            self.in_time(&node, key, began);
        }
    }

    /// Every call ends by its deadline: what a load may take, a second more, and what L2 may take before and behind a write. A process that stood has no clock then.
    fn in_time(&self, node: &Node, key: usize, began: Duration) {
        let (now, plan) = (self.world.now(), &self.plan);
        let took = now.saturating_sub(began).saturating_sub(plan.stood(node.index(), began, now));
        let limit = plan.load_timeout + Duration::from_millis(1_200) + plan.request_timeout * 4;
        if took > limit && !node.process().is_dead() {
            self.violated("I7", key, began, format!("a call of node{} has taken {took:?}", node.index()));
        }
    }

    /// The process may give up what it loads of these keys, until some time from now.
    pub(super) fn touches(&self, process: usize, keys: &[usize], lasts: Duration) {
        let until = self.world.now() + lasts;
        let mut seen = self.seen.lock();
        for key in keys {
            let loads = seen.loads.entry((process, *key)).or_default();
            loads.untouched = loads.untouched.max(until);
        }
    }

    pub(super) fn load_begins(&self, process: usize, key: usize, suspicions: u64) -> Duration {
        let (now, plan) = (self.world.now(), &self.plan);
        let mut guard = self.seen.lock();
        let seen = &mut *guard;
        let suspected = seen.suspicions.entry(process).or_insert((suspicions, now));
        if suspected.0 != suspicions {
            *suspected = (suspicions, now);
        }
        let loads = seen.loads.entry((process, key)).or_default();
        // A flight may have begun that much earlier than its load.
        let ahead = plan.load_timeout / 2 + plan.request_timeout;
        let quiet = loads.untouched.max(suspected.1) + ahead;
        let joinable =
            loads.running.iter().copied().find(|began| quiet < *began && now < *began + plan.bound.saturating_sub(ahead));
        loads.begun += 1;
        loads.running.push(now);
        drop(guard);
        if let Some(began) = joinable {
            self.violated("I8", key, began, format!("process {process} loads, and has loaded since {began:?}"));
        }
        now
    }

    /// A load has ended; one that failed gives its lease back.
    pub(super) fn load_ends(&self, process: usize, key: usize, began: Duration) {
        let mut seen = self.seen.lock();
        let loads = seen.loads.entry((process, key)).or_default();
        if let Some(at) = loads.running.iter().position(|one| *one == began) {
            loads.running.swap_remove(at);
        }
    }

    /// The lease of a key, if this process has it, and how many loads of it the process has begun, if none runs.
    pub(super) fn idle_lease(&self, process: usize, key: usize) -> Option<(Token, u64)> {
        let (record, _) = self.stored(key)?;
        let seen = self.seen.lock();
        let leased = matches!(record.state, State::Lease | State::Refresh) && seen.granted.get(&record.token) == Some(&process);
        let loads = seen.loads.get(&(process, key))?;
        (leased && loads.running.is_empty()).then_some((record.token, loads.begun))
    }

    /// A write or an invalidation has come to its end: nothing older than these versions may be read.
    pub(super) fn told(&self, process: usize, node: usize, keys: &[(usize, u64)], began: Instant, is_ok: bool) {
        let ended = self.instant();
        for (key, version) in keys.iter().copied() {
            let mut seen = self.seen.lock();
            let was_told = seen.executed(process, key, version, began).is_some();
            // The node itself knows at once, whatever became of it.
            let claim =
                |from: Instant, only| Claim { key, version, process, node, since: began, from, only, kept: false, polled: false };
            seen.claims.push(claim(ended, Some(process)));
            // What could not be told is told as soon as it can be.
            let told = if is_ok { Some(ended) } else { self.plan.told_by(node, ended.time).map(Instant::end_of) };
            seen.claims.extend(told.map(|told| claim(told, None)));
            drop(seen);
            if is_ok && !was_told {
                self.violated(
                    "Ok",
                    key,
                    began.time,
                    format!("node{node} said Ok for version {version}, which the server was not told of"),
                );
            }
        }
    }

    pub(super) fn read(&self, read: Read) {
        let key = read.key;
        if read.row.key != self.plan.keys[key] {
            self.violated("I13", key, read.began.time, format!("asked for {}, got {:?}", self.plan.keys[key], read.row));
        }
        if let Some((Tier::L1, Freshness::Fresh, age)) = read.marks {
            let deaf = self.seen.lock().deaf.get(&read.process).copied();
            if let Some(since) = deaf.filter(|since| *since < read.began)
                && age > self.plan.bound + Duration::from_millis(10)
            {
                let text =
                    format!("node{} trusts an entry of {age:?} ago and has not listened since {:?}", read.node, since.time);
                self.violated("trust", key, since.time, text);
            }
        }
        let well_since = read.began.time.saturating_sub(SEEN_TO_BE_BACK);
        if matches!(read.marks, Some((Tier::L1, Freshness::Unverified, _)))
            && !self.plan.disturbed(read.node, well_since, read.ended.time)
        {
            let text =
                format!("node{} serves what it cannot verify, and the server has answered since {well_since:?}", read.node);
            self.violated("grace", key, well_since, text);
        }
        self.seen.lock().reads.push(read);
    }

    /// Looks at every read, once all is over.
    pub(super) fn verdict(&self) -> (Vec<Violation>, u64) {
        let open = std::mem::take(&mut self.seen.lock().open);
        for (node, key, began) in open.into_values() {
            self.in_time(&node, key, began);
        }
        let mut seen = self.seen.lock();
        let (mut found, mut unverified) = (Vec::new(), 0);
        for read in &seen.reads {
            if matches!(read.marks, Some((_, Freshness::Unverified, _))) {
                unverified += 1;
            }
            found.extend(self.wrong(&seen, read));
        }
        seen.violations.extend(found);
        (std::mem::take(&mut seen.violations), unverified)
    }

    fn wrong(&self, seen: &Seen, read: &Read) -> Option<Violation> {
        let tier = read.marks.map(|(tier, ..)| tier);
        // What a replica says is marked, and no older than that lags; loads of a lagging database are checked where they would be kept.
        if tier == Some(Tier::L2Replica) || self.plan.lag.is_some() || (read.marks.is_none() && self.plan.replicas.is_some()) {
            return None;
        }
        let is_verified = read.marks.is_some_and(|(_, freshness, _)| freshness != Freshness::Unverified);
        let allowed = if is_verified { self.plan.bound } else { self.plan.bound + self.plan.grace };
        let violation = |invariant, since, text| {
            Some(Violation { invariant, text, key: self.plan.keys[read.key], span: (since, read.ended.time) })
        };
        let got = format!("node{} read version {} ({:?}) from {:?} on", read.node, read.row.version, read.marks, read.began.time);
        for claim in seen.claims.iter().filter(|claim| claim.key == read.key && claim.version > read.row.version) {
            let (version, node, from) = (claim.version, claim.node, claim.from.time);
            match claim.only {
                _ if claim.kept && tier != Some(Tier::L1) => {}
                _ if claim.polled && (is_verified || tier != Some(Tier::L1)) => {}
                Some(process)
                    if process == read.process && claim.from < read.began && !self.lost(seen, claim, read, Duration::ZERO) =>
                {
                    return violation("I2", from, format!("{got}; it knew of {version} since {from:?}"));
                }
                None if claim.from.time + allowed < read.began.time && !self.lost(seen, claim, read, allowed) => {
                    let invariant = if is_verified { "I3" } else { "grace" };
                    return violation(
                        invariant,
                        from,
                        format!("{got}; node{node} had told {version} by {from:?}, more than {allowed:?} before"),
                    );
                }
                _ => {}
            }
        }
        if let Some(Written { version, process, node, since }) = read.after
            && version > read.row.version
        {
            let claim =
                Claim { key: read.key, version, process, node, since, from: read.began, only: None, kept: false, polled: false };
            if !self.lost(seen, &claim, read, Duration::ZERO) {
                return violation("I12", since.time, format!("{got}, with the token of {version}"));
            }
        }
        self.beside_a_mark(seen, read).and_then(|text| violation("I11", read.began.time, format!("{got}; {text}")))
    }

    /// An entry of L1 that was loaded between a mark and its commit.
    fn beside_a_mark(&self, seen: &Seen, read: &Read) -> Option<String> {
        let (Tier::L1, _, age) = read.marks? else { return None };
        let created = read.ended.time.saturating_sub(age);
        let tick = Duration::from_millis(4);
        seen.commits.iter().find_map(|(process, key, mark, commit, version)| {
            let beside = *key == read.key && *process != read.process && created > *mark + tick && created < *commit;
            let wrong = beside && read.began.time > *commit && read.row.version < *version;
            let disturbed = || {
                (0..self.plan.nodes)
                    .any(|node| self.plan.disturbed(node, mark.saturating_sub(Duration::from_secs(2)), read.ended.time))
            };
            (wrong && !disturbed())
                .then(|| format!("it was loaded beside the mark of {version}, which stood from {mark:?} to {commit:?}"))
        })
    }

    /// Whether a failover had lost what was told, and it was not told again long enough ago.
    fn lost(&self, seen: &Seen, claim: &Claim, read: &Read, allowed: Duration) -> bool {
        let mut held = seen.executed(claim.process, claim.key, claim.version, claim.since).unwrap_or(claim.from);
        for (snapshot, promoted) in &seen.failovers {
            if held < *snapshot || held > *promoted {
                continue;
            }
            let mut again = seen.executions.iter();
            let again =
                again.find(|one| one.key == claim.key && one.version >= claim.version && one.at > *promoted).map(|one| one.at);
            let due = self.plan.told_by(claim.node, promoted.time).map(Instant::end_of);
            let again = again.into_iter().chain(due).min().unwrap_or(Instant::end_of(Duration::MAX));
            // What L2 has given meanwhile may stand in L1 for a bound more.
            if read.ended >= *promoted && read.began.time <= again.time.saturating_add(allowed.max(self.plan.bound)) {
                return true;
            }
            held = again;
        }
        false
    }

    /// The lines about a violation: what happened to its key.
    pub(super) fn history(&self, violation: &Violation) -> Vec<String> {
        let key = self.plan.keys.iter().position(|key| *key == violation.key);
        let (from, to) = (violation.span.0.saturating_sub(self.plan.bound), violation.span.1);
        let seen = self.seen.lock();
        let about = seen.history.iter().filter(|(of, at, _)| (of.is_none() || *of == key) && (from..=to).contains(at));
        about.map(|(_, at, text)| format!("{:>7} ms  {text}", at.as_millis())).collect()
    }
}

impl Watch for Judge {
    fn executed(&self, call: &Executed<'_>) {
        let now = self.instant();
        let key_of = |key: &RemoteKey| self.keys.get(key.as_bytes()).copied();
        let (process, verb) = (call.process, call.verb);
        let told: Vec<_> = if verb == "clear" {
            (0..self.remote.len()).map(|key| (key, None)).collect()
        } else {
            call.told.iter().filter_map(|told| Some((key_of(&told.key)?, told.version))).collect()
        };
        // Without a version: what is loaded from now on is as new as the database, unless that is a replica which lags.
        let current = |key| if self.plan.lag.is_some() { 0 } else { self.database.version(key) };
        let told: Vec<_> = told.into_iter().map(|(key, version)| (key, version.unwrap_or_else(|| current(key)))).collect();
        {
            let mut seen = self.seen.lock();
            for (key, version) in told.iter().copied() {
                seen.floors[key] = seen.floors[key].max(version);
                seen.executions.push(Execution { at: now, process, node: call.node, key, version });
            }
            for receipt in call.receipts {
                let of = told.iter().filter(|(key, _)| self.remote[*key].partition() == receipt.partition);
                let of = of.map(|(key, version)| Message { key: *key, version: *version, process, node: call.node, at: now });
                let of = of.collect();
                seen.messages.insert(*receipt, of);
            }
            if let ("mark", [key]) = (verb, call.keys)
                && let Some(key) = key_of(key)
            {
                seen.marks.insert((process, key), now.time);
            }
        }
        let touched: Vec<_> = told.iter().map(|(key, _)| *key).collect();
        self.touches(process, &touched, self.plan.request_timeout);
        for key in call.keys.iter().filter_map(key_of) {
            self.note(Some(key), || {
                let stored = self.stored(key).map(|(record, row)| (record.state, record.version, row.map(|row| row.version)));
                format!("server: {verb} of process {process} {told:?} leaves {stored:?}")
            });
            let Some((record, row)) = self.stored(key) else { continue };
            if verb == "acquire" {
                self.seen.lock().granted.entry(record.token).or_insert(process);
            }
            let Some(row) = row else { continue };
            let (floor, current) = (self.seen.lock().floors[key], self.database.version(key));
            if matches!(verb, "fill" | "put") && row.version < floor {
                self.violated("I1", key, now.time, format!("L2 has version {} after {floor} was invalidated", row.version));
            }
            if self.plan.strict && verb.starts_with("get") && verb != "get-from-replica" && row.version < current {
                self.violated("I11", key, now.time, format!("a hit in L2 of {}, and {current} is committed", row.version));
            }
        }
        if verb == "clear" {
            self.note(None, || format!("server: clear of process {process}"));
        }
    }

    fn heard(&self, process: usize, partition: Partition, message: &[u8]) {
        let Some(Frame { incarnation, sequence, .. }) = Frame::decode(message) else { return };
        let from = self.instant();
        let receipt = Receipt { partition, incarnation, sequence };
        let told = self.seen.lock().messages.get(&receipt).cloned().unwrap_or_default();
        for Message { key, version, process: by, node, at } in told {
            self.note(Some(key), || format!("process {process} hears of {version}"));
            self.touches(process, &[key], Duration::ZERO);
            // Who has sent it keeps the key blocked until it has the answer.
            if by != process {
                let since = Instant { order: at.order - 1, time: at.time };
                let claim =
                    Claim { key, version, process: by, node, since, from, only: Some(process), kept: false, polled: false };
                self.seen.lock().claims.push(claim);
            }
        }
    }

    fn change(&self, key: &[u8]) -> Option<Change> {
        let key = *self.keys.get(key)?;
        let version = self.seen.lock().foreign.get(&key).copied()?;
        Some(Change { key, version })
    }

    fn changed(&self, process: usize, change: &Change) {
        let from = self.instant();
        let Change { key, version } = *change;
        self.note(Some(key), || format!("process {process} hears that a foreign program may have written {version}"));
        let claim = Claim { key, version, process, node: 0, since: from, from, only: Some(process), kept: true, polled: false };
        self.seen.lock().claims.push(claim);
    }

    fn asks(&self, process: usize) -> Asked {
        let order = self.instant().order;
        let seen = self.seen.lock();
        let subscription = seen.subscriptions.get(&process).filter(|_| !seen.deaf.contains_key(&process));
        Asked { order, subscription: subscription.map_or(0, |(count, _)| *count) }
    }

    fn learns(&self, process: usize, asked: Asked) {
        let from = self.instant();
        let mut guard = self.seen.lock();
        let seen = &mut *guard;
        let listens = !seen.deaf.contains_key(&process);
        let Some((subscription, has_counted)) = seen.subscriptions.get_mut(&process) else { return };
        if self.plan.grace.is_zero() {
            return;
        }
        // Before a poll has counted a process knows of nothing what it should have.
        if !*has_counted {
            *has_counted = listens && asked.subscription == *subscription;
            return;
        }
        for key in 0..self.remote.len() {
            let told = seen.executions.iter().filter(|one| one.key == key && one.at.order < asked.order);
            if let Some(Execution { at, process: by, node, version, .. }) = told.max_by_key(|one| one.version) {
                let (since, version) = (Instant { order: at.order - 1, time: at.time }, *version);
                let claim = Claim {
                    key,
                    version,
                    process: *by,
                    node: *node,
                    since,
                    from,
                    only: Some(process),
                    kept: false,
                    polled: true,
                };
                if seen.polled.insert((process, key), version) != Some(version) {
                    seen.claims.push(claim);
                }
            }
        }
    }

    fn listens(&self, process: usize, listens: bool) {
        let now = self.instant();
        let mut seen = self.seen.lock();
        if listens {
            seen.subscriptions.entry(process).or_default().0 += 1;
            seen.deaf.remove(&process);
        } else {
            seen.deaf.entry(process).or_insert(now);
        }
        drop(seen);
        self.note(None, || format!("process {process} {}", if listens { "listens" } else { "is deaf" }));
    }

    fn replicated(&self, promotion: Duration) {
        let now = self.instant();
        let mut seen = self.seen.lock();
        let floors = seen.floors.clone();
        seen.replicated.insert(promotion, (now, floors));
    }

    fn promoted(&self, promotion: Duration) {
        let now = self.instant();
        let mut seen = self.seen.lock();
        if let Some((snapshot, floors)) = seen.replicated.remove(&promotion) {
            seen.floors = floors;
            seen.failovers.push((snapshot, now));
        }
        drop(seen);
        self.note(None, || "failover".into());
    }
}
