//! TLS: who is trusted, what happens with who is not, and that nothing is ever sent in plain instead.

#[path = "../common/mod.rs"]
mod common;
mod ends;
mod identity;
mod nodes;
mod refusals;
mod replicas;
mod traced;

use cache_core::RemoteTier;
use cache_redis::{RedisTier, RedisTierBuilder};
use common::{AMPLE, Raw, key, store, until, until_back};
use std::process::Command;
use test_servers::{CertificateAuthority, Redis};

const PASSWORD: &str = "canary-5f3759df";

fn builder(url: &str, authority: &CertificateAuthority) -> RedisTierBuilder {
    RedisTier::builder(url).tls_roots(authority.pem().as_bytes()).timeout(AMPLE).connect_timeout(AMPLE)
}

/// The URL with a user and a password. `host` is what the certificate must be for.
fn url(host: &str, port: u16, login: &str) -> String {
    format!("rediss://{login}@{host}:{port}/")
}

async fn works(tier: &RedisTier) {
    let key = key();
    store(tier, &key, "value").await;
    assert!(tier.get(&key).await.unwrap().record.is_some());
}

#[tokio::test]
async fn a_user_and_password_are_shown_over_tls_by_name_and_by_address() {
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().password("other").user("cache", PASSWORD, "~* +@all").tls(&authority.issue()).start();
    for (host, scheme) in [("localhost", "rediss"), ("127.0.0.1", "rediss"), ("localhost", "valkeys")] {
        let url = url(host, redis.tls_port(), &format!("cache:{PASSWORD}")).replace("rediss", scheme);
        works(&builder(&url, &authority).connect().await.unwrap()).await;
    }
    let wrong = url("localhost", redis.tls_port(), "cache:wrong");
    assert_eq!(builder(&wrong, &authority).connect().await.unwrap_err().kind(), cache_core::ErrorKind::Credentials);
}

#[tokio::test]
async fn a_restart_is_an_outage_that_ends_by_itself() {
    let authority = CertificateAuthority::new();
    let mut redis = Redis::builder().tls(&authority.issue()).start();
    let tier = builder(&redis.tls_url(), &authority).connect().await.unwrap();
    redis.kill();
    until("the loss shows", async || !tier.is_connected()).await;
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), cache_core::ErrorKind::Unavailable);
    redis.restart();
    until_back(&tier).await;
    works(&tier).await;
}

#[tokio::test]
async fn a_large_value_is_whole() {
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().tls(&authority.issue()).start();
    let tier = builder(&redis.tls_url(), &authority).connect().await.unwrap();
    let (key, value) = (key(), vec![7; 3 << 20]);
    store(&tier, &key, value.clone()).await;
    assert!(tier.get(&key).await.unwrap().record.unwrap().ends_with(&value));
}

/// The roots are looked for when a tier is built, and a test must not change its own environment: it runs itself again in another.
#[tokio::test]
async fn the_platform_s_roots_are_the_default() {
    const TEST: &str = "the_platform_s_roots_are_the_default";
    const URL: &str = "TLS_TEST_URL";
    if let Ok(url) = std::env::var(URL) {
        works(&RedisTier::builder(&url).timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap()).await;
        return;
    }
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().tls(&authority.issue()).start();
    let raw = Raw::connect(&redis.url()).await;
    let file = format!("{}/authority-{}.pem", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::write(&file, authority.pem()).unwrap();
    let again = |roots: &str| {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", TEST, "--nocapture"])
            .env(URL, redis.tls_url())
            .env("SSL_CERT_FILE", roots)
            .env_remove("SSL_CERT_DIR");
        test.output().unwrap()
    };
    let trusting = again(&file);
    std::fs::write(&file, CertificateAuthority::new().pem()).unwrap();
    let doubting = again(&file);
    std::fs::remove_file(&file).unwrap();
    assert!(trusting.status.success(), "{}", String::from_utf8_lossy(&trusting.stderr));
    assert_eq!(raw.run::<u64>(&["DBSIZE"]).await, 1, "the test that ran again wrote a record");
    assert!(!doubting.status.success());
    assert!(String::from_utf8_lossy(&doubting.stderr).contains("issuer that is not trusted"));
}
