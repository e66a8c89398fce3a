//! The layers together: what a service gets from a tier that is ill.

use super::support::{MS, Scripted, call, get, kind};
use crate::clock::ManualClock;
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::layers::{
    Breaker, BreakerRules, BreakerState, Bulkhead, BulkheadRules, Guarded, Observed, Retry, RetryRules, Timeout, Verb,
};
use crate::stack::TieredCache;
use crate::testing::{Chaos, ChaosTier};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

const LOST: Option<ErrorKind> = Some(ErrorKind::Unavailable);

type Tier = Guarded<ChaosTier<EmbeddedTier>>;

/// With 50 ms for a call, 10 of which are for the queue.
fn guarded(hands: &ManualClock) -> (Tier, ChaosTier<EmbeddedTier>) {
    let inside = ChaosTier::new(EmbeddedTier::new());
    (Guarded::builder(inside.clone()).timeout(50 * MS).concurrency(8, 100).clock(hands.clock()).build(), inside)
}

#[tokio::test(start_paused = true)]
async fn every_call_of_a_tier_that_hangs_ends_within_its_time() {
    let (tier, inside) = guarded(&ManualClock::new());
    inside.set(Chaos::Held);
    for verb in Verb::ALL.into_iter().filter(|&verb| verb != Verb::Clear) {
        let began = Instant::now();
        let answers = join_all((0..200).map(|_| async {
            let answer = kind(call(&tier, verb).await);
            // The timer's resolution, for each of two timers.
            assert!(began.elapsed() <= 52 * MS, "{verb:?}: {answer:?} after {:?}", began.elapsed());
            answer
        }));
        assert!(answers.await.iter().all(Option::is_some), "{verb:?}");
    }
    assert_eq!((tier.bulkhead().inside, tier.bulkhead().waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_had_to_queue_ends_within_its_time_too() {
    let (tier, inside) = guarded(&ManualClock::new());
    inside.set(Chaos::Held);
    let start = || {
        let tier = tier.clone();
        tokio::spawn(async move { get(&tier).await })
    };
    let places: Vec<_> = (0..8).map(|_| start()).collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    let queued = start();
    tokio::task::yield_now().await;
    tokio::time::advance(9 * MS).await;
    places[0].abort();
    assert_eq!(kind(queued.await.unwrap()), Some(ErrorKind::Timeout), "it had a place");
    assert!(began.elapsed() <= 52 * MS, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn with_the_breaker_open_a_read_waits_for_nothing_and_heals_by_itself() {
    let hands = ManualClock::new();
    let (tier, inside) = guarded(&hands);
    inside.set(Chaos::Held);
    join_all((0..20).map(|_| get(&tier))).await;
    join_all((0..20).map(|_| get(&tier))).await;
    assert_eq!(tier.reads().state, BreakerState::Open);
    let before = inside.calls();
    for _ in 0..1_000 {
        assert_eq!(kind(get(&tier).now_or_never().expect("a refusal waits for nothing")), LOST);
    }
    assert_eq!(inside.calls(), before);
    inside.set(Chaos::Calm);
    hands.advance(100 * MS);
    for _ in 0..3 {
        assert_eq!(kind(get(&tier).await), None);
    }
    assert_eq!(tier.reads().state, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_costs_a_read_one_repeat_and_the_breaker_hears_nothing() {
    let inside = Scripted::new(EmbeddedTier::new());
    let tier = Guarded::new(inside.clone());
    for _ in 0..5 {
        inside.next(&[LOST]);
        assert_eq!(kind(get(&tier).await), None);
    }
    assert_eq!((tier.retries().repeats, tier.reads().recent_failures), (5, 0));
    assert_eq!(tier.calls().of(Verb::Get).errors(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_the_breaker_opens_the_queue_is_empty_at_once() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    let rules = BreakerRules::default().in_a_row(1);
    let tier = Guarded::builder(inside.clone()).timeout(Duration::from_secs(1)).concurrency(1, 100).breaker(rules).build();
    inside.set(Chaos::Held);
    let first = tokio::spawn({
        let tier = tier.clone();
        async move { get(&tier).await }
    });
    tokio::task::yield_now().await;
    let began = Instant::now();
    tokio::time::advance(700 * MS).await;
    let queued = join_all((0..50).map(|_| async { (kind(get(&tier).await), began.elapsed()) })).await;
    assert!(first.await.unwrap().is_err());
    // The call inside ends after 800 ms; those who queue behind it would wait for 200 ms of their own.
    assert!(queued.iter().all(|(answer, after)| *answer == LOST && *after <= 802 * MS), "{queued:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cache_serves_loads_within_the_timeout_while_its_second_level_hangs() {
    let (tier, inside) = guarded(&ManualClock::new());
    let cache = TieredCache::<u64, u64>::builder("n").l2(tier.clone()).build().unwrap();
    inside.set(Chaos::Held);
    for id in 0..30 {
        let began = Instant::now();
        assert_eq!(cache.get_or_load(&id, move || async move { Ok::<_, std::io::Error>(id * 2) }).await.unwrap(), id * 2);
        // Ten failures open the breaker.
        let limit = if id < 10 { 52 * MS } else { Duration::ZERO };
        assert!(began.elapsed() <= limit, "{id}: {:?}", began.elapsed());
    }
    let began = Instant::now();
    assert_eq!(cache.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Timeout, "it was tried, and says so");
    assert!(began.elapsed() <= 52 * MS);
}

/// The wrong stack of the documentation does what is said of it.
#[tokio::test(start_paused = true)]
async fn a_timeout_outside_blinds_the_breaker() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    let wrong = Bulkhead::new(Observed::new(inside.clone()), BulkheadRules::default());
    let wrong = Retry::new(Breaker::new(wrong, BreakerRules::default()), RetryRules::default());
    let wrong = Timeout::new(wrong, 50 * MS);
    for _ in 0..100 {
        assert_eq!(kind(get(&wrong).await), Some(ErrorKind::Timeout));
    }
    assert_eq!(wrong.inner().inner().reads().state, BreakerState::Closed);
    assert_eq!(inside.calls(), 100, "each waited for the whole timeout");
}
