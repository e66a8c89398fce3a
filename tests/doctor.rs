//! The doctor: what it says of set-ups that are well, and of those that are not.
#![cfg(feature = "redis")]

mod support {
    mod odd;
    pub(crate) use odd::{Odd, Oddity};
}

use cachestack::testing::{Chaos, ChaosTier, Messages};
use cachestack::{
    Diagnosis, EmbeddedTier, Key, KeyParts, ManualClock, MemoryTier, Namespace, Partition, RedisTier, RemoteTier, Severity,
    TieredCache, Ttl,
};
use std::time::{Duration, Instant};
use support::{Odd, Oddity};
use test_servers::{Redis, RedisCluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Cache = TieredCache<u64, u64>;

const AMPLE: Duration = Duration::from_secs(5);

fn over(tier: impl RemoteTier) -> Cache {
    Cache::builder("t").l1(MemoryTier::new(100)).l2(tier).build().unwrap()
}

async fn redis(url: &str) -> RedisTier {
    RedisTier::builder(url).timeout(AMPLE).connect().await.unwrap()
}

/// The texts of what matters this much, about this.
fn texts(diagnosis: &Diagnosis, severity: Severity, about: &str) -> Vec<String> {
    let found = diagnosis.findings().iter().filter(|finding| finding.severity == severity && finding.about == about);
    found.map(|finding| finding.text.clone()).collect()
}

fn says(diagnosis: &Diagnosis, severity: Severity, about: &str, words: &str) {
    let texts = texts(diagnosis, severity, about);
    assert!(texts.iter().any(|text| text.contains(words)), "{diagnosis}");
}

/// Asks until it says so: servers take their own time.
async fn until_it_says(cache: &Cache, severity: Severity, about: &str, words: &str) -> Diagnosis {
    let began = Instant::now();
    loop {
        let diagnosis = cache.doctor().await;
        if texts(&diagnosis, severity, about).iter().any(|text| text.contains(words)) {
            return diagnosis;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{words}? {diagnosis}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs a command that is written as one would type it.
async fn run(redis: &Redis, command: &str) {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        cmd.arg(word);
    });
    cmd.exec_async(&mut connection).await.unwrap();
}

async fn set(redis: &Redis, option: &str, value: &str) {
    run(redis, &format!("CONFIG SET {option} {value}")).await;
}

#[tokio::test]
async fn a_redis_that_is_well_is_said_to_be_and_nothing_stays_behind_in_l1() {
    let server = Redis::start();
    set(&server, "maxmemory", "100mb").await;
    set(&server, "maxmemory-policy", "volatile-lru").await;
    let cache = over(redis(&server.url()).await);
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    for (about, words) in [
        ("L2", "written and read back"),
        ("messages", "published and received"),
        ("bound", "verified"),
        ("memory", "spares"),
        ("nodes", "one version"),
        ("clock", "apart"),
    ] {
        says(&diagnosis, Severity::Fine, about, words);
    }
    says(&diagnosis, Severity::Note, "replicas", "none");
    assert_eq!(cache.stats().l1.entries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_well_is_said_to_be_and_one_with_a_gap_or_a_server_away_is_not() {
    let mut cluster = tokio::task::block_in_place(|| RedisCluster::builder().partial_coverage().start());
    let urls: Vec<_> = cluster.nodes().iter().map(Redis::url).collect();
    let cache = over(RedisTier::cluster(&urls).timeout(AMPLE).connect().await.unwrap());
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    says(&diagnosis, Severity::Fine, "cluster", "3 masters");
    says(&diagnosis, Severity::Note, "replicas", "min-replicas-to-write");
    says(&diagnosis, Severity::Fine, "L2", "on 3 of 3 servers");
    says(&diagnosis, Severity::Fine, "messages", "on 3 of 3 servers");
    for node in cluster.nodes() {
        run(node, "CLUSTER DELSLOTSRANGE 0 2000").await;
    }
    let diagnosis = until_it_says(&cache, Severity::Fault, "cluster", "in slots that no node has").await;
    says(&diagnosis, Severity::Fine, "L2", "on 3 of 3 servers");
    assert_eq!(texts(&diagnosis, Severity::Fine, "cluster"), [""; 0], "{diagnosis}");
    let owner = cluster.master_of(16_000);
    let replica = cluster.replica_of(owner).unwrap();
    tokio::task::block_in_place(|| [owner, replica].map(|node| cluster.node_mut(node).kill()));
    let diagnosis = until_it_says(&cache, Severity::Fault, "L2", "on 1 of 3 servers").await;
    says(&diagnosis, Severity::Fine, "L2", "on 2 of 3 servers");
    says(&diagnosis, Severity::Fine, "messages", "published and received");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_writes_need_are_fine_until_they_lag_or_are_gone() {
    let server = Redis::start();
    set(&server, "repl-diskless-sync-delay", "0").await;
    let port = server.port().to_string();
    let mut replica = Redis::builder().arg("--replicaof").arg("127.0.0.1").arg(port).start();
    let cache = over(redis(&server.url()).await);
    until_it_says(&cache, Severity::Note, "replicas", "min-replicas-to-write is not set").await;
    set(&server, "min-replicas-to-write", "1").await;
    let diagnosis = until_it_says(&cache, Severity::Fine, "replicas", "1, and writes need them").await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    replica.pause();
    until_it_says(&cache, Severity::Warning, "replicas", "one lags").await;
    replica.resume();
    replica.kill();
    until_it_says(&cache, Severity::Fault, "replicas", "refuses all writes").await;
}

#[tokio::test]
async fn a_strict_cache_is_told_to_take_noeviction_and_no_other_policy() {
    let server = Redis::start();
    set(&server, "maxmemory", "100mb").await;
    let cache = Cache::builder("t").l1(MemoryTier::new(100)).l2(redis(&server.url()).await).strict().build().unwrap();
    for policy in ["allkeys-lru", "volatile-lru"] {
        set(&server, "maxmemory-policy", policy).await;
        says(&cache.doctor().await, Severity::Warning, "memory", "marks of strict writes");
    }
    set(&server, "maxmemory-policy", "noeviction").await;
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    says(&diagnosis, Severity::Note, "memory", "as strict writes need it");
}

#[tokio::test]
async fn keys_that_count_invalidations_and_end_or_hold_something_else_are_told() {
    let server = Redis::start();
    let cache = over(redis(&server.url()).await);
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well() && diagnosis.findings().iter().all(|finding| finding.about != "sequences"), "{diagnosis}");
    let meta = |partition| format!("cs{{{}}}:!m", Partition::from_index(partition).tag());
    for partition in [3, 4] {
        run(&server, &format!("EXPIRE {} 1000", meta(partition))).await;
    }
    run(&server, &format!("SET {} junk", meta(5))).await;
    for partition in [6, 7] {
        run(&server, &format!("DEL {}", meta(partition))).await;
        run(&server, &format!("LPUSH {} junk", meta(partition))).await;
    }
    let diagnosis = cache.doctor().await;
    says(&diagnosis, Severity::Warning, "sequences", "2 of 256 keys that count invalidations have a TTL");
    says(&diagnosis, Severity::Fault, "sequences", "3 of 256 keys that count invalidations hold something else");
}

#[tokio::test]
async fn another_deployment_of_another_version_on_the_same_redis_is_no_warning() {
    let server = Redis::start();
    let cache = over(redis(&server.url()).await);
    assert!(cache.doctor().await.is_well());
    let mut other = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    other.write_all(b"CLIENT SETNAME cachestack-9.9.9\r\nSUBSCRIBE other\r\n").await.unwrap();
    let mut replies = Vec::new();
    while !replies.ends_with(b":1\r\n") {
        assert_ne!(other.read_buf(&mut replies).await.unwrap(), 0);
    }
    let diagnosis = cache.doctor().await;
    assert!(diagnosis.is_well(), "{diagnosis}");
    says(&diagnosis, Severity::Note, "nodes", "other deployments', of versions");
    says(&diagnosis, Severity::Note, "nodes", "9.9.9");
}

#[tokio::test]
async fn a_server_that_tells_nothing_of_itself_is_a_warning() {
    let server = Redis::start();
    run(&server, "ACL SETUSER service reset on >pw ~* &* +@all -info").await;
    let cache = over(redis(&server.url().replace("redis://", "redis://service:pw@")).await);
    says(&cache.doctor().await, Severity::Warning, "server", "it tells nothing of itself");
}

#[tokio::test]
async fn policies_that_evict_what_counts_invalidations_or_nothing_are_warned_of() {
    let server = Redis::start();
    let cache = over(redis(&server.url()).await);
    set(&server, "maxmemory", "100mb").await;
    for (policy, words) in [("allkeys-lru", "may evict the keys that count"), ("noeviction", "nothing new is stored")] {
        set(&server, "maxmemory-policy", policy).await;
        says(&cache.doctor().await, Severity::Warning, "memory", words);
    }
    set(&server, "maxmemory", "0").await;
    says(&cache.doctor().await, Severity::Note, "memory", "maxmemory is not set");
}

#[tokio::test]
async fn a_user_without_channels_is_told_what_is_missing() {
    let server = Redis::start();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let rules = ["reset", "on", ">pw", "~*", "+@all", "resetchannels", "-client|list"];
    redis::cmd("ACL").arg("SETUSER").arg("service").arg(&rules[..]).exec_async(&mut connection).await.unwrap();
    let cache = over(redis(&server.url().replace("redis://", "redis://service:pw@")).await);
    let diagnosis = cache.doctor().await;
    says(&diagnosis, Severity::Fault, "messages", "nobody can listen");
    says(&diagnosis, Severity::Fault, "bound", "256 of 256 partitions");
    says(&diagnosis, Severity::Note, "nodes", "CLIENT LIST");
    assert!(!diagnosis.to_string().contains("service") && !diagnosis.to_string().contains("pw"), "{diagnosis}");
}

#[tokio::test]
async fn messages_that_are_lost_and_a_store_that_is_away_are_faults() {
    let tier = ChaosTier::new(EmbeddedTier::new());
    let cache = over(tier.clone());
    assert!(cache.doctor().await.is_well());
    tier.set_messages(Messages::Lost);
    says(&cache.doctor().await, Severity::Fault, "messages", "does not come");
    tier.set(Chaos::Down);
    let diagnosis = cache.doctor().await;
    says(&diagnosis, Severity::Fault, "L2", "cannot be written");
    assert_eq!(diagnosis.findings()[0].severity, Severity::Fault, "the worst comes first");
}

/// Time stands still but for sleeping, so that what is slow is so by itself.
#[tokio::test(start_paused = true)]
async fn what_a_store_does_wrong_is_told_in_words() {
    for (oddity, severity, about, words) in [
        (Oddity::None, Severity::Fine, "L2", "written and read back"),
        (Oddity::SlowReads, Severity::Warning, "L2", "each miss of L1 waits for that"),
        (Oddity::LosesLeases, Severity::Fault, "L2", "not honoured (LeaseLost)"),
        (Oddity::ChangesBytes, Severity::Fault, "L2", "something between here and L2 changes bytes"),
        (Oddity::Forgets, Severity::Fault, "L2", "what was just stored is not there"),
        (Oddity::TellsTimeNoMore, Severity::Warning, "clock", "did not tell its time"),
        (Oddity::None, Severity::Fine, "messages", "published and received"),
        (Oddity::SlowMessages, Severity::Warning, "messages", "other nodes' L1 is older by that"),
        (Oddity::NoMemoryToTell, Severity::Fault, "messages", "no memory to tell"),
        (Oddity::LeavesRecords, Severity::Fault, "messages", "leaves the record as it was"),
    ] {
        let diagnosis = over(Odd::new(oddity)).doctor().await;
        says(&diagnosis, severity, about, words);
    }
}

#[tokio::test]
async fn clocks_that_are_apart_are_warned_of() {
    let hands = ManualClock::new();
    let store = EmbeddedTier::new().clock(hands.clock());
    let together = Cache::builder("t").l2(store.as_another_node()).clock(hands.clock()).build().unwrap();
    says(&together.doctor().await, Severity::Fine, "clock", "apart");
    let other = ManualClock::new();
    other.advance(Duration::from_secs(3));
    let apart = Cache::builder("t").l2(store).clock(other.clock()).build().unwrap();
    says(&apart.doctor().await, Severity::Warning, "clock", "NTP");
}

#[tokio::test]
async fn keys_that_l2_has_to_be_told_of_are_counted() {
    let tier = ChaosTier::new(EmbeddedTier::new());
    let cache = over(tier.clone());
    tier.set(Chaos::DownFor(Namespace::new("cs", "t").unwrap().key(&1_u64).partition()));
    cache.invalidate(&1).await.unwrap_err();
    says(&cache.doctor().await, Severity::Warning, "owed", "1 keys were invalidated here while L2 could not be told");
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Unreadable(u64);

impl Key for Unreadable {
    fn write(&self, parts: &mut KeyParts) {
        self.0.write(parts);
    }
}

#[tokio::test]
async fn a_checker_that_looks_at_nothing_is_warned_of() {
    let alone = Cache::builder("t").l1(MemoryTier::new(10)).l2(EmbeddedTier::new()).checked(1).incoherent().build().unwrap();
    says(&alone.doctor().await, Severity::Warning, "options", "checked does nothing: this cache is incoherent");
    let bound = cachestack::Coherence::new().bound(Duration::from_millis(300));
    let builder = TieredCache::<Unreadable, u64>::builder("t").l1(MemoryTier::new(10)).l2(EmbeddedTier::new()).coherence(bound);
    let unreadable = builder.checked(1).build().unwrap();
    assert!(unreadable.doctor().await.is_well());
    unreadable.invalidate(&Unreadable(1)).await.unwrap();
    let began = Instant::now();
    while unreadable.doctor().await.is_well() {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing was said");
    }
    says(&unreadable.doctor().await, Severity::Warning, "options", "give their type a Key::read");
}

#[tokio::test]
async fn options_of_a_tier_that_is_not_there_are_warned_of() {
    let without_l2 = || Cache::builder("t").l1(MemoryTier::new(10));
    for (builder, option) in [
        (without_l2().schema(2), "schema"),
        (without_l2().lease(Duration::from_secs(3)), "lease"),
        (without_l2().max_value_bytes(99), "max_value_bytes"),
        #[cfg(feature = "lz4")]
        (without_l2().compression(cachestack::Compression::lz4()), "compression"),
    ] {
        says(
            &builder.build().unwrap().doctor().await,
            Severity::Warning,
            "options",
            &format!("{option} does nothing: there is no L2"),
        );
    }
    let usual = without_l2().build().unwrap().doctor().await;
    assert!(usual.is_well(), "{usual}");
    let idle = Ttl::minutes(9).time_to_idle(Duration::from_secs(60));
    let without_l1 = Cache::builder("t").l2(EmbeddedTier::new()).ttl(idle).build().unwrap();
    says(&without_l1.doctor().await, Severity::Warning, "options", "time_to_idle does nothing: there is no L1");
}

#[tokio::test]
async fn options_that_do_nothing_are_warned_of() {
    let minute = Duration::from_secs(60);
    for (ttl, words) in [
        (Ttl::seconds(9).l1_at_most(minute), "l1_at_most does nothing: values"),
        (Ttl::seconds(9).time_to_idle(minute), "time_to_idle does nothing: values"),
        (Ttl::seconds(9).stale_for(minute), "without an origin"),
        (Ttl::seconds(9).stale_if_error(minute), "stale_if_error does nothing for `get`"),
    ] {
        let cache = Cache::builder("t").l1(MemoryTier::new(10)).l2(EmbeddedTier::new()).ttl(ttl).build().unwrap();
        says(&cache.doctor().await, Severity::Warning, "options", words);
    }
    let without_l1 = Cache::builder("t").l2(EmbeddedTier::new()).ttl(Ttl::minutes(9).l1_at_most(minute)).build().unwrap();
    says(&without_l1.doctor().await, Severity::Warning, "options", "there is no L1");
    let without_l2 = Cache::builder("t").l1(MemoryTier::new(10)).versioned(|row| *row).build().unwrap();
    let diagnosis = without_l2.doctor().await;
    says(&diagnosis, Severity::Warning, "options", "versioned does nothing");
    says(&diagnosis, Severity::Note, "L2", "there is none");
    let alone = Cache::builder("t").l1(MemoryTier::new(10)).l2(EmbeddedTier::new()).incoherent().build().unwrap();
    says(&alone.doctor().await, Severity::Note, "coherence", "does not follow other nodes");
}
