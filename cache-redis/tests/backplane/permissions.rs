//! Users who may not do all of it: what is not heard is not relied on, and it is said what is missing.

use crate::common::relay::Relay;
use crate::common::{AMPLE, HOUR, Raw, invalidation, until};
use crate::ears::{Ears, all, alone, notice, poll};
use cache_core::{ErrorKind, Invalidated, RemoteTier};
use cache_redis::RedisTier;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_servers::Redis;
use tracing::subscriber::set_default;

/// What is traced on this thread from now on.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test ends in here").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn warnings(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.0.lock().expect("no test ends in here")).into_owned();
        text.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect()
    }
}

fn log() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    (log, set_default(subscriber))
}

async fn as_user(redis: &Redis, rules: &[&str]) -> RedisTier {
    let raw = Raw::connect(&redis.url()).await;
    raw.run::<()>(&[&["ACL", "SETUSER", "service", "reset", "on", ">pw"], rules].concat()).await;
    let url = redis.url().replace("redis://", "redis://service:pw@");
    RedisTier::builder(&url).timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap()
}

#[tokio::test]
async fn d5_a_user_without_the_channels_is_never_said_to_listen_and_what_to_grant_is_said_once() {
    for lacks in [&["~*", "+@all", "resetchannels"][..], &["~*", "&*", "+@all", "-subscribe"], &["~*", "&*", "+@all", "-publish"]]
    {
        let redis = Redis::start();
        let (log, _guard) = log();
        let tier = as_user(&redis, lacks).await;
        let namespace = alone();
        let (ears, _listening) = Ears::begin(&tier, namespace.prefix());
        until("it is said", async || !log.warnings().is_empty()).await;
        // It is tried again, and not said again.
        let raw = Raw::connect(&redis.url()).await;
        let before: u64 = connections(&raw).await;
        until("it is tried again", async || connections(&raw).await > before).await;
        let warnings = log.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("grant SUBSCRIBE") && warnings[0].contains("{*}:!*"), "{warnings:?}");
        assert!(!warnings[0].contains("service"), "{warnings:?}");
        assert!(ears.state().listening.is_empty() && ears.state().losses.is_empty());

        // L2 is invalidated nonetheless, and the sequences tell others that something was.
        let before = poll(&tier, namespace.prefix()).await;
        let key = namespace.key(&1);
        let told = tier.invalidate(&[invalidation(&key)], HOUR, Some(&notice(&namespace))).await.unwrap();
        assert_eq!((told.outcome, told.receipts[0].sequence), (vec![Invalidated::Tombstoned], 1));
        let place = usize::from(key.partition().index());
        assert_eq!(poll(&tier, namespace.prefix()).await[place].sequence, before[place].sequence + 1);

        raw.run::<()>(&["ACL", "SETUSER", "service", "+@all", "resetchannels", &format!("&{}{{*}}:!*", namespace.prefix())])
            .await;
        ears.until_all().await;
        ears.nothing_but(&tier, &namespace, &key).await;
    }
}

#[tokio::test]
async fn d5_where_nothing_that_is_published_comes_back_nothing_is_said_to_listen_and_that_is_said() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port()).await;
    relay.swallow(&["PUBLISH"]);
    let (log, _guard) = log();
    let tier =
        RedisTier::builder(&relay.url()).timeout(Duration::from_millis(300)).connect_timeout(AMPLE).connect().await.unwrap();
    let namespace = alone();
    let (ears, _listening) = Ears::begin(&tier, namespace.prefix());
    until("it is said", async || log.warnings().iter().any(|warning| warning.contains("does not come back"))).await;
    assert!(ears.state().listening.is_empty());
    relay.refuse(&[], "");
    ears.until_all().await;
}

async fn connections(raw: &Raw) -> u64 {
    let stats: String = raw.run(&["INFO", "stats"]).await;
    let count = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.and_then(|count| count.trim().parse().ok()).expect("a number")
}

/// Without INFO nobody can tell a server from its successor.
#[tokio::test]
async fn a_user_who_may_not_ask_who_the_server_is_tells_nobody_and_is_told_so() {
    let redis = Redis::start();
    let (log, _guard) = log();
    let tier = as_user(&redis, &["~*", "&*", "+@all", "-info"]).await;
    let namespace = alone();
    let (ears, _listening) = Ears::begin(&tier, namespace.prefix());
    until("it is said", async || !log.warnings().is_empty()).await;
    assert!(log.warnings()[0].contains("INFO"), "{:?}", log.warnings());
    assert!(ears.state().listening.is_empty());
    for meta in tier.poll(namespace.prefix(), &all()).await.unwrap() {
        assert_eq!(meta.unwrap_err().kind(), ErrorKind::Credentials);
    }
    let key = namespace.key(&1);
    crate::common::store_version(&tier, &key, "x", 1).await;
    let err = tier.invalidate(&[invalidation(&key)], HOUR, Some(&notice(&namespace))).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Credentials);
    // Nobody is told, but the value is gone.
    let record = tier.get(&key).await.unwrap().record.expect("a tombstone");
    assert_eq!(record[1], b'T');
    // Nobody else is told: as before there was anybody to tell.
    assert_eq!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.unwrap().outcome, [Invalidated::Tombstoned]);
}

/// The user that the crate's documentation describes, and no more.
#[tokio::test]
async fn the_permissions_that_are_documented_are_enough() {
    let redis = Redis::start();
    let namespace = alone();
    let (keys, channels) = (format!("~{}{{*}}:*", namespace.prefix()), format!("&{}{{*}}:!*", namespace.prefix()));
    let rules = "+time +get +mget +scan +script|load +evalsha +getrange +setrange +set +pttl +pexpiretime +del +unlink +info +mset \
        +publish +subscribe +ping";
    let rules: Vec<_> = [&keys[..], &channels].into_iter().chain(rules.split_whitespace()).collect();
    let tier = as_user(&redis, &rules).await;
    let (ears, _listening) = Ears::on(&tier, namespace.prefix()).await;
    poll(&tier, namespace.prefix()).await;
    let key = namespace.key(&1);
    crate::common::store(&tier, &key, "x").await;
    ears.nothing_but(&tier, &namespace, &key).await;
    assert_eq!(tier.clear(&namespace, HOUR, Some(&notice(&namespace))).await.unwrap().receipts.len(), 256);
}
