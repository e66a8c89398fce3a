//! What a stack makes of values from replicas: it serves them, marked, and neither keeps them nor decides by them.

use async_trait::async_trait;
use cachestack::{
    Acquire, Acquired, Cached, Deployments, Ear, EmbeddedTier, ErrorKind, Fetched, Fill, Filled, Freshness, Invalidated,
    Invalidation, Listening, ManualClock, Mark, Marked, MemoryTier, Meta, Namespace, Notice, Partition, Put, PutOutcome,
    RemoteKey, RemoteTier, Result, Source, Tier, TieredCache, Token, Told, Ttl, Unmark, Why,
};
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

mod support;
use support::until;

type Cache = TieredCache<u64, u64>;

/// A tier that reads a replica, but for keys that it has acquired or written: as the Redis tier does. The replica has what the test gives it.
#[derive(Clone)]
struct WithReplica {
    master: EmbeddedTier,
    replica: EmbeddedTier,
    written: Arc<Mutex<HashSet<RemoteKey>>>,
    is_master_away: Arc<AtomicBool>,
}

impl WithReplica {
    fn note(&self, key: &RemoteKey) -> Result<()> {
        self.written.lock().unwrap().insert(key.clone());
        self.master_there()
    }

    fn master_there(&self) -> Result<()> {
        let away = || cachestack::Error::new(ErrorKind::Unavailable, "the master is away");
        if self.is_master_away.load(Ordering::SeqCst) { Err(away()) } else { Ok(()) }
    }
}

#[async_trait]
impl RemoteTier for WithReplica {
    fn name(&self) -> &'static str {
        "with replica"
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        if self.written.lock().unwrap().contains(key) {
            self.master_there()?;
            return self.master.get(key).await;
        }
        Ok(Fetched { from: Source::Replica, ..self.replica.get(key).await? })
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        let mut all = Vec::new();
        for key in keys {
            all.push(self.get(key).await);
        }
        Ok(all)
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        self.note(key)?;
        self.master.acquire(key, acquire).await
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        self.note(key)?;
        self.master.fill(key, fill).await
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        self.master.release(key, token).await
    }

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        for invalidation in keys {
            self.note(&invalidation.key)?;
        }
        self.master.invalidate(keys, retain, notice).await
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        self.note(key)?;
        self.master.put(key, put, retain, notice).await
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        self.note(key)?;
        self.master.mark(key, mark).await
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        self.note(key)?;
        self.master.unmark(key, unmark, notice).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        self.master.clear(namespace, retain, notice).await
    }

    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        self.master_there()?;
        self.master.poll(prefix, partitions).await
    }

    fn listen(&self, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
        self.master.listen(prefix, ear)
    }

    fn deployments(&self) -> Option<&Deployments> {
        self.master.deployments()
    }

    async fn close(&self) {}
}

/// A master, a replica, a clock, and nodes that share them.
struct World {
    hands: ManualClock,
    master: EmbeddedTier,
    replica: EmbeddedTier,
    row: Arc<AtomicU64>,
    away: Arc<AtomicBool>,
    /// What the nodes that read from the replica have written of late.
    written: Arc<Mutex<HashSet<RemoteKey>>>,
}

impl World {
    fn new() -> Self {
        let hands = ManualClock::new();
        let tier = || EmbeddedTier::new().clock(hands.clock());
        Self {
            master: tier(),
            replica: tier(),
            row: Arc::new(AtomicU64::new(7)),
            away: Arc::default(),
            written: Arc::default(),
            hands,
        }
    }

    fn over(&self, l2: impl RemoteTier) -> Cache {
        let row = self.row.clone();
        let read = move |_: u64| {
            let value = row.load(Ordering::SeqCst);
            async move { if value == 0 { Err(io::Error::other("down")) } else { Ok(value) } }
        };
        let ttl = Ttl::seconds(100).stale_for(seconds(10)).stale_if_error(seconds(1_000));
        Cache::builder("t").l1(MemoryTier::new(100)).l2(l2).clock(self.hands.clock()).ttl(ttl).origin(read).build().unwrap()
    }

    /// A node that reads from the replica.
    fn node(&self) -> Cache {
        let (master, replica) = (self.master.clone(), self.replica.clone());
        let (written, is_master_away) = (self.written.clone(), self.away.clone());
        self.over(WithReplica { master, replica, written, is_master_away })
    }

    async fn master_has(&self, value: u64) {
        self.over(self.master.clone()).insert(&1, value).await.unwrap();
    }

    async fn replica_has(&self, value: u64) {
        self.over(self.replica.clone()).insert(&1, value).await.unwrap();
    }
}

