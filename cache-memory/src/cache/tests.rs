use super::{Compute, Computed, Expiry, MemoryCache, MemoryStats};
use crate::{Cause, Policy};
use cache_core::ManualClock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn cache() -> MemoryCache<String, u64> {
    MemoryCache::builder().capacity(1_000).build()
}

fn counted(cache: &MemoryCache<impl Eq + Send + Sync + 'static, impl Send + Sync + 'static>) -> (u64, u64) {
    let MemoryStats { hits, misses, .. } = cache.stats();
    (hits, misses)
}

#[test]
fn reads_of_all_threads_are_counted_exactly() {
    // More threads in turn than have cells of their own, and as many at once as there are.
    let (turns, at_once, reads) = if cfg!(miri) { (2, 3, 4) } else { (40, 8, 300) };
    let cache = MemoryCache::<u64, u64>::builder().capacity(100).build();
    (0..50).for_each(|key| _ = cache.insert(key, key));
    for _ in 0..turns {
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    (0..reads).for_each(|key| assert_eq!(cache.get(&(key % 100)), (key % 100 < 50).then_some(key % 100)));
                });
            }
        });
    }
    let hits = (0..reads).filter(|key| key % 100 < 50).count() as u64;
    assert_eq!(counted(&cache), (turns * at_once * hits, turns * at_once * (reads - hits)));
}

#[test]
fn more_threads_at_once_than_have_cells_are_counted_too() {
    let threads = if cfg!(miri) { 5 } else { 400 };
    let cache = MemoryCache::<u64, u64>::builder().capacity(100).build();
    cache.insert(1, 1);
    let all = std::sync::Barrier::new(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // A number is had from the first read on.
                cache.get(&1);
                all.wait();
                (0..10).for_each(|_| _ = cache.get(&2));
                all.wait();
            });
        }
    });
    assert_eq!(counted(&cache), (threads as u64, 10 * threads as u64));
}

#[test]
fn what_is_no_read_is_not_counted() {
    let cache = cache();
    cache.insert("a".to_owned(), 1);
    assert!(cache.contains_key("a") && !cache.contains_key("b"));
    assert_eq!(cache.compute("a".to_owned(), |held| Compute::Put(held.unwrap_or(&0) + 1)), Computed::Stored);
    assert_eq!(cache.and_modify("b", |value| value + 1), Computed::Kept);
    assert_eq!(cache.iter().collect::<Vec<_>>(), [("a".to_owned(), 2)]);
    cache.remove("b");
    cache.sweep();
    assert_eq!(counted(&cache), (0, 0));
    assert_eq!(cache.get("a"), Some(2));
    assert_eq!(cache.with("b", |_| ()), None);
    let stats = cache.stats();
    assert_eq!(stats, MemoryStats { hits: 1, misses: 1, evictions: 0, entries: 1, weight: 1 });
}

#[test]
fn evictions_entries_and_weights_are_counted() {
    let cache = MemoryCache::<u64, u64>::builder().capacity(100).shards(1).weigher(|_, value| *value as u32).build();
    (0..30).for_each(|key| assert!(cache.insert(key, 10)));
    assert!(!cache.insert(99, 101) && !cache.contains_key(&99));
    let stats = cache.stats();
    assert_eq!((stats.evictions, stats.entries, stats.weight), (20, 10, 100));
    assert_eq!((cache.len(), cache.capacity(), cache.is_empty()), (10, 100, false));
    cache.resize(55);
    assert_eq!((cache.len(), cache.capacity()), (5, 55));
    cache.clear();
    assert!(cache.is_empty());
}

#[test]
fn an_entry_lives_as_long_as_the_cache_says_or_as_it_says_itself() {
    let hands = ManualClock::new();
    let cache = MemoryCache::builder().clock(hands.clock()).time_to_live(60 * SECOND).build();
    cache.insert("cache's", ());
    cache.insert_for("its own", (), Expiry { time_to_live: Some(90 * SECOND), time_to_idle: None });
    cache.insert_for("for ever", (), Expiry::default());
    let there = || ["cache's", "its own", "for ever"].map(|key| cache.contains_key(key));
    hands.advance(59 * SECOND);
    assert_eq!(there(), [true, true, true]);
    hands.advance(SECOND);
    assert_eq!(there(), [false, true, true]);
    assert_eq!(cache.get("cache's"), None);
    hands.advance(30 * SECOND);
    assert_eq!(there(), [false, false, true]);
    assert_eq!(cache.iter().count(), 1, "the dead are not among the entries");
    assert_eq!(cache.len(), 3, "nobody has met them yet");
    cache.sweep();
    assert_eq!(cache.len(), 1);
    hands.advance(Duration::from_secs(100 * 365 * 86_400));
    assert_eq!(there(), [false, false, true]);
}

