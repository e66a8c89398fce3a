//! The tier's own certificate, and what is no certificate.

use crate::common::{AMPLE, key};
use crate::{builder, works};
use cache_core::{Error, ErrorKind, RemoteTier};
use cache_redis::{RedisTier, RedisTierBuilder};
use std::fmt::Write;
use test_servers::{CertificateAuthority, Redis};

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().tls(&authority.issue()).arg("--tls-auth-clients").arg("yes").start();
    let ours = authority.issue_for("client.example");
    let tier = builder(&redis.tls_url(), &authority).tls_identity(ours.pem().as_bytes(), ours.key_pem().as_bytes());
    works(&tier.connect().await.unwrap()).await;

    let strange = CertificateAuthority::new().issue();
    let strange = builder(&redis.tls_url(), &authority).tls_identity(strange.pem().as_bytes(), strange.key_pem().as_bytes());
    for refused in [builder(&redis.tls_url(), &authority), strange] {
        // Redis says so only after the handshake, and closes: sometimes the end overtakes the reason.
        let err = refused.lazy().unwrap().get(&key()).await.unwrap_err();
        let is_told = err.kind() == ErrorKind::Config && err.to_string().contains("refused the TLS handshake");
        assert!(is_told || err.kind() == ErrorKind::Unavailable, "{err}");
    }
}

fn wrong(builder: RedisTierBuilder) -> Error {
    let err = builder.lazy().expect_err("options that cannot work");
    assert_eq!(err.kind(), ErrorKind::Config, "{err}");
    assert!(!format!("{err} {err:?}").contains("canary"), "{err:?}");
    err
}

#[test]
fn what_is_no_certificate_or_key_in_pem_is_refused_when_the_tier_is_built() {
    let authority = CertificateAuthority::new();
    let (ours, other) = (authority.issue(), authority.issue());
    let tls = || RedisTier::builder("rediss://localhost/").tls_roots(authority.pem().as_bytes());
    let block = |name: &str, body: &str| format!("-----BEGIN {name}-----\n{body}\n-----END {name}-----\n");

    for pem in ["", "canary", &block("CERTIFICATE", "canary"), &block("CERTIFICATE", "Y2FuYXJ5"), ours.key_pem()] {
        let text = wrong(RedisTier::builder("rediss://localhost/").tls_roots(pem.as_bytes())).to_string();
        assert!(text.contains("TLS roots"), "{text}");
    }
    for (certificate, key, says) in [
        ("canary", ours.key_pem(), "certificate is not in PEM"),
        (ours.pem(), "canary", "key of the TLS client certificate"),
        (ours.pem(), ours.pem(), "key of the TLS client certificate"),
        (ours.pem(), &block("PRIVATE KEY", "Y2FuYXJ5"), "belong together"),
        (ours.pem(), other.key_pem(), "belong together"),
    ] {
        let text = wrong(tls().tls_identity(certificate.as_bytes(), key.as_bytes())).to_string();
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(tls().tls_identity(ours.pem().as_bytes(), ours.key_pem().as_bytes()).lazy().is_ok());
}

#[test]
fn h4_tls_for_some_urls_or_options_of_tls_without_it_are_refused() {
    let authority = CertificateAuthority::new();
    let pem = authority.pem();
    wrong(RedisTier::builder("redis://localhost/").tls_roots(pem.as_bytes()));
    wrong(RedisTier::builder("unix:///run/redis.sock").tls_roots(pem.as_bytes()));
    wrong(RedisTier::cluster(["rediss://a/", "redis://b/"]).tls_roots(pem.as_bytes()));
    wrong(RedisTier::sentinel("cache", ["redis://a/", "rediss://b/"]).tls_roots(pem.as_bytes()));
}

#[test]
fn h3_debug_shows_no_key() {
    let authority = CertificateAuthority::new();
    let ours = authority.issue();
    let builder = RedisTier::builder("rediss://localhost/").tls_roots(authority.pem().as_bytes());
    let builder = builder.tls_identity(ours.pem().as_bytes(), ours.key_pem().as_bytes()).timeout(AMPLE);
    let mut shown = format!("{builder:?}");
    write!(shown, "{:?}", builder.lazy().unwrap()).unwrap();
    for line in ours.key_pem().lines() {
        assert!(!shown.contains(line), "{shown}");
    }
}
