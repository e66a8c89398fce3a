//! The embedded remote tier: the record's state machine in this process, under one mutex.

use crate::clock::Clock;
use crate::coherence::{Deployments, Ear, Listening, Meta, Notice, stamped};
use crate::error::Result;
use crate::key::{Echo, Namespace, RemoteKey};
use crate::machine::{Command, Reply, Slot, step};
use crate::mutant::{Mutant, is};
use crate::partition::{PARTITIONS, Partition};
use crate::record::{HEADER_LEN, Record, is_ours};
use crate::remote::{
    Acquire, Acquired, Fetched, Fill, Filled, Invalidated, Invalidation, Mark, Marked, Put, PutOutcome, Receipt, RemoteTier,
    Source, Told, Unmark,
};
use crate::token::Token;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What an entry costs besides its key and record, roughly.
const OVERHEAD: usize = 96;
/// 256 MiB.
const DEFAULT_BYTES: usize = 256 << 20;

/// A second level without a server: for the quickstart, for tests, for a service of one process.
///
/// It stores the same bytes as Redis would and answers as Redis would, but only to caches that share this handle. Cloning
/// shares the store. Bounded by bytes (256 MiB unless told); when full, the oldest keys go first, as under Redis'
/// `allkeys-*` policies a key may go at any time.
#[derive(Debug, Clone)]
pub struct EmbeddedTier {
    store: Arc<Mutex<Store>>,
    clock: Clock,
    deployments: Arc<Deployments>,
}

struct Store {
    entries: HashMap<Bytes, Entry>,
    /// Keys in the order they came; a key that has gone or come again leaves a stale place behind, told by its birth.
    order: VecDeque<(Bytes, u64)>,
    births: u64,
    bytes: usize,
    max_bytes: usize,
    /// By prefix, of each partition.
    metas: HashMap<String, Vec<Option<Meta>>>,
    ears: Vec<(String, Weak<dyn Ear>)>,
    history: u64,
    /// Keys whose records have changed since it was locked, if it tracks that.
    changed: Option<Vec<Bytes>>,
}

/// What a replica has: see [`EmbeddedTier::replicate`].
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
pub struct Replicated(Vec<(Bytes, Entry)>);

#[derive(Debug, Clone)]
struct Entry {
    record: Bytes,
    expires: u64,
    birth: u64,
}

impl EmbeddedTier {
    /// An empty store of 256 MiB at most.
    pub fn new() -> Self {
        Self::with_max_bytes(DEFAULT_BYTES)
    }