#[test]
fn an_entry_that_is_read_is_not_idle() {
    let hands = ManualClock::new();
    let builder = MemoryCache::builder().clock(hands.clock()).time_to_idle(10 * SECOND).time_to_live(100 * SECOND);
    let cache = builder.build();
    cache.insert("read", 1);
    cache.insert("looked for", 1);
    cache.insert("left", 1);
    for _ in 0..11 {
        hands.advance(9 * SECOND);
        assert_eq!(cache.get("read"), Some(1));
        let _ = cache.contains_key("looked for");
    }
    assert!(!cache.contains_key("looked for") && !cache.contains_key("left"), "a look is no use");
    hands.advance(SECOND);
    assert_eq!(cache.get("read"), None, "however often it is read it ends");
}

#[test]
fn a_value_is_made_once_for_a_key_and_then_found() {
    let cache = MemoryCache::<u64, u64>::builder().capacity(100).build();
    let made = AtomicU64::new(0);
    let value = || cache.get_or_insert_with(7, || made.fetch_add(1, Ordering::Relaxed) + 100);
    assert_eq!([value(), value(), value()], [100; 3]);
    assert_eq!((made.load(Ordering::Relaxed), counted(&cache)), (1, (2, 1)));
    cache.remove(&7);
    assert_eq!(value(), 101);
}

#[test]
fn a4_an_insert_during_a_making_wins_and_the_maker_gets_it() {
    let cache = MemoryCache::builder().build();
    let (made, inserted) = (Arc::new(7), Arc::new(50));
    let got = cache.get_or_insert_with(1, || {
        assert!(cache.insert(1, inserted.clone()));
        made.clone()
    });
    assert!(Arc::ptr_eq(&got, &inserted) && Arc::ptr_eq(&cache.get(&1).unwrap(), &inserted));
    assert_eq!((Arc::strong_count(&made), Arc::strong_count(&inserted)), (1, 3), "what was made in vain is dropped");
}

#[test]
fn a4_callers_at_once_all_get_the_value_that_was_stored_first() {
    for _ in 0..if cfg!(miri) { 2 } else { 200 } {
        let cache = MemoryCache::<u64, u64>::builder().capacity(100).build();
        let (number, barrier) = (AtomicU64::new(0), std::sync::Barrier::new(4));
        let get = || {
            barrier.wait();
            cache.get_or_insert_with(1, || number.fetch_add(1, Ordering::Relaxed))
        };
        let got: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(get)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let stored = cache.get(&1).unwrap();
        assert!(got.iter().all(|value| *value == stored), "{got:?}, stored {stored}");
    }
}

#[test]
fn a_value_too_heavy_to_keep_is_made_and_returned_all_the_same() {
    let cache = MemoryCache::<u64, u64>::builder().capacity(10).shards(1).weigher(|_, _| 11).build();
    let mut made = 0;
    let mut next = || {
        made += 1;
        made
    };
    assert_eq!((cache.get_or_insert_with(1, &mut next), cache.get_or_insert_with(1, &mut next)), (1, 2));
    assert!(cache.is_empty() && made == 2);
}

#[test]
fn a_making_that_panics_stores_nothing() {
    let cache = cache();
    let make = || cache.get_or_insert_with("a".to_owned(), || std::panic::resume_unwind(Box::new("on purpose")));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).is_err());
    assert!(cache.is_empty() && cache.get_or_insert_with("a".to_owned(), || 3) == 3);
}

#[test]
fn compute_and_and_modify_say_what_they_did() {
    use Computed::{Kept, Overtaken, Refused, Removed, Stored};
    let cache = MemoryCache::<String, u64>::builder().capacity(100).shards(1).weigher(|_, value| *value as u32).build();
    let compute = |what: Compute<u64>| cache.compute("a".to_owned(), |_| what);
    assert_eq!([compute(Compute::Keep), compute(Compute::Remove)], [Kept; 2]);
    assert_eq!([compute(Compute::Put(1)), compute(Compute::Put(2)), compute(Compute::Keep)], [Stored, Stored, Kept]);
    assert_eq!(cache.get("a"), Some(2));
    assert_eq!((compute(Compute::Remove), cache.len()), (Removed, 0));
    let modify = |by: u64| cache.and_modify("a", |value| value + by);
    assert_eq!((modify(1), cache.len()), (Kept, 0));
    cache.insert("a".to_owned(), 5);
    assert_eq!((modify(1), cache.get("a")), (Stored, Some(6)));
    assert_eq!((modify(200), cache.get("a")), (Refused, None));
    assert_eq!((compute(Compute::Put(5)), compute(Compute::Put(200)), cache.len()), (Stored, Refused, 0));
    if cfg!(miri) {
        return;
    }
    cache.insert("a".to_owned(), 5);
    let overtaking = |value: &u64| {
        cache.insert("a".to_owned(), *value % 50 + 1);
        70
    };
    assert_eq!(cache.and_modify("a", overtaking), Overtaken);
    assert!(cache.get("a").is_some_and(|value| value <= 50), "as the others left it");
}

