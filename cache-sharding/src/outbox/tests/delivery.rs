//! What is delivered, when, and when again.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{self, Instant};

use super::fake::Fake;
use super::{Seen, millis, secs, until};
use crate::outbox::{Claimed, Error, Relay};

#[tokio::test(start_paused = true)]
async fn rows_are_delivered_once_and_deleted() {
    let (table, seen) = (Fake::with_rows(250), Seen::default());
    let noted = seen.clone();
    let relay = Relay::builder(table.clone())
        .start(move |claimed: Claimed| {
            noted.note(&claimed);
            async { Ok::<_, ()>(()) }
        })
        .unwrap();
    until(|| table.rows().is_empty()).await;
    assert!(seen.keys().into_iter().eq(0..250));
    let deleted: Vec<i64> = table.deletes().concat();
    assert_eq!(deleted.len(), 250, "each is deleted once, and nothing else is");
    until(|| relay.stats().in_hand == 0).await;
    let stats = relay.stats();
    assert_eq!((stats.delivered, stats.failed, stats.retried, stats.store_errors), (250, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn full_batches_follow_at_once_and_others_after_the_interval() {
    let table = Fake::with_rows(25);
    let began = Instant::now();
    let _relay = Relay::builder(table.clone()).batch(NonZeroU32::new(10).unwrap()).start(|_| async { Ok::<_, ()>(()) }).unwrap();
    until(|| table.claims().len() == 5).await;
    let claims = table.claims();
    assert!(claims.iter().all(|(_, most, _)| *most == 10));
    assert_eq!(claims.iter().map(|(.., given)| *given).collect::<Vec<_>>(), [10, 10, 5, 0, 0]);
    assert!(claims[2].0 - began < millis(20), "{:?}", claims[2].0 - began);
    for pair in claims[2..].windows(2) {
        let pause = pair[1].0 - pair[0].0;
        assert!(pause >= millis(200) && pause < millis(210), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_does_not_wait_for_the_interval() {
    let (table, seen) = (Fake::default(), Seen::default());
    let noted = seen.clone();
    let relay = Relay::builder(table.clone()).poll_every(secs(3600)).start(move |claimed: Claimed| {
        noted.note(&claimed);
        async { Ok::<_, ()>(()) }
    });
    let relay = relay.unwrap();
    until(|| table.claims().len() == 1).await;
    time::sleep(secs(1)).await;
    let added = Instant::now();
    table.add("topic", 7);
    relay.wake();
    until(|| seen.keys() == [7]).await;
    assert!(added.elapsed() < millis(20), "{:?}", added.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_fails_is_tried_again_with_growing_pauses_and_holds_up_no_others() {
    let (table, seen) = (Fake::with_rows(50), Seen::default());
    let (noted, began) = (seen.clone(), Instant::now());
    let relay = Relay::builder(table.clone()).poll_every(millis(1)).start(move |claimed: Claimed| {
        let fails = noted.note(&claimed) == 3 && claimed.attempt < 10;
        async move { if fails { Err(()) } else { Ok(()) } }
    });
    let relay = relay.unwrap();
    until(|| table.rows() == [3]).await;
    assert!(began.elapsed() < millis(100), "the others took {:?}", began.elapsed());
    until(|| table.rows().is_empty()).await;

    let attempts: Vec<u32> = seen.all().into_iter().filter(|(_, key, _)| *key == 3).map(|(.., attempt)| attempt).collect();
    assert!(attempts.into_iter().eq(1..=10), "attempts are counted in the row");
    let pauses = seen.pauses_of(3);
    for (pause, whole) in pauses.iter().zip([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]) {
        assert!(*pause >= millis(whole / 2) && *pause <= millis(whole + 10), "{pause:?} of {whole} ms: {pauses:?}");
    }
    let stats = relay.stats();
    assert_eq!((stats.delivered, stats.failed, stats.retried), (50, 9, 9));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_whether_before_the_first_await_or_after() {
    let (table, seen) = (Fake::with_rows(3), Seen::default());
    let noted = seen.clone();
    let relay = Relay::builder(table.clone()).start(move |claimed: Claimed| {
        let key = noted.note(&claimed);
        assert!(claimed.attempt > 1 || key != 0, "at the call");
        async move {
            tokio::task::yield_now().await;
            assert!(claimed.attempt > 1 || key != 1, "later");
            Ok::<_, ()>(())
        }
    });
    let relay = relay.unwrap();
    until(|| table.rows().is_empty()).await;
    assert_eq!(seen.keys(), [0, 0, 1, 1, 2]);
    let stats = relay.stats();
    assert_eq!((stats.delivered, stats.failed, stats.panicked), (3, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_hangs_fails_at_the_timeout_and_holds_up_no_others() {
    let (table, seen) = (Fake::with_rows(200), Seen::default());
    let (noted, began) = (seen.clone(), Instant::now());
    let relay = Relay::builder(table.clone()).timeout(secs(2)).start(move |claimed: Claimed| {
        let hangs = noted.note(&claimed) < 8 && claimed.attempt == 1;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<_, ()>(())
        }
    });
    let relay = relay.unwrap();
    until(|| table.rows().len() == 8).await;
    assert!(began.elapsed() < millis(100), "the others took {:?}", began.elapsed());
    assert_eq!(relay.stats().in_hand, 8);
    until(|| table.rows().is_empty()).await;
    assert!(began.elapsed() >= secs(2) && began.elapsed() < secs(3), "{:?}", began.elapsed());
    let stats = relay.stats();
    assert_eq!((stats.delivered, stats.failed, stats.timed_out, stats.retried), (200, 8, 8, 8));
}

#[tokio::test(start_paused = true)]
async fn no_more_deliveries_run_at_once_than_are_allowed() {
    let table = Fake::with_rows(60);
    let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = peak.clone();
    let _relay = Relay::builder(table.clone()).concurrency(NonZeroUsize::new(5).unwrap()).start(move |_| {
        let (running, highest) = (running.clone(), highest.clone());
        async move {
            highest.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            time::sleep(millis(10)).await;
            running.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, ()>(())
        }
    });
    until(|| table.rows().is_empty()).await;
    assert_eq!(peak.load(Ordering::Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_start_no_relay() {
    let started = Relay::builder(Fake::default()).lease(secs(5)).start(|_| async { Ok::<_, ()>(()) });
    assert!(matches!(started, Err(Error::Setting { name: "lease", .. })), "{started:?}");
}
