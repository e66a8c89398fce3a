//! Several nodes over a real Redis and a real cluster of six: the promise, with servers that are really killed. What needs a clock moved by hand is in
//! `coherence/`; here the bound is a real one, and short.
#![cfg(feature = "redis")]

use cachestack::testing::{ChaosTier, Messages};
use cachestack::{Coherence, ErrorKind, Freshness, MemoryTier, Namespace, RedisTier, RemoteTier, Tier, TieredCache, Ttl};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis, RedisCluster};

type Cache = TieredCache<u64, u64>;

const BOUND: Duration = Duration::from_millis(600);
/// Keys of all partitions, more or less.
const KEYS: std::ops::Range<u64> = 0..120;

/// A database, and the nodes' way to their store.
#[derive(Clone)]
struct World {
    urls: Vec<String>,
    is_cluster: bool,
    tracks: bool,
    rows: Arc<Mutex<HashMap<u64, u64>>>,
    queries: Arc<AtomicU64>,
}

/// A process.
struct Node {
    l2: ChaosTier<RedisTier>,
    cache: Cache,
}

impl World {
    fn over(urls: Vec<String>, is_cluster: bool) -> Self {
        Self { urls, is_cluster, tracks: false, rows: Arc::default(), queries: Arc::default() }
    }

    fn one(redis: &Redis) -> Self {
        Self::over(vec![redis.url()], false)
    }

    fn cluster(cluster: &RedisCluster) -> Self {
        Self::over(cluster.nodes().iter().map(Redis::url).collect(), true)
    }

    async fn tier(&self) -> RedisTier {
        let builder = if self.is_cluster { RedisTier::cluster(&self.urls) } else { RedisTier::builder(&self.urls[0]) };
        let builder = builder.timeout(Duration::from_millis(300));
        if self.tracks { builder.tracking() } else { builder }.connect().await.unwrap()
    }

    async fn node(&self) -> Node {
        let node = self.node_on(self.tier().await);
        assert!(node.cache.ready(Duration::from_secs(5)).await, "{:?}", node.cache.stats());
        node
    }

    fn node_on(&self, tier: RedisTier) -> Node {
        let (rows, queries) = (self.rows.clone(), self.queries.clone());
        let load = move |key: u64| {
            queries.fetch_add(1, Ordering::SeqCst);
            let row = rows.lock().unwrap().get(&key).copied().unwrap_or(0);
            async move { Ok::<_, io::Error>(row) }
        };
        let l2 = ChaosTier::new(tier);
        let builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2.clone()).ttl(Ttl::minutes(60));
        let cache = builder.coherence(Coherence::new().bound(BOUND)).origin(load).build().unwrap();
        Node { l2, cache }
    }

    fn commit(&self, key: u64, row: u64) {
        self.rows.lock().unwrap().insert(key, row);
    }
}

impl Node {
    async fn read(&self, key: u64) -> u64 {
        self.cache.load(&key).await.unwrap()
    }
}

/// Waits for a server's time, or a message's.
async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn messages_remove_what_another_node_has_invalidated(world: World) {
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
        world.commit(key, 7);
    }
    for key in KEYS {
        a.cache.invalidate(&key).await.unwrap();
    }
    for key in KEYS {
        eventually("the message has come", async || b.cache.get_local(&key) != Some(0)).await;
        assert_eq!((b.read(key).await, a.read(key).await), (7, 7));
    }
    assert_eq!(b.l2.messages(), KEYS.end, "one each, and none for reads and fills");
    a.cache.clear().await.unwrap();
    eventually("the clear has come", async || KEYS.clone().all(|key| b.cache.get_local(&key).is_none())).await;
}

async fn with_every_message_lost_no_hit_is_older_than_the_bound(world: World) {
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::Lost);
    for round in 1..=3 {
        for key in KEYS {
            b.read(key).await;
            world.commit(key, round);
        }
        let mut told = Vec::new();
        for key in KEYS {
            a.cache.invalidate(&key).await.unwrap();
            told.push((key, Instant::now()));
        }
        // Read all the time, by all ways: the bound holds for each read begun later than that.
        while told.last().is_some_and(|(_, told)| told.elapsed() < BOUND * 2) {
            for (key, told) in &told {
                let late = told.elapsed() > BOUND;
                let read = b.cache.get_local(key).unwrap_or(round);
                assert!(!late || read == round, "{read} of {round}, {:?} later", told.elapsed());
                let late = told.elapsed() > BOUND;
                let read = b.read(*key).await;
                assert!(!late || read == round, "{read} of {round}, {:?} later", told.elapsed());
            }
        }
    }
    assert!(b.cache.stats().coherence.suspicions > 0);
}

