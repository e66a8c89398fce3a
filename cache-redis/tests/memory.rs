//! A server that is out of memory under `noeviction`.

mod common;

use cache_core::record::{Record, State};
use cache_core::{Claim, ErrorKind, Filled, Invalidated, Invalidation, Put, PutOutcome, RemoteKey, RemoteTier, Token};
use cache_redis::RedisTier;
use common::{HOUR, Raw, asks, body, fills, key, namespace, store, tier};
use std::time::Duration;
use test_servers::Redis;

/// Every write that may grow is refused from here on.
async fn exhaust(raw: &Raw) {
    raw.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
}

async fn state(tier: &RedisTier, key: &RemoteKey) -> Option<(State, u64)> {
    let record = tier.get(key).await.unwrap().record?;
    Record::decode(&record, key.echo()).ok().map(|record| (record.state, record.version))
}

#[tokio::test]
async fn reads_go_on_without_memory_and_writes_say_what_is_wrong() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let (old, new) = (key(), key());
    store(&tier, &old, "old").await;
    exhaust(&raw).await;
    assert_eq!(state(&tier, &old).await, Some((State::Value, 0)));
    let err = tier.acquire(&new, &asks(Token::unique(), Claim::Vacant)).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    assert!(err.to_string().contains("out of memory"), "{err}");
}

#[tokio::test]
async fn an_invalidation_works_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let [value, leased, versioned, absent, foreign] = [1, 2, 3, 4, 5].map(|key| namespace.key(&key));
    store(&tier, &value, "old").await;
    let in_flight = Token::unique();
    tier.acquire(&leased, &asks(in_flight, Claim::Vacant)).await.unwrap();
    let put = Put { token: Token::unique(), version: 9, age: Duration::ZERO, body: body(&versioned, "new", HOUR) };
    assert_eq!(tier.put(&versioned, &put, HOUR).await.unwrap(), PutOutcome::Stored);
    raw.query::<()>(redis::cmd("SET").arg(foreign.as_bytes()).arg("foreign")).await;
    exhaust(&raw).await;

    let invalidate = async |key: &RemoteKey, version| {
        tier.invalidate(&[Invalidation { key: key.clone(), version }], HOUR).await.unwrap().remove(0)
    };
    assert_eq!(invalidate(&versioned, Some(5)).await, Invalidated::Current);
    assert_eq!(invalidate(&versioned, Some(10)).await, Invalidated::Tombstoned);
    assert_eq!(state(&tier, &versioned).await, Some((State::Tombstone, 10)), "the floor survives");
    for key in [&value, &leased] {
        assert_eq!(invalidate(key, None).await, Invalidated::Tombstoned);
        assert_eq!(state(&tier, key).await, Some((State::Tombstone, 0)));
    }
    assert_eq!(invalidate(&absent, None).await, Invalidated::Tombstoned);
    assert_eq!(state(&tier, &absent).await, None, "nothing new is stored");
    assert_eq!(invalidate(&foreign, None).await, Invalidated::Foreign);
    assert_eq!(raw.of::<String>("GET", &foreign).await, "foreign");

    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(tier.fill(&leased, &fills(&leased, in_flight, "old")).await.unwrap(), Filled::LeaseLost);
}

#[tokio::test]
async fn a_clear_works_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let keys: Vec<_> = (0..300).map(|key| namespace.key(&key)).collect();
    for key in &keys {
        store(&tier, key, "old").await;
    }
    exhaust(&raw).await;
    assert_eq!(tier.clear(&namespace, HOUR).await.unwrap(), 300);
    for key in &keys {
        assert_eq!(state(&tier, key).await, Some((State::Tombstone, 0)));
    }
}
