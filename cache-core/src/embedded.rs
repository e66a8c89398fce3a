//! The embedded remote tier: the record's state machine in this process, under one mutex.

use crate::clock::Clock;
use crate::error::Result;
use crate::key::{Echo, Namespace, RemoteKey};
use crate::machine::{Command, Reply, Slot, step};
use crate::record::{Record, is_ours};
use crate::remote::{Acquire, Acquired, Fetched, Fill, Filled, Invalidated, Invalidation, Put, PutOutcome, RemoteTier, Source};
use crate::token::Token;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
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
}

#[derive(Debug)]
struct Store {
    entries: HashMap<Bytes, Entry>,
    /// Keys in the order they came; a key that has gone or come again leaves a stale place behind, told by its birth.
    order: VecDeque<(Bytes, u64)>,
    births: u64,
    bytes: usize,
    max_bytes: usize,
}

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
        let store = Store { entries: HashMap::new(), order: VecDeque::new(), births: 0, bytes: 0, max_bytes };
        Self { store: Arc::new(Mutex::new(store)), clock: Clock::default() }
    }

    /// The same with another clock.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Puts any bytes under a key, as a foreign program could. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn plant(&self, key: &RemoteKey, record: impl Into<Bytes>) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.store.lock().set(&key, Some((record.into(), u64::MAX)));
    }

    /// Removes whatever is under a key, as a foreign program could. For tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn unplant(&self, key: &RemoteKey) {
        self.store.lock().set(&Bytes::copy_from_slice(key.as_bytes()), None);
    }

    fn run(&self, key: &RemoteKey, command: &Command<'_>) -> Reply {
        self.store.lock().run(key, command, self.clock.unix_ms())
    }
}

impl Default for EmbeddedTier {
    fn default() -> Self {
        Self::new()
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

    async fn invalidate(&self, keys: &[Invalidation], retain: Duration) -> Result<Vec<Invalidated>> {
        let now = self.clock.unix_ms();
        let mut store = self.store.lock();
        let mut one = |invalidation: &Invalidation| {
            let Invalidation { key, version } = invalidation;
            match store.run(key, &Command::Invalidate { version: *version, retain, echo: key.echo() }, now) {
                Reply::Invalidate(reply) => reply,
                reply => unreachable!("{reply:?} to an invalidation"),
            }
        };
        Ok(keys.iter().map(&mut one).collect())
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration) -> Result<PutOutcome> {
        match self.run(key, &Command::Put(put, retain)) {
            Reply::Put(reply) => Ok(reply),
            reply => unreachable!("{reply:?} to a put"),
        }
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration) -> Result<u64> {
        let now = self.clock.unix_ms();
        let mut store = self.store.lock();
        let keys: Vec<Bytes> = store.entries.keys().filter(|key| namespace.contains(key)).cloned().collect();
        let mut cleared = 0;
        for key in keys {
            let slot = store.slot(&key, now);
            let echo = match &slot {
                Slot::Held { record, .. } => record.body.echo,
                Slot::Absent => continue,
                Slot::Newer { .. } | Slot::Foreign => Echo::default(),
            };
            let (after, reply) = step(slot, &Command::Invalidate { version: None, retain, echo }, now);
            if let (Slot::Held { record, expires }, Reply::Invalidate(Invalidated::Tombstoned)) = (after, reply) {
                store.set(&key, Some((record.encode().into(), expires)));
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    async fn close(&self) {}
}