    /// An empty store that holds at most this many bytes of keys, records and their overhead (about 96 bytes each).
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        let (entries, order, metas) = (HashMap::new(), VecDeque::new(), HashMap::new());
        let store = Store { entries, order, births: 0, bytes: 0, max_bytes, metas, ears: Vec::new(), history: 0, changed: None };
        Self { store: Arc::new(Mutex::new(store)), clock: Clock::default(), deployments: Arc::default() }
    }

    /// The same store, as another process would use it: caches on this handle hear of what caches on other handles invalidate, as over a network. For tests
    /// of several nodes in one process; clones are one node.
    pub fn as_another_node(&self) -> Self {
        Self { deployments: Arc::default(), ..self.clone() }
    }

    /// The same with another clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// From now on the store says of each change of a record that there was one, as Redis does where it tracks writes. For tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn tracking(self) -> Self {
        self.store.lock().changed = Some(Vec::new());
        self
    }

    /// Puts any bytes under a key, as a foreign program could. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn plant(&self, key: &RemoteKey, record: impl Into<Bytes>) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.with(|store| store.set(&key, Some((record.into(), u64::MAX))));
    }

    /// Removes whatever is under a key, as a foreign program could. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn unplant(&self, key: &RemoteKey) {
        self.with(|store| store.set(&Bytes::copy_from_slice(key.as_bytes()), None));
    }

    /// Removes all records, as a server that is short of memory may; sequences go on.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn evict_all(&self) {
        self.with(|store| {
            let keys: Vec<Bytes> = store.entries.keys().cloned().collect();
            for key in &keys {
                store.set(key, None);
            }
        });
    }

    /// Begins the sequences of all partitions anew, as a server does that was restored or has evicted them. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn forget_sequences(&self) {
        self.store.lock().metas.clear();
    }

    /// All that is stored now, as a replica that lags would have it; to be given to [`promote`](Self::promote). For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn replicate(&self) -> Replicated {
        let store = self.store.lock();
        Replicated(store.entries.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect())
    }

    /// A failover to a replica: what was stored since is lost, and sequences begin anew under another history. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn promote(&self, replica: Replicated) {
        let mut store = self.store.lock();
        let keys: Vec<Bytes> = store.entries.keys().cloned().collect();
        for key in &keys {
            store.set(key, None);
        }
        for (key, entry) in replica.0 {
            store.set(&key, Some((entry.record, entry.expires)));
        }
        store.metas.clear();
        store.history += 1;
        // It is another server, which has changed nothing.
        store.changed = store.changed.take().map(|_| Vec::new());
    }

    fn run(&self, key: &RemoteKey, command: &Command<'_>) -> Reply {
        self.with(|store| store.run(key, command, self.clock.unix_ms()))
    }

    /// Locks the store, and says once it is unlocked what has changed.
    fn with<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R {
        let mut store = self.store.lock();
        let result = f(&mut store);
        let mut changed = store.changed.as_mut().map(std::mem::take).filter(|changed| !changed.is_empty());
        let ears: Vec<_> = changed.iter().flat_map(|_| store.ears.iter().filter_map(|(_, ear)| ear.upgrade())).collect();
        drop(store);
        // In the same order each time: a simulation has to repeat itself.
        if let Some(keys) = &mut changed {
            keys.sort();
        }
        for key in changed.iter().flatten() {
            for ear in &ears {
                ear.changed(key);
            }
        }
        result
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, max_bytes, .. } = self;
        f.debug_struct("Store")
            .field("entries", &self.entries.len())
            .field("bytes", bytes)
            .field("max_bytes", max_bytes)
            .finish_non_exhaustive()
    }
}

impl Default for EmbeddedTier {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedTier {
    /// Invalidates what is wanted, and tells all.
    fn sweep(&self, retain: Duration, notice: Option<&Notice>, wanted: impl Fn(&[u8]) -> bool) -> Told<u64> {
        let now = self.clock.unix_ms();
        let mut told = Told::default();
        let messages = self.with(|store| {
            told.outcome = store.sweep(retain, now, wanted);
            let mut messages = Vec::new();
            if let Some(notice) = notice {
                let frame = notice.frame_of_all();
                let partitions = (0..=u8::MAX).map(Partition::from_index);
                messages.extend(partitions.map(|partition| store.publish(notice, partition, &frame, &mut told.receipts)));
            }
            messages
        });
        deliver(messages);
        told
    }
}

impl Store {
    fn live(&self, key: &[u8], now: u64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires > now)
    }

    fn slot(&self, key: &[u8], now: u64) -> Slot {
        let Some(entry) = self.live(key, now) else { return Slot::Absent };
        match Record::decode_as_script(&entry.record) {
            Some(record) => Slot::Held { record, expires: entry.expires },
            None if is_ours(&entry.record) => Slot::Newer { version: head_version(&entry.record) },
            None => Slot::Foreign,
        }
    }

    fn run(&mut self, key: &RemoteKey, command: &Command<'_>, now: u64) -> Reply {
        let before = self.slot(key.as_bytes(), now);
        let (after, reply) = step(before.clone(), command, now);
        if after != before {
            let key = Bytes::copy_from_slice(key.as_bytes());
            match after {
                Slot::Held { record, expires } => self.set(&key, Some((record.encode().into(), expires))),
                _ => self.set(&key, None),
            }
        }
        reply
    }

    fn set(&mut self, key: &Bytes, value: Option<(Bytes, u64)>) {
        if let Some(changed) = &mut self.changed {
            changed.push(key.clone());
        }
        let cost = |record: &Bytes| key.len() + record.len() + OVERHEAD;
        let old = self.entries.remove(key);
        self.bytes -= old.as_ref().map_or(0, |old| cost(&old.record));
        // What is larger than the whole store is evicted as it comes; nothing else has to go for it.
        let Some((record, expires)) = value.filter(|(record, _)| cost(record) <= self.max_bytes) else { return };
        let birth = old.map_or_else(
            || {
                self.births += 1;
                self.order.push_back((key.clone(), self.births));
                self.births
            },
            |old| old.birth,
        );
        self.bytes += cost(&record);
        self.entries.insert(key.clone(), Entry { record, expires, birth });
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.max_bytes || self.order.len() > 2 * self.entries.len() + 64 {
            let Some((key, birth)) = self.order.pop_front() else { break };
            match self.entries.get(&key) {
                Some(entry) if entry.birth == birth => {
                    if self.bytes > self.max_bytes {
                        self.bytes -= key.len() + entry.record.len() + OVERHEAD;
                        self.entries.remove(&key);
                    } else {
                        self.order.push_back((key, birth));
                    }
                }
                _ => {}
            }
        }
    }
}

