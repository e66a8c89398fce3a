//! How far the telling has come, and that a sequence never means two things.

use crate::common::{AMPLE, HOUR, Raw, shared, tier, until};
use crate::ears::{Ears, all, alone, keys_of_one_partition, notice, poll, tell};
use cache_core::{ErrorKind, Invalidated, Invalidation, Meta, Partition, Put, PutOutcome, RemoteKey, RemoteTier, Token, Unmark};
use cache_redis::RedisTier;
use std::collections::HashSet;
use std::time::Duration;
use test_servers::Redis;

const TIMEOUT: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_poll_agrees_with_what_was_told() {
    let (ours, theirs) = (tier(&shared().url()).await, tier(&shared().url()).await);
    let namespace = alone();
    let begun = poll(&ours, namespace.prefix()).await;
    assert_eq!(begun.iter().map(|meta| meta.incarnation).collect::<HashSet<_>>().len(), 256);
    assert!(begun.iter().all(|meta| meta.incarnation != 0 && meta.sequence == 0 && meta.history != 0));
    assert!(begun.iter().all(|meta| meta.history == begun[0].history));
    let partition = Partition::from_index(17);
    let key = keys_of_one_partition(&namespace, partition, 1);
    for sequence in 1..4 {
        let receipts = tell(&theirs, &notice(&namespace), &key).await;
        assert_eq!((receipts[0].incarnation, receipts[0].sequence), (begun[17].incarnation, sequence));
        let polled = poll(&ours, namespace.prefix()).await;
        assert_eq!(polled[17], Meta { sequence, ..begun[17] });
        assert!(polled.iter().zip(&begun).enumerate().all(|(place, (now, then))| place == 17 || now == then));
    }
    let some = [5, 17, 3].map(Partition::from_index);
    let polled = theirs.poll(namespace.prefix(), &some).await.unwrap();
    let sequences: Vec<_> = polled.into_iter().map(|meta| meta.unwrap().sequence).collect();
    assert_eq!(sequences, [0, 3, 0], "in the order of the question");
}

