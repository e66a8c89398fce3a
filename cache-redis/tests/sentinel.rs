//! The master that Sentinels name, and its successor.

mod common;

use cache_core::{ErrorKind, RemoteTier};
use cache_redis::RedisTier;
use common::{key, shared, store, until, until_back};
use std::time::{Duration, Instant};
use test_servers::RedisSentinel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TIMEOUT: Duration = Duration::from_millis(250);

fn urls(group: &RedisSentinel) -> Vec<String> {
    group.sentinels().iter().map(test_servers::Redis::url).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_the_master_is_found_and_so_is_its_successor_after_it_was_killed() {
    let mut group = RedisSentinel::start();
    let tier = RedisTier::sentinel(RedisSentinel::SERVICE, urls(&group)).timeout(TIMEOUT).connect().await.unwrap();
    let key = key();
    store(&tier, &key, "x").await;
    let old = group.master();
    tokio::task::block_in_place(|| {
        // One Sentinel is away, too.
        group.kill_sentinel(0);
        group.server_mut(old).kill();
    });
    let start = Instant::now();
    assert!(tier.get(&key).await.unwrap_err().is_transient());
    assert!(start.elapsed() < TIMEOUT + common::MARGIN);
    tokio::task::block_in_place(|| group.await_failover(old));
    until_back(&tier).await;
    store(&tier, &key, "y").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c5_a_master_that_was_demoted_is_left_for_its_successor() {
    let group = RedisSentinel::start();
    let tier = RedisTier::sentinel(RedisSentinel::SERVICE, urls(&group)).timeout(TIMEOUT).connect().await.unwrap();
    let key = key();
    store(&tier, &key, "x").await;
    tokio::task::block_in_place(|| group.failover());
    // The old one is a replica now, which would still be read from: its first refused write moves the tier on.
    until("a write succeeds", async || {
        let asks = common::asks(cache_core::Token::unique(), cache_core::Claim::Force);
        tier.acquire(&key, &asks).await.is_ok()
    })
    .await;
}

/// Answers whatever it is asked with an address, as a Sentinel does that has not heard of a failover.
async fn names(port: u16) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
    let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.to_string().len());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = [0; 1_024];
                while stream.read(&mut asked).await.is_ok_and(|read| read > 0)
                    && stream.write_all(answer.as_bytes()).await.is_ok()
                {}
            });
        }
    });
    url
}

#[tokio::test]
async fn c5_a_sentinel_that_names_a_replica_is_not_believed() {
    let group = RedisSentinel::start();
    let master = group.master();
    let tier =
        RedisTier::sentinel("any", [names(group.server(1 - master).port()).await]).timeout(TIMEOUT).connect().await.unwrap();
    let err = tier.get(&key()).await.expect_err("a replica is no master");
    assert!(err.to_string().contains("no master"), "{err}");
    let tier = RedisTier::sentinel("any", [names(group.server(master).port()).await]).timeout(TIMEOUT).connect().await.unwrap();
    store(&tier, &key(), "x").await;
}

#[tokio::test]
async fn sentinels_that_say_nothing_do_not_use_up_the_dial() {
    // Connections are taken, by the kernel, and that is all.
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
    }
    let mut urls: Vec<_> = silent.iter().map(|silent| format!("redis://{}", silent.local_addr().expect("it is bound"))).collect();
    urls.push(names(shared().port()).await);
    // They are asked in an order of chance: in ten dials those that say nothing come first.
    for _ in 0..10 {
        let tier = RedisTier::sentinel("any", &urls).connect().await.unwrap();
        assert!(tier.is_connected(), "one knows");
    }
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_weather_that_says_so() {
    let group = RedisSentinel::start();
    let tier = RedisTier::sentinel("nobody", urls(&group)).timeout(TIMEOUT).connect().await.unwrap();
    let err = tier.get(&key()).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    assert!(err.to_string().contains("does not know"), "{err}");
}

#[test]
fn what_cannot_be_a_sentinel_is_refused() {
    for (name, urls) in [("", &["redis://localhost"][..]), ("master", &[]), ("master", &["unix:///tmp/socket"])] {
        assert_eq!(RedisTier::sentinel(name, urls).lazy().unwrap_err().kind(), ErrorKind::Config, "{name} {urls:?}");
    }
}
