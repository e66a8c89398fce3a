//! Nodes that the tier is led to: what a cluster or a Sentinel names is reached by TLS as well, and verified by the name that is given.

use crate::common::{AMPLE, Raw, key, namespace, store};
use crate::{PASSWORD, ends, works};
use cache_core::{ErrorKind, RemoteTier};
use cache_redis::{RedisTier, RedisTierBuilder};
use test_servers::{CertificateAuthority, Redis, RedisCluster};

fn ample(builder: RedisTierBuilder, authority: &CertificateAuthority) -> RedisTierBuilder {
    builder.tls_roots(authority.pem().as_bytes()).timeout(AMPLE).connect_timeout(AMPLE)
}

#[tokio::test]
async fn h4_the_nodes_of_a_cluster_are_verified_by_the_names_that_it_announces() {
    let authority = CertificateAuthority::new();
    let cluster = RedisCluster::builder().tls(&authority.issue_for("localhost")).hostname("localhost").password(PASSWORD).start();
    let seed = cluster.node(0).tls_url().replace("//", &format!("//:{PASSWORD}@"));
    let tier = ample(RedisTier::cluster([&seed]), &authority).connect().await.unwrap();
    assert!(tier.is_connected());
    let namespace = namespace();
    for id in 0..20 {
        let key = namespace.key(&id);
        store(&tier, &key, "value").await;
        assert!(tier.get(&key).await.unwrap().record.is_some());
    }
    for node in cluster.nodes().iter().take(3) {
        let raw = Raw::connect(&node.url().replace("//", &format!("//:{PASSWORD}@"))).await;
        assert_ne!(raw.run::<u64>(&["DBSIZE"]).await, 0, "every master has a share");
        let clients = raw.run::<String>(&["CLIENT", "LIST"]).await;
        let ours = clients.lines().filter(|line| line.contains("name=cachestack")).collect::<Vec<_>>();
        assert!(!ours.is_empty() && ours.iter().all(|line| line.contains(&format!(":{} ", node.tls_port()))), "{ours:?}");
        raw.run::<()>(&["CONFIG", "SET", "cluster-preferred-endpoint-type", "ip"]).await;
    }

    // The seed is `localhost` still; the nodes are addresses now, and the certificate is for none.
    let err = ample(RedisTier::cluster([&seed]), &authority).connect().await.unwrap_err();
    assert!(err.kind() == ErrorKind::Config && err.to_string().contains("another host name"), "{err}");
}

/// What a Sentinel says that has been asked, with a password, where the master is.
fn names(host: &str, port: u16) -> String {
    let port = port.to_string();
    format!("+OK\r\n*2\r\n${}\r\n{host}\r\n${}\r\n{port}\r\n", host.len(), port.len())
}

fn under(sentinel: u16, authority: &CertificateAuthority) -> RedisTierBuilder {
    ample(RedisTier::sentinel("cache", [format!("rediss://:sentinels@localhost:{sentinel}")]), authority).login(None, PASSWORD)
}

#[tokio::test]
async fn h4_sentinels_and_the_master_that_they_name_are_reached_by_tls() {
    let authority = CertificateAuthority::new();
    let redis = Redis::builder().password(PASSWORD).tls(&authority.issue()).start();
    let (sentinel, seen) = ends::tls(&authority.issue(), names("127.0.0.1", redis.tls_port())).await;
    works(&under(sentinel, &authority).connect().await.unwrap()).await;
    assert!(seen.lock().heard.contains("GET-MASTER-ADDR-BY-NAME"), "{}", seen.lock().heard);

    let (strange, seen) = ends::tls(&CertificateAuthority::new().issue(), names("127.0.0.1", redis.tls_port())).await;
    let err = under(strange, &authority).connect().await.unwrap_err();
    assert!(err.kind() == ErrorKind::Config && err.to_string().contains("issuer"), "{err}");
    assert_eq!(seen.lock().heard, "");
}

#[tokio::test]
async fn h4_neither_a_sentinel_nor_a_master_without_tls_is_told_anything() {
    let authority = CertificateAuthority::new();
    for is_sentinel in [true, false] {
        let (plain, heard) = ends::plain().await;
        let (sentinel, _) = ends::tls(&authority.issue(), names("localhost", plain)).await;
        let tier = under(if is_sentinel { plain } else { sentinel }, &authority).lazy().unwrap();
        let err = tier.get(&key()).await.unwrap_err();
        assert!(err.to_string().contains("does not speak TLS"), "{err}");
        let heard = heard.lock();
        assert_eq!(heard[..2], [0x16, 0x03], "a handshake's record");
        let text = String::from_utf8_lossy(&heard);
        assert!(!["AUTH", "sentinels", PASSWORD, "MASTER"].iter().any(|word| text.contains(word)), "{text}");
    }
}
