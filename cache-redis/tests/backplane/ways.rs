//! The subscription is dialled as the data's connections are: by socket, by TLS, with a login, and whoever carries the commands.

use crate::common::AMPLE;
use crate::ears::{Ears, alone, poll};
use cache_core::RemoteTier;
use cache_redis::{RedisTier, RedisTierBuilder};
use test_servers::Redis;

async fn hears(builder: RedisTierBuilder) {
    let tier = builder.timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
    let namespace = alone();
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    let polled = poll(&tier, namespace.prefix()).await;
    ears.nothing_but(&tier, &namespace, &namespace.key(&1)).await;
    assert_eq!(poll(&tier, namespace.prefix()).await.iter().zip(&polled).filter(|(now, then)| now != then).count(), 1);
    let told = tier.clear(&namespace, AMPLE, Some(&crate::ears::notice(&namespace))).await.unwrap();
    assert_eq!(ears.take(256).await.len(), told.receipts.len());
}

#[tokio::test]
async fn with_a_password_and_in_another_database() {
    let redis = Redis::builder().password("right").start();
    hears(RedisTier::builder(&format!("redis://:right@127.0.0.1:{}/5", redis.port()))).await;
}

#[tokio::test]
async fn by_a_socket_in_the_file_system() {
    let redis = Redis::builder().unix_socket().start();
    hears(RedisTier::builder(&format!("unix://{}", redis.unix_socket().display()))).await;
}

#[tokio::test]
#[cfg(feature = "tls")]
async fn by_tls() {
    let authority = test_servers::CertificateAuthority::new();
    let redis = Redis::builder().tls(&authority.issue()).start();
    hears(RedisTier::builder(&redis.tls_url()).tls_roots(authority.pem().as_bytes())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "tls")]
async fn by_tls_to_each_node_of_a_cluster() {
    let authority = test_servers::CertificateAuthority::new();
    let cluster = test_servers::RedisCluster::builder().tls(&authority.issue()).start();
    let urls: Vec<_> = cluster.nodes().iter().map(Redis::tls_url).collect();
    hears(RedisTier::cluster(urls).tls_roots(authority.pem().as_bytes())).await;
}

#[tokio::test]
#[cfg(feature = "fred")]
async fn beside_fred() {
    let redis = Redis::start();
    hears(RedisTier::builder(&redis.url()).driver(cache_redis::Driver::Fred)).await;
}

/// The history goes with each command, also behind `ASKING`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg(feature = "fred")]
async fn beside_fred_in_a_cluster() {
    let cluster = test_servers::RedisCluster::start();
    let urls: Vec<_> = cluster.nodes().iter().map(Redis::url).collect();
    hears(RedisTier::cluster(urls).driver(cache_redis::Driver::Fred)).await;
}
