//! One tier in memory: lives, invalidation during loads, counts, and what the builder refuses.

use cachestack::{
    Cache as _, ErrorKind, Freshness, KeyPrefix, LocalTier, ManualClock, MemoryTier, SharedCache, Stamp, Tier, TieredCache, Ttl,
    Why,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

#[path = "support/slow.rs"]
mod slow;
mod support;
#[path = "support/watched.rs"]
mod watched;
use slow::Slow;
use support::until;
use watched::Watched;

type Cache = TieredCache<u64, u64>;

/// Answers with the number of the load, and fails on demand.
#[derive(Clone, Default)]
struct Counting {
    loads: Arc<AtomicU64>,
    failing: Arc<AtomicBool>,
}

impl Counting {
    fn cache(&self, hands: &ManualClock, ttl: Ttl) -> Cache {
        let origin = self.clone();
        let load = move |_: u64| {
            let origin = origin.clone();
            async move {
                let load = origin.loads.fetch_add(1, Ordering::SeqCst) + 1;
                if origin.failing.load(Ordering::SeqCst) { Err(io::Error::other("down")) } else { Ok(load) }
            }
        };
        Cache::builder("t").l1(MemoryTier::new(1_000)).ttl(ttl).clock(hands.clock()).origin(load).build().unwrap()
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Waits for a refresh behind a stale answer to have come to its end.
async fn quiet(cache: &Cache, loads: u64) {
    until("the refresh has loaded", || cache.stats().loads >= loads).await;
    // The load is counted before it lands: give it its last turns.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_value_is_loaded_again_when_its_soft_life_is_over() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(10));
    assert_eq!(cache.load(&1).await.unwrap(), 1);
    hands.advance(seconds(9));
    assert_eq!(cache.load(&1).await.unwrap(), 1);
    hands.advance(seconds(1));
    assert_eq!(cache.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_life_counts_from_the_start_of_its_load() {
    let hands = ManualClock::new();
    let slow = hands.clone();
    let load = move |key: u64| {
        slow.advance(seconds(8));
        async move { Ok::<_, io::Error>(key) }
    };
    let ttl = Ttl::seconds(10);
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).ttl(ttl).clock(hands.clock()).origin(load).build().unwrap();
    cache.load(&1).await.unwrap();
    assert_eq!(cache.load_cached(&1).await.unwrap().age, seconds(8));
    hands.advance(seconds(2));
    assert_eq!(cache.get(&1).await, None);
}

#[tokio::test]
async fn a_stale_value_is_served_while_one_refresh_runs_behind() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(10).stale_for(seconds(5)));
    cache.load(&1).await.unwrap();
    hands.advance(seconds(12));
    for _ in 0..10 {
        let stale = cache.load_cached(&1).await.unwrap();
        assert_eq!((stale.value, stale.tier), (1, Tier::L1));
        assert_eq!(stale.freshness, Freshness::Stale { why: Why::Refreshing });
    }
    quiet(&cache, 2).await;
    let fresh = cache.load_cached(&1).await.unwrap();
    assert_eq!((fresh.value, fresh.freshness), (2, Freshness::Fresh));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.refreshes, stats.stale), (2, 1, 10));
}

#[tokio::test]
async fn beyond_its_hard_life_a_value_is_not_served_while_the_origin_works() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(10).stale_for(seconds(5)).stale_if_error(seconds(60)));
    cache.load(&1).await.unwrap();
    hands.advance(seconds(15));
    assert_eq!(cache.get(&1).await, None);
    assert_eq!(cache.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_failing_origin_is_covered_until_the_last_moment_and_left_alone_a_while() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(10).stale_if_error(seconds(60)));
    cache.load(&1).await.unwrap();
    hands.advance(seconds(20));
    origin.failing.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let stale = cache.load_cached(&1).await.unwrap();
        assert_eq!((stale.value, stale.freshness), (1, Freshness::Stale { why: Why::OriginFailed }));
    }
    assert_eq!(origin.loads.load(Ordering::SeqCst), 2, "one try, then the origin is left alone");
    hands.advance(seconds(2));
    cache.load(&1).await.unwrap();
    assert_eq!(origin.loads.load(Ordering::SeqCst), 3, "and tried again later");
    hands.advance(seconds(48));
    let err = cache.load(&1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Origin, "70 s after the load the last resort is over");
    origin.failing.store(false, Ordering::SeqCst);
    assert_eq!(cache.load(&1).await.unwrap(), 5);
    assert_eq!(cache.stats().stale_if_error, 11);
}

