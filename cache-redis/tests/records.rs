//! What stands under a key: foreign, damaged, too large, expired, many at once, a whole namespace.

mod common;

use bytes::Bytes;
use cache_core::record::{HEADER_LEN, Record, Unreadable};
use cache_core::testing::Plant;
use cache_core::{
    Acquire, Acquired, Claim, ErrorKind, Fill, Filled, Invalidated, Invalidation, Mark, Marked, Namespace, Put, PutOutcome,
    RemoteKey, RemoteTier, Token, Unmark,
};
use cache_redis::RedisTier;
use common::{AMPLE, HOUR, Raw, asks, body, fills, invalidation, key, namespace, shared, store, store_version, tier};
use std::time::Duration;
use test_servers::Redis;

fn put(key: &RemoteKey, version: u64) -> Put {
    Put { token: Token::unique(), version, age: Duration::ZERO, body: body(key, "put", HOUR) }
}

async fn payload(tier: &RedisTier, key: &RemoteKey) -> Option<Bytes> {
    let record = tier.get(key).await.expect("an answer").record?;
    let record = Record::decode(&record, key.echo()).expect("a record");
    record.state.has_value().then_some(record.body.payload)
}

#[tokio::test]
async fn a_foreign_value_survives_every_verb() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let long = "not ours, and long enough to be taken for a record if only its length were looked at, which is not so";
    let foreigners: [&[&str]; 6] = [
        &["SET", "an ordinary string"],
        &["SET", long],
        &["SET", ""],
        &["HSET", "field", "value"],
        &["RPUSH", "element"],
        &["ZADD", "1", "member"],
    ];
    for foreigner in foreigners {
        let namespace = namespace();
        let key = namespace.key(&1);
        let mut cmd = redis::cmd(foreigner[0]);
        cmd.arg(key.as_bytes()).arg(&foreigner[1..]);
        raw.query::<()>(&cmd).await;
        let before: Vec<u8> = raw.of("DUMP", &key).await;

        for record in [
            tier.get(&key).await.unwrap().record,
            tier.get_many(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap().record,
        ] {
            // MGET shows what is no string as absent.
            let decoded = record.map(|record| Record::decode(&record, key.echo()));
            assert!(matches!(decoded, Some(Err(Unreadable::Foreign)) | None), "{foreigner:?}: {decoded:?}");
        }
        assert!(tier.get(&key).await.unwrap().record.is_some(), "{foreigner:?}");
        for claim in [Claim::Vacant, Claim::Stale, Claim::Force] {
            assert_eq!(tier.acquire(&key, &asks(Token::unique(), claim)).await.unwrap(), Acquired::Foreign);
        }
        assert_eq!(tier.fill(&key, &fills(&key, Token::default(), "x")).await.unwrap(), Filled::LeaseLost);
        assert!(!tier.release(&key, Token::default()).await.unwrap());
        assert_eq!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap().outcome, [Invalidated::Foreign]);
        assert_eq!(tier.put(&key, &put(&key, 9), HOUR, None).await.unwrap().outcome, PutOutcome::Foreign);
        assert_eq!(tier.clear(&namespace, HOUR, None).await.unwrap().outcome, 0);

        let after: Vec<u8> = raw.of("DUMP", &key).await;
        assert_eq!(before, after, "{foreigner:?} was changed");
    }
}

#[tokio::test]
async fn e2_a_record_cut_short_is_neither_filled_nor_read_and_an_invalidation_mends_it() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let key = key();
    store(&tier, &key, "whole").await;
    let whole: Vec<u8> = raw.of("GET", &key).await;
    raw.plant(&key, Some(whole[..HEADER_LEN - 1].to_vec())).await;

    let read = tier.get(&key).await.unwrap().record.unwrap();
    assert_eq!(Record::decode(&read, key.echo()), Err(Unreadable::Corrupt));
    assert_eq!(tier.acquire(&key, &asks(Token::unique(), Claim::Force)).await.unwrap(), Acquired::Newer);
    assert_eq!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap().outcome, [Invalidated::Tombstoned]);
    store(&tier, &key, "again").await;
    assert_eq!(payload(&tier, &key).await.unwrap(), "again");
}

#[tokio::test]
async fn e2_a_payload_cut_short_is_unreadable_and_a_load_by_force_replaces_it() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let key = key();
    store(&tier, &key, "whole").await;
    let whole: Vec<u8> = raw.of("GET", &key).await;
    raw.plant(&key, Some(whole[..whole.len() - 1].to_vec())).await;

    let read = tier.get(&key).await.unwrap().record.unwrap();
    assert_eq!(Record::decode(&read, key.echo()), Err(Unreadable::Corrupt));
    store(&tier, &key, "again").await;
    assert_eq!(payload(&tier, &key).await.unwrap(), "again");
}

