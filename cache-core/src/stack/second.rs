//! L2 as the stack sees it: values in, values out; the codec stands here.

use super::allowance::Allowance;
use crate::clock::{Clock, Moment};
use crate::codec::Codec;
use crate::coherence::Notice;
use crate::counters::Event;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyParts, Namespace, RemoteKey};
use crate::partition::Partition;
use crate::payload::{Packing, Unpackable};
use crate::prefix::KeyPrefix;
use crate::record::{Body, Flags, HEADER_LEN, Life, Record, State, Unreadable, is_value_of};
use crate::remote::{
    Acquire, Acquired, Claim, Fetched, Fill, Filled, Invalidated, Invalidation, Mark, Marked, Put, PutOutcome, Receipt,
    RemoteTier, Source, Told, Unmark,
};
use crate::token::Token;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A second level, bound to one namespace and one value type.
pub(crate) struct Second<K, V> {
    pub(crate) tier: Arc<dyn RemoteTier>,
    pub(crate) codec: Box<dyn Codec<V>>,
    pub(crate) packing: Packing,
    pub(crate) write_key: fn(&K, &mut KeyParts),
    pub(crate) read_key: fn(&[u8]) -> Option<K>,
    /// How this cache tells other nodes; `None` where there is nobody to tell.
    pub(crate) notice: Option<Notice>,
    pub(crate) namespace: Namespace,
    pub(crate) schema: u32,
    pub(crate) max_value_bytes: usize,
    pub(crate) lease: Duration,
    pub(crate) retain: Duration,
    /// How long records have been of late, in bytes, about.
    pub(crate) lengths: AtomicUsize,
}

/// From this length on it is cheaper to ask for a record's header first where the value is probably known: half of it is saved on the wire and in the codec even if every
/// second header says that it is not.
const LONG: usize = 4 << 10;

/// A value found in L2.
pub(crate) struct Found<V> {
    pub(crate) value: V,
    /// When its load began, on this process's clock.
    pub(crate) created: Moment,
    pub(crate) life: Life,
    pub(crate) version: u64,
    /// Of the load that made it, unless a refresh's lease stands in its place.
    pub(crate) token: Token,
    pub(crate) age: Duration,
}

/// What a read of L2 found.
pub(crate) enum Read<V> {
    /// A value before its `last`, and for how long another load still holds its refresh lease.
    Value(Found<V>, Duration),
    /// What a replica has, if it is a value that may be served. It decides nothing: that the replica has none, or a damaged one, says little of
    /// what the master has.
    FromReplica(Option<Found<V>>),
    /// No value; another load holds the lease for this long at most.
    Leased(Duration),
    /// No value.
    Nothing,
    /// A record that the next load should replace: damaged, of another key or codec, forged. To be counted as this.
    Damaged(Event),
    /// Something that must be left alone: foreign, of a newer format or schema, or of a node that has what this one has
    /// not. To be counted as this.
    NotOurs(Event),
}

impl<K, V> Second<K, V> {
    pub(crate) fn name(&self) -> &'static str {
        self.tier.name()
    }

    /// For one answer.
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance::new(self.tier.timeout())
    }
}

