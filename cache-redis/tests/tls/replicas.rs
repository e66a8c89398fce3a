//! Replicas are verified as masters are, whoever names them. One that cannot prove who it is is told nothing, and the master answers.

use crate::common::{AMPLE, Raw, key, namespace, store, until};
use crate::{PASSWORD, builder, ends, traced, url};
use cache_core::{ErrorKind, RemoteKey, RemoteTier, Source};
use cache_redis::{RedisTier, ReplicaReads};
use test_servers::{CertificateAuthority, Redis, RedisCluster, ServerCertificate};

const LOGIN: &str = ":canary-5f3759df";

/// A master with a certificate that is accepted, and a replica with this one.
struct Pair {
    master: Redis,
    replica: Redis,
    /// The replica, in plain.
    raw: Raw,
    key: RemoteKey,
}

impl Pair {
    async fn start(authority: &CertificateAuthority, certificate: &ServerCertificate) -> Self {
        let master =
            Redis::builder().password(PASSWORD).tls(&authority.issue()).arg("--repl-diskless-sync-delay").arg("0").start();
        let replica = Redis::builder().password(PASSWORD).tls(certificate).arg("--masterauth").arg(PASSWORD).start();
        let raw = Raw::connect(&in_plain(&replica)).await;
        raw.run::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
        let (writer, key) = (builder(&by_tls(&master), authority).connect().await.unwrap(), key());
        store(&writer, &key, "value").await;
        let mut asks = raw.0.clone();
        until("the replica has the value", async || {
            // It may be loading still.
            redis::cmd("EXISTS").arg(key.as_bytes()).query_async::<bool>(&mut asks).await.is_ok_and(|exists| exists)
        })
        .await;
        Self { master, replica, raw, key }
    }
}

fn by_tls(server: &Redis) -> String {
    url("localhost", server.tls_port(), LOGIN)
}

fn in_plain(server: &Redis) -> String {
    server.url().replace("//", &format!("//{LOGIN}@"))
}

