//! Servers that are not who they should be: nothing is told to them, calls fail at once, and it ends when they are mended.

use crate::common::{AMPLE, MARGIN, Raw, key, until, until_back};
use crate::{PASSWORD, builder, ends, traced, url, works};
use cache_core::{ErrorKind, RemoteTier};
use cache_redis::RedisTier;
use std::time::{Duration, Instant};
use test_servers::{CertificateAuthority, Redis, ServerCertificate};
use tokio_rustls::rustls::HandshakeKind;

/// What `connect` says of a server with this certificate. The server must not have heard a thing.
async fn refusal(host: &str, certificate: &ServerCertificate, authority: &CertificateAuthority) -> String {
    let (port, seen) = ends::tls(certificate, String::new()).await;
    let url = url(host, port, &format!(":{PASSWORD}"));
    let err = builder(&url, authority).connect().await.expect_err("a certificate that is not accepted");
    assert_eq!(err.kind(), ErrorKind::Config, "{err}");
    until("the server has seen the refusal", async || !seen.lock().handshakes.is_empty()).await;
    assert_eq!(seen.lock().handshakes, [None]);
    assert_eq!(seen.lock().heard, "");
    // A service that starts by `lazy` goes on without: its calls fail, and tell why.
    assert_eq!(builder(&url, authority).lazy().unwrap().get(&key()).await.unwrap_err().to_string(), err.to_string());
    let text = format!("{err} {err:?}");
    assert!(!text.contains(host) && !text.contains(PASSWORD) && !text.contains("example"), "{text}");
    text
}

#[tokio::test]
async fn h4_a_certificate_that_is_another_s_expired_or_of_an_unknown_issuer_is_refused_and_told_nothing() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    for (host, certificate, says) in [
        ("localhost", authority.issue_for("example.org"), "another host name"),
        ("127.0.0.1", authority.issue_for("localhost"), "another host name"),
        ("localhost", authority.issue_for("127.0.0.1"), "another host name"),
        ("localhost", authority.issue_expired(), "expired"),
        ("localhost", other.issue(), "issuer that is not trusted"),
    ] {
        let text = refusal(host, &certificate, &authority).await;
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[tokio::test]
async fn h4_an_issuer_of_whom_nobody_has_heard_is_refused() {
    let authority = CertificateAuthority::new();
    let (port, _) = ends::tls(&authority.issue(), String::new()).await;
    // Authorities of the tests have one name. This root has another.
    let root = CertificateAuthority::new().issue();
    let tier = RedisTier::builder(&url("localhost", port, ":x")).tls_roots(root.pem().as_bytes()).connect_timeout(AMPLE);
    let err = tier.connect().await.unwrap_err();
    assert!(err.kind() == ErrorKind::Config && err.to_string().contains("issuer that is not trusted"), "{err}");
}

#[tokio::test]
async fn h4_an_expired_certificate_fails_calls_at_once_with_one_warning_and_it_heals_when_it_is_renewed() {
    traced::collect();
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().password(PASSWORD).tls(&authority.issue()).start();
    let tier = builder(&url("localhost", redis.tls_port(), &format!(":{PASSWORD}")), &authority).connect().await.unwrap();
    let raw = Raw::connect(&format!("redis://:{PASSWORD}@127.0.0.1:{}/", redis.port())).await;

    redis.set_certificate(&authority.issue_expired());
    works(&tier).await;
    raw.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let refused = async || tier.get(&key()).await.is_err_and(|err| err.kind() == ErrorKind::Config);
    until("the refusal shows", refused).await;
    for _ in 0..100 {
        let start = Instant::now();
        let err = tier.get(&key()).await.unwrap_err();
        assert!(start.elapsed() < MARGIN, "took {:?} of {AMPLE:?}", start.elapsed());
        assert!(err.to_string().contains("expired"), "{err}");
    }
    until("it was dialed once more", async || traced::all().contains("still away")).await;
    redis.set_certificate(&authority.issue());
    until_back(&tier).await;
    works(&tier).await;

    let [lost, expired] = &traced::warnings()[..] else { panic!("{:?}", traced::warnings()) };
    assert!(lost.contains("lost") && expired.contains("has expired"), "{lost} {expired}");
    for secret in [PASSWORD, "canary", "localhost", "127.0.0.1", &redis.tls_port().to_string()] {
        assert!(!traced::all().contains(secret), "{secret} is in: {}", traced::all());
    }
}

#[tokio::test]
async fn h4_a_server_without_tls_is_told_nothing() {
    traced::collect();
    let authority = CertificateAuthority::new();
    let (port, heard) = ends::plain().await;
    let err = builder(&url("localhost", port, &format!("user:{PASSWORD}")), &authority).connect().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
    assert!(err.to_string().contains("does not speak TLS"), "{err}");
    {
        let heard = heard.lock();
        assert_eq!(heard[..2], [0x16, 0x03], "a handshake's record");
        let text = String::from_utf8_lossy(&heard);
        assert!(!["AUTH", "user", PASSWORD, "SETNAME", "TIME"].iter().any(|word| text.contains(word)), "{text}");
    }
    assert!(!traced::all().contains("canary") && !format!("{err:?}").contains("canary"));
}

#[tokio::test]
async fn h4_a_redis_without_tls_which_waits_for_more_of_the_command_is_away() {
    let authority = CertificateAuthority::new();
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let tier = builder(&url("localhost", redis.port(), &format!(":{PASSWORD}")), &authority);
    let tier = tier.connect_timeout(Duration::from_millis(300)).connect().await;
    // Redis reads up to a line's end: what it finds there is chance.
    match tier {
        Ok(tier) => {
            let err = tier.get(&key()).await.unwrap_err();
            assert!(err.kind() == ErrorKind::Unavailable && err.to_string().contains("TLS"), "{err}");
        }
        Err(err) => assert!(err.to_string().contains("does not speak TLS"), "{err}"),
    }
    assert!(!raw.run::<String>(&["INFO", "commandstats"]).await.contains("cmdstat_auth"));
}

#[tokio::test]
async fn h4_a_plain_url_is_never_tls() {
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().tls(&authority.issue()).start();
    let plain = redis.tls_url().replace("rediss", "redis");
    let tier = RedisTier::builder(&plain).timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn h4_every_dial_looks_at_the_certificate_anew() {
    let authority = CertificateAuthority::new();
    let (port, seen) = ends::tls(&authority.issue(), "-LOADING Redis is loading the dataset in memory\r\n".repeat(20)).await;
    let tier = builder(&url("localhost", port, ":x"), &authority).connect().await.unwrap();
    until("it was dialed again", async || seen.lock().handshakes.len() >= 3).await;
    drop(tier);
    assert!(seen.lock().handshakes.iter().all(|kind| matches!(kind, Some(HandshakeKind::Full))), "{:?}", seen.lock().handshakes);
}
