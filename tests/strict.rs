//! Strict caches: a write is announced in L2 before it is committed, and nobody finds the older value there from then on.

use cachestack::record::{Record, State};
use cachestack::testing::{Chaos, ChaosTier};
use cachestack::{
    EmbeddedTier, Error, ErrorKind, ManualClock, MemoryTier, Namespace, RemoteKey, RemoteTier, Tier, TieredCache, Ttl,
};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[path = "support/slow.rs"]
mod slow;
#[path = "support/mod.rs"]
mod support;
use slow::Slow;
use support::until;

type Cache = TieredCache<u64, u64>;

/// Of a writer. A mark lives for two seconds more, the last of which is not counted on.
const LONG: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(12);
const MOMENT: Duration = Duration::from_millis(1);
/// Of who only reads: for half of it a reader waits for an announced write.
const SHORT: Duration = Duration::from_millis(40);

/// A store, a database, and a clock for all.
struct World {
    hands: ManualClock,
    store: EmbeddedTier,
    rows: Arc<Mutex<HashMap<u64, u64>>>,
}

/// A process: its way to the store, and its cache.
struct Node {
    l2: ChaosTier<EmbeddedTier>,
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let hands = ManualClock::new();
        Self { store: EmbeddedTier::new().clock(hands.clock()), hands, rows: Arc::default() }
    }

    fn writer(&self) -> Node {
        self.node(LONG, None)
    }

    fn reader(&self) -> Node {
        self.node(SHORT, None)
    }

    fn node(&self, load_timeout: Duration, version_of: Option<fn(&u64) -> u64>) -> Node {
        let l2 = ChaosTier::new(self.store.as_another_node());
        let rows = self.rows.clone();
        let load = move |key: u64| {
            let row = row(&rows, key);
            async move { Ok::<_, io::Error>(row) }
        };
        let mut builder = Cache::builder("t").l1(MemoryTier::new(1_000)).l2(l2.clone()).clock(self.hands.clock());
        if let Some(version_of) = version_of {
            builder = builder.versioned(version_of);
        }
        let cache = builder.ttl(Ttl::minutes(60)).load_timeout(load_timeout).strict().origin(load).build().unwrap();
        Node { l2, cache }
    }

    /// What the store holds for the key.
    async fn state(&self, key: u64) -> Option<State> {
        let bytes = self.store.get(&remote(key)).await.unwrap().record?;
        Some(Record::decode_any(&bytes).unwrap().state)
    }

    /// That what one node loads, another finds in L2.
    async fn is_cached_again(&self, key: u64, row: u64) {
        assert_eq!(self.reader().read(key).await, (row, Tier::Origin));
        assert_eq!(self.reader().read(key).await, (row, Tier::L2));
    }
}

impl Node {
    async fn read(&self, key: u64) -> (u64, Tier) {
        let cached = self.cache.load_cached(&key).await.unwrap();
        (cached.value, cached.tier)
    }

    /// A write that is under way: it has been announced, and waits inside the origin.
    async fn writing(&self, world: &World, key: u64, value: u64) -> (Slow, tokio::task::JoinHandle<Result<u64, Error>>) {
        let (slow, rows, cache) = (Slow::new(), world.rows.clone(), self.cache.clone());
        let held = slow.clone();
        let commit = move || async move {
            let value = held.load(value).await?;
            Ok::<_, io::Error>(commit(&rows, key, value))
        };
        let write = tokio::spawn(async move { cache.write_with(&key, commit).await.map(|(value, _)| value) });
        slow.has_begun().await;
        (slow, write)
    }

    /// A write that is refused before it is begun, and why.
    async fn refused(&self, key: u64) -> Error {
        let unreachable = || async { unreachable!("the write was begun") as Result<u64, io::Error> };
        let refused = self.cache.write_with(&key, unreachable).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unannounced, "{refused:?}");
        refused
    }
}

fn row(rows: &Mutex<HashMap<u64, u64>>, key: u64) -> u64 {
    rows.lock().unwrap().get(&key).copied().unwrap_or(0)
}