impl<K, V: 'static> Second<K, V> {
    pub(crate) fn key(&self, key: &K) -> RemoteKey {
        self.namespace.encode(|parts| (self.write_key)(key, parts))
    }

    pub(crate) fn partition(&self, key: &K) -> Partition {
        Namespace::partition(|parts| (self.write_key)(key, parts))
    }

    pub(crate) async fn read(&self, key: &RemoteKey, clock: &Clock) -> Result<Read<V>> {
        // Before the request: an age is counted from when it was sent.
        let sent = clock.now();
        Ok(self.seen(key, &self.tier.get(key).await?, sent))
    }

    pub(crate) async fn read_many(&self, keys: &[RemoteKey], clock: &Clock) -> Result<Vec<Result<Read<V>>>> {
        let sent = clock.now();
        let fetched = self.tier.get_many(keys).await?;
        if fetched.len() != keys.len() {
            return Err(Error::new(ErrorKind::Unavailable, "L2 answered another number of keys than was asked"));
        }
        let decode = |(key, fetched): (_, Result<Fetched>)| fetched.map(|fetched| self.seen(key, &fetched, sent));
        Ok(keys.iter().zip(fetched).map(decode).collect())
    }

    /// Whether this cache's records are long.
    pub(crate) fn is_long(&self) -> bool {
        self.lengths.load(Ordering::Relaxed) >= LONG
    }

    fn note_length(&self, length: usize) {
        // Ordering: relaxed, and what another thread notes meanwhile may be lost: it is an estimate.
        let known = self.lengths.load(Ordering::Relaxed);
        let now = if known == 0 { length } else { known - known / 8 + length / 8 };
        self.lengths.store(now, Ordering::Relaxed);
    }

    /// Whether L2 has the value that the load with this token has made, by the record's header.
    pub(crate) async fn has(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        let head = self.tier.head(key).await?;
        Ok(head.from == Source::Master && head.record.is_some_and(|head| is_value_of(&head, key.echo(), token)))
    }

    fn seen(&self, key: &RemoteKey, fetched: &Fetched, sent: Moment) -> Read<V> {
        if let Some(record) = &fetched.record {
            self.note_length(record.len());
        }
        match (fetched.from, self.decode(key, fetched, sent)) {
            (Source::Master, read) => read,
            (Source::Replica, Read::Value(found, _)) if found.is_servable() => Read::FromReplica(Some(found)),
            (Source::Replica, _) => Read::FromReplica(None),
        }
    }

    fn decode(&self, key: &RemoteKey, fetched: &Fetched, sent: Moment) -> Read<V> {
        let Some(bytes) = &fetched.record else { return Read::Nothing };
        let record = match Record::decode(bytes, key.echo()) {
            Ok(record) => record,
            Err(Unreadable::Corrupt | Unreadable::WrongKey) => return Read::Damaged(Event::L2Unreadable),
            Err(_) => return Read::NotOurs(Event::L2Unreadable),
        };
        // A flag that this build does not know is a later version's doing, like a newer schema. An older schema counts for more.
        if record.body.schema > self.schema || (record.body.schema == self.schema && !record.body.flags.is_known()) {
            return Read::NotOurs(Event::L2Unreadable);
        }
        let leased = record.lease_left(fetched.now);
        let age = record.age(fetched.now);
        // A value of an older schema is no value: the acquire replaces it.
        if !record.state.has_value() || record.body.schema < self.schema || age >= record.body.life.last {
            return if leased.is_zero() { Read::Nothing } else { Read::Leased(leased) };
        }
        if record.body.codec != self.codec.id() {
            return Read::Damaged(Event::L2Unreadable);
        }
        // A decoder that panics on these bytes would fail every read of the key; as damage, the next load replaces them.
        let decoded = catch_unwind(AssertUnwindSafe(|| {
            self.packing.unpack(&record.body, record.version, key).map(|payload| self.codec.decode(&payload))
        }));
        let value = match decoded {
            Ok(Ok(Ok(value))) => value,
            Ok(Err(why)) => return unpackable(why),
            Ok(Ok(Err(_))) | Err(_) => return Read::Damaged(Event::L2Unreadable),
        };
        let token = if record.state == State::Value { record.token } else { Token::default() };
        let found = Found { value, created: sent.before(age), life: record.body.life, version: record.version, token, age };
        Read::Value(found, leased)
    }

    pub(crate) async fn acquire(&self, key: &RemoteKey, token: Token, claim: Claim) -> Result<Acquired> {
        let Self { lease, retain, schema, .. } = *self;
        self.tier.acquire(key, &Acquire { token, lease, retain, claim, schema, generation: 0 }).await
    }

    pub(crate) async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        self.tier.release(key, token).await
    }

    /// The body of a value's record, to be stored under this version and no other.
    pub(crate) fn encode(&self, key: &RemoteKey, value: &V, version: u64, life: Life) -> Result<Body> {
        let payload = catch_unwind(AssertUnwindSafe(|| self.codec.encode(value)))
            .unwrap_or_else(|_| Err("the codec panicked".into()))
            .map_err(|err| Error::new(ErrorKind::Codec, "the value could not be encoded").with_source(err))?;
        if payload.len() > self.max_value_bytes {
            let text = format!("the encoded value has {} bytes, more than the {} allowed", payload.len(), self.max_value_bytes);
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        let (codec, echo) = (self.codec.id(), key.echo());
        let flags = Flags::NONE;
        let body = Body { schema: self.schema, generation: 0, life, flags, codec, echo, payload: payload.into() };
        let body = catch_unwind(AssertUnwindSafe(|| self.packing.pack(body, version, key)))
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Codec, "the value could not be compressed or sealed")))?;
        self.note_length(HEADER_LEN + body.payload.len());
        Ok(body)
    }

    pub(crate) async fn fill(&self, key: &RemoteKey, token: Token, version: u64, created: u64, body: Body) -> Result<Filled> {
        self.tier.fill(key, &Fill { token, version, created, body }).await
    }

    pub(crate) async fn put(&self, key: &RemoteKey, token: Token, version: u64, body: Body) -> Result<Told<PutOutcome>> {
        let put = Put { token, version, age: Duration::ZERO, body };
        self.tier.put(key, &put, self.retain, self.notice.as_ref()).await
    }

    /// Invalidates one key. What is not ours is an error here.
    pub(crate) async fn invalidate(&self, invalidation: &Invalidation) -> Result<Vec<Receipt>> {
        let told = self.invalidate_many(std::slice::from_ref(invalidation)).await?;
        match told.outcome.first() {
            Some(Invalidated::Tombstoned | Invalidated::Current) => Ok(told.receipts),
            Some(Invalidated::Foreign) => Err(foreign()),
            None => Err(Error::new(ErrorKind::Unavailable, "L2 did not say what became of the invalidation")),
        }
    }

    pub(crate) async fn invalidate_many(&self, invalidations: &[Invalidation]) -> Result<Told<Vec<Invalidated>>> {
        self.tier.invalidate(invalidations, self.retain, self.notice.as_ref()).await
    }

    pub(crate) async fn mark(&self, key: &RemoteKey, token: Token, life: Duration) -> Result<Marked> {
        self.tier.mark(key, &Mark { token, life, retain: self.retain }).await
    }

    /// Ends a mark and invalidates its key. What is not ours is an error here.
    pub(crate) async fn unmark(&self, invalidation: &Invalidation, token: Token) -> Result<Vec<Receipt>> {
        let Invalidation { key, version } = invalidation;
        let unmark = Unmark { token, version: *version, retain: self.retain };
        let told = self.tier.unmark(key, &unmark, self.notice.as_ref()).await?;
        if told.outcome == Invalidated::Foreign { Err(foreign()) } else { Ok(told.receipts) }
    }

    /// All of them, or those that begin so.
    pub(crate) async fn clear(&self, prefix: Option<&KeyPrefix>) -> Result<Told<u64>> {
        let notice = self.notice.as_ref();
        match prefix {
            None => self.tier.clear(&self.namespace, self.retain, notice).await,
            Some(prefix) => self.tier.invalidate_prefix(&self.namespace, prefix, self.retain, notice).await,
        }
    }
}

pub(crate) fn foreign() -> Error {
    Error::new(ErrorKind::Foreign, "L2 holds something under this key that this library did not write")
}

/// What is to be done about a record whose payload cannot be read.
fn unpackable<V>(why: Unpackable) -> Read<V> {
    match why {
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        Unpackable::Damaged => Read::Damaged(Event::L2Unreadable),
        #[cfg(feature = "encryption")]
        Unpackable::Forged => Read::Damaged(Event::L2Forged),
        #[cfg(feature = "encryption")]
        Unpackable::OldKey => Read::Damaged(Event::L2UnknownKey),
        #[cfg(feature = "encryption")]
        Unpackable::NewKey => Read::NotOurs(Event::L2UnknownKey),
        Unpackable::Beyond => Read::NotOurs(Event::L2Unreadable),
    }
}

impl<V> Found<V> {
    pub(crate) fn is_fresh(&self) -> bool {
        self.age < self.life.soft
    }

    pub(crate) fn is_servable(&self) -> bool {
        self.age < self.life.hard
    }
}
