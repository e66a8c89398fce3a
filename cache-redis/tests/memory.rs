//! A server that is out of memory under `noeviction`.

mod common;

use cache_core::record::{Record, State};
use cache_core::testing::Plant;
use cache_core::{
    Acquire, Acquired, Claim, ErrorKind, Filled, Invalidated, Invalidation, Mark, Marked, Namespace, RemoteKey, RemoteTier,
    TieredCache, Token, Unmark,
};
use cache_redis::RedisTier;
use common::relay::Relay;
use common::{HOUR, Raw, asks, body, fills, invalidation, key, namespace, store, store_version, tier};
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
async fn c4_reads_go_on_without_memory_and_writes_say_what_is_wrong() {
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
async fn c4_of_acquires_at_one_time_those_that_need_no_write_are_answered_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let [absent, held, leased, foreign, tombstone] = [1, 2, 3, 4, 5].map(|key| namespace.key(&key));
    store(&tier, &held, "old").await;
    tier.acquire(&leased, &asks(Token::unique(), Claim::Vacant)).await.unwrap();
    raw.query::<()>(redis::cmd("SADD").arg(foreign.as_bytes()).arg("x")).await;
    tier.invalidate(&[invalidation(&tombstone)], HOUR, None).await.unwrap();
    exhaust(&raw).await;
    let before = scripts(&raw).await;
    let acquire = async |key: &RemoteKey| tier.acquire(key, &asks(Token::unique(), Claim::Vacant)).await;
    let (absent, tombstone, held, leased, foreign) =
        tokio::join!(acquire(&absent), acquire(&tombstone), acquire(&held), acquire(&leased), acquire(&foreign));
    for refused in [absent, tombstone] {
        let err = refused.unwrap_err();
        assert!(err.to_string().contains("out of memory"), "{err}");
    }
    assert_eq!(held.unwrap(), Acquired::Hit);
    assert!(matches!(leased.unwrap(), Acquired::Busy(_)));
    assert_eq!(foreign.unwrap(), Acquired::Foreign);
    assert_eq!(scripts(&raw).await, before + 1, "they were one call");
}

/// How often scripts were called.
async fn scripts(raw: &Raw) -> u64 {
    let stats: String = raw.run(&["INFO", "commandstats"]).await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).expect("one was called");
    line.split(',').next().expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn c4_an_invalidation_works_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let [value, leased, versioned, absent, foreign] = [1, 2, 3, 4, 5].map(|key| namespace.key(&key));
    store(&tier, &value, "old").await;
    let in_flight = Token::unique();
    tier.acquire(&leased, &asks(in_flight, Claim::Vacant)).await.unwrap();
    store_version(&tier, &versioned, "new", 9).await;
    raw.query::<()>(redis::cmd("SET").arg(foreign.as_bytes()).arg("foreign")).await;
    exhaust(&raw).await;

    let invalidate = async |key: &RemoteKey, version| {
        tier.invalidate(&[Invalidation { key: key.clone(), version }], HOUR, None).await.unwrap().outcome.remove(0)
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
async fn c4_a_floor_that_was_to_stay_longer_does_so_after_an_invalidation_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let (longer, ever) = (key(), key());
    for key in [&longer, &ever] {
        tier.acquire(key, &Acquire { retain: 3 * HOUR, ..asks(Token::unique(), Claim::Vacant) }).await.unwrap();
    }
    raw.of::<()>("PERSIST", &ever).await;
    let before: i64 = raw.of("PEXPIRETIME", &longer).await;
    exhaust(&raw).await;
    for key in [&longer, &ever] {
        let asked = Invalidation { key: key.clone(), version: Some(3) };
        assert_eq!(tier.invalidate(&[asked], HOUR, None).await.unwrap().outcome, [Invalidated::Tombstoned]);
        assert_eq!(state(&tier, key).await, Some((State::Tombstone, 3)));
    }
    assert_eq!(raw.of::<i64>("PEXPIRETIME", &longer).await, before);
    assert_eq!(raw.of::<i64>("PEXPIRETIME", &ever).await, -1);
}

#[tokio::test]
async fn c4_a_clear_works_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let keys: Vec<_> = (0..300).map(|key| namespace.key(&key)).collect();
    for key in &keys {
        store(&tier, key, "old").await;
    }
    exhaust(&raw).await;
    assert_eq!(tier.clear(&namespace, HOUR, None).await.unwrap().outcome, 300);
    for key in &keys {
        assert_eq!(state(&tier, key).await, Some((State::Tombstone, 0)));
    }
}

#[tokio::test]
async fn c4_announced_writes_survive_an_invalidation_without_memory() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let key = key();
    let token = Token::unique();
    let deadline = raw.time_us().await / 1_000 + 3_600_000;
    let record = Record { state: State::Marked, version: 7, token, deadline, created: 0, marks: 1, body: body(&key, "", HOUR) };
    raw.plant(&key, Some(record.encode())).await;
    raw.query::<()>(redis::cmd("PEXPIRE").arg(key.as_bytes()).arg(60_000)).await;
    exhaust(&raw).await;
    let asked = [Invalidation { key: key.clone(), version: Some(9) }];
    assert_eq!(tier.invalidate(&asked, HOUR, None).await.unwrap().outcome, [Invalidated::Tombstoned]);
    let found = Record::decode(&tier.get(&key).await.unwrap().record.unwrap(), key.echo()).unwrap();
    assert_eq!(found, Record { version: 9, ..record }, "the floor has risen, and all else is as it was");
    assert!(raw.of::<i64>("PTTL", &key).await > 60_000, "and it stays for as long as the invalidation says");
}

