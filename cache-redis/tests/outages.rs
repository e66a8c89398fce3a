//! Redis down, hanging, replaced: every call ends in time, and the tier comes back by itself.

mod common;

use cache_core::record::HEADER_LEN;
use cache_core::{Claim, Error, ErrorKind, RemoteTier, Token};
use cache_redis::RedisTier;
use common::relay::Relay;
use common::{AMPLE, HOUR, MARGIN, Raw, asks, fills, invalidation, key, namespace, store, until, until_back};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis};

const TIMEOUT: Duration = Duration::from_millis(60);

async fn quick(url: &str) -> RedisTier {
    RedisTier::builder(url)
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_millis(300))
        .connect()
        .await
        .expect("weather is no error")
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_redis_killed_and_restarted_in_the_middle_of_traffic() {
    let mut redis = Redis::start();
    let tier = quick(&redis.url()).await;
    let (stop, slowest, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (tier, stop, slowest, calls) = (tier.clone(), stop.clone(), slowest.clone(), calls.clone());
            tokio::spawn(async move {
                let key = key();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let _ = tier.acquire(&key, &asks(Token::unique(), Claim::Force)).await;
                    slowest.fetch_max(start.elapsed().as_millis() as u32, Ordering::Relaxed);
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let before = calls.load(Ordering::Relaxed);
        until("there is traffic", async || calls.load(Ordering::Relaxed) > before + 100).await;
        redis.kill();
        until("the loss is noticed", async || !tier.is_connected()).await;
        redis.restart();
        // A restarted server knows no script.
        until_back(&tier).await;
        until("scripts run", async || tier.release(&key(), Token::unique()).await.is_ok()).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no panic");
    }
    let slowest = Duration::from_millis(slowest.load(Ordering::Relaxed).into());
    assert!(slowest < TIMEOUT + MARGIN, "{slowest:?}");
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
async fn c2_a_stalled_network_and_its_end() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = quick(&proxy.url()).await;
    proxy.stall();
    assert_transient(&each_verb(&tier).await);
    until("the connection is given up", async || !tier.is_connected()).await;
    proxy.forward();
    until_back(&tier).await;
}

#[tokio::test]
async fn c2_a_dead_connection_that_stays_open_is_replaced_after_five_calls_and_leaves_no_task_behind() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = quick(&proxy.url()).await;
    store(&tier, &key(), "x").await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // No driver notices this: the connection is open, and nothing is refused.
    proxy.strand();
    let (key, mut timeouts) = (key(), 0);
    // More than the kernel takes, so that the driver is stuck in its write.
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
    assert!(proxy.accepted() >= 2);
    // Left alone, the driver would try to write for ever.
    until("nothing is left of the dead connection", async || tasks() == before).await;
}

#[tokio::test]
async fn c2_a_connection_that_goes_on_answering_is_kept_though_every_answer_is_too_late() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = quick(&proxy.url()).await;
    let (key, before) = (key(), proxy.accepted());
    proxy.delay(TIMEOUT * 3 / 2);
    for _ in 0..15 {
        assert_eq!(tier.get(&key).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(tier.is_connected() && proxy.accepted() == before);
    proxy.forward();
    until_back(&tier).await;
    assert_eq!(proxy.accepted(), before);
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
    let tier = RedisTier::builder(&proxy.url()).timeout(AMPLE).connect().await.unwrap();
    let (raw, key) = (Raw::connect(&redis.url()).await, key());
    raw.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let err = tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    until("it is dialled anew", async || proxy.accepted() >= 2).await;
    raw.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    until("writes are taken", async || tier.invalidate(&[invalidation(&key)], HOUR, None).await.is_ok()).await;
}

#[tokio::test]
async fn the_first_call_of_a_lazy_tier_waits_for_its_dial_and_no_longer_than_its_timeout() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let lazy = || RedisTier::builder(&proxy.url()).timeout(AMPLE).connect_timeout(AMPLE).lazy().unwrap();
    let tier = lazy();
    assert_eq!(proxy.accepted(), 0, "nothing is dialled before the first call");
    // All of them share the one dial.
    let (one, two, three) = (key(), key(), key());
    let all = tokio::join!(tier.get(&one), tier.get(&two), tier.release(&three, Token::unique()));
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok());
    assert_eq!(proxy.accepted(), 1);

    proxy.stall();
    let tier = RedisTier::builder(&proxy.url()).timeout(TIMEOUT).connect_timeout(AMPLE).lazy().unwrap();
    let start = Instant::now();
    assert_eq!(tier.get(&one).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < TIMEOUT + MARGIN);
}

/// What a failover behind a name looks like: the connection that is open leads to a replica, and a new one would lead to the master.
#[tokio::test]
async fn c5_a_name_that_leads_to_another_master_now_is_followed_after_one_refused_write() {
    let (old, new) = (Redis::start(), Redis::start());
    let relay = Relay::start(old.port()).await;
    let (tier, key) = (common::tier(&relay.url()).await, key());
    store(&tier, &key, "x").await;
    // Of nobody, so that it takes no time to load what a master has.
    Raw::connect(&old.url()).await.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    relay.point_to(new.port());
    let err = tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap_err();
    assert!(err.to_string().contains("READONLY"), "{err}");
    until("the new master takes writes", async || tier.invalidate(&[invalidation(&key)], HOUR, None).await.is_ok()).await;
    assert_eq!(relay.accepted(), 2, "one dial was enough");
    assert_eq!(Raw::connect(&new.url()).await.of::<u64>("EXISTS", &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_ten_times_the_latency_and_resets_fail_calls_and_mix_up_none() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let tier = common::tier(&proxy.url()).await;
    let namespace = namespace();
    let keys: Arc<Vec<_>> = Arc::new((0..40_u64).map(|id| namespace.key(&id)).collect());
    for (id, key) in keys.iter().enumerate() {
        store(&tier, key, format!("value {id}")).await;
    }
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (tier, keys, stop, answered) = (tier.clone(), keys.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut rng = fastrand::Rng::with_seed(client);
                while !stop.load(Ordering::Relaxed) {
                    let id = rng.usize(0..keys.len());
                    match tier.get(&keys[id]).await {
                        Ok(fetched) => {
                            let record = fetched.record.expect("nobody removes it");
                            assert_eq!(record.slice(HEADER_LEN..), format!("value {id}"));
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(err) => assert!(err.is_transient(), "{err:?}"),
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..5 {
        // A get takes some 50 µs here otherwise.
        proxy.delay(Duration::from_millis(2));
        let before = answered.load(Ordering::Relaxed);
        until("calls are answered", async || answered.load(Ordering::Relaxed) > before + 50).await;
        proxy.reset();
        until("the loss is noticed", async || !tier.is_connected()).await;
    }
    proxy.forward();
    until_back(&tier).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no foreign answer");
    }
    for (id, fetched) in tier.get_many(&keys).await.unwrap().into_iter().enumerate() {
        assert_eq!(fetched.unwrap().record.unwrap().slice(HEADER_LEN..), format!("value {id}"));
    }
}
