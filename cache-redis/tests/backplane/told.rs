//! What is told, to whom, and where in its partition's sequence.

use crate::common::{AMPLE, HOUR, Raw, body, shared, store, store_version, tier};
use crate::ears::{Ears, all, alone, keys_of_one_partition, notice, poll, tell};
use cache_core::{
    Invalidated, Invalidation, Mark, Meta, Namespace, Partition, Put, PutOutcome, RemoteKey, RemoteTier, Token, Unmark,
};
use cache_redis::{KeyPrefix, RedisTier};
use std::time::Duration;

fn invalidation(key: &RemoteKey, version: Option<u64>) -> Invalidation {
    Invalidation { key: key.clone(), version }
}

fn put(key: &RemoteKey, version: u64) -> Put {
    Put { token: Token::unique(), version, age: Duration::ZERO, body: body(key, "put", HOUR) }
}

#[tokio::test]
async fn it_does_what_every_tier_owes_the_nodes_that_listen() {
    let (ours, theirs) = (tier(&shared().url()).await, tier(&shared().url()).await);
    cache_core::testing::backplane_suite(&ours, &theirs).await;
}

#[tokio::test]
async fn an_invalidation_is_heard_once_where_its_receipt_says() {
    let (ours, theirs) = (tier(&shared().url()).await, tier(&shared().url()).await);
    let namespace = alone();
    let (ears, _listening) = Ears::on(&theirs, namespace.prefix()).await;
    let (own_ears, _own) = Ears::on(&ours, namespace.prefix()).await;
    let key = namespace.key(&1);
    let notice = notice(&namespace);
    // Whatever is found: nothing, a tombstone, a newer value, something foreign.
    let mut asked = vec![invalidation(&key, None), invalidation(&key, Some(3))];
    store_version(&ours, &key, "newer", 9).await;
    asked.push(invalidation(&key, Some(5)));
    let mut found = Vec::new();
    for (place, asked) in asked.iter().enumerate() {
        let told = ours.invalidate(std::slice::from_ref(asked), HOUR, Some(&notice)).await.unwrap();
        found.extend(told.outcome);
        let [heard] = &ears.take(1).await[..] else { unreachable!() };
        assert_eq!((told.receipts, &heard.frame), (vec![heard.at], &notice.frame([asked].into_iter())));
        assert_eq!((heard.at.partition, heard.at.sequence), (key.partition(), place as u64 + 1));
        assert_eq!(own_ears.take(1).await[0], *heard, "who tells hears it too");
    }
    assert_eq!(found, [Invalidated::Tombstoned, Invalidated::Tombstoned, Invalidated::Tombstoned]);
    store_version(&ours, &key, "newer", 9).await;
    let told = ours.invalidate(&[invalidation(&key, Some(5))], HOUR, Some(&notice)).await.unwrap();
    assert_eq!(told.outcome, [Invalidated::Current]);
    let raw = Raw::connect(&shared().url()).await;
    raw.query::<()>(redis::cmd("SET").arg(key.as_bytes()).arg("foreign")).await;
    let foreign = ours.invalidate(&[invalidation(&key, None)], HOUR, Some(&notice)).await.unwrap();
    assert_eq!(foreign.outcome, [Invalidated::Foreign]);
    let receipts = [told.receipts, foreign.receipts].concat();
    assert_eq!(ears.take(2).await.iter().map(|heard| heard.at).collect::<Vec<_>>(), receipts);
    assert_eq!(receipts.iter().map(|receipt| receipt.sequence).collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test]
async fn many_keys_are_one_message_a_partition() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let keys: Vec<_> = (0..300).map(|key| namespace.key(&key)).collect();
    let mut partitions: Vec<_> = keys.iter().map(RemoteKey::partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    for round in 1..3 {
        let mut receipts = tell(&tier, &notice(&namespace), &keys).await;
        receipts.sort_by_key(|receipt| receipt.partition);
        let mut heard = ears.take(partitions.len()).await;
        heard.sort_by_key(|heard| heard.at.partition);
        assert_eq!(receipts, heard.iter().map(|heard| heard.at).collect::<Vec<_>>());
        assert!(
            heard
                .iter()
                .zip(&partitions)
                .all(|(heard, partition)| heard.at.partition == *partition && heard.at.sequence == round)
        );
        for heard in heard {
            let keys = keys.iter().filter(|key| key.partition() == heard.at.partition).map(|key| invalidation(key, None));
            assert_eq!(heard.frame, notice(&namespace).frame(keys.collect::<Vec<_>>().iter()));
        }
    }
    // More than one script takes are several messages.
    let many = keys_of_one_partition(&namespace, Partition::from_index(3), 300);
    assert_eq!(tell(&tier, &notice(&namespace), &many).await.len(), 3);
    ears.take(3).await;
}

#[tokio::test]
async fn a_put_is_told_whatever_came_of_it_and_once() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let (key, notice) = (namespace.key(&1), notice(&namespace));
    let raw = Raw::connect(&shared().url()).await;
    let mut sequence = 0;
    let mut told = async |version, wanted| {
        let told = tier.put(&key, &put(&key, version), HOUR, Some(&notice)).await.unwrap();
        let [heard] = &ears.take(1).await[..] else { unreachable!() };
        assert_eq!((told.outcome, told.receipts), (wanted, vec![heard.at]));
        assert_eq!(heard.frame, notice.frame([invalidation(&key, Some(version))].iter()));
        sequence += 1;
        assert_eq!(heard.at.sequence, sequence);
    };
    told(2, PutOutcome::Tombstoned).await;
    store_version(&tier, &key, "value", 3).await;
    told(4, PutOutcome::Stored).await;
    told(4, PutOutcome::NotNewer).await;
    raw.query::<()>(redis::cmd("SET").arg(key.as_bytes()).arg("foreign")).await;
    told(5, PutOutcome::Foreign).await;
}