fn key() -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&1_u64)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn seen(answer: &Cached<u64>) -> (u64, Tier, Freshness) {
    (answer.value, answer.tier, answer.freshness)
}

const OF_REPLICA: Tier = Tier::L2Replica;
const STALE: Freshness = Freshness::Stale { why: Why::Refreshing };

#[tokio::test]
async fn c10_a_value_of_a_replica_is_marked_counted_and_never_kept_in_l1() {
    let world = World::new();
    world.replica_has(1).await;
    let node = world.node();
    for _ in 0..2 {
        assert_eq!(seen(&node.get_cached(&1).await.unwrap().unwrap()), (1, OF_REPLICA, Freshness::Unverified));
        assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (1, OF_REPLICA, Freshness::Unverified));
        assert_eq!(node.get_many(&[1]).await, [Some(1)]);
        assert_eq!(node.get_local(&1), None);
    }
    let stats = node.stats();
    assert_eq!((stats.l2.from_replicas, stats.l2.hits, stats.l1.hits, stats.l1.entries), (6, 6, 0, 0));
    assert_eq!((stats.loads, stats.refreshes), (0, 0), "what is unverified is not stale");
    assert_eq!(node.stats().since(&stats).l2.from_replicas, 0);
}

#[tokio::test]
async fn a_replica_that_heard_of_no_invalidation_leaves_nothing_behind() {
    let world = World::new();
    world.replica_has(1).await;
    let node = world.node();
    // Another node has committed 7 and invalidated; the replica lags.
    world.over(world.master.clone()).invalidate(&1).await.unwrap();
    assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (1, OF_REPLICA, Freshness::Unverified));
    world.replica.unplant(&key());
    assert_eq!(
        seen(&node.load_cached(&1).await.unwrap()),
        (7, Tier::Origin, Freshness::Fresh),
        "once it does not lag nothing is old"
    );
}

#[tokio::test]
async fn what_a_node_has_invalidated_itself_it_reads_from_no_replica() {
    let world = World::new();
    world.replica_has(1).await;
    world.master_has(1).await;
    let node = world.node();
    assert_eq!(node.load(&1).await.unwrap(), 1);
    node.invalidate(&1).await.unwrap();
    assert_eq!((node.get(&1).await, node.get_many(&[1]).await), (None, vec![None]));
    assert_eq!(node.load(&1).await.unwrap(), 7);
}

#[tokio::test]
async fn what_a_replica_lacks_or_cannot_show_the_master_decides() {
    for damaged in [false, true] {
        let world = World::new();
        if damaged {
            world.replica_has(1).await;
            let mut bytes = world.replica.get(&key()).await.unwrap().record.unwrap().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            world.replica.plant(&key(), bytes);
        }
        world.master_has(2).await;
        let node = world.node();
        assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (2, Tier::L2, Freshness::Fresh));
        assert_eq!(node.get_local(&1), Some(2), "the master's is kept");
        assert_eq!((node.stats().loads, node.stats().l2.from_replicas), (0, 0));
    }
    // Neither has it: one load.
    let world = World::new();
    let node = world.node();
    assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (7, Tier::Origin, Freshness::Fresh));
    assert_eq!(world.over(world.master.clone()).load_cached(&1).await.unwrap().tier, Tier::L2, "it was filled");
}

#[tokio::test]
async fn a_lease_that_only_the_replica_knows_of_is_not_waited_for() {
    let world = World::new();
    let asks = Acquire {
        token: Token::unique(),
        lease: seconds(3_600),
        retain: seconds(3_600),
        claim: cachestack::Claim::Vacant,
        schema: 1,
        generation: 0,
    };
    world.replica.acquire(&key(), &asks).await.unwrap();
    world.master_has(2).await;
    assert_eq!(seen(&world.node().load_cached(&1).await.unwrap()), (2, Tier::L2, Freshness::Fresh));
}

#[tokio::test]
async fn a_replicas_stale_value_is_served_and_the_refresh_asks_the_master() {
    let world = World::new();
    world.replica_has(1).await;
    world.hands.advance(seconds(105));
    world.master_has(2).await;
    let node = world.node();
    assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (1, OF_REPLICA, STALE));
    until("the refresh has landed", || node.get_local(&1) == Some(2)).await;
    assert_eq!((node.stats().loads, node.stats().stale), (0, 1), "the master had it fresh");
    // The same by a get, with nothing at the master: a load.
    let other = World::new();
    other.replica_has(1).await;
    other.hands.advance(seconds(105));
    let node = other.node();
    assert_eq!(seen(&node.get_cached(&1).await.unwrap().unwrap()), (1, OF_REPLICA, STALE));
    until("the refresh has landed", || node.get_local(&1) == Some(7)).await;
    assert_eq!((node.stats().loads, node.stats().stale), (1, 1));
}