/// The last step of a write.
fn commit(rows: &Mutex<HashMap<u64, u64>>, key: u64, row: u64) -> u64 {
    rows.lock().unwrap().insert(key, row);
    row
}

fn remote(key: u64) -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&key)
}

fn cause(err: &Error) -> Option<ErrorKind> {
    err.find::<Error>().map(Error::kind)
}

#[tokio::test]
async fn between_mark_and_unmark_no_node_has_an_l2_hit_and_loads_are_kept_by_nobody() {
    let world = World::new();
    let [writer, reader, other] = [world.writer(), world.reader(), world.reader()];
    writer.read(1).await;
    reader.read(1).await;
    let (slow, write) = writer.writing(&world, 1, 7).await;
    assert_eq!(world.state(1).await, Some(State::Marked));
    assert_eq!((writer.cache.get_local(&1), writer.cache.get(&1).await), (None, None), "its own L1 has let go before the commit");
    assert_eq!((other.cache.get(&1).await, other.cache.get_many(&[1]).await), (None, vec![None]));
    for _ in 0..2 {
        assert_eq!(other.read(1).await, (0, Tier::Origin), "nothing is committed so far");
        assert_eq!(writer.read(1).await, (0, Tier::Origin));
        assert_eq!((other.cache.get_local(&1), writer.cache.get_local(&1)), (None, None));
    }
    assert_eq!(reader.read(1).await, (0, Tier::L1), "which is bounded as always");
    assert_eq!(reader.l2.messages(), 0, "a mark tells nobody");
    slow.let_go();
    assert_eq!(write.await.unwrap().unwrap(), 7);
    assert_eq!((reader.l2.messages(), reader.cache.get_local(&1)), (1, None), "the unmark does");
    assert_eq!(writer.cache.get(&1).await, None);
    world.is_cached_again(1, 7).await;
    assert_eq!(reader.read(1).await, (7, Tier::L2));
}