#[tokio::test]
async fn c4_without_memory_no_write_is_announced_and_those_that_were_are_invalidated() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port()).await;
    let (tier, raw) = (tier(&relay.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let [marked, refused, new] = [1, 2, 3].map(|key| namespace.key(&key));
    let mark = Mark { token: Token::unique(), life: HOUR, retain: HOUR };
    for key in [&marked, &refused] {
        assert_eq!(tier.mark(key, &mark).await.unwrap(), Marked::Announced);
    }
    exhaust(&raw).await;
    let err = tier.mark(&new, &mark).await.unwrap_err();
    assert!(err.to_string().contains("out of memory"), "{err}");
    let unmark = Unmark { token: mark.token, version: Some(7), retain: HOUR };
    assert_eq!(tier.unmark(&marked, &unmark, None).await.unwrap().outcome, Invalidated::Tombstoned);
    assert_eq!(state(&tier, &marked).await, Some((State::Marked, 7)), "the floor has risen; the mark ends by itself");
    relay.refuse(&["EVALSHA"], OOM);
    assert_eq!(tier.unmark(&refused, &unmark, None).await.unwrap().outcome, Invalidated::Tombstoned);
    assert_eq!(state(&tier, &refused).await, None);
    relay.refuse(&[], "");
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(matches!(tier.acquire(&marked, &asks(Token::unique(), Claim::Force)).await.unwrap(), Acquired::Busy(_)));
    tier.unmark(&marked, &unmark, None).await.unwrap();
    assert_eq!(state(&tier, &marked).await, Some((State::Tombstone, 7)));
}

const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// Redis itself runs the script and refuses its writes. Other servers, and proxies before them, refuse the whole script.
#[tokio::test]
async fn c4_where_the_script_is_refused_the_record_goes_instead() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port()).await;
    let (tier, raw) = (tier(&relay.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let [value, leased, absent, foreign, list, other] = [1, 2, 3, 4, 5, 6].map(|key| namespace.key(&key));
    for key in [&value, &other] {
        store(&tier, key, "old").await;
    }
    let in_flight = Token::unique();
    tier.acquire(&leased, &asks(in_flight, Claim::Vacant)).await.unwrap();
    raw.query::<()>(redis::cmd("SET").arg(foreign.as_bytes()).arg("foreign")).await;
    raw.query::<()>(redis::cmd("RPUSH").arg(list.as_bytes()).arg("foreign")).await;
    exhaust(&raw).await;
    relay.refuse(&["EVALSHA"], OOM);

    let asked = [&value, &leased, &absent, &foreign, &list].map(invalidation);
    let ended = tier.invalidate(&asked, HOUR, None).await.unwrap().outcome;
    let (done, not_ours) = (Invalidated::Tombstoned, Invalidated::Foreign);
    assert_eq!(ended, [done, done, done, not_ours, not_ours]);
    for key in [&value, &leased, &absent] {
        assert_eq!(tier.get(key).await.unwrap().record, None);
    }
    assert_eq!(raw.of::<String>("GET", &foreign).await, "foreign");
    assert_eq!(raw.of::<u64>("LLEN", &list).await, 1);
    assert_eq!(tier.clear(&namespace, HOUR, None).await.unwrap().outcome, 1, "the one that was left");
    assert_eq!(tier.get(&other).await.unwrap().record, None);

    relay.refuse(&[], "");
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(tier.fill(&leased, &fills(&leased, in_flight, "old")).await.unwrap(), Filled::LeaseLost);
}

#[tokio::test]
async fn c4_an_invalidation_that_could_neither_mark_nor_remove_the_record_says_so() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port()).await;
    let tier = tier(&relay.url()).await;
    let cache = TieredCache::<u64, u64>::builder("t").l2(tier.clone()).build().unwrap();
    cache.insert(&1, 1).await.unwrap();
    relay.refuse(&["EVALSHA", "UNLINK"], OOM);
    let key = Namespace::new("cs", "t").unwrap().key(&1_u64);
    for err in [
        tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap_err(),
        tier.clear(&Namespace::new("cs", "t").unwrap(), HOUR, None).await.unwrap_err(),
        cache.invalidate(&1).await.unwrap_err(),
        cache.clear().await.unwrap_err(),
    ] {
        assert_eq!(err.kind(), ErrorKind::Unavailable);
        assert!(err.to_string().contains("out of memory"), "{err}");
    }
    assert_eq!(cache.stats().invalidation_errors, 2);
    assert_eq!(state(&tier, &key).await, Some((State::Value, 0)), "it is still there");
    assert_eq!(cache.get(&1).await, None, "and this node does not serve it");
    relay.refuse(&[], "");
    cache.invalidate(&1).await.unwrap();
    assert_eq!(cache.get(&1).await, None);
}