/// The version in a head of ours, whatever the format.
fn head_version(record: &[u8]) -> u64 {
    record.get(6..14).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

#[async_trait]
impl RemoteTier for EmbeddedTier {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        let now = self.clock.unix_ms();
        let record = self.store.lock().live(key.as_bytes(), now).map(|entry| entry.record.clone());
        Ok(Fetched { record, now, from: Source::Master })
    }

    async fn head(&self, key: &RemoteKey) -> Result<Fetched> {
        let fetched = self.get(key).await?;
        Ok(Fetched { record: fetched.record.map(|record| record.slice(..record.len().min(HEADER_LEN))), ..fetched })
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        let now = self.clock.unix_ms();
        let store = self.store.lock();
        let read = |key: &RemoteKey| store.live(key.as_bytes(), now).map(|entry| entry.record.clone());
        Ok(keys.iter().map(|key| Ok(Fetched { record: read(key), now, from: Source::Master })).collect())
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        match self.run(key, &Command::Acquire(acquire, key.echo())) {
            Reply::Acquire(reply) => Ok(reply),
            reply => unreachable!("{reply:?} to an acquire"),
        }
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        match self.run(key, &Command::Fill(fill)) {
            Reply::Fill(reply) => Ok(reply),
            reply => unreachable!("{reply:?} to a fill"),
        }
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        match self.run(key, &Command::Release(token)) {
            Reply::Release(held) => Ok(held),
            reply => unreachable!("{reply:?} to a release"),
        }
    }

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        let now = self.clock.unix_ms();
        let mut told = Told::default();
        let messages = self.with(|store| {
            let mut one = |invalidation: &Invalidation| {
                let Invalidation { key, version } = invalidation;
                match store.run(key, &Command::Invalidate { version: *version, retain, echo: key.echo() }, now) {
                    Reply::Invalidate(reply) => reply,
                    reply => unreachable!("{reply:?} to an invalidation"),
                }
            };
            told.outcome = keys.iter().map(&mut one).collect();
            let mut messages = Vec::new();
            if let Some(notice) = notice {
                let mut keys: Vec<_> = keys.iter().collect();
                keys.sort_by_key(|invalidation| invalidation.key.partition());
                for keys in keys.chunk_by(|one, other| one.key.partition() == other.key.partition()) {
                    let frame = notice.frame(keys.iter().copied());
                    messages.push(store.publish(notice, keys[0].key.partition(), &frame, &mut told.receipts));
                }
            }
            messages
        });
        deliver(messages);
        Ok(told)
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        let mut receipts = Vec::new();
        let (outcome, message) = self.with(|store| {
            let outcome = match store.run(key, &Command::Put(put, retain), self.clock.unix_ms()) {
                Reply::Put(reply) => reply,
                reply => unreachable!("{reply:?} to a put"),
            };
            let message = notice.map(|notice| {
                let told = Invalidation { key: key.clone(), version: Some(put.version) };
                store.publish(notice, key.partition(), &notice.frame([&told].into_iter()), &mut receipts)
            });
            (outcome, message)
        });
        deliver(message);
        Ok(Told { outcome, receipts })
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        match self.run(key, &Command::Mark(mark, key.echo())) {
            Reply::Mark(reply) => Ok(reply),
            reply => unreachable!("{reply:?} to a mark"),
        }
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        let mut receipts = Vec::new();
        let (outcome, message) = self.with(|store| {
            let outcome = match store.run(key, &Command::Unmark(unmark, key.echo()), self.clock.unix_ms()) {
                Reply::Unmark(reply) => reply,
                reply => unreachable!("{reply:?} to an unmark"),
            };
            let message = notice.map(|notice| {
                let told = Invalidation { key: key.clone(), version: unmark.version };
                store.publish(notice, key.partition(), &notice.frame([&told].into_iter()), &mut receipts)
            });
            (outcome, message)
        });
        deliver(message);
        Ok(Told { outcome, receipts })
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        Ok(self.sweep(retain, notice, |key| namespace.contains(key)))
    }

    async fn invalidate_prefix(
        &self,
        namespace: &Namespace,
        prefix: &crate::KeyPrefix,
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<u64>> {
        Ok(self.sweep(retain, notice, |key| namespace.contains(key) && prefix.may_match(namespace, key)))
    }

    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        let mut store = self.store.lock();
        // Made if it is not there: absence would look like no change, to who asks after it was evicted once more.
        let meta = |partition| {
            if is(Mutant::AbsentIsUnchanged) { store.found(prefix, partition) } else { *store.meta(prefix, partition) }
        };
        Ok(partitions.iter().copied().map(meta).map(Ok).collect())
    }

    fn listen(&self, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
        let strong = ear.upgrade();
        let mut store = self.store.lock();
        store.ears.retain(|(_, ear)| ear.strong_count() > 0);
        store.ears.push((prefix.to_owned(), ear));
        let tracks = store.changed.is_some();
        drop(store);
        if let Some(ear) = strong {
            if tracks {
                ear.may_have_changed(&(0..=u8::MAX).map(Partition::from_index).collect::<Vec<_>>());
            }
            ear.listening(&(0..=u8::MAX).map(Partition::from_index).collect::<Vec<_>>());
        }
        Some(Listening::new(()))
    }

    fn deployments(&self) -> Option<&Deployments> {
        Some(&self.deployments)
    }

    async fn close(&self) {}
}