#[tokio::test]
async fn a_failing_refresh_is_not_retried_by_every_reader() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(10).stale_for(seconds(60)));
    cache.load(&1).await.unwrap();
    origin.failing.store(true, Ordering::SeqCst);
    hands.advance(seconds(11));
    for _ in 0..20 {
        assert_eq!(cache.load(&1).await.unwrap(), 1);
        quiet(&cache, 2).await;
    }
    assert_eq!(origin.loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn l1_at_most_bounds_the_stay_in_memory() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(100).l1_at_most(seconds(3)));
    cache.load(&1).await.unwrap();
    hands.advance(seconds(3));
    assert_eq!(cache.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_value_that_nobody_reads_for_its_time_to_idle_is_loaded_again() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(100).time_to_idle(seconds(10)));
    cache.load(&1).await.unwrap();
    for _ in 0..5 {
        hands.advance(seconds(6));
        assert_eq!(cache.load(&1).await.unwrap(), 1);
    }
    hands.advance(seconds(10));
    assert_eq!(cache.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_value_read_in_its_place_counts_as_a_hit_while_it_is_fresh() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::seconds(10).stale_for(seconds(5)));
    assert_eq!(cache.with_local(&1, |value| *value), None);
    cache.load(&1).await.unwrap();
    assert_eq!(cache.with_local(&1, |value| value + 100), Some(101));
    hands.advance(seconds(12));
    assert_eq!((cache.with_local(&1, |value| *value), cache.get_local(&1)), (None, None), "stale");
    assert_eq!((cache.stats().l1.hits, cache.stats().l1.misses), (1, 1), "and what is not a hit is not counted");
}

/// A load that waits inside the origin while the test does something to its key.
async fn during_a_load(meddle: impl AsyncFnOnce(&Cache)) -> (Cache, u64) {
    let slow = Slow::new();
    let cache = Cache::builder("t").l1(MemoryTier::new(1_000)).build().unwrap();
    let caller = tokio::spawn({
        let (cache, slow) = (cache.clone(), slow.clone());
        async move { cache.get_or_load(&7, move || slow.load(1)).await.unwrap() }
    });
    slow.has_begun().await;
    meddle(&cache).await;
    slow.let_go();
    let answer = caller.await.unwrap();
    (cache, answer)
}

#[tokio::test]
async fn a_load_that_began_before_an_invalidation_is_answered_and_not_cached() {
    let (cache, answer) = during_a_load(async |cache| {
        cache.invalidate(&7).await.unwrap();
    })
    .await;
    assert_eq!((answer, cache.get(&7).await), (1, None));
}

#[tokio::test]
async fn a_load_that_began_before_a_clear_is_answered_and_not_cached() {
    let (cache, answer) = during_a_load(async |cache| {
        cache.insert(&8, 8).await.unwrap();
        cache.clear().await.unwrap();
    })
    .await;
    assert_eq!((answer, cache.get(&7).await, cache.get(&8).await), (1, None, None));
}

#[tokio::test]
async fn a2_a_load_that_began_before_a_prefix_was_invalidated_is_not_kept() {
    let (cache, answer) =
        during_a_load(async |cache| cache.invalidate_prefix(&KeyPrefix::text("7")).await.map(drop).unwrap()).await;
    assert_eq!((answer, cache.get(&7).await), (1, None));
}

#[tokio::test]
async fn a_load_that_began_before_an_insert_does_not_overwrite_it() {
    let (cache, answer) = during_a_load(async |cache| cache.insert(&7, 2).await.unwrap()).await;
    assert_eq!((answer, cache.get(&7).await), (1, Some(2)));
}

#[tokio::test]
async fn a_read_after_an_invalidation_does_not_join_the_older_load() {
    let (cache, _) = during_a_load(async |cache| {
        cache.invalidate(&7).await.unwrap();
        let answer = cache.get_or_load(&7, || async { Ok::<_, io::Error>(2) }).await.unwrap();
        assert_eq!(answer, 2);
    })
    .await;
    assert_eq!(cache.get(&7).await, Some(2), "and the older load does not overwrite the newer");
}

