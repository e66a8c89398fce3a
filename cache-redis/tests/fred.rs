//! fred as the driver: the same verbs, the same outcomes, the same faults survived.
#![allow(clippy::duplicate_mod, reason = "the tests of others run here once more, each file with what it shares")]

#[path = "cancellation.rs"]
mod cancellation;
mod common;
#[path = "credentials.rs"]
mod credentials;
#[path = "cut_replies.rs"]
mod cut_replies;
#[path = "state_machine.rs"]
mod state_machine;

use cache_core::record::HEADER_LEN;
use cache_core::{Acquired, Claim, Error, ErrorKind, Invalidated, RemoteTier, Token};
use cache_redis::{Driver, RedisTier, RedisTierBuilder};
use common::machine::{Planter, runs_the_machine, slot};
use common::{AMPLE, HOUR, MARGIN, Raw, asks, fills, invalidation, key, namespace, shared, store, tier, until, until_back};
use futures_util::poll;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis, RedisCluster, RedisSentinel};

const TIMEOUT: Duration = Duration::from_millis(60);
/// For clusters, whose nodes are many on a busy machine.
const LONGER: Duration = Duration::from_millis(250);

fn calm(builder: RedisTierBuilder) -> RedisTierBuilder {
    builder.driver(Driver::Fred).timeout(AMPLE).connect_timeout(AMPLE)
}

async fn quick(url: &str) -> RedisTier {
    let builder = RedisTier::builder(url).driver(Driver::Fred).timeout(TIMEOUT).connect_timeout(Duration::from_millis(300));
    builder.connect().await.expect("weather is no error")
}

fn urls(cluster: &RedisCluster) -> Vec<String> {
    cluster.nodes().iter().map(Redis::url).collect()
}

/// One call of each verb. All must end in time; gives their errors.
async fn each_verb(tier: &RedisTier) -> Vec<Error> {
    let (namespace, token) = (namespace(), Token::unique());
    let key = namespace.key(&1);
    let put = cache_core::Put { token, version: 1, age: Duration::ZERO, body: common::body(&key, "x", HOUR) };
    let mut errors = Vec::new();
    let mut start = Instant::now();
    let mut ended = |verb: &str, err: Option<Error>| {
        assert!(start.elapsed() < TIMEOUT + MARGIN, "{verb} took {:?}", start.elapsed());
        errors.extend(err);
        start = Instant::now();
    };
    ended("get", tier.get(&key).await.err());
    ended("get_many", tier.get_many(std::slice::from_ref(&key)).await.err());
    ended("acquire", tier.acquire(&key, &asks(token, Claim::Vacant)).await.err());
    ended("fill", tier.fill(&key, &fills(&key, token, "x")).await.err());
    ended("release", tier.release(&key, token).await.err());
    ended("invalidate", tier.invalidate(&[invalidation(&key)], HOUR, None).await.err());
    ended("put", tier.put(&key, &put, HOUR, None).await.err());
    ended("clear", tier.clear(&namespace, HOUR, None).await.err());
    errors
}

fn assert_transient(errors: &[Error]) {
    assert_eq!(errors.len(), 8, "{errors:?}");
    assert!(errors.iter().all(Error::is_transient), "{errors:?}");
}

/// Connections that a server has, by their drivers: fred names what it asks for on its own.
async fn clients(raw: &Raw) -> usize {
    raw.run::<String>(&["CLIENT", "LIST"]).await.lines().filter(|line| line.contains("name=cachestack")).count()
}

#[tokio::test]
async fn a_node_has_one_connection_and_it_is_gone_with_the_tier() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let tier = tier(&redis.url()).await;
    store(&tier, &key(), "x").await;
    until("the connection that asked first is gone", async || clients(&raw).await == 1).await;
    drop(tier);
    until("nothing is left of it", async || clients(&raw).await == 0 && tasks() == before).await;
}

#[tokio::test]
async fn a_stored_value_of_any_bytes_and_size_is_read_whole() {
    let tier = tier(&shared().url()).await;
    for length in [0, 1, 100, 65_536, 7 << 20] {
        let key = key();
        let value: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        store(&tier, &key, value.clone()).await;
        let record = tier.get(&key).await.unwrap().record.unwrap();
        assert_eq!(record.slice(HEADER_LEN..), value, "{length} bytes");
    }
}