#[tokio::test]
async fn a_mark_is_told_to_nobody_and_an_unmark_as_an_invalidation_whatever_it_finds() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let (key, notice) = (namespace.key(&1), notice(&namespace));
    let raw = Raw::connect(&shared().url()).await;
    let tokens = [1, 2].map(|of| Token::from_bytes([of; 16]));
    for token in tokens {
        tier.mark(&key, &Mark { token, life: HOUR, retain: HOUR }).await.unwrap();
    }
    let mut sequence = 0;
    let mut told = async |token, version, wanted| {
        let unmark = Unmark { token, version, retain: HOUR };
        let told = tier.unmark(&key, &unmark, Some(&notice)).await.unwrap();
        let [heard] = &ears.take(1).await[..] else { unreachable!() };
        assert_eq!((told.outcome, told.receipts), (wanted, vec![heard.at]));
        assert_eq!(heard.frame, notice.frame([invalidation(&key, version)].iter()));
        sequence += 1;
        assert_eq!(heard.at.sequence, sequence);
    };
    // Another's mark is still there; the last one goes; there is none.
    told(tokens[0], Some(2), Invalidated::Tombstoned).await;
    told(tokens[1], None, Invalidated::Tombstoned).await;
    told(tokens[1], None, Invalidated::Tombstoned).await;
    store_version(&tier, &key, "value", 3).await;
    told(tokens[1], Some(3), Invalidated::Current).await;
    raw.query::<()>(redis::cmd("SET").arg(key.as_bytes()).arg("foreign")).await;
    told(tokens[1], None, Invalidated::Foreign).await;
}

#[tokio::test]
async fn a_clear_is_told_in_every_partition_after_it() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    for key in 0..10 {
        store(&tier, &namespace.key(&key), "x").await;
    }
    let told = tier.clear(&namespace, HOUR, Some(&notice(&namespace))).await.unwrap();
    assert_eq!(told.outcome, 10);
    let (mut heard, mut receipts) = (ears.take(256).await, told.receipts);
    heard.sort_by_key(|heard| heard.at.partition);
    receipts.sort_by_key(|receipt| receipt.partition);
    assert_eq!(receipts, heard.iter().map(|heard| heard.at).collect::<Vec<_>>());
    assert!(heard.iter().all(|heard| heard.frame == notice(&namespace).frame_of_all() && heard.at.sequence == 1));
    assert_eq!(receipts.iter().map(|receipt| receipt.partition).collect::<Vec<_>>(), all());
}

/// A message names no prefix: all of the namespace may have changed.
#[tokio::test]
async fn a_prefix_is_told_in_every_partition_as_nobody_s_own_news() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let key = namespace.key(&"user:1");
    store(&tier, &key, "x").await;
    tier.invalidate_prefix(&namespace, &KeyPrefix::text("user:"), HOUR, |_| ()).await.unwrap();
    let heard = ears.take(256).await;
    let wanted = notice(&namespace).frame_of_all();
    // But for the node, eight bytes.
    assert!(heard.iter().all(|heard| (heard.frame[0], &heard.frame[9..]) == (wanted[0], &wanted[9..])));
    assert_eq!(heard.iter().map(|heard| heard.at.partition).collect::<std::collections::BTreeSet<_>>().len(), 256);
}

