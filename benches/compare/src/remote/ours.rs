//! `RedisTier` by the verbs of `RemoteTier`: what the stack calls when its first level misses.

use std::time::Duration;

use cachestack::record::{Body, Flags, Life, State};
use cachestack::{
    Acquire, Acquired, Claim, Fetched, Fill, Filled, Invalidation, Namespace, Notice, Put, RedisTier, RedisTierBuilder,
    RemoteKey, RemoteTier, Token,
};

use super::value::owner;
use super::{Client, Failure, HOUR, Verb, Writer};

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

fn body(key: &RemoteKey, value: Vec<u8>) -> Body {
    let life = Life { soft: HOUR, hard: HOUR, last: HOUR };
    Body { schema: 1, generation: 0, life, flags: Flags::NONE, codec: 1, echo: key.echo(), payload: value.into() }
}

/// Of a record that has a value: whose it says it is.
fn owner_of(fetched: &Fetched) -> Option<u64> {
    let record = fetched.record.as_ref()?;
    let empty = [State::Lease, State::Tombstone, State::Marked].map(State::byte);
    // The second byte is the state, the end the payload.
    let is_empty = record.get(1).is_some_and(|state| empty.contains(state));
    (!is_empty).then(|| owner(record))
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
        match self.tier.fill(key, &Fill { token, version: 0, created, body: body(key, value) }).await? {
            Filled::Stored => Ok(()),
            other => Err(format!("the value was not stored: {other:?}").into()),
        }
    }
}

/// What a task knows of the load that it is in.
pub(crate) struct Load {
    token: Token,
    created: u64,
    version: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { token: Token::unique(), created: 0, version: 0 }
    }
}

impl Writer for OursRemote {
    type Hand = Load;

    const WRITES: &'static [Verb] = &[Verb::Acquire, Verb::Fill, Verb::Put, Verb::Invalidate];
    const STORE: Verb = Verb::Fill;

    /// A fill is sent after an acquire that failed as well: it may have got the lease, and else the fill is refused.
    async fn write(&self, verb: Verb, key: &RemoteKey, value: Vec<u8>, load: &mut Load) -> Result<(), Failure> {
        load.version += 1;
        let version = load.version;
        let notice = Notice { node: 1, namespace: self.namespace.clone() };
        match verb {
            Verb::Acquire => {
                load.token = Token::unique();
                // By force: a lease whose grant was lost on the way would else be in the way of all that follow.
                let claim = Claim::Force;
                let acquire = Acquire { token: load.token, lease: LEASE, retain: LEASE, claim, schema: 1, generation: 0 };
                if let Acquired::Granted { at, .. } = self.tier.acquire(key, &acquire).await? {
                    load.created = at;
                }
            }
            Verb::Fill => {
                let fill = Fill { token: load.token, version, created: load.created, body: body(key, value) };
                self.tier.fill(key, &fill).await?;
            }
            Verb::Put => {
                let put = Put { token: Token::unique(), version, age: Duration::ZERO, body: body(key, value) };
                self.tier.put(key, &put, LEASE, Some(&notice)).await?;
            }
            _ => {
                let invalidation = Invalidation { key: key.clone(), version: None };
                self.tier.invalidate(&[invalidation], LEASE, Some(&notice)).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::payload;
    use test_servers::Redis;

    #[test]
    fn a_key_that_goes_through_all_writes_has_its_value_and_then_none() {
        let _alone = crate::resident::WEIGHING.lock();
        let redis = Redis::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = OursRemote::connect(RedisTier::builder(&redis.url()), Duration::from_secs(5)).await.unwrap();
            let mut load = Load::default();
            for id in [7, 7, 8] {
                let key = client.key(id);
                let mut found = Vec::new();
                for verb in OursRemote::WRITES {
                    client.write(*verb, &key, payload(id, 128), &mut load).await.unwrap();
                    found.push(client.get(&key).await.unwrap());
                }
                // A lease is a record without a value, and so is a tombstone.
                assert_eq!(found, [None, Some(id), Some(id), None]);
            }
        });
    }
}
