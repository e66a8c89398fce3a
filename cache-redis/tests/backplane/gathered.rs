//! Invalidations of one time are one script. To who asked for one, it is as if it were alone.

use crate::common::{HOUR, Raw, shared, store_version, tier};
use crate::ears::{Ears, all, alone, keys_of_one_partition, notice, poll};
use cache_core::{Invalidated, Invalidation, Partition, Receipt, RemoteKey, RemoteTier, Told};
use cache_redis::RedisTier;
use futures_util::future::join_all;
use std::collections::HashMap;
use test_servers::Redis;

/// What is under a key before.
#[derive(Debug, Clone, Copy)]
enum Found {
    Nothing,
    Value,
    /// Of a version, as the invalidation's or newer.
    Newer,
    Foreign,
    OtherType,
}

impl Found {
    const ALL: [Self; 5] = [Self::Nothing, Self::Value, Self::Newer, Self::Foreign, Self::OtherType];

    async fn plant(self, tier: &RedisTier, raw: &Raw, key: &RemoteKey) {
        let name = key.as_bytes();
        raw.query::<()>(redis::cmd("DEL").arg(name)).await;
        match self {
            Self::Nothing => {}
            Self::Value => store_version(tier, key, "x", 0).await,
            Self::Newer => store_version(tier, key, "x", 9).await,
            Self::Foreign => raw.query(redis::cmd("SET").arg(name).arg("foreign")).await,
            Self::OtherType => raw.query(redis::cmd("RPUSH").arg(name).arg("foreign")).await,
        }
    }

    fn wanted(self, version: Option<u64>) -> Invalidated {
        match self {
            Self::Newer if version.is_some() => Invalidated::Current,
            Self::Nothing | Self::Value | Self::Newer => Invalidated::Tombstoned,
            Self::Foreign | Self::OtherType => Invalidated::Foreign,
        }
    }
}

#[tokio::test]
async fn each_of_one_time_has_its_own_answer_its_own_message_and_the_next_sequence() {
    let tier = tier(&shared().url()).await;
    let raw = Raw::connect(&shared().url()).await;
    let namespace = alone();
    let notice = notice(&namespace);
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let mut rng = fastrand::Rng::with_seed(7);
    // Many of a few partitions, and some of any.
    let of_few = (0..3).map(|index| keys_of_one_partition(&namespace, Partition::from_index(index), 30));
    let mut keys: Vec<_> = of_few.flatten().chain((0..60).map(|id| namespace.key(&format!("any {id}")))).collect();
    let mut sequences: HashMap<u8, u64> = HashMap::new();
    for _ in 0..8 {
        rng.shuffle(&mut keys);
        let mut asked: Vec<(Vec<Invalidation>, Vec<Invalidated>)> = Vec::new();
        for key in &keys {
            let found = rng.choice(Found::ALL).expect("some");
            found.plant(&tier, &raw, key).await;
            let version = rng.bool().then_some(5);
            let invalidation = Invalidation { key: key.clone(), version };
            // Some are of several keys of a partition.
            let with = asked.iter_mut().find(|(asked, _)| asked.len() < 4 && asked[0].key.partition() == key.partition());
            match with.filter(|_| rng.u8(0..4) == 0) {
                Some((asked, wanted)) => {
                    asked.push(invalidation);
                    wanted.push(found.wanted(version));
                }
                None => asked.push((vec![invalidation], vec![found.wanted(version)])),
            }
        }
        // On this thread they are all packed before any is written.
        let told: Vec<Told<_>> =
            join_all(asked.iter().map(async |(asked, _)| tier.invalidate(asked, HOUR, Some(&notice)).await.unwrap())).await;
        let heard = ears.take(asked.len()).await;
        let heard: HashMap<Receipt, Vec<u8>> = heard.into_iter().map(|heard| (heard.at, heard.frame)).collect();
        for ((asked, wanted), told) in asked.iter().zip(&told) {
            assert_eq!(&told.outcome, wanted, "{asked:?}");
            let [receipt] = told.receipts[..] else { panic!("{asked:?}: {told:?}") };
            assert_eq!(receipt.partition, asked[0].key.partition());
            assert_eq!(heard.get(&receipt), Some(&notice.frame(asked.iter())), "{asked:?}");
            for (Invalidation { key, .. }, wanted) in asked.iter().zip(wanted) {
                if *wanted == Invalidated::Tombstoned {
                    assert_eq!(tier.get(key).await.unwrap().record.expect("a tombstone")[1], b'T');
                }
            }
        }
        let mut receipts: Vec<_> = told.iter().flat_map(|told| &told.receipts).collect();
        receipts.sort_by_key(|receipt| (receipt.partition, receipt.sequence));
        for receipt in receipts {
            let last = sequences.entry(receipt.partition.index()).or_default();
            *last += 1;
            assert_eq!(receipt.sequence, *last, "one after the other, and none left out");
        }
        for meta in poll(&tier, namespace.prefix()).await.iter().enumerate() {
            assert_eq!(meta.1.sequence, sequences.get(&(meta.0 as u8)).copied().unwrap_or(0));
        }
    }
}

#[tokio::test]
async fn c4_without_memory_every_partition_of_the_script_ends_its_incarnation() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = alone();
    let notice = notice(&namespace);
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let before = poll(&tier, namespace.prefix()).await;
    raw.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let keys = [3, 4, 4, 5].map(|index| keys_of_one_partition(&namespace, Partition::from_index(index), 1).remove(0));
    let told = join_all(keys.iter().map(async |key| {
        let asked = [Invalidation { key: key.clone(), version: None }];
        tier.invalidate(&asked, HOUR, Some(&notice)).await.unwrap()
    }));
    for told in told.await {
        assert_eq!((told.outcome, told.receipts), (vec![Invalidated::Tombstoned], vec![]));
    }
    assert!(ears.take(4).await.iter().all(|heard| (heard.at.incarnation, heard.at.sequence) == (0, 0)));
    let polled = tier.poll(namespace.prefix(), &all()).await.unwrap();
    for (partition, meta) in polled.iter().enumerate() {
        assert_eq!(meta.is_err(), (3..=5).contains(&partition), "it cannot be begun: {meta:?}");
    }
    raw.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    for (partition, (before, after)) in before.iter().zip(poll(&tier, namespace.prefix()).await).enumerate() {
        assert_eq!(before.incarnation != after.incarnation, (3..=5).contains(&partition), "{partition}");
    }
}