#[tokio::test]
async fn get_many_sends_all_before_it_waits_for_any() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = tier(&proxy.url()).await;
    let namespace = namespace();
    let keys: Vec<_> = (0..100_u64).map(|id| namespace.key(&id)).collect();
    // One after the other they would take ten seconds.
    proxy.delay(Duration::from_millis(100));
    let start = Instant::now();
    assert!(tier.get_many(&keys).await.unwrap().iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    raw.run::<()>(&["SCRIPT", "FLUSH"]).await;
    store(&tier, &key(), "x").await;
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn h4_certificates_are_verified_as_by_our_own_and_both_of_its_connections_speak_tls() {
    let (authority, other) = (test_servers::CertificateAuthority::new(), test_servers::CertificateAuthority::new());
    let redis = Redis::builder().password("right").tls(&authority.issue()).arg("--tls-auth-clients").arg("yes").start();
    let raw = Raw::connect(&format!("redis://:right@127.0.0.1:{}/", redis.port())).await;
    let url = |host: &str| format!("rediss://:right@{host}:{}/", redis.tls_port());
    let builder = |host: &str| calm(RedisTier::builder(&url(host))).tls_roots(authority.pem().as_bytes());
    let ours = authority.issue();
    for host in ["localhost", "127.0.0.1"] {
        let tier = builder(host).tls_identity(ours.pem().as_bytes(), ours.key_pem().as_bytes()).connect().await.unwrap();
        store(&tier, &key(), "x").await;
        until("one connection is left", async || clients(&raw).await == 1).await;
        let list: String = raw.run(&["CLIENT", "LIST"]).await;
        let line = list.lines().find(|line| line.contains("name=cachestack")).expect("it is there");
        assert!(line.contains(&format!("laddr=127.0.0.1:{}", redis.tls_port())), "{line}");
        drop(tier);
        until("none is left", async || clients(&raw).await == 0).await;
    }
    let refused = [
        (builder("localhost"), "refused the TLS handshake, or the tier's certificate"),
        (calm(RedisTier::builder(&url("localhost"))).tls_roots(other.pem().as_bytes()), "not trusted"),
    ];
    for (builder, says) in refused {
        let err = builder.connect().await.expect_err("a certificate that is not accepted");
        assert!(err.kind() == ErrorKind::Config && err.to_string().contains(says), "{err}");
    }
    let expired = Redis::builder().tls(&authority.issue_expired()).start();
    let err = calm(RedisTier::builder(&expired.tls_url())).tls_roots(authority.pem().as_bytes()).connect().await.unwrap_err();
    assert!(err.kind() == ErrorKind::Config && err.to_string().contains("expired"), "{err}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_will_do() {
    let redis = Redis::builder().unix_socket().start();
    let tier = tier(&format!("unix://{}", redis.unix_socket().display())).await;
    store(&tier, &key(), "x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_the_master_that_sentinels_name_is_found_and_so_is_its_successor() {
    let mut group = RedisSentinel::start();
    let sentinels: Vec<_> = group.sentinels().iter().map(Redis::url).collect();
    let builder = RedisTier::sentinel(RedisSentinel::SERVICE, sentinels).driver(Driver::Fred).timeout(LONGER);
    let tier = builder.connect().await.unwrap();
    store(&tier, &key(), "x").await;
    let old = group.master();
    tokio::task::block_in_place(|| group.server_mut(old).kill());
    let start = Instant::now();
    assert!(tier.get(&key()).await.unwrap_err().is_transient());
    assert!(start.elapsed() < LONGER + MARGIN);
    tokio::task::block_in_place(|| group.await_failover(old));
    until_back(&tier).await;
    store(&tier, &key(), "y").await;
}

#[tokio::test]
async fn c1_a_redis_that_is_down_at_start_is_no_error_and_comes_up_by_itself() {
    let mut redis = Redis::start();
    redis.kill();
    let tier = quick(&redis.url()).await;
    assert!(!tier.is_connected());
    let start = Instant::now();
    let errors = each_verb(&tier).await;
    assert!(errors.iter().all(|err| err.kind() == ErrorKind::Unavailable), "{errors:?}");
    assert_transient(&errors);
    assert!(start.elapsed() < MARGIN, "without a connection calls fail at once");
    redis.restart();
    until_back(&tier).await;
    assert_eq!(each_verb(&tier).await.len(), 0);
}

#[tokio::test]
async fn c2_a_redis_killed_fails_the_calls_under_way_at_once_and_is_back_after_its_restart() {
    let mut redis = Redis::start();
    let tier = tier(&redis.url()).await;
    redis.pause();
    let (one, two) = (key(), key());
    let started = Instant::now();
    let mut calls = pin!(async { tokio::join!(tier.get(&one), tier.get(&two)) });
    for _ in 0..10 {
        assert!(poll!(&mut calls).is_pending());
        tokio::task::yield_now().await;
    }
    redis.kill();
    // fred by itself keeps them, and all that come after, for as long as it lives.
    let (one, two) = calls.await;
    for ended in [one, two] {
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(started.elapsed() < AMPLE / 2, "{:?}", started.elapsed());
    until("the loss is noticed", async || !tier.is_connected()).await;
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    redis.restart();
    until_back(&tier).await;
    store(&tier, &key(), "x").await;
}

#[tokio::test]
async fn c2_a_stopped_redis_costs_each_call_its_timeout_then_nothing_until_it_continues() {
    let redis = Redis::start();
    let tier = quick(&redis.url()).await;
    redis.pause();
    let errors = each_verb(&tier).await;
    assert_transient(&errors);
    assert_eq!(errors[0].kind(), ErrorKind::Timeout);
    until("the connection is given up", async || !tier.is_connected()).await;
    let start = Instant::now();
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(start.elapsed() < MARGIN);
    redis.resume();
    until_back(&tier).await;
    assert_eq!(each_verb(&tier).await.len(), 0);
}

#[tokio::test]
async fn c2_an_idle_connection_to_a_hanging_server_is_given_up_without_any_call() {
    let redis = Redis::start();
    let tier = quick(&redis.url()).await;
    redis.pause();
    until("the probes have noticed", async || !tier.is_connected()).await;
    redis.resume();
    until("the tier is back", async || tier.is_connected()).await;
}

#[tokio::test]
async fn c2_a_dead_connection_that_stays_open_is_replaced_after_five_calls_and_leaves_no_task_behind() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = quick(&proxy.url()).await;
    store(&tier, &key(), "x").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    proxy.strand();
    let (key, mut timeouts) = (key(), 0);
    // More than the kernel takes, so that fred is stuck in its write.
    let large = || fills(&key, Token::unique(), vec![0; 7 << 20]);
    let (one, two, three) = (large(), large(), large());
    let stuck = tokio::join!(tier.fill(&key, &one), tier.fill(&key, &two), tier.fill(&key, &three));
    assert!(stuck.0.is_err() && stuck.1.is_err() && stuck.2.is_err());
    let back = async || {
        let read = tier.get(&key).await;
        timeouts += u32::from(read.as_ref().is_err_and(|err| err.kind() == ErrorKind::Timeout));
        read.is_ok()
    };
    until("the tier is back", back).await;
    assert!(timeouts <= 7, "{timeouts} calls waited in vain");
    until("nothing is left of the dead connection", async || tasks() == before).await;
}

#[tokio::test]
async fn c2_what_waits_to_be_written_is_bounded_even_where_nobody_waits_for_it() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = tier(&proxy.url()).await;
    proxy.stall();
    let key = key();
    let mut refused = 0;
    for _ in 0..20 {
        let large = fills(&key, Token::unique(), vec![0; 7 << 20]);
        let mut call = pin!(tier.fill(&key, &large));
        // Cancelled at once; fred has it nonetheless.
        match poll!(&mut call) {
            std::task::Poll::Ready(Err(err)) if err.kind() == ErrorKind::Overloaded => refused += 1,
            _ => {}
        }
    }
    assert!(refused >= 10, "{refused} of 140 MiB were refused");
    proxy.forward();
    until("there is room again", async || tier.fill(&key, &fills(&key, Token::unique(), "x")).await.is_ok()).await;
}

#[tokio::test]
async fn c1_resets_and_refusals_are_survived() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = quick(&proxy.url()).await;
    proxy.reset();
    until("the loss is noticed", async || !tier.is_connected()).await;
    assert_transient(&each_verb(&tier).await);
    proxy.refuse();
    assert_transient(&each_verb(&tier).await);
    proxy.forward();
    until_back(&tier).await;
}

#[tokio::test]
async fn c5_a_master_that_became_a_replica_is_dialled_anew_until_it_takes_writes() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = tier(&proxy.url()).await;
    let (raw, key, dialled) = (Raw::connect(&redis.url()).await, key(), proxy.accepted());
    raw.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    until("it is dialled anew", async || proxy.accepted() > dialled).await;
    raw.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    until("writes are taken", async || tier.invalidate(&[invalidation(&key)], HOUR, None).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_runs_the_machine_and_answers_for_many_keys_of_all_slots_in_their_order() {
    let cluster = RedisCluster::start();
    let tier = calm(RedisTier::cluster(urls(&cluster))).connect().await.unwrap();
    runs_the_machine(&tier, Planter::new(&cluster).await).await;
    let namespace = namespace();
    let keys: Vec<_> = (0..300_u64).map(|id| namespace.key(&id)).collect();
    for (id, key) in keys.iter().enumerate() {
        store(&tier, key, format!("value {id}")).await;
    }
    for (id, fetched) in tier.get_many(&keys).await.unwrap().into_iter().enumerate() {
        assert_eq!(fetched.unwrap().record.unwrap().slice(HEADER_LEN..), format!("value {id}"));
    }
    assert_eq!(tier.clear(&namespace, HOUR, None).await.unwrap().outcome, 300);
    tier.close().await;
    assert_eq!(tier.get(&keys[0]).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_live_resharding_is_neither_an_error_nor_a_strange_value() {
    let cluster = RedisCluster::start();
    let tier = calm(RedisTier::cluster(urls(&cluster))).connect().await.unwrap();
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (tier, stop, rounds) = (tier.clone(), stop.clone(), rounds.clone());
            tokio::spawn(async move {
                let namespace = namespace();
                for round in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, payload) = (namespace.key(&(round % 200)), format!("{task} {}", round % 200));
                    store(&tier, &key, payload.clone()).await;
                    let record = tier.get(&key).await.expect("an answer").record.expect("what was stored");
                    assert_eq!(record.slice(HEADER_LEN..), payload, "a value under a strange key");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = async |count: u64| {
        let from = rounds.load(Ordering::Relaxed);
        until("calls succeed", async || rounds.load(Ordering::Relaxed) >= from + count).await;
    };
    more(500).await;
    tokio::task::block_in_place(|| cluster.migrate_slots(0..=800, 0, 1));
    more(500).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("neither an error nor a strange value");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_a_slot_on_the_move_is_asked_on_both_sides_also_beside_other_calls() {
    let cluster = RedisCluster::start();
    let tier = calm(RedisTier::cluster(urls(&cluster))).connect().await.unwrap();
    let node = Raw::connect(&cluster.node(0).url()).await;
    let namespace = namespace();
    let first = namespace.key(&0_u64);
    let keys: Vec<_> =
        (0_u64..).map(|id| namespace.key(&id)).filter(|key| key.partition() == first.partition()).take(3).collect();
    for key in &keys {
        store(&tier, key, "x").await;
    }
    let slot = slot(&node, &first).await;
    let from = cluster.master_of(slot);
    let to = (from + 1) % 3;
    cluster.begin_migration(slot, from, to);
    assert_eq!(cluster.migrate_keys(slot, from, to, 1), 1, "one key has moved, two have not");
    // ASKING is for the one command that follows it: no other call may come between.
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let (tier, keys) = (tier.clone(), keys.clone());
            tokio::spawn(async move {
                for _ in 0..200 {
                    for key in &keys {
                        assert!(tier.get(key).await.expect("an answer").record.is_some());
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.expect("every key is found");
    }
    let ended = tier.invalidate(&keys.iter().map(invalidation).collect::<Vec<_>>(), HOUR, None).await.unwrap().outcome;
    assert_eq!(ended, vec![Invalidated::Tombstoned; 3]);
    while cluster.migrate_keys(slot, from, to, 100) > 0 {}
    cluster.finish_migration(slot, from, to);
    assert!(matches!(tier.acquire(&first, &asks(Token::unique(), Claim::Vacant)).await.unwrap(), Acquired::Granted { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_dead_master_fails_its_own_keys_only_and_a_failover_heals_them() {
    let mut cluster = RedisCluster::builder().partial_coverage().start();
    let builder = RedisTier::cluster(urls(&cluster)).driver(Driver::Fred).timeout(LONGER).connect_timeout(LONGER);
    let tier = builder.connect().await.unwrap();
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
            assert!(err.is_transient() && call.elapsed() < LONGER + MARGIN, "{err:?} after {:?}", call.elapsed());
        }
    }
    tokio::task::block_in_place(|| cluster.await_failover(0));
    until("the keys are served by the new master", async || tier.get(&own[0]).await.is_ok()).await;
    until("every master is connected", async || tier.is_connected()).await;
    for key in &own {
        store(&tier, key, "x").await;
    }
}