#[tokio::test]
async fn without_a_notice_nobody_is_told() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let key = namespace.key(&1);
    store_version(&tier, &key, "x", 1).await;
    assert_eq!(tier.put(&key, &put(&key, 2), HOUR, None).await.unwrap().receipts, []);
    assert_eq!(tier.invalidate(&[invalidation(&key, None)], HOUR, None).await.unwrap().receipts, []);
    let unmark = Unmark { token: Token::unique(), version: None, retain: HOUR };
    assert_eq!(tier.unmark(&key, &unmark, None).await.unwrap().receipts, []);
    assert_eq!(tier.clear(&namespace, HOUR, None).await.unwrap().receipts, []);
    ears.nothing_but(&tier, &namespace, &key).await;
}

#[tokio::test]
async fn deployments_and_databases_do_not_hear_each_other() {
    let [zero, one] = ["", "1"].map(|database| format!("{}{database}", shared().url()));
    let (zero, one) = (tier(&zero).await, tier(&one).await);
    let (ours, other) = (alone(), alone());
    let (ears, _listening) = Ears::on(&zero, ours.prefix()).await;
    tell(&zero, &notice(&other), &[other.key(&1)]).await;
    tell(&one, &notice(&ours), &[ours.key(&1)]).await;
    let (theirs, _theirs) = Ears::on(&one, ours.prefix()).await;
    ears.nothing_but(&zero, &ours, &ours.key(&1)).await;
    theirs.nothing_but(&one, &ours, &ours.key(&1)).await;
}

#[tokio::test]
async fn two_caches_of_a_deployment_share_its_sequences() {
    let tier = tier(&shared().url()).await;
    let ours = alone();
    let other = Namespace::new(ours.prefix(), "other").unwrap();
    let partition = Partition::from_index(9);
    for (sequence, namespace) in [&ours, &other, &ours].into_iter().enumerate() {
        let receipts = tell(&tier, &notice(namespace), &keys_of_one_partition(namespace, partition, 1)).await;
        assert_eq!(receipts[0].sequence, sequence as u64 + 1);
    }
}

#[tokio::test]
async fn who_has_let_go_hears_nothing_more() {
    let tier = tier(&shared().url()).await;
    let namespace = alone();
    let (ears, listening) = Ears::on(&tier, namespace.prefix()).await;
    let (others, _listening) = Ears::on(&tier, namespace.prefix()).await;
    drop(listening);
    let raw = Raw::connect(&shared().url()).await;
    let channel = format!("{}*", namespace.prefix());
    let subscribers = async || {
        let channels: Vec<String> = raw.run(&["PUBSUB", "CHANNELS", &channel]).await;
        let mut cmd = redis::cmd("PUBSUB");
        let counts: Vec<(String, u64)> = raw.query(cmd.arg("NUMSUB").arg(channels)).await;
        counts.iter().all(|(_, count)| *count == 1)
    };
    crate::common::until("the server knows", subscribers).await;
    others.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
    assert_eq!(ears.state().heard, []);
}

#[tokio::test]
async fn a_tier_that_is_closed_is_deaf() {
    let tier = RedisTier::builder(&shared().url()).timeout(AMPLE).connect().await.unwrap();
    let (ears, _listening) = Ears::on(&tier, alone().prefix()).await;
    tier.close().await;
    ears.until_deaf().await;
}

/// What is not a cache's own is left alone by whatever goes over all keys.
#[tokio::test]
async fn no_sweep_and_no_counter_touches_the_sequences() {
    let tier = tier(&shared().url()).await;
    let prefix = alone();
    // Names that a careless pattern would take for the meta key's.
    for name in ["m", "0", ".", "-"] {
        let namespace = Namespace::new(prefix.prefix(), name).unwrap();
        let before = poll(&tier, prefix.prefix()).await;
        store(&tier, &namespace.key(&1), "x").await;
        assert_eq!(tier.clear(&namespace, HOUR, None).await.unwrap().outcome, 1);
        let counter = namespace.key(&"!m");
        tier.increment(&counter, 1, HOUR).await.unwrap();
        tier.reset_counter(&counter).await.unwrap();
        assert_eq!(poll(&tier, prefix.prefix()).await, before);
        for (round, swept) in [KeyPrefix::text(""), KeyPrefix::text("!"), KeyPrefix::text("!m")].iter().enumerate() {
            tier.invalidate_prefix(&namespace, swept, HOUR, |_| ()).await.unwrap();
            let told = before.iter().map(|meta| Meta { sequence: meta.sequence + 1 + round as u64, ..*meta });
            assert_eq!(poll(&tier, prefix.prefix()).await, told.collect::<Vec<_>>());
        }
    }
}