#[tokio::test]
async fn a_refresh_of_l1_takes_no_replicas_word_that_there_is_a_fresh_value() {
    let world = World::new();
    world.master_has(1).await;
    let node = world.node();
    assert_eq!(node.load(&1).await.unwrap(), 1);
    world.hands.advance(seconds(105));
    world.written.lock().unwrap().clear();
    // To the replica's mind it is fresh. L1 would stay stale and ask again with every read.
    world.replica_has(5).await;
    assert_eq!(world.node().load(&1).await.unwrap(), 5);
    assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (1, Tier::L1, STALE));
    until("the refresh has landed", || node.get_local(&1) == Some(7)).await;
}

#[tokio::test]
async fn a_replicas_value_is_no_last_resort_for_it_may_have_been_invalidated() {
    let world = World::new();
    world.replica_has(1).await;
    world.master_has(1).await;
    world.over(world.master.clone()).invalidate(&1).await.unwrap();
    world.hands.advance(seconds(500));
    world.row.store(0, Ordering::SeqCst);
    assert_eq!(world.node().load(&1).await.unwrap_err().kind(), ErrorKind::Origin);
}

#[tokio::test]
async fn while_the_master_is_away_the_replica_serves_and_its_misses_are_loads_that_l2_does_not_keep() {
    let world = World::new();
    world.replica_has(1).await;
    world.away.store(true, Ordering::SeqCst);
    let node = world.node();
    assert_eq!(seen(&node.load_cached(&1).await.unwrap()), (1, OF_REPLICA, Freshness::Unverified));
    assert_eq!(seen(&node.load_cached(&2).await.unwrap()), (7, Tier::Origin, Freshness::Fresh));
    assert_eq!(node.get_local(&2), Some(7));
    assert_eq!(node.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(node.get(&1).await, None, "it may have been done");
}

/// The same over real servers, from end to end.
#[cfg(unix)]
mod real {
    use super::*;
    use cachestack::{RedisTier, ReplicaReads};
    use std::time::Instant;
    use test_servers::{Proxy, Redis};

    async fn wait_until(what: &str, mut done: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !done().await {
            assert!(began.elapsed() < seconds(20), "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn cache(l2: RedisTier, row: &Arc<AtomicU64>) -> Cache {
        let row = row.clone();
        let origin = move |_: u64| {
            let value = row.load(Ordering::SeqCst);
            async move { Ok::<_, io::Error>(value) }
        };
        Cache::builder("t").l1(MemoryTier::new(100)).l2(l2).ttl(Ttl::minutes(5)).origin(origin).build().unwrap()
    }

    #[tokio::test]
    async fn a_commit_that_a_lagging_replica_has_not_heard_of_is_never_undone_in_l1_nor_seen_undone_by_who_made_it() {
        let (master, replica) = (Redis::builder().arg("--repl-diskless-sync-delay").arg("0").start(), Redis::start());
        let link = Proxy::start(master.port());
        let mut raw = redis::Client::open(replica.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let follow = redis::cmd("REPLICAOF").arg("127.0.0.1").arg(link.port()).query_async::<()>(&mut raw).await;
        follow.unwrap();
        let row = Arc::new(AtomicU64::new(1));
        let plain = cache(RedisTier::builder(&master.url()).timeout(seconds(10)).connect().await.unwrap(), &row);
        let preferring = async || {
            let tier = RedisTier::builder(&master.url()).replicas([replica.url()]).read_from_replicas(ReplicaReads::Preferred);
            cache(tier.timeout(seconds(10)).connect_timeout(seconds(10)).connect().await.unwrap(), &row)
        };
        let (reader, writer) = (preferring().await, preferring().await);
        assert_eq!(plain.load(&1).await.unwrap(), 1);
        wait_until("the replica has it", async || reader.get(&1).await == Some(1)).await;
        link.stall();
        row.store(2, Ordering::SeqCst);
        writer.invalidate(&1).await.unwrap();
        let old = reader.load_cached(&1).await.unwrap();
        assert_eq!(seen(&old), (1, Tier::L2Replica, Freshness::Unverified), "a named exception: as long as the replica lags");
        assert_eq!(reader.get_local(&1), None);
        assert_eq!(writer.load(&1).await.unwrap(), 2, "who made it never sees it undone");
        link.forward();
        wait_until("the replica has caught up", async || reader.load(&1).await.unwrap() == 2).await;
        assert_eq!(reader.load(&1).await.unwrap(), 2);
    }
}