async fn what_was_missed_costs_the_database_no_herd(world: World) {
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
    }
    b.l2.set_messages(Messages::Lost);
    for key in KEYS {
        // Keys that nobody reads, of all partitions.
        a.cache.invalidate(&(key + 10_000)).await.unwrap();
    }
    let suspicions = b.cache.stats().coherence.suspicions;
    eventually("the loss is known", async || b.cache.stats().coherence.suspicions > suspicions + 80).await;
    tokio::time::sleep(BOUND).await;
    let queries = world.queries.load(Ordering::SeqCst);
    for key in KEYS {
        b.read(key).await;
    }
    assert_eq!(world.queries.load(Ordering::SeqCst), queries, "L2 was asked");
}

async fn a_read_given_a_write_is_no_older_on_any_node(world: World) {
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::Lost);
    for key in KEYS {
        b.read(key).await;
        world.commit(key, 7);
        let token = a.cache.invalidate(&key).await.unwrap().to_string().parse().unwrap();
        assert_eq!(b.cache.load_after(&key, &token).await.unwrap().value, 7);
    }
}

async fn messages_late_thrice_and_in_reverse_do_no_harm(world: World) {
    let (a, b) = (world.node().await, world.node().await);
    b.l2.set_messages(Messages::HeldAndJumbled);
    for row in 1..=100 {
        world.commit(1, row);
        a.cache.invalidate(&1).await.unwrap();
        a.read(1).await;
    }
    b.l2.set_messages(Messages::Delivered);
    world.commit(1, 1_000);
    a.cache.invalidate(&1).await.unwrap();
    eventually("all have come", async || b.l2.messages() == 101).await;
    assert_eq!((b.read(1).await, a.read(1).await), (1_000, 1_000));
}

async fn what_a_foreign_program_removes_no_node_serves_for_long(world: World) {
    let world = World { tracks: true, ..world };
    let (a, b) = (world.node().await, world.node().await);
    let redis = Foreign::new(&world);
    for key in KEYS {
        // The second read is the one that L1 keeps, if what the store says of the first one's lease and fill has come by then.
        eventually("both have it", async || {
            a.read(key).await;
            b.read(key).await;
            a.cache.get_local(&key).is_some() && b.cache.get_local(&key).is_some()
        })
        .await;
    }
    for key in KEYS {
        world.commit(key, 7);
        redis.remove(key).await;
    }
    for key in KEYS {
        eventually("it is followed", async || a.cache.get_local(&key) != Some(0) && b.cache.get_local(&key) != Some(0)).await;
        assert_eq!((a.read(key).await, b.read(key).await), (7, 7));
    }
    // What nodes tell each other stays as it is.
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 9);
    a.cache.invalidate(&1).await.unwrap();
    tokio::time::sleep(BOUND).await;
    assert_eq!(b.read(1).await, 9);
}

/// A program that knows nothing of caches.
struct Foreign(Vec<redis::Client>);

impl Foreign {
    fn new(world: &World) -> Self {
        Self(world.urls.iter().map(|url| redis::Client::open(url.as_str()).unwrap()).collect())
    }

    async fn remove(&self, key: u64) {
        let key = Namespace::new("cs", "t").unwrap().key(&key);
        let mut removed = 0;
        for client in &self.0 {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let del: redis::RedisResult<u32> = redis::cmd("DEL").arg(key.as_bytes()).query_async(&mut connection).await;
            removed += del.unwrap_or(0);
        }
        assert_eq!(removed, 1);
    }
}

async fn a_killed_nodes_reader_is_told_by_the_next(world: World) {
    // A node that goes away in the middle of its writes leaves no key that others could not follow.
    let (a, b) = (world.node().await, world.node().await);
    b.read(1).await;
    world.commit(1, 7);
    let writer = a.cache.clone();
    drop(tokio::spawn(async move { writer.invalidate(&1).await }));
    drop(a);
    eventually("it is followed", async || b.read(1).await == 7).await;
}

