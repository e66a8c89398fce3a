//! Reads from replicas that follow, lag, hang, have died, or are none.

mod common;

use cache_core::{Acquired, Claim, ErrorKind, Fetched, Put, RemoteKey, RemoteTier, Source, Token};
use cache_redis::{KeyPrefix, RedisTier, RedisTierBuilder, ReplicaReads};
use common::{AMPLE, HOUR, Raw, asks, body, invalidation, key, namespace, store, tier, until};
use std::time::{Duration, Instant};
use test_servers::{Proxy, Redis, RedisCluster, RedisSentinel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TIMEOUT: Duration = Duration::from_secs(2);

/// A master, and replicas that follow it each through a proxy: stalled, a replica goes on with what it has, and takes its link for sound.
struct Bed {
    master: Redis,
    replicas: Vec<(Redis, Proxy)>,
    /// Writes to the master, and reads it.
    writer: RedisTier,
}

impl Bed {
    async fn new(replicas: usize) -> Self {
        Self::with(replicas, "yes").await
    }

    async fn with(replicas: usize, serve_stale_data: &str) -> Self {
        let master = Redis::builder().arg("--repl-diskless-sync-delay").arg("0").start();
        let follow = |_| {
            let replica = Redis::builder().arg("--replica-serve-stale-data").arg(serve_stale_data).start();
            (replica, Proxy::start(master.port()))
        };
        let replicas: Vec<_> = (0..replicas).map(follow).collect();
        for (replica, link) in &replicas {
            let raw = Raw::connect(&replica.url()).await;
            raw.run::<()>(&["REPLICAOF", "127.0.0.1", &link.port().to_string()]).await;
        }
        let bed = Self { writer: tier(&master.url()).await, master, replicas };
        bed.caught_up().await;
        bed
    }

    /// Waits until the replicas have what the master has.
    async fn caught_up(&self) {
        let mark = key();
        store(&self.writer, &mark, "mark").await;
        for (replica, _) in &self.replicas {
            let mut raw = Raw::connect(&replica.url()).await.0;
            until("the replica has caught up", async || {
                let exists = redis::cmd("EXISTS").arg(mark.as_bytes()).query_async::<bool>(&mut raw).await;
                // It may be loading, or still without its master.
                exists.is_ok_and(|exists| exists)
            })
            .await;
        }
    }

    /// From here on the replicas lag.
    fn stall(&self) {
        self.replicas.iter().for_each(|(_, link)| link.stall());
    }

    fn builder(&self, when: ReplicaReads) -> RedisTierBuilder {
        let urls = self.replicas.iter().map(|(replica, _)| replica.url());
        RedisTier::builder(&self.master.url()).replicas(urls).read_from_replicas(when).connect_timeout(AMPLE)
    }

    async fn reader(&self, when: ReplicaReads) -> RedisTier {
        self.builder(when).timeout(AMPLE).connect().await.expect("the servers run")
    }

    /// A value that all have.
    async fn spread(&self, payload: &'static str) -> RemoteKey {
        let key = key();
        store(&self.writer, &key, payload).await;
        self.caught_up().await;
        key
    }
}

fn payload(fetched: &Fetched) -> Option<&[u8]> {
    fetched.record.as_ref().map(|record| &record[92..])
}

async fn source(tier: &RedisTier, key: &RemoteKey) -> Source {
    tier.get(key).await.expect("somebody answers").from
}

/// How many GETs and MGETs a server has run.
async fn gets(server: &Redis) -> u64 {
    let stats: String = Raw::connect(&server.url()).await.run(&["INFO", "commandstats"]).await;
    let of = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    of("get") + of("mget")
}

#[tokio::test]
async fn a_preferred_replica_is_read_from_and_says_so_and_never_written_to() {
    let bed = Bed::new(1).await;
    let (reader, key) = (bed.reader(ReplicaReads::Preferred).await, bed.spread("x").await);
    let asked = gets(&bed.master).await;
    let fetched = reader.get(&key).await.unwrap();
    assert_eq!((fetched.from, payload(&fetched)), (Source::Replica, Some(&b"x"[..])));
    let by_master = bed.writer.get(&key).await.unwrap();
    assert_eq!(by_master.from, Source::Master);
    // Both clocks are this machine's.
    assert!(fetched.now.abs_diff(by_master.now) < 10_000, "{} {}", fetched.now, by_master.now);
    let many = reader.get_many(&[key.clone(), common::key(), key.clone()]).await.unwrap();
    let many: Vec<_> = many.iter().map(|fetched| fetched.as_ref().unwrap()).map(|one| (one.from, payload(one))).collect();
    let found = (Source::Replica, Some(&b"x"[..]));
    assert_eq!(many, [found, (Source::Replica, None), found]);
    assert_eq!(gets(&bed.master).await - asked, 1, "the writer's");
    store(&reader, &common::key(), "a replica would refuse it").await;
    reader.close().await;
    assert_eq!(reader.get(&key).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn what_this_tier_has_written_or_invalidated_is_read_from_the_master_while_a_replica_lags() {
    let bed = Bed::new(1).await;
    let reader = bed.reader(ReplicaReads::Preferred).await;
    let keys = [bed.spread("old").await, bed.spread("old").await, bed.spread("old").await, bed.spread("old").await];
    let [untouched, invalidated, written, put] = &keys;
    bed.stall();
    for key in &keys {
        assert_eq!(source(&reader, key).await, Source::Replica);
    }
    reader.invalidate(&[invalidation(invalidated)], HOUR, None).await.unwrap();
    store(&reader, written, "new").await;
    let newer = Put { token: Token::unique(), version: 7, age: Duration::ZERO, body: body(put, "newer", HOUR) };
    reader.put(put, &newer, HOUR, None).await.unwrap();
    let all = reader.get_many(&keys).await.unwrap();
    let mut one_by_one = Vec::new();
    for key in &keys {
        one_by_one.push(reader.get(key).await);
    }
    for read in [all, one_by_one] {
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            read.iter().map(|one| one.from).collect::<Vec<_>>(),
            [Source::Replica, Source::Master, Source::Master, Source::Master]
        );
        assert_eq!([&read[0], &read[2], &read[3]].map(payload), [Some(&b"old"[..]), Some(b"new"), Some(b"newer")]);
        assert_ne!(payload(&read[1]), Some(&b"old"[..]));
    }
    assert_eq!(
        payload(&reader.get(untouched).await.unwrap()),
        Some(&b"old"[..]),
        "another's write is seen when the replica has it"
    );
}

#[tokio::test]
async fn a_value_set_if_absent_is_read_where_it_was_set() {
    let bed = Bed::new(1).await;
    let (reader, key) = (bed.reader(ReplicaReads::Preferred).await, key());
    bed.stall();
    let first = Put { token: Token::unique(), version: 0, age: Duration::ZERO, body: body(&key, "x", HOUR) };
    assert!(reader.insert_absent(&key, &first, HOUR).await.unwrap());
    assert_eq!(payload(&reader.get(&key).await.unwrap()), Some(&b"x"[..]));
}

#[tokio::test]
async fn after_a_clear_or_the_end_of_a_prefix_all_is_read_from_the_master() {
    for sweep in [true, false] {
        let bed = Bed::new(1).await;
        let (reader, namespace) = (bed.reader(ReplicaReads::Preferred).await, namespace());
        let key = namespace.key(&1_u64);
        store(&bed.writer, &key, "old").await;
        bed.caught_up().await;
        bed.stall();
        // What the master has lost no sweep finds there, and the replica has it still.
        Raw::connect(&bed.master.url()).await.of::<u64>("DEL", &key).await;
        assert_eq!(source(&reader, &key).await, Source::Replica);
        if sweep {
            assert_eq!(reader.clear(&namespace, HOUR, None).await.unwrap().outcome, 0);
        } else {
            reader.invalidate_prefix(&namespace, &KeyPrefix::parts(["1"]), HOUR, |_| ()).await.unwrap();
        }
        let fetched = reader.get(&key).await.unwrap();
        assert_eq!((fetched.from, fetched.record), (Source::Master, None));
    }
}

#[tokio::test]
async fn what_an_acquire_found_at_the_master_the_next_read_sees() {
    let bed = Bed::new(1).await;
    let (reader, key) = (bed.reader(ReplicaReads::Preferred).await, key());
    bed.stall();
    store(&bed.writer, &key, "x").await;
    let fetched = reader.get(&key).await.unwrap();
    assert_eq!((fetched.from, payload(&fetched)), (Source::Replica, None));
    assert_eq!(reader.acquire(&key, &asks(Token::unique(), Claim::Vacant)).await.unwrap(), Acquired::Hit);
    let fetched = reader.get(&key).await.unwrap();
    assert_eq!((fetched.from, payload(&fetched)), (Source::Master, Some(&b"x"[..])));
}

#[tokio::test]
async fn a_replica_that_hangs_costs_no_second_timeout_and_is_then_left_alone() {
    let bed = Bed::new(1).await;
    let build = || bed.builder(ReplicaReads::Preferred).timeout(TIMEOUT).connect();
    let (by_one, by_many) = (build().await.unwrap(), build().await.unwrap());
    let keys = [bed.spread("x").await, bed.spread("y").await];
    for reader in [&by_one, &by_many] {
        assert_eq!(source(reader, &keys[0]).await, Source::Replica);
    }
    bed.replicas[0].0.pause();
    let start = Instant::now();
    let (one, many) = tokio::join!(by_one.get(&keys[0]), by_many.get_many(&keys));
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
    for read in many.unwrap().into_iter().chain([one]) {
        assert_eq!(read.unwrap().from, Source::Master);
    }
    for reader in [&by_one, &by_many] {
        let start = Instant::now();
        assert_eq!(source(reader, &keys[0]).await, Source::Master);
        assert!(start.elapsed() < TIMEOUT / 2, "it was asked again: {:?}", start.elapsed());
    }
    bed.replicas[0].0.resume();
    for reader in [&by_one, &by_many] {
        until("the replica is read again", async || source(reader, &keys[0]).await == Source::Replica).await;
    }
}

#[tokio::test]
async fn a_replica_that_is_dead_costs_nothing_and_one_that_follows_nobody_is_not_read() {
    let mut bed = Bed::new(1).await;
    let (reader, key) = (bed.reader(ReplicaReads::Preferred).await, bed.spread("x").await);
    assert_eq!(source(&reader, &key).await, Source::Replica);
    bed.replicas[0].0.kill();
    for _ in 0..20 {
        assert_eq!(source(&reader, &key).await, Source::Master);
    }
    // Empty, and a master of its own.
    bed.replicas[0].0.restart();
    let stray = bed.reader(ReplicaReads::Preferred).await;
    let fetched = stray.get(&key).await.unwrap();
    assert_eq!((fetched.from, payload(&fetched)), (Source::Master, Some(&b"x"[..])));
}

#[tokio::test]
async fn a_replica_that_says_its_master_is_down_is_passed_over() {
    let bed = Bed::with(1, "no").await;
    let (reader, key) = (bed.reader(ReplicaReads::Preferred).await, bed.spread("x").await);
    assert_eq!(source(&reader, &key).await, Source::Replica);
    let (replica, link) = &bed.replicas[0];
    link.refuse();
    let mut raw = Raw::connect(&replica.url()).await.0;
    until("the replica has lost its master", async || {
        let answer = redis::cmd("GET").arg("k").query_async::<Option<String>>(&mut raw).await;
        answer.is_err_and(|err| err.code() == Some("MASTERDOWN"))
    })
    .await;
    let many = reader.get_many(&[key.clone(), key.clone()]).await.unwrap();
    assert!(many.iter().all(|one| one.as_ref().is_ok_and(|one| one.from == Source::Master)), "{many:?}");
    assert_eq!(source(&reader, &key).await, Source::Master);
}

#[tokio::test]
async fn reads_are_spread_over_the_replicas_and_over_those_that_are_left() {
    let mut bed = Bed::new(3).await;
    let (reader, key) = (bed.reader(ReplicaReads::Preferred).await, bed.spread("x").await);
    let mut before = Vec::new();
    for (replica, _) in &bed.replicas {
        before.push(gets(replica).await);
    }
    for _ in 0..300 {
        assert_eq!(source(&reader, &key).await, Source::Replica);
    }
    for ((replica, _), before) in bed.replicas.iter().zip(before) {
        let asked = gets(replica).await - before;
        assert!((50..150).contains(&asked), "{asked} of 300");
    }
    bed.replicas[0].0.kill();
    let first = source(&reader, &key).await;
    assert!(matches!(first, Source::Master | Source::Replica));
    until("the others bear it", async || source(&reader, &key).await == Source::Replica).await;
}

#[tokio::test]
async fn while_the_master_is_there_it_is_read_and_while_it_is_away_replicas_are_but_for_what_was_written() {
    let mut bed = Bed::new(2).await;
    let reader = bed.builder(ReplicaReads::WhenMasterIsAway).timeout(TIMEOUT).connect().await.unwrap();
    let [kept, gone] = [bed.spread("kept").await, bed.spread("gone").await];
    assert_eq!(source(&reader, &kept).await, Source::Master);
    bed.stall();
    reader.invalidate(&[invalidation(&gone)], HOUR, None).await.unwrap();
    bed.master.kill();
    for _ in 0..20 {
        let start = Instant::now();
        let fetched = reader.get(&kept).await.unwrap();
        assert_eq!((fetched.from, payload(&fetched)), (Source::Replica, Some(&b"kept"[..])));
        assert!(start.elapsed() < TIMEOUT + common::MARGIN);
        assert_eq!(reader.get(&gone).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let many = reader.get_many(&[kept.clone(), gone.clone(), kept.clone()]).await.unwrap();
    let many: Vec<_> = many.iter().map(|one| one.as_ref().ok().and_then(payload)).collect();
    assert_eq!(many, [Some(&b"kept"[..]), None, Some(b"kept")]);
    assert!(reader.invalidate(&[invalidation(&kept)], HOUR, None).await.is_err(), "no replica takes it");
    assert_eq!(reader.get(&kept).await.unwrap_err().kind(), ErrorKind::Unavailable, "it may have been done");
    bed.master.restart();
    common::until_back(&reader).await;
    until("the master is read again", async || source(&reader, &key()).await == Source::Master).await;
}

#[tokio::test]
async fn a_lazy_tier_finds_its_replicas_with_its_first_reads() {
    let bed = Bed::new(1).await;
    let (reader, key) = (bed.builder(ReplicaReads::Preferred).timeout(AMPLE).lazy().unwrap(), bed.spread("x").await);
    assert_eq!(source(&reader, &key).await, Source::Master, "a read does not wait for a replica");
    until("the replica is read", async || source(&reader, &key).await == Source::Replica).await;
}

#[tokio::test]
async fn a_replica_that_refuses_the_login_is_a_thing_to_mend() {
    let master = Redis::start();
    let replica = Redis::builder().password("secret").start();
    let builder = RedisTier::builder(&master.url()).replicas([replica.url()]).read_from_replicas(ReplicaReads::Preferred);
    assert_eq!(builder.connect().await.unwrap_err().kind(), ErrorKind::Credentials);
}

/// Passes for a replica whose clock shows this time, and answers each GET with the same.
async fn poses_as_replica(seconds: u64, to_get: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
    let time = format!("*2\r\n$10\r\n{seconds}\r\n$1\r\n0\r\n");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let time = time.clone();
            tokio::spawn(async move {
                let (mut asked, mut chunk) = (Vec::new(), [0; 4_096]);
                while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                    asked.extend_from_slice(&chunk[..read]);
                    while let Some((word, length)) = first_command(&asked) {
                        let answer = match &word[..] {
                            b"TIME" => &time,
                            b"ROLE" => "*1\r\n$5\r\nslave\r\n",
                            b"GET" => to_get,
                            _ => "+OK\r\n",
                        };
                        asked.drain(..length);
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    url
}

/// The first word of the first command, and how many bytes that has, once it is there as a whole.
fn first_command(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| {
        let length = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(&bytes[at + 1..at + length]).ok()?.parse::<usize>().ok()?;
        Some((number, at + length + 2))
    };
    let (words, mut at) = bytes.first().and_then(|_| line(0))?;
    let mut first = None;
    for _ in 0..words {
        let (length, start) = bytes.get(at).and_then(|_| line(at))?;
        first.get_or_insert(bytes.get(start..start + length)?.to_vec());
        at = start + length + 2;
    }
    (at <= bytes.len()).then_some((first?, at))
}

#[tokio::test]
async fn a_record_from_a_replica_is_as_old_as_by_the_later_of_the_two_clocks() {
    const BEHIND: u64 = 1_000_000_000;
    const AHEAD: u64 = 4_000_000_000;
    let master = Redis::start();
    let true_ms = Raw::connect(&master.url()).await.time_us().await / 1_000;
    for (seconds, at_least) in [(BEHIND, true_ms), (AHEAD, AHEAD * 1_000)] {
        let replica = poses_as_replica(seconds, "$-1\r\n").await;
        let tier = RedisTier::builder(&master.url()).replicas([replica]).read_from_replicas(ReplicaReads::Preferred);
        let tier = tier.timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
        let fetched = tier.get(&key()).await.unwrap();
        assert_eq!(fetched.from, Source::Replica);
        // By the earlier one a value's age would come out too small, and it would be served for too long.
        assert!((at_least..at_least + 60_000).contains(&fetched.now), "{}", fetched.now);
    }
}

#[tokio::test]
async fn a_replica_that_loads_its_data_or_sends_elsewhere_is_passed_over() {
    let master = Redis::start();
    for answer in
        ["-LOADING Redis is loading the dataset in memory\r\n", "-MOVED 1 127.0.0.1:1\r\n", "-ASK 1 127.0.0.1:1\r\n", ":7\r\n"]
    {
        let replica = poses_as_replica(1_800_000_000, answer).await;
        let tier = RedisTier::builder(&master.url()).replicas([replica]).read_from_replicas(ReplicaReads::Preferred);
        let tier = tier.timeout(AMPLE).connect_timeout(AMPLE).connect().await.unwrap();
        assert_eq!(source(&tier, &key()).await, Source::Master, "{answer}");
    }
}

fn cluster(cluster: &RedisCluster, when: ReplicaReads) -> RedisTierBuilder {
    let urls = cluster.nodes().iter().map(Redis::url);
    RedisTier::cluster(urls).read_from_replicas(when).timeout(AMPLE).connect_timeout(AMPLE)
}

/// Waits until the replicas have it all.
async fn all_from_replicas(tier: &RedisTier, keys: &[RemoteKey]) {
    until("the replicas have the values", async || {
        let read = tier.get_many(keys).await.expect("somebody answers");
        read.iter().all(|one| one.as_ref().is_ok_and(|one| one.from == Source::Replica && payload(one) == Some(b"x")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replicas_of_a_cluster_are_read_for_all_slots_and_writes_go_to_the_masters() {
    let servers = RedisCluster::start();
    let tier = cluster(&servers, ReplicaReads::Preferred).connect().await.unwrap();
    let plain = RedisTier::cluster(servers.nodes().iter().map(Redis::url)).timeout(AMPLE).connect().await.unwrap();
    let namespace = namespace();
    let keys: Vec<_> = (0..100_u64).map(|id| namespace.key(&id)).collect();
    for key in &keys {
        store(&plain, key, "x").await;
    }
    all_from_replicas(&tier, &keys).await;
    for key in &keys {
        assert_eq!(source(&tier, key).await, Source::Replica);
    }
    store(&tier, &keys[0], "y").await;
    let fetched = tier.get(&keys[0]).await.unwrap();
    assert_eq!((fetched.from, payload(&fetched)), (Source::Master, Some(&b"y"[..])));
    // A replica takes its master's place: what was one is written to now.
    tokio::task::block_in_place(|| servers.failover(0));
    until("all slots are written to", async || {
        let ended = tier.invalidate(&keys.iter().map(invalidation).collect::<Vec<_>>(), HOUR, None).await;
        ended.is_ok()
    })
    .await;
    for key in &keys {
        assert_eq!(source(&tier, key).await, Source::Master);
    }
    tier.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clusters_replicas_stand_in_for_a_master_that_died() {
    // Nobody takes its place so soon.
    let mut servers = RedisCluster::builder().node_timeout(Duration::from_secs(60)).start();
    let tier = cluster(&servers, ReplicaReads::WhenMasterIsAway).connect().await.unwrap();
    let namespace = namespace();
    let keys: Vec<_> = (0..60_u64).map(|id| namespace.key(&id)).collect();
    // By another tier: what one has written itself it reads from masters.
    let writer = RedisTier::cluster(servers.nodes().iter().map(Redis::url)).timeout(AMPLE).connect().await.unwrap();
    for key in &keys {
        store(&writer, key, "x").await;
    }
    let preferring = cluster(&servers, ReplicaReads::Preferred).connect().await.unwrap();
    all_from_replicas(&preferring, &keys).await;
    for key in &keys {
        assert_eq!(source(&tier, key).await, Source::Master);
    }
    tokio::task::block_in_place(|| servers.node_mut(0).kill());
    let read = tier.get_many(&keys).await.unwrap();
    let from =
        |source| read.iter().filter(|one| one.as_ref().is_ok_and(|one| one.from == source && payload(one) == Some(b"x"))).count();
    assert_eq!(from(Source::Master) + from(Source::Replica), keys.len(), "{read:?}");
    assert!(from(Source::Master) > 20 && from(Source::Replica) > 5, "the other masters are there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_that_sentinels_name_is_read_and_stands_in_until_it_is_the_master() {
    let mut group = RedisSentinel::start();
    let urls: Vec<_> = group.sentinels().iter().map(Redis::url).collect();
    let build = |when| {
        let builder = RedisTier::sentinel(RedisSentinel::SERVICE, urls.clone()).read_from_replicas(when);
        builder.timeout(AMPLE).connect_timeout(AMPLE).connect()
    };
    let (standby, preferring) =
        (build(ReplicaReads::WhenMasterIsAway).await.unwrap(), build(ReplicaReads::Preferred).await.unwrap());
    let writer = RedisTier::sentinel(RedisSentinel::SERVICE, urls.clone()).timeout(AMPLE).connect().await.unwrap();
    let key = key();
    store(&writer, &key, "x").await;
    until("the replica has it", async || {
        let fetched = preferring.get(&key).await.unwrap();
        fetched.from == Source::Replica && payload(&fetched) == Some(b"x")
    })
    .await;
    assert_eq!(source(&standby, &key).await, Source::Master);
    let old = group.master();
    tokio::task::block_in_place(|| group.server_mut(old).kill());
    let fetched = standby.get(&key).await.unwrap();
    assert_eq!((fetched.from, payload(&fetched)), (Source::Replica, Some(&b"x"[..])));
    tokio::task::block_in_place(|| group.await_failover(old));
    // It is a master now, and read as one by both.
    for tier in [&standby, &preferring] {
        until("the successor is read", async || tier.get(&key).await.is_ok_and(|one| one.from == Source::Master)).await;
        store(tier, &common::key(), "y").await;
        tier.close().await;
    }
}