impl Store {
    fn sweep(&mut self, retain: Duration, now: u64, wanted: impl Fn(&[u8]) -> bool) -> u64 {
        let keys: Vec<Bytes> = self.entries.keys().filter(|key| wanted(key)).cloned().collect();
        let mut cleared = 0;
        for key in keys {
            let slot = self.slot(&key, now);
            let echo = match &slot {
                Slot::Held { record, .. } => record.body.echo,
                Slot::Absent => continue,
                Slot::Newer { .. } | Slot::Foreign => Echo::default(),
            };
            let (after, reply) = step(slot, &Command::Invalidate { version: None, retain, echo }, now);
            if let (Slot::Held { record, expires }, Reply::Invalidate(Invalidated::Tombstoned)) = (after, reply) {
                self.set(&key, Some((record.encode().into(), expires)));
                cleared += 1;
            }
        }
        cleared
    }

    fn meta(&mut self, prefix: &str, partition: Partition) -> &mut Meta {
        let history = self.history;
        let metas = self.metas.entry(prefix.to_owned()).or_insert_with(|| vec![None; PARTITIONS]);
        metas[usize::from(partition.index())].get_or_insert_with(|| Meta {
            incarnation: fastrand::u64(1..),
            sequence: 0,
            history,
        })
    }

    /// Without an incarnation where there is none.
    fn found(&self, prefix: &str, partition: Partition) -> Meta {
        let found = self.metas.get(prefix).and_then(|metas| metas[usize::from(partition.index())]);
        found.unwrap_or(Meta { incarnation: 0, sequence: 0, history: self.history })
    }

    /// Takes a sequence. Who listens hears of it once the store is unlocked.
    fn publish(&mut self, notice: &Notice, partition: Partition, frame: &[u8], receipts: &mut Vec<Receipt>) -> Message {
        let prefix = notice.namespace.prefix();
        let meta = self.meta(prefix, partition);
        meta.sequence += 1;
        let Meta { incarnation, sequence, .. } = *meta;
        receipts.push(Receipt { partition, incarnation, sequence });
        let ears = self.ears.iter().filter(|(of, _)| of == prefix).filter_map(|(_, ear)| ear.upgrade()).collect();
        Message { ears, partition, bytes: stamped(incarnation, sequence, frame) }
    }
}

/// A message on its way.
struct Message {
    ears: Vec<Arc<dyn Ear>>,
    partition: Partition,
    bytes: Vec<u8>,
}

fn deliver(messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        message.ears.iter().for_each(|ear| ear.hear(message.partition, &message.bytes));
    }
}
