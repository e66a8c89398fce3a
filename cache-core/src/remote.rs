//! The L2 trait: bytes, async, fallible, object-safe. Its verbs are the record's state machine.

use crate::error::Result;
use crate::key::{Namespace, RemoteKey};
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
    /// How long ago the load began: the *start* of a load stamps its value.
    pub age: Duration,
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

/// A second level: a byte store that runs the record's state machine ([`crate::step`]) on each key atomically.
///
/// Every call ends within a time of the tier's own, whatever the network does, and cancelling one harms no other. An error
/// means that the outcome is not known. Implementations are proven by [`crate::testing::remote_suite`].
#[async_trait]
pub trait RemoteTier: Send + Sync + 'static {
    /// What the tier is called in stats and traces: `"redis"`, `"embedded"`.
    fn name(&self) -> &'static str;

    /// Reads one key. A tier may read a replica, and says so in [`Fetched::from`]; but not a key that this process has invalidated, written or acquired
    /// of late: what an acquire found is seen by the next read.
    async fn get(&self, key: &RemoteKey) -> Result<Fetched>;

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
    async fn invalidate(&self, keys: &[Invalidation], retain: Duration) -> Result<Vec<Invalidated>>;

    /// Replaces an older value by this one; where there is no value, invalidates the key up to this version. The record stays for at least `retain`.
    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration) -> Result<PutOutcome>;

    /// Invalidates every key of a namespace that has a record; loads that began earlier cannot store. Cost grows with the
    /// number of all keys in the store. Returns how many records were tombstoned.
    async fn clear(&self, namespace: &Namespace, retain: Duration) -> Result<u64>;

    /// Stops what runs in the background. Later calls may fail.
    async fn close(&self);
}

/// A shared tier is a tier, so that one whose type is chosen at run time fits the builder too.
#[async_trait]
impl<T: RemoteTier + ?Sized> RemoteTier for std::sync::Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        (**self).get(key).await
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

    async fn invalidate(&self, keys: &[Invalidation], retain: Duration) -> Result<Vec<Invalidated>> {
        (**self).invalidate(keys, retain).await
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration) -> Result<PutOutcome> {
        (**self).put(key, put, retain).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration) -> Result<u64> {
        (**self).clear(namespace, retain).await
    }

    async fn close(&self) {
        (**self).close().await;
    }
}
