//! RESP3 where a URL asks for it: all that RESP2 can, by both drivers, on one server and on a cluster of six.

mod common;

use cache_core::testing::backplane_suite;
use cache_core::{ErrorKind, Examine, RemoteTier};
use cache_redis::{RedisTier, RedisTierBuilder};
use common::machine::{Planter, runs_the_machine};
use common::relay::Relay;
use common::{AMPLE, HOUR, Raw, key, namespace, store};
use test_servers::{Redis, RedisCluster};

fn three(url: &str) -> String {
    format!("{}?protocol=resp3", if url.ends_with('/') { url.to_owned() } else { format!("{url}/") })
}

async fn connected(builder: RedisTierBuilder) -> RedisTier {
    builder.timeout(AMPLE).connect_timeout(AMPLE).connect().await.expect("the server runs")
}

/// What is asked of a server besides verbs.
async fn answers_all_else(tier: &RedisTier, masters: usize) {
    let key = key();
    store(tier, &key, "x").await;
    assert!(tier.exists(&key).await.unwrap());
    assert!(tier.remaining(&key).await.unwrap().is_some() && tier.touch(&key, HOUR).await.unwrap().is_some());
    assert_eq!(tier.increment(&key, 2, HOUR).await.unwrap(), 2);
    assert_eq!((tier.counter(&key).await.unwrap(), tier.reset_counter(&key).await.unwrap()), (Some(2), Some(2)));
    assert_eq!(tier.counter(&key).await.unwrap(), None);
    assert_eq!(tier.server_info().await.into_iter().flatten().count(), masters);
    assert!(tier.health().await.is_well());
    let keys: Vec<_> = (0..200_u64).map(|id| namespace().key(&id)).collect();
    for key in keys.iter().step_by(2) {
        store(tier, key, "y").await;
    }
    for (id, fetched) in tier.get_many(&keys).await.unwrap().into_iter().enumerate() {
        assert_eq!(fetched.unwrap().record.is_some(), id % 2 == 0, "{id}");
    }
    let examined = tier.examine(&Examine { prefix: "test", strict: false }).await;
    assert!(!format!("{examined:?}").contains("not understood"), "{examined:?}");
}

/// How many of the tier's connections to a server speak each protocol.
async fn protocols(raw: &Raw) -> (usize, usize) {
    let list: String = raw.run(&["CLIENT", "LIST"]).await;
    let ours: Vec<_> = list.lines().filter(|line| line.contains("name=cachestack-")).collect();
    let of = |protocol| ours.iter().filter(|line| line.contains(protocol)).count();
    (of("resp=2"), of("resp=3"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_is_spoken_to_in_resp3_on_every_connection() {
    let redis = Redis::builder().password("right").start();
    let plain = format!("redis://:right@127.0.0.1:{}/", redis.port());
    let (url, raw) = (three(&plain), Raw::connect(&plain).await);
    let (ours, theirs) = (connected(RedisTier::builder(&url)).await, connected(RedisTier::builder(&url)).await);
    runs_the_machine(&ours, raw.clone()).await;
    backplane_suite(&ours, &theirs).await;
    answers_all_else(&ours, 1).await;
    let (two, three) = protocols(&raw).await;
    assert!(two == 0 && three >= 2, "{two} {three}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_spoken_to_in_resp3_on_every_connection_and_its_map_is_understood() {
    let cluster = RedisCluster::start();
    let urls: Vec<_> = cluster.nodes().iter().map(|node| three(&node.url())).collect();
    let (ours, theirs) = (connected(RedisTier::cluster(&urls)).await, connected(RedisTier::cluster(&urls)).await);
    let raw = Raw::connect(&cluster.nodes()[0].url()).await;
    runs_the_machine(&ours, Planter::new(&cluster).await).await;
    backplane_suite(&ours, &theirs).await;
    answers_all_else(&ours, 3).await;
    let (two, three) = protocols(&raw).await;
    assert!(two == 0 && three >= 2, "{two} {three}");
}

#[cfg(feature = "fred")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_fred_it_is_the_same() {
    let redis = Redis::builder().password("right").start();
    let plain = format!("redis://:right@127.0.0.1:{}/", redis.port());
    let raw = Raw::connect(&plain).await;
    let tier = connected(RedisTier::builder(&three(&plain)).driver(cache_redis::Driver::Fred)).await;
    runs_the_machine(&tier, raw.clone()).await;
    answers_all_else(&tier, 1).await;
    let (two, three) = protocols(&raw).await;
    assert!(two == 0 && three >= 1, "{two} {three}");
}

#[tokio::test]
async fn refused_credentials_are_told_from_a_server_that_does_not_speak_it() {
    let redis = Redis::builder().password("right").start();
    let with = |login: &str| format!("redis://{login}@127.0.0.1:{}/?protocol=resp3", redis.port());
    for wrong in [":wrong", "nobody:right"] {
        let refused = RedisTier::builder(&with(wrong)).timeout(AMPLE).connect().await.expect_err("a refusal");
        assert_eq!(refused.kind(), ErrorKind::Credentials, "{wrong}: {refused}");
    }
    assert!(connected(RedisTier::builder(&with(":right"))).await.get(&key()).await.is_ok());

    let open = Redis::start();
    let relay = Relay::start(open.port()).await;
    relay.refuse(&["HELLO"], "ERR unknown command 'HELLO'");
    let refused = RedisTier::builder(&three(&relay.url())).timeout(AMPLE).connect().await.expect_err("a refusal");
    assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains("RESP3"), "{refused}");
    relay.refuse(&["HELLO"], "NOPROTO unsupported protocol version");
    let refused = RedisTier::builder(&three(&relay.url())).timeout(AMPLE).connect().await.expect_err("a refusal");
    assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains("RESP3"), "{refused}");
}