/// Of another host, of another time, and of another issuer; and what is said of each.
fn refused(authority: &CertificateAuthority) -> [(ServerCertificate, &'static str); 3] {
    [
        (authority.issue_for("example.org"), "another host name"),
        (authority.issue_expired(), "has expired"),
        (CertificateAuthority::new().issue(), "issuer that is not trusted"),
    ]
}

/// Waits until so many were dialed and refused for this reason.
async fn until_refused(count: usize, says: &str) {
    let refused = || traced::warnings().iter().filter(|line| line.contains(says)).count();
    until("the replica was dialed and refused", async || refused() >= count).await;
}

async fn source(tier: &RedisTier, key: &RemoteKey) -> Source {
    let fetched = tier.get(key).await.expect("the master is there");
    assert!(fetched.record.expect("both have it").ends_with(b"value"));
    fetched.from
}

/// Forgets what a server was told.
async fn forget(raw: &Raw) {
    raw.run::<()>(&["CONFIG", "RESETSTAT"]).await;
}

/// That nobody has logged in since, by TLS or in plain, or has asked for anything.
async fn is_told_nothing(raw: &Raw) {
    let stats: String = raw.run(&["INFO", "commandstats"]).await;
    for command in ["auth", "hello", "client|setname", "readonly", "role", "time", "get", "mget", "cluster|slots"] {
        assert!(!stats.contains(&format!("cmdstat_{command}:")), "{command}: {stats}");
    }
    assert!(stats.contains("cmdstat_config|resetstat:"), "that it counts at all: {stats}");
}

#[tokio::test]
async fn h4_a_listed_replica_is_read_from_only_behind_a_certificate_of_its_own() {
    traced::collect();
    let authority = CertificateAuthority::new();
    for (certificate, says) in refused(&authority) {
        let pair = Pair::start(&authority, &certificate).await;
        let build = || builder(&by_tls(&pair.master), &authority).replicas([pair.replica.tls_url()]);
        let build = || build().read_from_replicas(ReplicaReads::Preferred);
        forget(&pair.raw).await;
        assert_eq!(build().connect().await.unwrap_err().kind(), ErrorKind::Config, "whoever starts it can mend it");
        let tier = build().lazy().unwrap();
        assert_eq!(source(&tier, &pair.key).await, Source::Master);
        // By whoever failed to start, and by this one.
        until_refused(2, says).await;
        refuses_then_reads(&tier, &pair, &authority).await;
    }
}

/// Reads from the master, and tells the replica nothing, until it has a certificate that is accepted.
async fn refuses_then_reads(tier: &RedisTier, pair: &Pair, authority: &CertificateAuthority) {
    for _ in 0..20 {
        assert_eq!(source(tier, &pair.key).await, Source::Master);
    }
    is_told_nothing(&pair.raw).await;
    pair.replica.set_certificate(&authority.issue());
    until("the replica is read", async || source(tier, &pair.key).await == Source::Replica).await;
    let clients: String = pair.raw.run(&["CLIENT", "LIST"]).await;
    let ours: Vec<_> = clients.lines().filter(|line| line.contains("name=cachestack")).collect();
    let by_tls = format!("laddr=127.0.0.1:{} ", pair.replica.tls_port());
    assert!(!ours.is_empty() && ours.iter().all(|line| line.contains(&by_tls)), "{clients}");
}

#[tokio::test]
async fn h4_a_listed_replica_without_tls_is_told_nothing() {
    let authority = CertificateAuthority::new();
    let pair = Pair::start(&authority, &authority.issue()).await;
    let (port, heard) = ends::plain().await;
    let build = |replica: String| {
        builder(&by_tls(&pair.master), &authority).replicas([replica]).read_from_replicas(ReplicaReads::Preferred).lazy()
    };
    let tier = build(format!("rediss://localhost:{port}")).unwrap();
    assert_eq!(source(&tier, &pair.key).await, Source::Master);
    until("it was dialed", async || heard.lock().len() > 2).await;
    assert_eq!(source(&tier, &pair.key).await, Source::Master);
    let heard = heard.lock();
    assert_eq!(heard[..2], [0x16, 0x03], "a handshake's record");
    let text = String::from_utf8_lossy(&heard);
    assert!(!["AUTH", "canary", "ROLE", "READONLY"].iter().any(|word| text.contains(word)), "{text}");
    assert_eq!(build(pair.replica.url()).unwrap_err().kind(), ErrorKind::Config, "and none is asked in plain");
}

#[tokio::test]
async fn h4_the_replica_that_sentinels_name_is_read_from_only_behind_a_certificate_of_its_own() {
    traced::collect();
    let authority = CertificateAuthority::new();
    for (certificate, says) in refused(&authority) {
        let pair = Pair::start(&authority, &certificate).await;
        let bulks =
            |words: &[&str]| words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect::<Vec<_>>().concat();
        let [master, replica] = [&pair.master, &pair.replica].map(|server| server.tls_port().to_string());
        let master = format!("*2\r\n{}", bulks(&["127.0.0.1", &master]));
        let named = ["ip", "127.0.0.1", "port", &replica, "flags", "slave", "master-link-status", "ok"];
        let replicas = format!("*1\r\n*8\r\n{}", bulks(&named));
        let answer = move |asked: &str| if asked.contains("REPLICAS") { replicas.clone() } else { master.clone() };
        let (sentinel, seen) = ends::answering(&authority.issue(), answer).await;
        forget(&pair.raw).await;
        let tier = RedisTier::sentinel("cache", [format!("rediss://localhost:{sentinel}")]).login(None, PASSWORD);
        let tier = tier.tls_roots(authority.pem().as_bytes()).timeout(AMPLE).connect_timeout(AMPLE);
        let tier = tier.read_from_replicas(ReplicaReads::Preferred).lazy().unwrap();
        assert_eq!(source(&tier, &pair.key).await, Source::Master);
        until_refused(1, says).await;
        refuses_then_reads(&tier, &pair, &authority).await;
        assert!(seen.lock().heard.contains("REPLICAS"), "{}", seen.lock().heard);
    }
}

#[tokio::test]
async fn h4_the_replicas_on_a_cluster_s_map_are_read_from_only_behind_certificates_of_their_own() {
    traced::collect();
    let authority = CertificateAuthority::new();
    let cluster = RedisCluster::builder().tls(&authority.issue()).hostname("localhost").password(PASSWORD).start();
    let seed = by_tls(cluster.node(0));
    let build = || RedisTier::cluster([&seed]).tls_roots(authority.pem().as_bytes()).timeout(AMPLE).connect_timeout(AMPLE);
    let (writer, namespace) = (build().connect().await.unwrap(), namespace());
    let keys: Vec<_> = (0..30_u64).map(|id| namespace.key(&id)).collect();
    for key in &keys {
        store(&writer, key, "value").await;
    }
    let mut replicas = Vec::new();
    for master in 0..3 {
        let replica = cluster.replica_of(master).expect("each has one");
        replicas.push((cluster.node(replica), Raw::connect(&in_plain(cluster.node(replica))).await));
    }
    for (certificate, says) in refused(&authority) {
        for (replica, raw) in &replicas {
            replica.set_certificate(&certificate);
            forget(raw).await;
        }
        let tier = build().read_from_replicas(ReplicaReads::Preferred).lazy().unwrap();
        assert_eq!(source(&tier, &keys[0]).await, Source::Master);
        until_refused(replicas.len(), says).await;
        for key in &keys {
            assert_eq!(source(&tier, key).await, Source::Master);
        }
        for (replica, raw) in &replicas {
            is_told_nothing(raw).await;
            replica.set_certificate(&authority.issue());
        }
        for key in &keys {
            until("its replica is read", async || source(&tier, key).await == Source::Replica).await;
        }
        tier.close().await;
    }
}
