//! A cluster: each partition is told and heard where its master is, through failovers and slots that move.

use crate::common::{AMPLE, HOUR, invalidation, store, until};
use crate::ears::{Ears, all, alone, keys_of_one_partition, notice, poll, tell};
use cache_core::{Invalidated, Mark, Marked, Namespace, Partition, Put, PutOutcome, RemoteKey, RemoteTier, Token, Unmark};
use cache_redis::RedisTier;
use std::collections::HashSet;
use std::time::Duration;
use test_servers::{Redis, RedisCluster};

const TIMEOUT: Duration = Duration::from_millis(250);

fn urls(cluster: &RedisCluster) -> Vec<String> {
    cluster.nodes().iter().map(Redis::url).collect()
}

async fn calm(cluster: &RedisCluster) -> RedisTier {
    RedisTier::cluster(urls(cluster)).timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("the cluster runs")
}

async fn quick(cluster: &RedisCluster) -> RedisTier {
    RedisTier::cluster(urls(cluster)).timeout(TIMEOUT).connect_timeout(TIMEOUT).connect().await.expect("weather is no error")
}

/// By the specification, whatever the library thinks.
fn slot(partition: Partition) -> u16 {
    crc::Crc::<u16>::new(&crc::CRC_16_XMODEM).checksum(partition.tag().as_bytes()) % 16_384
}

/// A key of each partition.
fn one_of_each(namespace: &Namespace) -> Vec<RemoteKey> {
    let mut keys: Vec<Option<RemoteKey>> = vec![None; 256];
    for id in 0_u64.. {
        if keys.iter().all(Option::is_some) {
            break;
        }
        let key = namespace.key(&id);
        let place = usize::from(key.partition().index());
        keys[place].get_or_insert(key);
    }
    keys.into_iter().flatten().collect()
}