#[tokio::test]
async fn who_tells_first_begins_a_partition_and_a_poll_goes_on_with_that() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let receipt = tell(&tier, &notice(&namespace), &[namespace.key(&1)]).await[0];
    let meta = poll(&tier, namespace.prefix()).await[usize::from(receipt.partition.index())];
    assert_eq!((meta.incarnation, meta.sequence), (receipt.incarnation, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_has_another_history_and_other_incarnations() {
    let directory = std::env::temp_dir().join(format!("cachestack-{}-{}", std::process::id(), fastrand()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.to_str().unwrap();
    // One that has lost everything, and one that has everything back from its disk.
    for arguments in [&[][..], &["--dir", file, "--appendonly", "yes", "--appendfsync", "always"]] {
        let builder = arguments.iter().fold(Redis::builder(), |builder, argument| builder.arg(*argument));
        let mut redis = builder.start();
        let tier = tier(&redis.url()).await;
        let namespace = alone();
        let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
        let key = namespace.key(&1);
        let then = tell(&tier, &notice(&namespace), std::slice::from_ref(&key)).await[0];
        let before = poll(&tier, namespace.prefix()).await;
        tokio::task::block_in_place(|| redis.restart());
        ears.until_deaf_and_back().await;
        crate::common::until_back(&tier).await;
        let now = tell(&tier, &notice(&namespace), &[key]).await[0];
        assert_ne!(then.incarnation, now.incarnation);
        assert_eq!(now.sequence, 1);
        let after = poll(&tier, namespace.prefix()).await;
        assert!(before.iter().zip(&after).all(|(before, after)| before.incarnation != after.incarnation));
        assert!(before.iter().zip(&after).all(|(before, after)| before.history != after.history));
        assert_eq!(after[usize::from(now.partition.index())].incarnation, now.incarnation);
    }
    let _ = std::fs::remove_dir_all(&directory);
}

fn fastrand() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos()
}

#[tokio::test]
async fn sequences_that_are_lost_or_damaged_are_begun_anew() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let partition = Partition::from_index(0);
    let meta = format!("{}{{{}}}:!m", namespace.prefix(), partition.tag());
    let key = keys_of_one_partition(&namespace, partition, 1);
    let mut seen = HashSet::from([tell(&tier, &notice(&namespace), &key).await[0].incarnation]);
    let damages: [&[&str]; 3] = [&["FLUSHALL"], &["DEL", &meta], &["SETRANGE", &meta, "16", "history!"]];
    for damage in &damages {
        raw.run::<redis::Value>(damage).await;
        let polled = poll(&tier, namespace.prefix()).await[0];
        assert!(seen.insert(polled.incarnation), "{damage:?}");
        assert_eq!(polled.sequence, 0);
        raw.run::<redis::Value>(damage).await;
        let told = tell(&tier, &notice(&namespace), &key).await[0];
        assert!(seen.insert(told.incarnation), "{damage:?}");
        assert_eq!(told.sequence, 1);
    }
}

#[tokio::test]
async fn what_is_no_meta_key_is_an_error_for_its_partition_alone() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let plants: [&[&str]; 3] = [&["SET", "foreign"], &["SET", ""], &["HSET", "field", "foreign"]];
    for plant in plants {
        let namespace = alone();
        let partition = Partition::from_index(0);
        let meta = format!("{}{{{}}}:!m", namespace.prefix(), partition.tag());
        raw.run::<redis::Value>(&[&plant[..1], &[&meta], &plant[1..]].concat()).await;
        let planted: Vec<u8> = raw.run(&["DUMP", &meta]).await;
        let polled = tier.poll(namespace.prefix(), &all()).await.unwrap();
        assert_eq!(polled.iter().filter(|meta| meta.is_err()).count(), 1, "{plant:?}");
        assert!(polled[0].is_err(), "{plant:?}");
        let notice = notice(&namespace);
        let key = keys_of_one_partition(&namespace, partition, 1).remove(0);
        crate::common::store_version(&tier, &key, "x", 1).await;
        let told = async |key: &RemoteKey| {
            let asked = [Invalidation { key: key.clone(), version: None }];
            tier.invalidate(&asked, HOUR, Some(&notice)).await
        };
        // Together with one of another partition, which is none the worse for it.
        let fine = keys_of_one_partition(&namespace, Partition::from_index(1), 1).remove(0);
        let (foreign, fine) = tokio::join!(told(&key), told(&fine));
        assert!(foreign.is_err(), "{plant:?}");
        assert_eq!(fine.unwrap().outcome, [Invalidated::Tombstoned], "{plant:?}");
        let unmark = Unmark { token: Token::unique(), version: None, retain: HOUR };
        assert!(tier.unmark(&key, &unmark, Some(&notice)).await.is_err(), "{plant:?}");
        let put = Put { token: Token::unique(), version: 1, age: Duration::ZERO, body: crate::common::body(&key, "y", HOUR) };
        crate::common::store_version(&tier, &key, "x", 1).await;
        assert!(tier.put(&key, &put, HOUR, Some(&notice)).await.is_err(), "{plant:?}");
        assert_eq!(raw.run::<Vec<u8>>(&["DUMP", &meta]).await, planted, "it is left alone");
    }
}

#[tokio::test]
async fn a_demoted_master_does_not_answer_polls_and_has_another_history_once_it_is_one_again() {
    let (redis, other) = (Redis::start(), Redis::start());
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let before = poll(&tier, namespace.prefix()).await;
    raw.run::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).await;
    for meta in tier.poll(namespace.prefix(), &all()).await.unwrap() {
        assert_eq!(meta.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    raw.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    let after = poll(&tier, namespace.prefix()).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before.history != after.history));
    assert!(before.iter().zip(&after).all(|(before, after)| before.incarnation != after.incarnation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_of_a_server_that_is_away_fails_in_time() {
    let mut redis = Redis::start();
    let tier = RedisTier::builder(&redis.url()).timeout(TIMEOUT).connect_timeout(TIMEOUT).connect().await.unwrap();
    poll(&tier, "away").await;
    let failed = async |what: &str| {
        let start = std::time::Instant::now();
        assert!(tier.poll("away", &all()).await.unwrap().iter().all(Result::is_err), "{what}");
        assert!(start.elapsed() < TIMEOUT + crate::common::MARGIN, "{what}");
    };
    redis.pause();
    failed("it hangs").await;
    redis.resume();
    until("it answers", async || tier.poll("away", &all()).await.unwrap().iter().all(Result::is_ok)).await;
    tokio::task::block_in_place(|| redis.kill());
    failed("it is gone").await;
}

async fn exhaust(raw: &Raw) {
    raw.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
}

/// An absent key's invalidation, which Redis has no memory to remember.
#[tokio::test]
async fn c4_without_memory_an_invalidation_is_told_without_a_sequence_and_the_incarnation_ends() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let (key, notice) = (namespace.key(&1), notice(&namespace));
    let place = usize::from(key.partition().index());
    let before = poll(&tier, namespace.prefix()).await;
    exhaust(&raw).await;
    let asked = [Invalidation { key: key.clone(), version: None }];
    let told = tier.invalidate(&asked, HOUR, Some(&notice)).await.unwrap();
    assert_eq!((told.outcome, told.receipts), (vec![Invalidated::Tombstoned], vec![]));
    let [heard] = &ears.take(1).await[..] else { unreachable!() };
    assert_eq!((heard.at.incarnation, heard.at.sequence, &heard.frame), (0, 0, &notice.frame(asked.iter())));
    let polled = tier.poll(namespace.prefix(), &all()).await.unwrap();
    for (partition, meta) in polled.iter().enumerate() {
        let refused = meta.as_ref().is_err_and(|err| err.kind() == ErrorKind::Refused);
        assert_eq!((meta.is_err(), refused), (partition == place, partition == place), "it cannot be begun: {meta:?}");
    }
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let after = poll(&tier, namespace.prefix()).await;
    assert_ne!(before[place].incarnation, after[place].incarnation);
    assert_eq!(after[place].sequence, 0);
}

/// The same where not even the script runs.
#[tokio::test]
async fn c4_where_no_script_runs_for_want_of_memory_the_incarnation_ends_too() {
    let redis = Redis::start();
    let relay = crate::common::relay::Relay::start(redis.port()).await;
    let tier = RedisTier::builder(&relay.url()).timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let (key, notice) = (namespace.key(&1), notice(&namespace));
    let place = usize::from(key.partition().index());
    let before = poll(&tier, namespace.prefix()).await;
    relay.refuse(&["EVALSHA"], "OOM command not allowed when used memory > 'maxmemory'.");
    let asked = [Invalidation { key: key.clone(), version: None }];
    let told = tier.invalidate(&asked, HOUR, Some(&notice)).await.unwrap();
    assert_eq!((told.outcome, told.receipts), (vec![Invalidated::Tombstoned], vec![]));
    let [heard] = &ears.take(1).await[..] else { unreachable!() };
    assert_eq!((heard.at.incarnation, heard.at.sequence, &heard.frame), (0, 0, &notice.frame(asked.iter())));
    assert_eq!(tier.clear(&namespace, HOUR, Some(&notice)).await.unwrap().receipts, []);
    ears.take(256).await;
    relay.refuse(&[], "");
    let after = poll(&tier, namespace.prefix()).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before.incarnation != after.incarnation));
    assert_eq!(after[place].sequence, 0);
}

#[tokio::test]
async fn c4_a_put_without_memory_is_an_error_as_it_was_and_takes_no_sequence() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let key: RemoteKey = namespace.key(&1);
    crate::common::store_version(&tier, &key, "x", 1).await;
    let before = poll(&tier, namespace.prefix()).await;
    exhaust(&raw).await;
    let put = |version| Put { token: Token::unique(), version, age: Duration::ZERO, body: crate::common::body(&key, "y", HOUR) };
    let err = tier.put(&key, &put(2), HOUR, Some(&notice(&namespace))).await.unwrap_err();
    assert!(err.to_string().contains("out of memory"), "{err}");
    assert_eq!(poll(&tier, namespace.prefix()).await, before);
    let told = tier.put(&key, &put(1), HOUR, Some(&notice(&namespace))).await.unwrap();
    assert_eq!(
        (told.outcome, told.receipts),
        (PutOutcome::NotNewer, vec![]),
        "nothing is stored, and without memory no sequence is taken"
    );
}
