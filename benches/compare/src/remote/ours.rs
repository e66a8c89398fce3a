//! `RedisTier` by the verbs of `RemoteTier`: what the stack calls when its first level misses.

use std::time::Duration;

use cachestack::record::{Body, Flags, Life};
use cachestack::{
    Acquire, Acquired, Claim, Fetched, Fill, Filled, Namespace, RedisTier, RedisTierBuilder, RemoteKey, RemoteTier, Token,
};

use super::value::owner;
use super::{Client, Failure, HOUR};

/// How long a load that died keeps others waiting.
const LEASE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct OursRemote {
    tier: RedisTier,
    namespace: Namespace,
}

impl OursRemote {
    /// The tier of this builder, with its timeout set.
    pub(crate) async fn connect(builder: RedisTierBuilder, timeout: Duration) -> Result<Self, Failure> {
        let tier = builder.timeout(timeout).connect().await?;
        Ok(Self { tier, namespace: Namespace::new("", "user")? })
    }
}

fn owner_of(fetched: &Fetched) -> Option<u64> {
    // The payload is the record's end.
    fetched.record.as_ref().map(|record| owner(record))
}

impl Client for OursRemote {
    type Key = RemoteKey;

    fn key(&self, id: u64) -> RemoteKey {
        self.namespace.key(&id)
    }

    fn bytes(key: &RemoteKey) -> &[u8] {
        key.as_bytes()
    }

    async fn get(&self, key: &RemoteKey) -> Result<Option<u64>, Failure> {
        Ok(owner_of(&self.tier.get(key).await?))
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Option<u64>>, Failure> {
        self.tier.get_many(keys).await?.into_iter().map(|fetched| Ok(owner_of(&fetched?))).collect()
    }

    async fn fill(&self, key: &RemoteKey, value: Vec<u8>) -> Result<(), Failure> {
        if self.tier.get(key).await?.record.is_some() {
            return Err("the key has a value already".into());
        }
        let token = Token::unique();
        let acquire = Acquire { token, lease: LEASE, retain: LEASE, claim: Claim::Vacant, schema: 1, generation: 0 };
        let created = match self.tier.acquire(key, &acquire).await? {
            Acquired::Granted { at, .. } => at,
            other => return Err(format!("the lease was not granted: {other:?}").into()),
        };
        let life = Life { soft: HOUR, hard: HOUR, last: HOUR };
        let body = Body { schema: 1, generation: 0, life, flags: Flags::NONE, codec: 1, echo: key.echo(), payload: value.into() };
        match self.tier.fill(key, &Fill { token, version: 0, created, body }).await? {
            Filled::Stored => Ok(()),
            other => Err(format!("the value was not stored: {other:?}").into()),
        }
    }
}
