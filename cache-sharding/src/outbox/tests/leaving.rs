//! How a relay ends.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::time::{self, Instant};

use super::fake::{Fake, Fault};
use super::{Seen, millis, secs, until};
use crate::outbox::{Claimed, Relay};

/// A relay of two deliveries at a time, a second each.
fn slow(table: &Fake, seen: &Seen) -> Relay<Fake> {
    let noted = seen.clone();
    let relay = Relay::builder(table.clone()).concurrency(NonZeroUsize::new(2).unwrap()).start(move |claimed: Claimed| {
        noted.note(&claimed);
        async {
            time::sleep(secs(1)).await;
            Ok::<_, ()>(())
        }
    });
    relay.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_what_runs_and_gives_back_what_does_not() {
    let (table, seen) = (Fake::with_rows(10), Seen::default());
    let relay = slow(&table, &seen);
    until(|| seen.keys().len() == 2).await;
    let began = Instant::now();
    let closed = relay.close(secs(60)).await;
    assert_eq!(closed.unsettled, 0);
    assert!(began.elapsed() <= millis(1010), "{:?}", began.elapsed());
    assert!(table.rows().into_iter().eq(2..10), "what was delivered is deleted, the rest stays");

    // Given back, so that another need not wait for the lease.
    let began = Instant::now();
    let other = slow(&table, &seen);
    until(|| seen.keys().len() == 4).await;
    assert!(began.elapsed() < millis(10), "{:?}", began.elapsed());
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_at_its_limit_and_says_what_is_left() {
    let (table, seen) = (Fake::with_rows(10), Seen::default());
    let relay = slow(&table, &seen);
    until(|| seen.keys().len() == 2).await;
    let began = Instant::now();
    let closed = relay.close(millis(300)).await;
    assert_eq!(began.elapsed(), millis(300));
    assert_eq!(closed.unsettled, 2);
    time::sleep(secs(5)).await;
    assert_eq!((table.rows().len(), seen.keys().len()), (10, 2), "it has stopped");

    let table = Fake::with_rows(3);
    table.fail("delete", 1, Fault::Hang);
    let relay = Relay::builder(table.clone()).start(|_| async { Ok::<_, ()>(()) }).unwrap();
    until(|| relay.stats().delivered == 3).await;
    assert_eq!(relay.close(secs(1)).await.unsettled, 3);
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_closes_at_once() {
    let relay = Relay::builder(Fake::default()).poll_every(secs(3600)).start(|_| async { Ok::<_, ()>(()) }).unwrap();
    time::sleep(secs(1)).await;
    let began = Instant::now();
    assert_eq!(relay.close(secs(60)).await.unsettled, 0);
    assert_eq!(began.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_relay_stops_its_deliveries_and_another_has_the_rows_after_the_lease() {
    struct Dropped(Arc<AtomicU32>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (table, dropped) = (Fake::with_rows(3), Arc::new(AtomicU32::new(0)));
    let counted = dropped.clone();
    let began = Instant::now();
    let relay = Relay::builder(table.clone()).start(move |_| {
        let guard = Dropped(counted.clone());
        async move {
            let _guard = guard;
            std::future::pending::<Result<(), ()>>().await
        }
    });
    let relay = relay.unwrap();
    until(|| relay.stats().in_hand == 3 && began.elapsed() > millis(10)).await;
    drop(relay);
    until(|| dropped.load(Ordering::Relaxed) == 3).await;
    assert!(began.elapsed() < secs(1));

    let seen = Seen::default();
    let _other = slow(&table, &seen);
    until(|| table.rows().is_empty()).await;
    assert_eq!(seen.keys(), [0, 1, 2]);
    let first = seen.all()[0].0;
    assert!(first - began >= secs(30) && first - began < secs(31), "{:?}", first - began);
    assert!(seen.all().iter().all(|(.., attempt)| *attempt == 2));
    assert!(table.attempts().is_empty());
}
