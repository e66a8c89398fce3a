//! The L2 trait: bytes, async, fallible, object-safe. Its verbs are the record's state machine.

use crate::coherence::{Deployments, Ear, Listening, Meta, Notice};
use crate::diagnosis::{Examine, Examined};
use crate::error::Result;
use crate::key::{Namespace, RemoteKey};
use crate::partition::Partition;
use crate::prefix::KeyPrefix;
use crate::record::Body;
use crate::token::Token;
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;

/// Which copy a read was answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The one that the tier's other verbs act on: what they did is seen.
    Master,
    /// One that follows the master and may be behind: a value may have been invalidated since, and what it has not the master may have. It
    /// is only ever served, marked: L1 keeps none of it, and no load or refresh is decided by it.
    Replica,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The bytes under the key, unread; `None` if there are none.
    pub record: Option<Bytes>,
    /// The tier's time in ms, on the clock that stamps its records, as late as it may have been when the read was sent:
    /// an age computed from it is never too small.
    pub now: u64,
    /// Which copy the bytes are from. Layers pass it on as it is.
    pub from: Source,
}

/// What an acquire may take the lease from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The key has no value: it is absent, invalidated, past its hard life, or its lease has ended.
    Vacant,
    /// The same, or its value is past its soft life.
    Stale,
    /// Whatever stands there, another load's lease included. Only announced writes hold it off.
    Force,
}

/// ACQUIRE: asks for the lease of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquire {
    /// The load's token, never used before.
    pub token: Token,
    /// How long others wait for this load.
    pub lease: Duration,
    /// How long the lease's record stays: at least a tombstone's life, so that its floor outlives a late fill.
    pub retain: Duration,
    /// What may be taken.
    pub claim: Claim,
    /// The schema and generation of this reader. A value of an older schema counts as absent.
    pub schema: u32,
    /// The generation of the namespace.
    pub generation: u32,
}

/// What an acquire achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// The lease is held; the load's version must reach this floor.
    Granted {
        /// The lowest version a fill is taken with.
        floor: u64,
        /// The tier's time in ms, on the clock that stamps its records. The load begins after it.
        at: u64,
    },
    /// A value is there: read it.
    Hit,
    /// Another load, or an announced write, holds the key for this long at most.
    Busy(Duration),
    /// A record of a newer schema or format is there. Neither read nor fill.
    Newer,
    /// Something that is not ours is there; it was left as it is.
    Foreign,
}

/// FILL: stores the value of the load that holds the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The load's token.
    pub token: Token,
    /// The value's version; 0 in an unversioned namespace.
    pub version: u64,
    /// When the load began, or before, in ms of the tier's time: when the lease was [granted](Acquired::Granted), less the age that what
    /// was loaded had by then. The *start* of a load stamps its value, which cannot pass for younger than it is.
    pub created: u64,
    /// The value.
    pub body: Body,
}

/// What a fill achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The value is stored.
    Stored,
    /// The lease was lost to an invalidation or a write: no cache may keep the value.
    LeaseLost,
    /// The value is older than an invalidation already seen: no cache may keep it.
    TooOld,
}

/// What INVALIDATE is asked to do to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalidation {
    /// The key.
    pub key: RemoteKey,
    /// The version of the committed write, if it is known: a value at least as new stays.
    pub version: Option<u64>,
}

/// What an invalidation achieved for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidated {
    /// No older value is readable, and no load that began earlier can store one.
    Tombstoned,
    /// The value there is at least as new as the write.
    Current,
    /// Something that is not ours is there; it was left as it is.
    Foreign,
}

/// PUT: puts a versioned value in an older one's place, right after its write was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// A token never used before, the value's identity.
    pub token: Token,
    /// The row's version.
    pub version: u64,
    /// How long ago the write was committed.
    pub age: Duration,
    /// The value.
    pub body: Body,
}

/// What a put achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The value is stored, in place of an older one.
    Stored,
    /// There was no value to replace. The key is tombstoned up to this version instead, and its next reader loads it: nothing proves that no newer
    /// write came before, whose value may have been evicted.
    Tombstoned,
    /// What is known of the key is newer, or as new.
    NotNewer,
    /// Announced writes hold the key: it is tombstoned up to this version instead.
    Marked,
    /// Something that is not ours is there; it was left as it is.
    Foreign,
}

/// MARK: announces a write before it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The write's token, never used before. A repeat with the same token renews the mark.
    pub token: Token,
    /// How long it stands unless it is ended.
    pub life: Duration,
    /// How long its record stays at least: a tombstone's life.
    pub retain: Duration,
}

/// What a mark achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// The key has no value and takes none until the mark ends.
    Announced,
    /// As many writes of the key are announced as there may be: see [`MOST_MARKS`](crate::marks::MOST_MARKS). Nothing was changed.
    TooMany,
    /// Something that is not ours is there; it was left as it is.
    Foreign,
}

/// UNMARK: ends a mark after the commit, or after it was given up, and invalidates the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmark {
    /// The mark's token.
    pub token: Token,
    /// The committed version, if it is known and anything was committed.
    pub version: Option<u64>,
    /// How long the tombstone stays.
    pub retain: Duration,
}

/// What was done to keys, and where in their partitions' sequences other nodes were told of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told<T> {
    /// What was done.
    pub outcome: T,
    /// One for each message that was published: none without a [`Notice`], nor where the store had no memory to tell.
    pub receipts: Vec<Receipt>,
}

impl<T> Told<T> {
    /// Done, and nobody told.
    pub fn silently(outcome: T) -> Self {
        Self { outcome, receipts: Vec::new() }
    }
}

/// The place of one message in its partition's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The partition.
    pub partition: Partition,
    /// Of which history of its sequences.
    pub incarnation: u64,
    /// Its number in that.
    pub sequence: u64,
}