#[tokio::test]
async fn e4_a_record_over_the_limit_is_not_written_and_is_read_as_unreadable() {
    let wide = tier(&shared().url()).await;
    let limit = HEADER_LEN + 10;
    let narrow = RedisTier::builder(&shared().url()).timeout(AMPLE).max_record_bytes(limit).connect().await.unwrap();
    let key = key();

    let token = Token::unique();
    assert!(matches!(narrow.acquire(&key, &asks(token, Claim::Vacant)).await.unwrap(), Acquired::Granted { .. }));
    let err = narrow.fill(&key, &fills(&key, token, "eleven byte")).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TooLarge);
    let large = Put { body: body(&key, "eleven byte", HOUR), ..put(&key, 1) };
    assert_eq!(narrow.put(&key, &large, HOUR, None).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(narrow.fill(&key, &fills(&key, token, "ten bytes.")).await.unwrap(), Filled::Stored);
    assert_eq!(payload(&narrow, &key).await.unwrap(), "ten bytes.");

    store(&wide, &key, vec![b'x'; 1 << 20]).await;
    for read in [narrow.get(&key).await.unwrap(), narrow.get_many(std::slice::from_ref(&key)).await.unwrap().remove(0).unwrap()] {
        let read = read.record.unwrap();
        assert_eq!(read.len(), HEADER_LEN);
        assert_eq!(Record::decode(&read, key.echo()), Err(Unreadable::Corrupt));
    }
    assert_eq!(payload(&wide, &key).await.unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn a_value_is_gone_when_its_last_life_ends_and_no_sooner() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let (key, token, last) = (key(), Token::unique(), Duration::from_millis(300));
    let before = raw.time_us().await;
    let Acquired::Granted { at, .. } = tier.acquire(&key, &asks(token, Claim::Vacant)).await.unwrap() else { panic!("a lease") };
    // The load began 100 ms before, so 200 ms are left.
    let fill = Fill { token, version: 0, created: at - 100, body: body(&key, "brief", last) };
    assert_eq!(tier.fill(&key, &fill).await.unwrap(), Filled::Stored);
    let after = raw.time_us().await;
    loop {
        let asked = raw.time_us().await;
        let found = tier.get(&key).await.unwrap().record.is_some();
        let answered = raw.time_us().await;
        // Stamps are whole milliseconds, rounded down.
        assert!(found || answered + 1_000 >= before + 200_000, "gone too soon");
        assert!(!found || asked <= after + 201_000, "there too long");
        if !found {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(matches!(tier.acquire(&key, &asks(Token::unique(), Claim::Vacant)).await.unwrap(), Acquired::Granted { .. }));
}

#[tokio::test]
async fn b11_a_lease_that_has_ended_goes_to_the_next_load_and_the_first_fill_is_refused() {
    let tier = tier(&shared().url()).await;
    let (key, slow, next) = (key(), Token::unique(), Token::unique());
    let brief = Acquire { lease: Duration::from_millis(150), ..asks(slow, Claim::Vacant) };
    assert!(matches!(tier.acquire(&key, &brief).await.unwrap(), Acquired::Granted { .. }));
    loop {
        match tier.acquire(&key, &asks(next, Claim::Vacant)).await.unwrap() {
            Acquired::Busy(left) => {
                assert!(left <= Duration::from_millis(150), "{left:?}");
                tokio::time::sleep(left).await;
            }
            granted => break assert!(matches!(granted, Acquired::Granted { floor: 0, .. }), "{granted:?}"),
        }
    }
    assert_eq!(tier.fill(&key, &fills(&key, slow, "late")).await.unwrap(), Filled::LeaseLost);
    assert_eq!(tier.fill(&key, &fills(&key, next, "in time")).await.unwrap(), Filled::Stored);
}

#[tokio::test]
async fn c9_scripts_survive_script_flush() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let key = key();
    for verb in 0..5 {
        raw.run::<()>(&["SCRIPT", "FLUSH"]).await;
        let token = Token::unique();
        match verb {
            0 => drop(tier.acquire(&key, &asks(token, Claim::Force)).await.unwrap()),
            1 => assert_eq!(tier.fill(&key, &fills(&key, token, "x")).await.unwrap(), Filled::LeaseLost),
            2 => assert!(!tier.release(&key, token).await.unwrap()),
            3 => assert_eq!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap().outcome, [Invalidated::Tombstoned]),
            _ => assert_eq!(tier.put(&key, &put(&key, 1), HOUR, None).await.unwrap().outcome, PutOutcome::Tombstoned),
        }
    }
}

#[tokio::test]
async fn c9_a_forgotten_script_is_loaded_once_and_its_call_is_repeated_once() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    raw.run::<()>(&["SCRIPT", "FLUSH"]).await;
    raw.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    let ran = async |command: &str| {
        let stats: String = raw.run(&["INFO", "commandstats"]).await;
        let calls = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))?.split(',').next()?.parse().ok());
        calls.unwrap_or(0_u64)
    };
    for calls in 1..=3 {
        assert!(matches!(tier.acquire(&key(), &asks(Token::unique(), Claim::Vacant)).await.unwrap(), Acquired::Granted { .. }));
        assert_eq!((ran("script|load").await, ran("evalsha").await), (1, calls + 1));
    }
}

