//! Several relays on one table, and claims that end.

use std::num::NonZeroUsize;

use tokio::time::{self, Instant};

use super::fake::{Fake, Fault};
use super::{Seen, millis, secs, until};
use crate::outbox::{Claimed, Relay, RelayBuilder};

fn noting(seen: &Seen, builder: RelayBuilder<Fake>, takes: u64) -> Relay<Fake> {
    let seen = seen.clone();
    let relay = builder.start(move |claimed: Claimed| {
        seen.note(&claimed);
        async move {
            time::sleep(millis(takes)).await;
            Ok::<_, ()>(())
        }
    });
    relay.unwrap()
}

#[tokio::test(start_paused = true)]
async fn relays_share_the_rows_and_deliver_none_twice() {
    let (table, seen) = (Fake::with_rows(1000), Seen::default());
    let relays: Vec<_> = (0..3).map(|_| noting(&seen, Relay::builder(table.clone()), 5)).collect();
    until(|| table.rows().is_empty()).await;
    assert!(seen.keys().into_iter().eq(0..1000));
    for relay in &relays {
        assert!(relay.stats().delivered >= 200, "{:?}", relay.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_delivered_by_a_relay_that_died_before_the_delete_is_delivered_again() {
    let (table, seen) = (Fake::with_rows(5), Seen::default());
    table.fail("delete", 1, Fault::Hang);
    let began = Instant::now();
    let first = noting(&seen, Relay::builder(table.clone()), 0);
    until(|| seen.keys().len() == 5).await;
    drop(first);
    table.fail("delete", 0, Fault::Hang);

    let _second = noting(&seen, Relay::builder(table.clone()), 0);
    until(|| table.rows().is_empty()).await;
    assert_eq!(seen.keys(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    assert!(began.elapsed() >= secs(30) && began.elapsed() < secs(31), "when the claims had ended: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_turn_comes_too_late_for_its_claim_is_given_back_and_not_begun() {
    // One at a time, a second each, claims of 10 s: 100 rows do not fit into one.
    let (table, seen) = (Fake::with_rows(100), Seen::default());
    let builder = || Relay::builder(table.clone()).concurrency(NonZeroUsize::MIN).timeout(secs(2)).lease(secs(10));
    let relays = [noting(&seen, builder(), 1000), noting(&seen, builder(), 1000)];
    until(|| table.rows().is_empty()).await;
    assert!(seen.keys().into_iter().eq(0..100), "none was delivered by two: {:?}", seen.keys());
    let stats = relays.map(|relay| relay.stats());
    assert!(stats.iter().map(|stats| stats.given_back).sum::<u64>() > 90, "{stats:?}");
    assert!(stats.iter().all(|stats| stats.failed == 0), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_lost_to_another_is_not_ended_by_the_first() {
    let (table, seen) = (Fake::with_rows(1), Seen::default());
    let builder = || Relay::builder(table.clone()).timeout(secs(2)).lease(secs(3));
    // The first relay's delivery fails while its database hangs: it postpones the row when the claim is another's.
    table.fail("postpone", 1, Fault::Hang);
    let failing = builder().start(|_| async { Err::<(), _>("fails") }).unwrap();
    time::sleep(millis(100)).await;
    let noted = seen.clone();
    let _second = builder().poll_every(millis(10)).start(move |claimed: Claimed| {
        noted.note(&claimed);
        async {
            time::sleep(millis(1900)).await;
            Ok::<_, ()>(())
        }
    });
    until(|| failing.stats().store_errors == 1).await;
    until(|| table.rows().is_empty()).await;
    assert_eq!(seen.all().len(), 1);
    assert_eq!(failing.stats().failed, 1, "its late word did not free the row");
}