/// A second level: a byte store that runs the record's state machine ([`crate::step`]) on each key atomically.
///
/// Every call ends within a time of the tier's own, whatever the network does, and cancelling one harms no other. An error
/// means that the outcome is not known. Implementations are proven by [`crate::testing::remote_suite`].
#[async_trait]
pub trait RemoteTier: Send + Sync + 'static {
    /// What the tier is called in stats and traces: `"redis"`, `"embedded"`.
    fn name(&self) -> &'static str;

    /// Within what time each call but [`clear`](Self::clear) and [`close`](Self::close) ends, if the tier can say so. All calls that one miss makes together get
    /// no more than this, so that a slow L2 delays an answer by one timeout and not by three. `None` unless told: each call is waited for.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// Reads one key. A tier may read a replica, and says so in [`Fetched::from`]; but not a key that this process has invalidated, written or acquired
    /// of late: what an acquire found is seen by the next read.
    async fn get(&self, key: &RemoteKey) -> Result<Fetched>;

    /// Reads the first [`HEADER_LEN`](crate::record::HEADER_LEN) bytes of a record, or more, from the master: enough to tell whether the value of L1 is still L2's. Reads
    /// it whole unless told.
    async fn head(&self, key: &RemoteKey) -> Result<Fetched> {
        self.get(key).await
    }

    /// Reads many keys. Each has an answer of its own, in their order: where keys are on several servers, one that is away fails its own. An error
    /// of the whole call means that no key was answered.
    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>>;

    /// Asks for the lease. Call it only after a read that missed.
    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired>;

    /// Stores the value of a load that holds the lease.
    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled>;

    /// Gives the lease back without a value; the floor stays. `true` if it was held.
    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool>;

    /// Invalidates keys; the tombstones stay for `retain`. Outcomes in the keys' order.
    ///
    /// With a notice, whose namespace is that of all keys, each partition's tombstones, its next sequence and the message are one atomic step; or, where
    /// the store cannot do that, come in this order. Whatever is found, a sequence is taken and other nodes are told: their L1 may be older.
    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>>;

    /// Replaces an older value by this one; where there is no value, invalidates the key up to this version. The record stays for at least `retain`.
    /// With a notice, other nodes are told as of an invalidation.
    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>>;

    /// Announces a write: removes the key's value and has it take none, nor lease, until the mark is ended or its life is over. Nobody is told. It may
    /// be repeated, at any time later: the worst is a key that takes no value for another life.
    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked>;

    /// Ends a mark, and no other, and invalidates the key whether or not the mark still stands. May be repeated as an invalidation may; with a notice, other
    /// nodes are told as of one.
    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>>;

    /// Invalidates every key of a namespace that has a record; loads that began earlier cannot store. Cost grows with the
    /// number of all keys in the store. Returns how many records were tombstoned. With a notice, other nodes are told for every partition, after that.
    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>>;

    /// As [`clear`](Self::clear), of the keys that begin so. What is told is the same: a message names no prefix. Clears the namespace unless told, which is more.
    async fn invalidate_prefix(
        &self,
        namespace: &Namespace,
        _prefix: &KeyPrefix,
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<u64>> {
        self.clear(namespace, retain, notice).await
    }

    /// How far the partitions' sequences have come, those of the deployment with this prefix, in their order. Begins those that are absent: absence
    /// is never "unchanged". Only a master answers.
    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>>;

    /// Has what is published in the deployment of a prefix come to this ear, until the [`Listening`] is dropped. Says by itself when it begins and
    /// when it is interrupted, and begins anew. `None` if this tier has no messages.
    fn listen(&self, prefix: &str, ear: std::sync::Weak<dyn Ear>) -> Option<Listening>;

    /// Where the caches that share this tier find what this process knows of its deployments; `None` if this tier has no messages.
    fn deployments(&self) -> Option<&Deployments>;

    /// What a [doctor](crate::TieredCache::doctor) should know of the store that no verb shows: versions, policies, members. Ends within
    /// the tier's own timeout; what could not be looked at is a finding, too.
    async fn examine(&self, _: &Examine<'_>) -> Examined {
        Examined::default()
    }

    /// Stops what runs in the background. Later calls may fail.
    async fn close(&self);
}

/// A shared tier is a tier, so that one whose type is chosen at run time fits the builder too.
#[async_trait]
impl<T: RemoteTier + ?Sized> RemoteTier for std::sync::Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn timeout(&self) -> Option<Duration> {
        (**self).timeout()
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        (**self).get(key).await
    }

    async fn head(&self, key: &RemoteKey) -> Result<Fetched> {
        (**self).head(key).await
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        (**self).get_many(keys).await
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        (**self).acquire(key, acquire).await
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        (**self).fill(key, fill).await
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        (**self).release(key, token).await
    }

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        (**self).invalidate(keys, retain, notice).await
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        (**self).put(key, put, retain, notice).await
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        (**self).mark(key, mark).await
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        (**self).unmark(key, unmark, notice).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        (**self).clear(namespace, retain, notice).await
    }

    async fn invalidate_prefix(
        &self,
        namespace: &Namespace,
        prefix: &KeyPrefix,
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<u64>> {
        (**self).invalidate_prefix(namespace, prefix, retain, notice).await
    }

    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        (**self).poll(prefix, partitions).await
    }

    fn listen(&self, prefix: &str, ear: std::sync::Weak<dyn Ear>) -> Option<Listening> {
        (**self).listen(prefix, ear)
    }

    fn deployments(&self) -> Option<&Deployments> {
        (**self).deployments()
    }

    async fn examine(&self, examine: &Examine<'_>) -> Examined {
        (**self).examine(examine).await
    }

    async fn close(&self) {
        (**self).close().await;
    }
}