#[tokio::test]
async fn a_load_that_landed_between_a_miss_and_its_flight_is_not_run_again() {
    let tier = Watched::new();
    let cache = Cache::builder("t").l1(tier.clone()).build().unwrap();
    tier.after_look(|tier, hash, now| {
        let later = now.after(seconds(60));
        let stamp = Stamp { created: now, soft: later, hard: later, last: later };
        tier.insert(hash, 7, 70, &stamp.into(), now, &|| true);
    });
    let again = || async { Err::<u64, _>(io::Error::other("loaded again")) };
    assert_eq!(cache.get_or_load(&7, again).await.unwrap(), 70);
    assert_eq!((cache.stats().loads, cache.stats().coalesced), (0, 1));
}

/// A tier, and a cache over it whose key 7 is past its hard life and before its last.
async fn with_a_last_resort() -> (Watched, TieredCache<u64, u64, Watched>) {
    let (hands, tier) = (ManualClock::new(), Watched::new());
    let ttl = Ttl::seconds(10).stale_if_error(seconds(60));
    let cache = Cache::builder("t").l1(tier.clone()).ttl(ttl).clock(hands.clock()).build().unwrap();
    cache.insert(&7, 1).await.unwrap();
    hands.advance(seconds(20));
    (tier, cache)
}

async fn failing() -> Result<u64, io::Error> {
    Err(io::Error::other("down"))
}

#[tokio::test]
async fn a_last_resort_that_was_invalidated_before_the_load_began_is_none() {
    let (tier, cache) = with_a_last_resort().await;
    tier.after_look(|tier, hash, _| _ = tier.remove(hash, &7, None, &|| ()));
    assert_eq!(cache.get_or_load(&7, failing).await.unwrap_err().kind(), ErrorKind::Origin);
    assert_eq!(tier.len(), 0, "and it does not come back");
}