macro_rules! on_both {
    ($($name:ident: $scenario:ident;)+) => {
        mod one_node {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let redis = super::Redis::start();
                    super::$scenario(super::World::one(&redis)).await;
                }
            )+
        }

        /// On one cluster, one after the other: it takes seconds to start.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_of_them_on_a_cluster_of_six() {
            let cluster = tokio::task::block_in_place(RedisCluster::start);
            $({
                println!("{}", stringify!($name));
                $scenario(World::cluster(&cluster)).await;
                World::cluster(&cluster).node().await.cache.clear().await.unwrap();
            })+
        }
    };
}

on_both! {
    d4_one_message_for_an_invalidation_and_none_for_reads: messages_remove_what_another_node_has_invalidated;
    d1_no_hit_is_older_than_the_bound_though_every_message_is_lost: with_every_message_lost_no_hit_is_older_than_the_bound;
    suspects_are_asked_of_redis_and_not_of_the_database: what_was_missed_costs_the_database_no_herd;
    read_your_writes_on_another_node: a_read_given_a_write_is_no_older_on_any_node;
    d3_messages_tripled_and_reversed_are_idempotent: messages_late_thrice_and_in_reverse_do_no_harm;
    with_tracking_foreign_writers_are_followed: what_a_foreign_program_removes_no_node_serves_for_long;
    an_invalidation_whose_caller_went_away_is_followed: a_killed_nodes_reader_is_told_by_the_next;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_invalidations_that_a_dead_redis_did_not_hear_are_told_when_it_is_back() {
    let mut redis = Redis::start();
    let world = World::one(&redis);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
        world.commit(key, 7);
    }
    tokio::task::block_in_place(|| redis.kill());
    for key in KEYS {
        let err = a.cache.invalidate(&key).await.unwrap_err();
        assert!(matches!(err.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{err}");
        assert_eq!(a.read(key).await, 7, "the node that wrote never reads the older value again");
    }
    assert_eq!(a.cache.stats().coherence.owed, KEYS.end);
    tokio::task::block_in_place(|| redis.restart());
    eventually("all are told", async || a.cache.stats().coherence.owed == 0).await;
    tokio::time::sleep(BOUND).await;
    for key in KEYS {
        assert_eq!(b.read(key).await, 7, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_hits_go_on_marked_while_redis_is_stopped_and_are_verified_when_it_goes_on() {
    let redis = Redis::start();
    let world = World::one(&redis);
    let node = world.node().await;
    for key in KEYS {
        node.read(key).await;
    }
    redis.pause();
    let cached = async || node.cache.load_cached(&1).await.unwrap();
    eventually("nobody can verify it", async || cached().await.freshness == Freshness::Unverified).await;
    assert_eq!((cached().await.tier, cached().await.value), (Tier::L1, 0));
    let queries = world.queries.load(Ordering::SeqCst);
    for key in KEYS {
        node.read(key).await;
    }
    assert_eq!(world.queries.load(Ordering::SeqCst), queries, "the database is not asked instead");
    redis.resume();
    assert!(node.cache.ready(Duration::from_secs(10)).await);
    assert_ne!(cached().await.freshness, Freshness::Unverified);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_network_that_stops_in_silence_ends_in_grace_and_heals() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let (direct, through) = (World::one(&redis), World::over(vec![proxy.url()], false));
    let (a, b) = (direct.node().await, World { rows: direct.rows.clone(), ..through }.node().await);
    b.read(1).await;
    proxy.stall();
    direct.commit(1, 7);
    a.cache.invalidate(&1).await.unwrap();
    let told = Instant::now();
    while told.elapsed() < BOUND * 3 {
        let late = told.elapsed() > BOUND;
        let cached = b.cache.load_cached(&1).await.unwrap();
        let known = cached.freshness == Freshness::Fresh;
        assert!(!late || cached.value == 7 || !known, "old and unmarked {:?} later", told.elapsed());
    }
    proxy.forward();
    eventually("it is followed", async || b.read(1).await == 7).await;
}

/// What is pushed has no sequence: what came while nobody listened is made good by asking about everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_foreign_program_did_while_a_node_was_cut_off_is_followed_when_it_is_back() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let world = World { tracks: true, ..World::over(vec![proxy.url()], false) };
    let foreign = Foreign::new(&World::one(&redis));
    let node = world.node().await;
    eventually("L1 has it", async || {
        node.read(1).await;
        node.cache.get_local(&1).is_some()
    })
    .await;
    proxy.stall();
    world.commit(1, 7);
    foreign.remove(1).await;
    eventually("the silence is noticed", async || node.cache.load_cached(&1).await.unwrap().freshness == Freshness::Unverified)
        .await;
    proxy.forward();
    assert!(node.cache.ready(Duration::from_secs(10)).await);
    assert_eq!(node.read(1).await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_after_a_failover_all_channels_are_listened_to_again() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    let world = World::cluster(&cluster);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
    }
    tokio::task::block_in_place(|| {
        cluster.node_mut(0).kill();
        cluster.await_failover(0);
    });
    eventually("the new master is found", async || {
        a.cache.ready(Duration::from_secs(1)).await && b.cache.ready(Duration::from_secs(1)).await
    })
    .await;
    for key in KEYS {
        b.read(key).await;
        world.commit(key, 7);
        a.cache.invalidate(&key).await.unwrap();
        eventually("the message has come", async || b.cache.get_local(&key) != Some(0)).await;
        assert_eq!(b.read(key).await, 7);
    }
}

/// Its new master knows nothing of its keys, nor of what was told of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_a_slot_that_was_given_away_without_its_keys_is_suspect() {
    let cluster = tokio::task::block_in_place(RedisCluster::start);
    let world = World::cluster(&cluster);
    let (a, b) = (world.node().await, world.node().await);
    b.read(1).await;
    let key = Namespace::new("cs", "t").unwrap().key(&1_u64);
    let mut connection = Foreign::new(&world).0[0].get_multiplexed_async_connection().await.unwrap();
    let slot: u16 = redis::cmd("CLUSTER").arg("KEYSLOT").arg(key.as_bytes()).query_async(&mut connection).await.unwrap();
    let suspicions = b.cache.stats().coherence.suspicions;
    tokio::task::block_in_place(|| {
        let from = cluster.master_of(slot);
        cluster.set_slot_without_migrate(slot, from, (from + 1) % 3);
    });
    // Past the cache, and told on a channel that the old master may have.
    b.l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    eventually("its partition is suspect", async || b.cache.stats().coherence.suspicions > suspicions).await;
    assert_eq!(b.read(1).await, 7);
    b.l2.set_messages(Messages::Delivered);
    world.commit(1, 8);
    eventually("it is told at its new master", async || a.cache.invalidate(&1).await.is_ok()).await;
    eventually("it is heard from its new master", async || b.read(1).await == 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d6_a_message_of_a_later_version_has_its_partition_asked_about() {
    let redis = Redis::start();
    let world = World::one(&redis);
    let node = world.node().await;
    node.read(1).await;
    let key = cachestack::Namespace::new("cs", "t").unwrap().key(&1_u64);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let mut message = vec![0; 16];
    message.extend(b"\xffwho knows");
    let channel = format!("cs{{{}}}:!0", key.partition().tag());
    let heard: u64 = redis::cmd("PUBLISH").arg(channel).arg(message).query_async(&mut raw).await.unwrap();
    assert_eq!(heard, 1);
    eventually("it is suspected", async || node.cache.get_local(&1).is_none()).await;
    assert_eq!(node.cache.load_cached(&1).await.unwrap().tier, Tier::L2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_forged_messages_cost_misses_and_show_no_value() {
    let redis = Redis::start();
    let world = World::one(&redis);
    let node = world.node().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut raw = client.get_multiplexed_async_connection().await.unwrap();
    let key = cachestack::Namespace::new("cs", "t").unwrap().key(&1_u64);
    let channel = format!("cs{{{}}}:!0", key.partition().tag());
    for length in 0..200_usize {
        let noise: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
        let _: u64 = redis::cmd("PUBLISH").arg(&channel).arg(noise).query_async(&mut raw).await.unwrap();
        assert_eq!(node.read(1).await, 0);
    }
    world.commit(1, 7);
    let other = world.node().await;
    other.cache.invalidate(&1).await.unwrap();
    tokio::time::sleep(BOUND).await;
    assert_eq!(node.read(1).await, 7, "and they hide no true one");
    assert!(node.l2.poll("cs", &[key.partition()]).await.is_ok());
}
