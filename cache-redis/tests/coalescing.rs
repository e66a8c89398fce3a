//! Calls that wait at the same time go together, and each gets what is its own.

mod common;

use cache_core::{Acquired, Claim, Fetched, RemoteKey, RemoteTier, Token};
use common::{Raw, asks, key, namespace, store, tier};
use futures_util::future::join_all;
use std::time::Duration;
use test_servers::Redis;

/// How often Redis has read from its connections.
async fn reads(raw: &Raw) -> u64 {
    let stats: String = raw.run(&["INFO", "stats"]).await;
    let reads = stats.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    reads.expect("a figure of Redis 7").parse().unwrap()
}

fn payload(fetched: &Fetched) -> Option<bytes::Bytes> {
    fetched.record.as_ref().filter(|record| record.len() > 92).map(|record| record.slice(92..))
}

async fn stored(tier: &cache_redis::RedisTier, count: u64) -> Vec<RemoteKey> {
    let namespace = namespace();
    let keys: Vec<_> = (0..count).map(|id| namespace.key(&id)).collect();
    for (id, key) in keys.iter().enumerate() {
        store(tier, key, format!("value {id}")).await;
    }
    keys
}

// On one thread: on two, how many calls come while one write is under way is up to the machine.
#[tokio::test]
async fn gets_at_the_same_time_are_few_writes_and_each_gets_its_own_value() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let keys = stored(&tier, 400).await;
    let before = reads(&raw).await;
    let read = join_all(keys.iter().map(|key| tier.get(key))).await;
    for (id, fetched) in read.into_iter().enumerate() {
        assert_eq!(payload(&fetched.unwrap()), Some(format!("value {id}").into()));
    }
    // Redis reads 16 KiB at a time; INFO itself is a read, and so may be a probe.
    let reads = reads(&raw).await - before;
    assert!(reads <= 20, "{reads} reads for 400 gets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_calls_that_are_cancelled_in_a_batch_leave_the_others_their_own_replies() {
    let redis = Redis::start();
    let tier = tier(&redis.url()).await;
    let keys = stored(&tier, 300).await;
    for round in 0..60_u64 {
        let calls = keys.iter().enumerate().map(|(id, key)| {
            let tier = &tier;
            async move {
                let call = async { (id, tier.get(key).await) };
                // A third goes away, somewhere on the way.
                let patience =
                    if (id as u64 + round).is_multiple_of(3) { Duration::from_micros(round * 20) } else { common::AMPLE };
                tokio::time::timeout(patience, call).await.ok()
            }
        });
        for (id, fetched) in join_all(calls).await.into_iter().flatten() {
            assert_eq!(payload(&fetched.unwrap()), Some(format!("value {id}").into()), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c12_one_answer_that_is_an_error_is_no_one_elses() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let keys = stored(&tier, 100).await;
    let list = key();
    let _: u64 = raw.query(redis::cmd("RPUSH").arg(list.as_bytes()).arg("x")).await;
    let _: () = raw.run(&["SCRIPT", "FLUSH"]).await;
    let acquired = async |key: &RemoteKey| tier.acquire(key, &asks(Token::unique(), Claim::Vacant)).await;
    let namespace = namespace();
    let fresh: Vec<_> = (0..100_u64).map(|id| namespace.key(&id)).collect();
    let (read, lists, taken, held) = tokio::join!(
        join_all(keys.iter().map(|key| tier.get(key))),
        join_all((0..20).map(|_| acquired(&list))),
        join_all(fresh.iter().map(&acquired)),
        join_all(keys.iter().map(&acquired)),
    );
    assert!(read.into_iter().all(|fetched| payload(&fetched.unwrap()).is_some()));
    assert!(lists.into_iter().all(|acquired| acquired.unwrap() == Acquired::Foreign));
    assert!(taken.into_iter().all(|acquired| matches!(acquired.unwrap(), Acquired::Granted { .. })), "scripts are loaded again");
    assert!(held.into_iter().all(|acquired| acquired.unwrap() == Acquired::Hit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_values_come_whole() {
    let redis = Redis::start();
    let tier = tier(&redis.url()).await;
    let namespace = namespace();
    let keys: Vec<_> = (0..64_u64).map(|id| namespace.key(&id)).collect();
    for (id, key) in keys.iter().enumerate() {
        store(&tier, key, vec![id as u8; 100_000]).await;
    }
    for _ in 0..5 {
        for (id, fetched) in join_all(keys.iter().map(|key| tier.get(key))).await.into_iter().enumerate() {
            assert_eq!(payload(&fetched.unwrap()), Some(vec![id as u8; 100_000].into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_calls_that_wait_in_a_queue_end_in_time_when_redis_hangs() {
    let redis = Redis::start();
    let timeout = Duration::from_millis(100);
    let tier = cache_redis::RedisTier::builder(&redis.url()).timeout(timeout).connect().await.unwrap();
    let keys = stored(&tier, 10).await;
    redis.pause();
    let start = std::time::Instant::now();
    let read = join_all((0..300).map(|id| tier.get(&keys[id % 10]))).await;
    assert!(read.into_iter().all(|fetched| fetched.is_err_and(|err| err.is_transient())));
    assert!(start.elapsed() < timeout + common::MARGIN, "{:?}", start.elapsed());
    redis.resume();
    common::until_back(&tier).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_whose_callers_have_all_gone_holds_nobody_up() {
    let redis = Redis::start();
    let tier = tier(&redis.url()).await;
    let keys = stored(&tier, 50).await;
    redis.pause();
    // Commands under way, and some behind them, of which nobody is left.
    for _ in 0..4 {
        let gone = keys.iter().map(|key| tokio::time::timeout(Duration::from_millis(50), tier.get(key)));
        assert!(join_all(gone).await.iter().all(Result::is_err));
    }
    redis.resume();
    let read = tokio::time::timeout(Duration::from_secs(5), join_all(keys.iter().map(|key| tier.get(key)))).await;
    assert!(
        read.expect("the connection goes on, or the next does").into_iter().all(|fetched| payload(&fetched.unwrap()).is_some())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_was_flushed_is_loaded_once_for_all_who_need_it() {
    let redis = Redis::start();
    let (tier, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let loads = async || {
        let stats: String = raw.run(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_script|load:calls="));
        line.map_or(0, |line| line.split(',').next().expect("a figure").parse::<u32>().expect("a figure"))
    };
    for round in 0..5_u64 {
        raw.run::<()>(&["SCRIPT", "FLUSH"]).await;
        let before = loads().await;
        let calls: Vec<_> = (0..500)
            .map(|id| {
                let (tier, key) = (tier.clone(), namespace.key(&(round * 500 + id)));
                tokio::spawn(async move { tier.acquire(&key, &asks(Token::unique(), Claim::Vacant)).await })
            })
            .collect();
        for call in calls {
            assert!(matches!(call.await.expect("no panic").expect("the tier answers"), Acquired::Granted { .. }));
        }
        let loads = loads().await - before;
        assert_eq!(loads, 1, "loads for 500 calls");
    }
}