#[test]
fn a_modified_entry_has_the_time_of_each_run() {
    let hands = ManualClock::new();
    let cache = MemoryCache::<&str, u64>::builder().clock(hands.clock()).time_to_live(10 * SECOND).build();
    cache.insert("a", 1);
    // The first run is overtaken, and by the second one what was written then has ended.
    let mut seen = Vec::new();
    let done = cache.and_modify("a", |value| {
        seen.push(*value);
        cache.insert("a", 2);
        hands.advance(10 * SECOND);
        3
    });
    assert_eq!((done, seen), (Computed::Kept, vec![1]));
    let mut seen = Vec::new();
    let done = cache.compute("a", |value| {
        seen.push(value.copied());
        if seen.len() == 1 {
            cache.insert("a", 4);
        }
        hands.advance(10 * SECOND);
        Compute::Put(5)
    });
    // By the time it is to be stored, what came meanwhile has ended: nothing is there, as it saw.
    assert_eq!((done, seen, cache.get("a")), (Computed::Stored, vec![None], Some(5)));
    hands.advance(9 * SECOND);
    assert_eq!(cache.get("a"), Some(5), "its life began when it was stored");
}

#[test]
fn what_is_modified_is_found_by_a_borrowed_key() {
    let cache = cache();
    cache.insert("a".to_owned(), 1);
    let borrowed: &str = &String::from("a");
    assert_eq!(cache.and_modify(borrowed, |value| value + 1), Computed::Stored);
    assert_eq!(cache.iter().collect::<Vec<_>>(), [("a".to_owned(), 2)]);
}

#[test]
fn a_computed_value_has_the_cache_s_life_anew() {
    let hands = ManualClock::new();
    let cache = MemoryCache::builder().clock(hands.clock()).time_to_live(10 * SECOND).build();
    cache.insert("a", 1);
    hands.advance(6 * SECOND);
    assert_eq!(cache.and_modify("a", |value| value + 1), Computed::Stored);
    hands.advance(6 * SECOND);
    assert_eq!(cache.get("a"), Some(2));
    hands.advance(4 * SECOND);
    assert_eq!(cache.and_modify("a", |value| value + 1), Computed::Kept, "what has ended is not there to be modified");
    assert_eq!(cache.compute("a", |held| Compute::Put(held.copied().unwrap_or(70))), Computed::Stored);
    assert_eq!(cache.get("a"), Some(70));
}

#[test]
fn threads_that_add_at_once_lose_nothing() {
    let (threads, times) = if cfg!(miri) { (2, 5) } else { (4, 2_000) };
    let cache = MemoryCache::<&str, u64>::builder().capacity(100).build();
    cache.insert("modified", 0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..times {
                    assert_eq!(cache.and_modify("modified", |count| count + 1), Computed::Stored);
                    let count = |count: Option<&u64>| Compute::Put(count.map_or(1, |count| count + 1));
                    assert_eq!(cache.compute("computed", count), Computed::Stored);
                }
            });
        }
    });
    assert_eq!((cache.get("modified"), cache.get("computed")), (Some(threads * times), Some(threads * times)));
}

#[test]
fn entries_are_visited_once_while_others_come_and_go() {
    let cache = MemoryCache::<u64, u64>::builder().capacity(100_000).shards(4).build();
    let half = if cfg!(miri) { 10 } else { 500 };
    (0..half).for_each(|key| _ = cache.insert(key, key));
    let mut seen = BTreeMap::new();
    for (key, value) in cache.iter() {
        assert_eq!((key % (2 * half), seen.insert(key, value)), (value, None));
        cache.insert(2 * half + key % (2 * half), value);
        cache.remove(&(key + half));
    }
    assert!((0..half).all(|key| seen.contains_key(&key)), "what was there all the time is visited");
    cache.clear();
    assert_eq!(cache.iter().count(), 0);
}

#[test]
fn the_builder_s_listener_and_policy_are_the_tier_s() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = told.clone();
    let builder = MemoryCache::<u64, u64>::builder().capacity(2).shards(1).policy(Policy::Lru);
    let cache = builder.listener(move |key, value, cause| tell.lock().unwrap().push((*key, *value, cause))).build();
    cache.insert(1, 10);
    cache.insert(1, 11);
    cache.insert(2, 20);
    cache.get(&1);
    cache.insert(3, 30);
    cache.remove(&1);
    let expected = [(1, 10, Cause::Replaced), (2, 20, Cause::Size), (1, 11, Cause::Removed)];
    assert_eq!(*told.lock().unwrap(), expected);
}

#[test]
fn debug_says_no_keys() {
    let cache = cache();
    cache.insert("secret".to_owned(), 1);
    assert!(!format!("{cache:?}").contains("secret"));
}