/// Each partition's message comes to who listens.
async fn all_are_heard(tier: &RedisTier, namespace: &Namespace, ears: &Ears) {
    let keys = one_of_each(namespace);
    let mut receipts = tell(tier, &notice(namespace), &keys).await;
    let mut heard = ears.take(256).await;
    receipts.sort_by_key(|receipt| receipt.partition);
    heard.sort_by_key(|heard| heard.at.partition);
    assert_eq!(receipts, heard.iter().map(|heard| heard.at).collect::<Vec<_>>());
    let polled = poll(tier, namespace.prefix()).await;
    for (receipt, meta) in receipts.iter().zip(polled) {
        assert_eq!((receipt.incarnation, receipt.sequence), (meta.incarnation, meta.sequence));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_partition_is_heard_wherever_it_is() {
    let cluster = RedisCluster::start();
    let (ours, theirs) = (calm(&cluster).await, calm(&cluster).await);
    let namespace = alone();
    let (ears, _listening) = Ears::on(&theirs, namespace.prefix()).await;
    let begun = poll(&theirs, namespace.prefix()).await;
    assert_eq!(begun.iter().map(|meta| meta.history).collect::<HashSet<_>>().len(), 3, "one of each master");
    all_are_heard(&ours, &namespace, &ears).await;
    all_are_heard(&ours, &namespace, &ears).await;
    let told = ours.clear(&namespace, HOUR, Some(&notice(&namespace))).await.unwrap();
    assert_eq!(told.receipts.len(), 256);
    assert!(ears.take(256).await.iter().all(|heard| told.receipts.contains(&heard.at) && heard.at.sequence == 3));
    assert!(ears.state().losses.is_empty());
    cache_core::testing::backplane_suite(&ours, &theirs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_dead_master_s_partitions_are_deaf_and_no_others_until_another_has_them() {
    let mut cluster = RedisCluster::builder().partial_coverage().start();
    let tier = quick(&cluster).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let before = poll(&tier, namespace.prefix()).await;
    let (lost, others): (Vec<_>, Vec<_>) = all().into_iter().partition(|partition| cluster.master_of(slot(*partition)) == 0);
    let numbers = |partitions: &[Partition]| partitions.iter().map(|partition| partition.index()).collect::<Vec<_>>();
    tokio::task::block_in_place(|| cluster.node_mut(0).kill());
    until("its partitions are deaf", async || ears.state().losses.len() >= lost.len()).await;
    assert_eq!(ears.state().losses, numbers(&lost));
    assert_eq!(ears.state().listening.iter().copied().collect::<Vec<_>>(), numbers(&others));
    let polled = tier.poll(namespace.prefix(), &all()).await.unwrap();
    for (partition, meta) in all().iter().zip(&polled) {
        assert_eq!(meta.is_err(), lost.contains(partition), "{meta:?}");
    }
    tokio::task::block_in_place(|| cluster.await_failover(0));
    ears.until_all().await;
    until("all polls are answered", async || tier.poll(namespace.prefix(), &all()).await.unwrap().iter().all(Result::is_ok))
        .await;
    let after = poll(&tier, namespace.prefix()).await;
    for (partition, (before, after)) in all().iter().zip(before.iter().zip(&after)) {
        assert_eq!(before.history != after.history, lost.contains(partition));
        assert_eq!(before.incarnation != after.incarnation, lost.contains(partition));
    }
    assert_eq!(ears.state().losses.len(), lost.len(), "no other was lost meanwhile");
    all_are_heard(&tier, &namespace, &ears).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_failover_in_order_is_followed() {
    let cluster = RedisCluster::start();
    let tier = quick(&cluster).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let before = poll(&tier, namespace.prefix()).await;
    tokio::task::block_in_place(|| cluster.failover(1));
    let first = all().into_iter().find(|partition| (5_461..10_923).contains(&slot(*partition))).expect("one in the middle");
    let place = usize::from(first.index());
    until("the new master answers", async || {
        tier.poll(namespace.prefix(), &[first]).await.unwrap()[0].as_ref().is_ok_and(|meta| meta.history != before[place].history)
    })
    .await;
    until("its partitions were lost", async || ears.state().losses.contains(&first.index())).await;
    ears.until_all().await;
    all_are_heard(&tier, &namespace, &ears).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_slot_that_moves_is_deaf_for_a_moment_and_heard_at_its_new_master() {
    let cluster = RedisCluster::start();
    let tier = calm(&cluster).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    all_are_heard(&tier, &namespace, &ears).await;
    let before = poll(&tier, namespace.prefix()).await;
    let partition = Partition::from_index(3);
    let (slot, place) = (slot(partition), usize::from(partition.index()));
    let from = cluster.master_of(slot);
    tokio::task::block_in_place(|| cluster.migrate_slots(slot..=slot, from, (from + 1) % 3));
    until("it was lost", async || ears.state().losses.contains(&partition.index())).await;
    ears.until_all().await;
    assert!(ears.state().losses.iter().all(|lost| *lost == partition.index()), "no other was: {:?}", ears.state().losses);
    let after = poll(&tier, namespace.prefix()).await;
    for (partition, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before.incarnation != after.incarnation, partition == place, "{partition}");
    }
    all_are_heard(&tier, &namespace, &ears).await;
}

/// Keys of one partition on both sides, and the meta key first here, then there: no script of two keys runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_on_the_move_tombstone_and_telling_are_two_steps_and_both_are_done() {
    let cluster = RedisCluster::start();
    let tier = calm(&cluster).await;
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let partition = Partition::from_index(3);
    let keys = keys_of_one_partition(&namespace, partition, 4);
    for key in &keys[..3] {
        store(&tier, key, "x").await;
    }
    let first = poll(&tier, namespace.prefix()).await[3];
    let slot = slot(partition);
    let from = cluster.master_of(slot);
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, from, to);
    let notice = notice(&namespace);
    let asked: Vec<_> = keys.iter().map(invalidation).collect();
    let mut incarnations = HashSet::from([first.incarnation]);
    let mut moved = 0;
    loop {
        let told = tier.invalidate(&asked, HOUR, Some(&notice)).await.unwrap();
        assert_eq!(told.outcome, [Invalidated::Tombstoned; 4], "{moved} have moved");
        let polled = poll(&tier, namespace.prefix()).await[3];
        let [receipt] = told.receipts[..] else { unreachable!() };
        assert_eq!((receipt.incarnation, receipt.sequence), (polled.incarnation, polled.sequence));
        incarnations.insert(polled.incarnation);
        let put = Put { token: Token::unique(), version: 1, age: Duration::ZERO, body: crate::common::body(&keys[0], "x", HOUR) };
        let told = tier.put(&keys[0], &put, HOUR, Some(&notice)).await.unwrap();
        assert_eq!((told.outcome, told.receipts.len()), (PutOutcome::Tombstoned, 1));
        let (token, life) = (Token::unique(), Duration::from_secs(5));
        assert_eq!(tier.mark(&keys[1], &Mark { token, life, retain: HOUR }).await.unwrap(), Marked::Announced);
        let told = tier.unmark(&keys[1], &Unmark { token, version: None, retain: HOUR }, Some(&notice)).await.unwrap();
        assert_eq!((told.outcome, told.receipts.len()), (Invalidated::Tombstoned, 1));
        for key in &keys {
            let record = tier.get(key).await.unwrap().record.expect("a tombstone");
            assert_eq!(record[1], b'T');
        }
        match cluster.migrate_keys(slot, from, to, 1) {
            0 => break,
            count => moved += count,
        }
    }
    assert!(moved >= 4, "{moved}");
    assert_eq!(incarnations.len(), 2, "the target's history is another");
    cluster.finish_migration(slot, from, to);
    until("it was lost", async || ears.state().losses.contains(&partition.index())).await;
    ears.until_all().await;
    ears.state().heard.clear();
    all_are_heard(&tier, &namespace, &ears).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_cluster_that_is_down_at_start_is_listened_to_once_it_is_up() {
    let mut cluster = RedisCluster::start();
    tokio::task::block_in_place(|| (0..6).for_each(|node| cluster.node_mut(node).kill()));
    let tier = quick(&cluster).await;
    let namespace = alone();
    let (ears, _listening) = Ears::begin(&tier, namespace.prefix());
    assert!(tier.poll(namespace.prefix(), &all()).await.unwrap().iter().all(Result::is_err));
    tokio::task::block_in_place(|| (0..6).for_each(|node| cluster.node_mut(node).restart()));
    ears.until_all().await;
    until("all polls are answered", async || tier.poll(namespace.prefix(), &all()).await.unwrap().iter().all(Result::is_ok))
        .await;
    all_are_heard(&tier, &namespace, &ears).await;
}