#[tokio::test]
async fn a_load_that_began_before_the_mark_is_kept_by_no_tier() {
    let world = World::new();
    let [writer, reader] = [world.writer(), world.writer()];
    let slow = Slow::new();
    let (cache, held) = (reader.cache.clone(), slow.clone());
    let load = tokio::spawn(async move { cache.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    let (commit, write) = writer.writing(&world, 1, 7).await;
    slow.let_go();
    assert_eq!(load.await.unwrap(), 1);
    assert_eq!((reader.cache.get_local(&1), world.state(1).await), (None, Some(State::Marked)));
    commit.let_go();
    write.await.unwrap().unwrap();
    world.is_cached_again(1, 7).await;
}

#[tokio::test]
async fn i11_from_the_commit_on_no_node_finds_an_older_value_in_l2_however_late_the_unmark_is() {
    let world = World::new();
    let [writer, reader] = [world.writer(), world.reader()];
    writer.read(1).await;
    let (l2, rows) = (writer.l2.clone(), world.rows.clone());
    let cache = writer.cache.clone();
    let held = move || async move {
        l2.set(Chaos::HeldWrites);
        Ok::<_, io::Error>(commit(&rows, 1, 7))
    };
    let write = tokio::spawn(async move { cache.write_with(&1, held).await });
    until("it is committed", || row(&world.rows, 1) == 7).await;
    assert_eq!((reader.cache.get(&1).await, writer.cache.get(&1).await), (None, None));
    assert_eq!(reader.read(1).await, (7, Tier::Origin));
    writer.l2.set(Chaos::Calm);
    write.await.unwrap().unwrap();
    world.is_cached_again(1, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i11_holds_for_many_writers_and_readers_of_a_few_keys() {
    let world = World::new();
    let mut tasks = Vec::new();
    for seed in 0..3 {
        let (node, rows) = (world.writer(), world.rows.clone());
        tasks.push(tokio::spawn(async move {
            for write in 0..100 {
                let (rows, key) = (rows.clone(), (seed + write) % 3);
                let commit = move || async move {
                    *rows.lock().unwrap().entry(key).or_default() += 1;
                    // What a commit takes on its way back.
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                    Ok::<_, io::Error>(row(&rows, key))
                };
                node.cache.write_with(&key, commit).await.unwrap();
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2_000))).await;
            }
        }));
    }
    let hits = Arc::new(AtomicU64::new(0));
    for _ in 0..3 {
        let (l2, rows, hits) = (world.store.as_another_node(), world.rows.clone(), hits.clone());
        let origin = rows.clone();
        let load = move |key: u64| {
            let row = row(&origin, key);
            async move { Ok::<_, io::Error>(row) }
        };
        // Without L1, so that each hit is one of L2.
        let cache = Cache::builder("t").l2(l2).clock(world.hands.clock()).strict().origin(load).build().unwrap();
        tasks.push(tokio::spawn(async move {
            for read in 0..600 {
                let key = read % 3;
                let committed = row(&rows, key);
                if let Some(value) = cache.get(&key).await {
                    assert!(value >= committed, "{value} was found after {committed} had been committed");
                    hits.fetch_add(1, Ordering::SeqCst);
                } else {
                    cache.load(&key).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(hits.load(Ordering::SeqCst) > 20, "{hits:?}");
}

#[tokio::test]
async fn a_write_that_was_given_up_leaves_the_key_loadable() {
    let world = World::new();
    let writer = world.writer();
    writer.read(1).await;
    let aborted = writer.cache.write_with(&1, || async { Err(io::Error::other("aborted")) }).await.unwrap_err();
    assert_eq!((aborted.kind(), world.state(1).await), (ErrorKind::Origin, Some(State::Tombstone)));
    world.is_cached_again(1, 0).await;
    let panicked = writer.cache.write_with(&1, || async { panic!("on purpose") as Result<u64, io::Error> }).await.unwrap_err();
    assert_eq!((panicked.kind(), world.state(1).await), (ErrorKind::Panicked, Some(State::Tombstone)));
    world.is_cached_again(1, 0).await;
}

#[tokio::test]
async fn a_version_that_panics_leaves_no_mark_and_no_older_value() {
    let world = World::new();
    let writer = world.node(LONG, Some(|value| if *value == 7 { panic!("on purpose") } else { *value }));
    writer.read(1).await;
    let rows = world.rows.clone();
    let write = writer.cache.write_with(&1, || async move { Ok::<_, io::Error>(commit(&rows, 1, 7)) }).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!((world.state(1).await, writer.cache.get_local(&1)), (Some(State::Tombstone), None));
}

#[tokio::test]
async fn the_mark_of_a_writer_that_died_ends_by_itself() {
    let world = World::new();
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let writer = world.writer();
    let slow = Slow::new();
    let (cache, held) = (writer.cache.clone(), slow.clone());
    process.spawn(async move { cache.write_with(&1, move || held.load(7)).await });
    slow.has_begun().await;
    process.shutdown_background();
    world.hands.advance(LIFE.saturating_sub(MOMENT));
    let reader = world.reader();
    assert_eq!(reader.read(1).await, (0, Tier::Origin));
    assert_eq!((reader.cache.get_local(&1), world.state(1).await), (None, Some(State::Marked)));
    world.hands.advance(MOMENT);
    world.is_cached_again(1, 0).await;
}

#[tokio::test]
async fn a_mark_that_is_over_when_it_is_answered_for_begins_no_write() {
    let world = World::new();
    let writer = world.writer();
    writer.l2.set(Chaos::HeldWrites);
    let cache = writer.cache.clone();
    let write = tokio::spawn(async move { cache.write_with(&1, || async { unreachable!() as io::Result<u64> }).await });
    until("the mark is on its way", || writer.l2.take_verbs().contains(&"mark")).await;
    world.hands.advance(LONG + Duration::from_secs(1));
    writer.l2.set(Chaos::Calm);
    let refused = write.await.unwrap().unwrap_err();
    assert_eq!((refused.kind(), cause(&refused)), (ErrorKind::Unannounced, Some(ErrorKind::Timeout)));
    assert!(refused.is_transient());
    // It came late and would stand for long, were it not taken back.
    world.is_cached_again(1, 0).await;
}

#[tokio::test]
async fn a_write_that_outlives_its_mark_is_given_up_invalidated_and_an_error() {
    let world = World::new();
    let [writer, reader] = [world.writer(), world.reader()];
    let (slow, write) = writer.writing(&world, 1, 7).await;
    world.hands.advance(LONG + Duration::from_secs(1));
    slow.let_go();
    let outlived = write.await.unwrap().unwrap_err();
    assert_eq!((outlived.kind(), row(&world.rows, 1)), (ErrorKind::Timeout, 0), "it does not go on to its commit");
    assert_eq!((world.state(1).await, reader.l2.messages()), (Some(State::Tombstone), 1));
    // One whose last step takes that long cannot be stopped.
    reader.read(1).await;
    let (rows, hands) = (world.rows.clone(), world.hands.clone());
    let late = writer.cache.write_with(&1, || async move {
        hands.advance(LIFE);
        Ok::<_, io::Error>(commit(&rows, 1, 8))
    });
    assert_eq!(late.await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!((world.state(1).await, reader.cache.get_local(&1)), (Some(State::Tombstone), None));
    world.is_cached_again(1, 8).await;
}

#[tokio::test]
async fn f1_a_write_does_not_go_on_to_its_commit_once_its_machine_was_suspended_for_longer_than_its_mark() {
    let world = World::new();
    let writer = world.writer();
    let (slow, write) = writer.writing(&world, 1, 7).await;
    world.hands.suspend(LIFE);
    slow.let_go();
    let outlived = write.await.unwrap().unwrap_err();
    assert_eq!((outlived.kind(), row(&world.rows, 1)), (ErrorKind::Timeout, 0));
    world.is_cached_again(1, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_no_longer_than_it_may() {
    let world = World::new();
    let writer = world.writer();
    let (_held, write) = writer.writing(&world, 1, 7).await;
    assert_eq!(write.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(world.state(1).await, Some(State::Tombstone));
}

#[tokio::test]
async fn with_l2_away_nothing_is_written_and_l1_stays_as_it_is() {
    let world = World::new();
    let writer = world.writer();
    writer.read(1).await;
    writer.l2.set(Chaos::Down);
    let refused = writer.refused(1).await;
    assert_eq!((cause(&refused), refused.is_transient()), (Some(ErrorKind::Unavailable), true));
    assert_eq!((writer.cache.get_local(&1), writer.cache.stats().coherence.owed), (Some(0), 0));
    writer.l2.set(Chaos::Calm);
    assert_eq!(writer.cache.write_with(&1, || async { Ok::<_, io::Error>(7) }).await.unwrap().0, 7);
}

#[tokio::test]
async fn a_mark_whose_reply_was_lost_is_taken_back() {
    let world = World::new();
    let writer = world.writer();
    writer.l2.set(Chaos::ReplyLostOf("mark"));
    assert_eq!(cause(&writer.refused(1).await), Some(ErrorKind::Unavailable));
    world.is_cached_again(1, 0).await;
}

#[tokio::test]
async fn what_is_not_ours_is_left_and_its_key_not_written() {
    let world = World::new();
    world.store.plant(&remote(1), &b"foreign"[..]);
    let refused = world.writer().refused(1).await;
    assert_eq!((cause(&refused), refused.is_transient()), (Some(ErrorKind::Foreign), false));
    assert_eq!(world.store.get(&remote(1)).await.unwrap().record.as_deref(), Some(&b"foreign"[..]));
}

#[tokio::test]
async fn an_unmark_leaves_the_protection_of_other_writers() {
    let world = World::new();
    let [one, other] = [world.writer(), world.writer()];
    let (first, first_write) = one.writing(&world, 1, 7).await;
    let (second, second_write) = other.writing(&world, 1, 8).await;
    first.let_go();
    first_write.await.unwrap().unwrap();
    assert_eq!(world.state(1).await, Some(State::Marked));
    let reader = world.reader();
    assert_eq!(reader.read(1).await, (7, Tier::Origin));
    assert_eq!(reader.cache.get_local(&1), None);
    second.let_go();
    second_write.await.unwrap().unwrap();
    world.is_cached_again(1, 8).await;
}

#[tokio::test]
async fn a_65th_write_of_a_key_at_a_time_is_refused() {
    let world = World::new();
    let writer = world.writer();
    let mut under_way = Vec::new();
    for value in 1..=64 {
        under_way.push(writer.writing(&world, 1, value).await);
    }
    let refused = writer.refused(1).await;
    assert_eq!((cause(&refused), refused.is_transient()), (None, true));
    let mut last = Vec::new();
    for (slow, write) in under_way {
        slow.let_go();
        last.push(write.await.unwrap().unwrap());
    }
    world.is_cached_again(1, 64).await;
    assert_eq!(writer.read(1).await.1, Tier::L2, "as often as it was blocked it was unblocked");
}

#[tokio::test]
async fn an_unmark_that_was_not_heard_is_told_to_the_caller_and_told_later() {
    let world = World::new();
    let [writer, reader] = [world.writer(), world.reader()];
    reader.read(1).await;
    let (l2, rows) = (writer.l2.clone(), world.rows.clone());
    let committed = writer.cache.write_with(&1, || async move {
        l2.set(Chaos::Down);
        Ok::<_, io::Error>(commit(&rows, 1, 7))
    });
    assert_eq!(committed.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((writer.cache.stats().coherence.owed, writer.cache.get_local(&1)), (1, None));
    assert_eq!(reader.cache.get(&1).await, Some(0), "from L1");
    writer.l2.set(Chaos::Calm);
    until("it is told", || writer.cache.stats().coherence.owed == 0).await;
    assert_eq!(reader.cache.get(&1).await, None);
    assert_eq!(reader.read(1).await, (7, Tier::Origin));
    // The mark ends by itself.
    world.hands.advance(LIFE);
    world.is_cached_again(1, 7).await;
}

#[tokio::test]
async fn a_write_that_failed_and_could_not_be_invalidated_is_owed_too() {
    let world = World::new();
    let writer = world.writer();
    let l2 = writer.l2.clone();
    let failed = writer.cache.write_with(&1, || async move {
        l2.set(Chaos::Down);
        Err(io::Error::other("the connection was lost behind COMMIT"))
    });
    assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Origin);
    assert_eq!(writer.cache.stats().coherence.owed, 1);
}

#[tokio::test]
async fn a_strict_write_of_a_versioned_cache_leaves_its_version_as_the_floor() {
    let world = World::new();
    let [writer, reader, other] = [LONG, SHORT, SHORT].map(|limit| world.node(limit, Some(|value| *value)));
    writer.read(1).await;
    reader.read(1).await;
    let rows = world.rows.clone();
    writer.l2.take_verbs();
    writer.cache.write_with(&1, || async move { Ok::<_, io::Error>(commit(&rows, 1, 7)) }).await.unwrap();
    assert_eq!(writer.l2.take_verbs(), ["mark", "unmark"]);
    // A loader that reads a lagging replica, against the rules.
    assert_eq!(other.cache.get_or_load(&1, || async { Ok::<_, io::Error>(6) }).await.unwrap(), 6);
    assert_eq!((other.cache.get_local(&1), world.state(1).await), (None, Some(State::Tombstone)));
    assert_eq!(reader.read(1).await, (7, Tier::Origin));
}

#[tokio::test]
async fn without_l2_nothing_can_be_announced() {
    let refused = Cache::builder("t").l1(MemoryTier::new(10)).strict().build().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
}