#[tokio::test]
async fn one_call_invalidates_512_keys_and_answers_in_their_order() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let namespace = namespace();
    let keys: Vec<RemoteKey> = (0..512).map(|key: u32| namespace.key(&key)).collect();
    raw.query::<()>(redis::cmd("SET").arg(keys[200].as_bytes()).arg("foreign")).await;
    store_version(&tier, &keys[300], "x", 7).await;

    let asked: Vec<_> = keys.iter().map(|key| Invalidation { key: key.clone(), version: Some(5) }).collect();
    let outcomes = tier.invalidate(&asked, HOUR, None).await.unwrap().outcome;
    assert_eq!(outcomes.len(), 512);
    for (at, outcome) in outcomes.iter().enumerate() {
        let wanted = match at {
            200 => Invalidated::Foreign,
            300 => Invalidated::Current,
            _ => Invalidated::Tombstoned,
        };
        assert_eq!(*outcome, wanted, "key {at}");
    }
    assert_eq!(tier.invalidate(&[], HOUR, None).await.unwrap().outcome, []);
    assert!(tier.get_many(&[]).await.unwrap().is_empty());
    let read = tier.get_many(&keys).await.unwrap();
    assert!(read.iter().zip(&keys).enumerate().all(|(at, (fetched, key))| {
        let record = fetched.as_ref().unwrap().record.as_ref().expect("something under each key");
        at == 200 || Record::decode(record, key.echo()).is_ok_and(|record| record.version >= 5)
    }));
}

#[tokio::test]
async fn clear_tombstones_its_namespace_and_no_other_key() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let ours = Namespace::new("shop", "product").unwrap();
    // Each differs in one way that a careless pattern would not see.
    let others = [("shop", "product2"), ("shop", "aproduct"), ("sho", "product"), ("xshop", "product"), ("", "product")]
        .map(|(prefix, name)| Namespace::new(prefix, name).unwrap());
    let keys: Vec<RemoteKey> = (0..3_000).map(|key: u32| ours.key(&key)).collect();
    for keys in keys.chunks(500) {
        let asked: Vec<_> = keys.iter().map(invalidation).collect();
        tier.invalidate(&asked, HOUR, None).await.unwrap();
    }
    let long = ours.key(&"k".repeat(1_000));
    for key in [&keys[0], &keys[2_999], &long] {
        store(&tier, key, "old").await;
    }
    let mut kept = Vec::new();
    for other in &others {
        // A key that looks as if it were in the namespace behind its own.
        for key in [other.key(&1), other.key(&"{x}:product:1")] {
            store(&tier, &key, "kept").await;
            kept.push(key);
        }
    }
    raw.run::<()>(&["SET", "shop{1}:product", "neither : nor # behind the name"]).await;
    let (in_flight, key) = (Token::unique(), ours.key(&"in flight"));
    assert!(matches!(tier.acquire(&key, &asks(in_flight, Claim::Vacant)).await.unwrap(), Acquired::Granted { .. }));

    assert_eq!(tier.clear(&ours, HOUR, None).await.unwrap().outcome, 3_002);

    for key in [&keys[0], &keys[2_999], &long] {
        assert_eq!(payload(&tier, key).await, None);
    }
    assert_eq!(
        tier.fill(&key, &fills(&key, in_flight, "old")).await.unwrap(),
        Filled::LeaseLost,
        "a fill begun before the clear"
    );
    for key in &kept {
        assert_eq!(payload(&tier, key).await.unwrap(), "kept");
    }
    assert_eq!(raw.run::<String>(&["GET", "shop{1}:product"]).await, "neither : nor # behind the name");
}

#[tokio::test]
async fn a_key_that_vanishes_during_a_clear_stays_absent_and_gets_no_record_of_a_wrong_key() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let namespace = namespace();
    let keys: Vec<RemoteKey> = (0..2_000).map(|key: u32| namespace.key(&key)).collect();
    for _ in 0..3 {
        for keys in keys.chunks(500) {
            let asked: Vec<_> = keys.iter().map(invalidation).collect();
            tier.invalidate(&asked, HOUR, None).await.unwrap();
        }
        let vanish = async {
            for key in &keys {
                raw.of::<()>("DEL", key).await;
            }
        };
        let (cleared, ()) = tokio::join!(tier.clear(&namespace, HOUR, None), vanish);
        cleared.unwrap();
        for (fetched, key) in tier.get_many(&keys).await.unwrap().into_iter().zip(&keys) {
            let decoded = fetched.unwrap().record.map(|record| Record::decode(&record, key.echo()));
            assert!(matches!(decoded, None | Some(Ok(_))), "{decoded:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_string_is_foreign_to_announced_writes_too() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let (key, token) = (key(), Token::unique());
    raw.query::<()>(redis::cmd("SET").arg(key.as_bytes()).arg("")).await;
    assert_eq!(tier.mark(&key, &Mark { token, life: HOUR, retain: HOUR }).await.unwrap(), Marked::Foreign);
    let unmark = Unmark { token, version: None, retain: HOUR };
    assert_eq!(tier.unmark(&key, &unmark, None).await.unwrap().outcome, Invalidated::Foreign);
    assert_eq!(raw.of::<u64>("STRLEN", &key).await, 0);
}
