//! A six-node cluster: every key at its node, through failovers and slots that move.

mod common;

use cache_core::{Acquired, Claim, ErrorKind, Invalidated, RemoteKey, RemoteTier, Token};
use cache_redis::RedisTier;
use common::machine::{Planter, runs_the_machine, slot};
use common::{AMPLE, HOUR, Raw, asks, invalidation, key, namespace, shared, store, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_servers::RedisCluster;

const TIMEOUT: Duration = Duration::from_millis(250);

fn urls(cluster: &RedisCluster) -> Vec<String> {
    cluster.nodes().iter().map(test_servers::Redis::url).collect()
}

/// For tests in which no timeout should occur.
async fn calm(cluster: &RedisCluster) -> RedisTier {
    RedisTier::cluster(urls(cluster)).timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("the cluster runs")
}

async fn quick(cluster: &RedisCluster) -> RedisTier {
    RedisTier::cluster(urls(cluster)).timeout(TIMEOUT).connect_timeout(TIMEOUT).connect().await.expect("weather is no error")
}

/// Keys of one slot: a key's tag is its partition's, so there are not many slots to choose from.
async fn keys_of_one_slot(node: &Raw, count: usize) -> (u16, Vec<RemoteKey>) {
    let namespace = namespace();
    let first = namespace.key(&0_u64);
    let wanted = slot(node, &first).await;
    let mut keys = vec![first];
    for id in 1_u64.. {
        if keys.len() == count {
            break;
        }
        let key = namespace.key(&id);
        if key.partition() == keys[0].partition() {
            keys.push(key);
        }
    }
    (wanted, keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_runs_the_machine() {
    let cluster = RedisCluster::start();
    let tier = calm(&cluster).await;
    assert!(tier.is_connected());
    runs_the_machine(&tier, Planter::new(&cluster).await).await;
    calls_for_many_keys_of_all_slots_answer_in_their_order(&tier).await;
    a_clear_reaches_every_master(&tier).await;
    tier.close().await;
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), ErrorKind::Closed);
}

async fn calls_for_many_keys_of_all_slots_answer_in_their_order(tier: &RedisTier) {
    let namespace = namespace();
    let keys: Vec<_> = (0..300_u64).map(|id| namespace.key(&id)).collect();
    for (id, key) in keys.iter().enumerate().filter(|(id, _)| id % 3 != 0) {
        store(tier, key, format!("value {id}")).await;
    }
    let read = tier.get_many(&keys).await.unwrap();
    for (id, fetched) in read.iter().enumerate() {
        let payload = fetched.as_ref().unwrap().record.as_ref().map(|record| record.slice(92..));
        assert_eq!(payload, (id % 3 != 0).then(|| format!("value {id}").into()), "{id}");
    }
    let ended = tier.invalidate(&keys.iter().map(invalidation).collect::<Vec<_>>(), HOUR, None).await.unwrap().outcome;
    assert_eq!(ended, vec![Invalidated::Tombstoned; 300]);
}

async fn a_clear_reaches_every_master(tier: &RedisTier) {
    let (cleared, other) = (namespace(), namespace());
    for id in 0..100_u64 {
        store(tier, &cleared.key(&id), "x").await;
    }
    store(tier, &other.key(&1_u64), "stays").await;
    assert_eq!(tier.clear(&cleared, HOUR, None).await.unwrap().outcome, 100);
    for id in 0..100_u64 {
        assert!(matches!(
            tier.acquire(&cleared.key(&id), &asks(Token::unique(), Claim::Vacant)).await.unwrap(),
            Acquired::Granted { .. }
        ));
    }
    assert_eq!(tier.acquire(&other.key(&1_u64), &asks(Token::unique(), Claim::Vacant)).await.unwrap(), Acquired::Hit);
}

/// Tasks that store and read keys of their own until they are stopped. A value that was not stored under its key ends the test.
struct Traffic {
    stop: Arc<AtomicBool>,
    fine: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn start(tier: &RedisTier, tasks: u64) -> Self {
        let (stop, fine, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let run = |task: u64| {
            let (tier, stop, fine, failed) = (tier.clone(), stop.clone(), fine.clone(), failed.clone());
            async move {
                let namespace = namespace();
                let mut round = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let key = namespace.key(&(round % 200));
                    let token = Token::unique();
                    let payload = format!("{task} {}", round % 200);
                    let stored = async {
                        tier.acquire(&key, &asks(token, Claim::Force)).await?;
                        tier.fill(&key, &common::fills(&key, token, payload.clone())).await?;
                        tier.get(&key).await
                    };
                    match stored.await {
                        Ok(fetched) => {
                            if let Some(record) = fetched.record.filter(|record| record.len() > 92) {
                                assert_eq!(record.slice(92..), payload, "a value under a strange key");
                            }
                            fine.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(err) => {
                            assert!(err.is_transient(), "{err:?}");
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    round += 1;
                }
            }
        };
        let tasks = (0..tasks).map(|task| tokio::spawn(run(task))).collect();
        Self { stop, fine, failed, tasks }
    }

    async fn more(&self, count: u64) {
        let from = self.fine.load(Ordering::Relaxed);
        until("calls succeed", async || self.fine.load(Ordering::Relaxed) >= from + count).await;
    }

    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("no strange value");
        }
        self.failed.load(Ordering::Relaxed)
    }
}

/// Where a test fails, its servers go, and calls that fail at once never let the runtime end.
impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_live_resharding_is_neither_an_error_nor_a_strange_value() {
    let cluster = RedisCluster::start();
    let tier = calm(&cluster).await;
    let traffic = Traffic::start(&tier, 8);
    traffic.more(500).await;
    tokio::task::block_in_place(|| cluster.migrate_slots(0..=800, 0, 1));
    traffic.more(500).await;
    assert_eq!(traffic.end().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_master_that_joins_takes_slots_over_under_traffic_with_the_timeouts_that_services_have() {
    let mut cluster = RedisCluster::start();
    let tier = RedisTier::cluster(urls(&cluster)).connect().await.expect("weather is no error");
    let namespace = namespace();
    let keys: Vec<_> = (0..400_u64).map(|id| namespace.key(&id)).collect();
    let slow = calm(&cluster).await;
    for (id, key) in keys.iter().enumerate() {
        store(&slow, key, format!("value {id}")).await;
    }
    let node = Raw::connect(&cluster.node(0).url()).await;
    let (open, on_the_move) = keys_of_one_slot(&node, 3).await;
    for key in &on_the_move {
        store(&slow, key, "x").await;
    }
    let traffic = Traffic::start(&tier, 8);
    traffic.more(500).await;
    let from = cluster.master_of(open);
    let new = tokio::task::block_in_place(|| {
        let new = cluster.add_master();
        cluster.begin_migration(open, from, new);
        while cluster.migrate_keys(open, from, new, 100) > 0 {}
        new
    });
    for key in &on_the_move {
        // It is dialed for the first time, which the first call may not wait for to the end.
        until("a master that is on no map is asked", async || tier.get(key).await.is_ok_and(|found| found.record.is_some()))
            .await;
    }
    tokio::task::block_in_place(|| {
        while cluster.migrate_keys(open, from, new, 100) > 0 {}
        cluster.finish_migration(open, from, new);
        for (from, first) in [(0, 0), (1, 6_000), (2, 12_000)] {
            // That one is there already.
            let first = if (first..=first + 400).contains(&open) { open + 1 } else { first };
            cluster.migrate_slots(first..=first + 400, from, new);
        }
    });
    traffic.more(500).await;
    let fine = traffic.fine.load(Ordering::Relaxed);
    let failed = traffic.end().await;
    // Few, on a machine that may be busy with other tests.
    assert!(failed * 5 <= fine, "{failed} calls failed beside {fine}");

    let mut nodes = Vec::new();
    for node in cluster.nodes() {
        nodes.push(Raw::connect(&node.url()).await);
    }
    until("the tier knows where all slots are", async || moved(&nodes, &tier, &keys).await == 0).await;
    assert!(nodes[new].run::<u64>(&["DBSIZE"]).await > 10, "slots with keys have moved");
    nodes[new].run::<()>(&["CONFIG", "RESETSTAT"]).await;
    for (id, key) in keys.iter().enumerate() {
        let record = tier.get(key).await.unwrap().record.expect("it has moved with its slot");
        assert_eq!(record.slice(92..), format!("value {id}"));
        store(&tier, key, "new").await;
    }
    let stats: String = nodes[new].run(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_get:") && stats.contains("cmdstat_evalsha:"), "the new master is read and written: {stats}");
}

/// Reads the keys, and tells how often a node sent the tier elsewhere.
async fn moved(nodes: &[Raw], tier: &RedisTier, keys: &[RemoteKey]) -> usize {
    for node in nodes {
        node.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    }
    for key in keys {
        tier.get(key).await.expect("no slot is on the move any more");
    }
    let mut moved = 0;
    for node in nodes {
        let stats = node.run::<String>(&["INFO", "errorstats"]).await;
        moved += usize::from(stats.contains("errorstat_MOVED") || stats.contains("errorstat_ASK"));
    }
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_slot_on_the_move_is_asked_on_both_sides_even_for_several_keys() {
    let cluster = RedisCluster::start();
    let (tier, node) = (calm(&cluster).await, Raw::connect(&cluster.node(0).url()).await);
    let (slot, keys) = keys_of_one_slot(&node, 4).await;
    for key in &keys[..3] {
        store(&tier, key, "x").await;
    }
    let from = cluster.master_of(slot);
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, from, to);
    assert_eq!(cluster.migrate_keys(slot, from, to, 1), 1, "one key has moved, two have not");
    for key in &keys[..3] {
        assert!(tier.get(key).await.unwrap().record.is_some());
    }
    assert!(tier.get(&keys[3]).await.unwrap().record.is_none());
    let ended = tier.invalidate(&keys.iter().map(invalidation).collect::<Vec<_>>(), HOUR, None).await.unwrap().outcome;
    assert_eq!(ended, vec![Invalidated::Tombstoned; 4]);
    while cluster.migrate_keys(slot, from, to, 100) > 0 {}
    cluster.finish_migration(slot, from, to);
    assert!(matches!(tier.acquire(&keys[0], &asks(Token::unique(), Claim::Vacant)).await.unwrap(), Acquired::Granted { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_a_slot_that_was_given_away_without_its_keys_is_followed() {
    let cluster = RedisCluster::start();
    let (tier, node) = (calm(&cluster).await, Raw::connect(&cluster.node(0).url()).await);
    let (slot, keys) = keys_of_one_slot(&node, 1).await;
    store(&tier, &keys[0], "x").await;
    let from = cluster.master_of(slot);
    cluster.set_slot_without_migrate(slot, from, (from + 1) % 3);
    assert!(tier.get(&keys[0]).await.unwrap().record.is_none());
    store(&tier, &keys[0], "y").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_dead_master_fails_its_own_keys_only_and_a_failover_heals_them() {
    let mut cluster = RedisCluster::builder().partial_coverage().start();
    let tier = quick(&cluster).await;
    let node = Raw::connect(&cluster.node(1).url()).await;
    let namespace = namespace();
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for id in 0..60_u64 {
        let key = namespace.key(&id);
        let mine = cluster.master_of(slot(&node, &key).await) == 0;
        if mine { own.push(key) } else { others.push(key) }
    }
    tokio::task::block_in_place(|| cluster.node_mut(0).kill());
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        for key in &others {
            tier.get(key).await.expect("a key of a living master");
        }
        for key in &own {
            let call = Instant::now();
            let err = tier.get(key).await.expect_err("its master is dead");
            assert!(err.is_transient() && call.elapsed() < TIMEOUT + common::MARGIN, "{err:?} after {:?}", call.elapsed());
        }
        let (call, all) = (Instant::now(), [&own[..], &others[..]].concat());
        for (at, fetched) in tier.get_many(&all).await.expect("some are answered").into_iter().enumerate() {
            assert_eq!(fetched.is_ok(), at >= own.len(), "{fetched:?}");
        }
        assert!(call.elapsed() < TIMEOUT + common::MARGIN, "{:?}", call.elapsed());
        assert!(tier.get_many(&own).await.expect_err("no key is answered").is_transient());
    }
    tokio::task::block_in_place(|| cluster.await_failover(0));
    until("the keys are served by the new master", async || tier.get(&own[0]).await.is_ok()).await;
    for key in &own {
        store(&tier, key, "x").await;
    }
    until("every master is connected", async || tier.is_connected()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_a_hanging_master_keeps_nobody_from_following_what_another_one_says() {
    let cluster = RedisCluster::builder().partial_coverage().node_timeout(Duration::from_secs(60)).start();
    let tier = RedisTier::cluster(urls(&cluster)).timeout(Duration::from_secs(1)).connect().await.expect("it runs");
    let (node, namespace) = (Raw::connect(&cluster.node(1).url()).await, namespace());
    let mut keys: [Vec<RemoteKey>; 3] = Default::default();
    for id in 0..100_u64 {
        let key = namespace.key(&id);
        keys[cluster.master_of(slot(&node, &key).await)].push(key);
    }
    until("every master is connected", async || tier.is_connected()).await;
    let moved = slot(&node, &keys[1][0]).await;
    // From here on its master answers ASK for keys that it does not have, which no map tells.
    tokio::task::block_in_place(|| cluster.begin_migration(moved, 1, 2));
    cluster.node(0).pause();
    // Those of the master that hangs are waited for first.
    let asked = keys.concat();
    let fetched = tier.get_many(&asked).await.expect("some are answered");
    for (at, fetched) in fetched.iter().enumerate() {
        match fetched {
            Err(err) => assert!(at < keys[0].len() && err.kind() == ErrorKind::Timeout, "{at}: {err:?}"),
            Ok(_) => assert!(at >= keys[0].len(), "{at}"),
        }
    }
    cluster.node(0).resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_failover_in_order_under_traffic_heals_by_itself() {
    let cluster = RedisCluster::start();
    let tier = quick(&cluster).await;
    let traffic = Traffic::start(&tier, 8);
    traffic.more(300).await;
    tokio::task::block_in_place(|| cluster.failover(1));
    traffic.more(1_000).await;
    traffic.end().await;
    until("every master is connected", async || tier.is_connected()).await;
}

#[tokio::test]
async fn c1_a_cluster_that_is_down_at_start_comes_up_by_itself() {
    let mut cluster = RedisCluster::start();
    let nodes = urls(&cluster);
    for node in 0..6 {
        cluster.node_mut(node).kill();
    }
    let tier = RedisTier::cluster(&nodes).timeout(TIMEOUT).connect_timeout(TIMEOUT).connect().await.expect("weather is no error");
    assert!(!tier.is_connected());
    let start = Instant::now();
    assert!(tier.get(&key()).await.unwrap_err().is_transient());
    assert!(start.elapsed() < TIMEOUT + common::MARGIN);
    for node in 0..6 {
        cluster.node_mut(node).restart();
    }
    until("the tier is back", async || tier.get(&key()).await.is_ok()).await;
    until("every master is connected", async || tier.is_connected()).await;
}

#[tokio::test]
async fn seeds_that_say_nothing_hold_up_the_map_for_a_moment_each() {
    let cluster = RedisCluster::start();
    // Connections are taken, by the kernel, and that is all.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let seeds = [vec![format!("redis://{}", silent.local_addr().expect("it is bound")); 3], urls(&cluster)].concat();
    let start = Instant::now();
    let tier = RedisTier::cluster(seeds).timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("others answer");
    assert!(start.elapsed() < AMPLE, "{:?}", start.elapsed());
    store(&tier, &key(), "x").await;
}

#[tokio::test]
async fn a_server_that_is_no_cluster_is_a_wrong_configuration() {
    let err = RedisTier::cluster([shared().url()]).connect().await.expect_err("no cluster");
    assert_eq!(err.kind(), ErrorKind::Config, "{err}");
}

#[test]
fn what_cannot_be_a_cluster_is_refused() {
    for urls in [&[][..], &["redis://localhost/1"], &["unix:///tmp/socket"], &["redis://localhost", "http://localhost"]] {
        assert_eq!(RedisTier::cluster(urls).lazy().unwrap_err().kind(), ErrorKind::Config, "{urls:?}");
    }
}