/// A load begins between the poison and the removal: it looks into L1 under a live ticket, and the entry is there.
async fn as_a_load_begins(invalidate: impl AsyncFnOnce(&TieredCache<u64, u64, Watched>)) {
    let (tier, cache) = with_a_last_resort().await;
    let (tell, told) = std::sync::mpsc::channel();
    tier.before_removal({
        let cache = cache.clone();
        move || {
            let mut load = Box::pin(async move { cache.get_or_load(&7, failing).await });
            assert!(load.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
            tell.send(load).unwrap();
        }
    });
    invalidate(&cache).await;
    assert_eq!(told.recv().unwrap().await.unwrap_err().kind(), ErrorKind::Origin);
    assert_eq!(cache.stats().stale_if_error, 0);
}

#[tokio::test]
async fn a_last_resort_that_is_invalidated_as_the_load_begins_is_none() {
    as_a_load_begins(async |cache| {
        cache.invalidate(&7).await.unwrap();
    })
    .await;
    as_a_load_begins(async |cache| cache.clear().await.map(drop).unwrap()).await;
    as_a_load_begins(async |cache| cache.invalidate_prefix(&KeyPrefix::text("7")).await.map(drop).unwrap()).await;
}

#[tokio::test]
async fn a_closed_cache_keeps_no_values() {
    let cache = TieredCache::<u64, Arc<u64>>::builder("t").l1(MemoryTier::new(100_000)).build().unwrap();
    let values: Vec<_> = (0..1_000).map(Arc::new).collect();
    for (key, value) in values.iter().enumerate() {
        cache.insert(&(key as u64), value.clone()).await.unwrap();
    }
    cache.invalidate(&7).await.unwrap();
    assert!(values.iter().any(|value| Arc::strong_count(value) > 1));
    cache.close(Duration::ZERO).await;
    assert_eq!(values.iter().filter(|value| Arc::strong_count(value) > 1).count(), 0, "though somebody still has the cache");
}

#[tokio::test]
async fn an_insert_that_runs_after_a_close_is_not_kept() {
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    let mut insert = std::pin::pin!(cache.insert(&7, 1));
    // Its task has been started, and gets its first turn behind the close.
    std::future::poll_fn(|cx| std::task::Poll::Ready(insert.as_mut().poll(cx).is_pending())).await;
    cache.close(Duration::ZERO).await;
    let _ = insert.await;
    assert_eq!(cache.get_local(&7), None);
}

#[tokio::test]
async fn a_load_that_lands_after_a_close_is_not_kept() {
    let slow = Slow::new();
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    let caller = tokio::spawn({
        let (cache, slow) = (cache.clone(), slow.clone());
        async move { cache.get_or_load(&7, move || slow.load(1)).await }
    });
    slow.has_begun().await;
    assert_eq!(cache.close(Duration::ZERO).await.unfinished, 1);
    slow.let_go();
    assert_eq!(caller.await.unwrap().unwrap(), 1);
    assert_eq!(cache.get_local(&7), None);
}

#[tokio::test]
async fn an_invalidation_of_another_key_does_not_keep_a_load_out() {
    let (cache, _) = during_a_load(async |cache| {
        cache.invalidate(&8).await.unwrap();
    })
    .await;
    assert_eq!(cache.get(&7).await, Some(1));
}

#[tokio::test]
async fn a_write_commits_first_and_the_next_read_loads() {
    let row = Arc::new(AtomicU64::new(1));
    let (read, write) = (row.clone(), row.clone());
    let cache = Cache::builder("t")
        .l1(MemoryTier::new(10))
        .origin(move |_| {
            let value = read.load(Ordering::SeqCst);
            async move { Ok::<_, io::Error>(value) }
        })
        .writer(move |_, value| {
            let row = write.clone();
            async move {
                if value == 13 {
                    row.store(value, Ordering::SeqCst);
                    return Err(io::Error::other("the commit's outcome is not known"));
                }
                row.store(value, Ordering::SeqCst);
                Ok(())
            }
        })
        .build()
        .unwrap();
    assert_eq!(cache.load(&1).await.unwrap(), 1);
    cache.write(&1, 2).await.unwrap();
    assert_eq!(cache.load(&1).await.unwrap(), 2);
    assert_eq!(cache.write(&1, 13).await.unwrap_err().kind(), ErrorKind::Origin);
    assert_eq!(cache.load(&1).await.unwrap(), 13, "a failed write may have committed: it invalidates");
    let (value, _) = cache.write_with(&1, || async { Ok::<_, io::Error>(5) }).await.unwrap();
    assert_eq!(value, 5);
}

#[tokio::test]
async fn a_cancelled_write_still_invalidates() {
    let slow = Slow::new();
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    cache.insert(&1, 1).await.unwrap();
    let writer = tokio::spawn({
        let (cache, slow) = (cache.clone(), slow.clone());
        async move { cache.write_with(&1, move || slow.load(2)).await }
    });
    slow.has_begun().await;
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    slow.let_go();
    until("the write has invalidated", || cache.get_local(&1).is_none()).await;
}

#[tokio::test]
async fn every_lookup_is_one_hit_or_one_miss() {
    let origin = Counting::default();
    let cache = origin.cache(&ManualClock::new(), Ttl::minutes(1));
    for key in 0..10 {
        cache.load(&key).await.unwrap();
        cache.load(&key).await.unwrap();
        cache.get(&(key + 100)).await;
    }
    assert_eq!(cache.get_many(&[0, 1, 200]).await, [Some(1), Some(2), None]);
    let stats = cache.stats();
    assert_eq!((stats.lookups(), stats.l1.hits, stats.l1.misses, stats.loads), (33, 12, 21, 10));
    assert!((stats.hit_rate() - 12.0 / 33.0).abs() < 1e-9);
    assert!((stats.recent.hit_rate() - 12.0 / 33.0).abs() < 1e-9);
}

#[tokio::test]
async fn keys_are_looked_up_borrowed() {
    let cache = TieredCache::<String, u64>::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    cache.insert(&"a".to_owned(), 1).await.unwrap();
    assert_eq!(cache.get("a").await, Some(1));
    assert_eq!(cache.get_local("a"), Some(1));
    assert_eq!(cache.get_or_load("b", || async { Ok::<_, io::Error>(2) }).await.unwrap(), 2);
    cache.insert("c", 3).await.unwrap();
    cache.invalidate("a").await.unwrap();
    assert_eq!((cache.get("a").await, cache.get("c").await), (None, Some(3)));
}

#[tokio::test]
async fn a_shared_cache_offers_what_the_concrete_one_does() {
    let cache: SharedCache<u64, u64> = Arc::new(Counting::default().cache(&ManualClock::new(), Ttl::minutes(1)));
    assert_eq!(cache.load(&1).await.unwrap(), 1);
    assert_eq!(cache.get(&1).await, Some(1));
    assert_eq!(cache.load_cached(&1).await.unwrap().tier, Tier::L1);
    assert_eq!(cache.get_cached(&9).await.unwrap(), None);
    assert_eq!(cache.get_or_load(&2, || async { Ok::<_, io::Error>(20) }).await.unwrap(), 20);
    assert_eq!(cache.get_many(&[1, 2, 3]).await, [Some(1), Some(20), None]);
    cache.insert(&3, 30).await.unwrap();
    cache.invalidate(&1).await.unwrap();
    assert_eq!(cache.get(&1).await, None);
    cache.clear().await.unwrap();
    assert_eq!(cache.get(&3).await, None);
    assert_eq!(cache.write(&1, 1).await.unwrap_err().kind(), ErrorKind::NoOrigin);
    assert_eq!(cache.stats().inserts, 1);
    let again: SharedCache<u64, u64> = Arc::new(cache);
    assert_eq!(again.get(&1).await, None, "a shared cache of a shared cache does not call itself");
}

#[tokio::test(start_paused = true)]
async fn a_closed_cache_answers_nothing_and_waits_for_what_runs() {
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    cache.insert(&1, 1).await.unwrap();
    let slow = || async {
        tokio::time::sleep(seconds(2)).await;
        Ok::<_, io::Error>(2)
    };
    let caller = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load(&2, slow).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(cache.close(seconds(1)).await.unfinished, 1);
    assert_eq!(cache.close(seconds(10)).await.unfinished, 0);
    assert_eq!(caller.await.unwrap().unwrap(), 2, "who waited gets an answer");
    assert_eq!(cache.get(&1).await, None);
    assert_eq!(cache.get(&2).await, None);
    assert_eq!(cache.load(&1).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(cache.insert(&1, 1).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(cache.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn without_a_runtime_a_load_is_an_error_and_a_hit_is_a_hit() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    runtime.block_on(cache.insert(&1, 1)).unwrap();
    let outside = futures_util_noop(cache.load(&2));
    assert!(outside.is_err());
    assert_eq!(futures_util_noop(cache.load(&1)).unwrap(), 1);
}

/// Polls a future that must be ready at once.
fn futures_util_noop<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("pending"),
    }
}

#[test]
fn the_builder_refuses_nonsense_and_says_what_to_do() {
    let tier = || MemoryTier::<u64, u64>::new(10);
    let cases: Vec<(cachestack::Result<Cache>, &str)> = vec![
        (Cache::builder("t").l1(MemoryTier::new(0)).build(), "capacity of zero"),
        (Cache::builder("").l1(tier()).build(), "name"),
        (Cache::builder("a b").l1(tier()).build(), "name"),
        (Cache::builder("t").prefix("a:b").l1(tier()).build(), "prefix"),
        (Cache::builder("t").l1(tier()).ttl(Ttl::seconds(0)).build(), "TTL"),
        (
            Cache::builder("t").l1(tier()).ttl(Ttl::seconds(1).stale_for(seconds(60)).stale_if_error(seconds(1))).build(),
            "stale_if_error",
        ),
        (Cache::builder("t").l1(tier()).load_timeout(Duration::ZERO).build(), "load_timeout"),
        (Cache::builder("t").l1(tier()).load_timeout(seconds(61)).build(), "load_timeout"),
        (Cache::builder("t").l1(tier()).lease(Duration::ZERO).build(), "lease"),
    ];
    for (built, word) in cases {
        let err = built.map(drop).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Config);
        assert!(err.to_string().contains(word), "{err}");
    }
    let err = cache_core::TieredCache::<u64, u64>::builder("t").build().map(drop).unwrap_err();
    assert!(err.to_string().contains("no tier"), "{err}");
}

#[tokio::test]
async fn a_life_of_a_thousand_years_is_simply_long() {
    let (hands, origin) = (ManualClock::new(), Counting::default());
    let cache = origin.cache(&hands, Ttl::hours(1_000 * 365 * 24));
    cache.load(&1).await.unwrap();
    hands.advance(seconds(100 * 365 * 86_400));
    assert_eq!(cache.load(&1).await.unwrap(), 1);
}

/// Who knows how one process places its keys knows nothing about another.
#[tokio::test]
async fn e5_the_same_key_hashes_to_something_else_in_each_cache() {
    let hash = async || {
        let (tier, seen) = (Watched::new(), Arc::new(AtomicU64::new(0)));
        let noted = seen.clone();
        tier.after_look(move |_, hash, _| noted.store(hash, Ordering::SeqCst));
        let cache = TieredCache::<u64, u64>::builder("t").l1(tier).build().unwrap();
        assert_eq!(cache.get(&7).await, None);
        seen.load(Ordering::SeqCst)
    };
    let hashes = [hash().await, hash().await, hash().await];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && !hashes.contains(&0), "{hashes:x?}");
}
