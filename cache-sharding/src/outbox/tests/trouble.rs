//! A database that refuses, hangs or loses answers, and a store that panics.

use std::error::Error as _;
use std::time::Duration;

use tokio::time::Instant;

use super::fake::{Fake, Fault};
use super::{Seen, millis, secs, until};
use crate::outbox::{Claimed, Error, Relay};

fn relay(table: &Fake) -> (Relay<Fake>, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let relay = Relay::builder(table.clone()).start(move |claimed: Claimed| {
        // The first attempt of row 1 fails, so that there is something to postpone.
        let fails = noted.note(&claimed) == 1 && claimed.attempt == 1;
        async move { if fails { Err("not yet") } else { Ok(()) } }
    });
    (relay.unwrap(), seen)
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_kept_until_the_database_takes_them() {
    for verb in ["delete", "postpone"] {
        for fault in [Fault::Refuse, Fault::DoneButRefuse, Fault::Panic] {
            let table = Fake::with_rows(5);
            table.fail(verb, 4, fault);
            let (relay, seen) = relay(&table);
            until(|| table.rows().is_empty()).await;
            assert_eq!(seen.keys(), [0, 1, 1, 2, 3, 4], "{verb}, {fault:?}: nothing is delivered again");
            until(|| relay.stats().in_hand == 0 && relay.trouble().is_none()).await;
            assert_eq!(relay.stats().store_errors, 4);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_down_is_asked_again_with_growing_pauses_and_what_waits_is_delivered() {
    let table = Fake::with_rows(5);
    table.fail("claim", 10, Fault::Refuse);
    let began = Instant::now();
    let (relay, seen) = relay(&table);
    until(|| relay.stats().store_errors == 8).await;
    // 200, 400, 800, 1600, 3200, 6400 and 10,000 ms, less up to a half.
    assert!(began.elapsed() > millis(22_600 / 2) && began.elapsed() < millis(22_700), "{:?}", began.elapsed());
    let trouble = relay.trouble().unwrap();
    assert!(trouble.is_transient() && trouble.source().is_some(), "{trouble:?}");
    until(|| table.rows().is_empty()).await;
    assert_eq!(seen.keys(), [0, 1, 1, 2, 3, 4]);
    assert!(relay.trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_does_not_end_the_relay() {
    let table = Fake::with_rows(5);
    table.fail("claim", 1, Fault::Panic);
    let (relay, _) = relay(&table);
    until(|| relay.trouble().is_some()).await;
    assert!(matches!(relay.trouble(), Some(Error::StorePanicked)));
    until(|| table.rows().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_is_given_up_after_the_lease() {
    for verb in ["claim", "delete", "postpone"] {
        let table = Fake::with_rows(5);
        table.fail(verb, 1, Fault::Hang);
        let began = Instant::now();
        let (relay, _) = relay(&table);
        until(|| relay.trouble().is_some()).await;
        assert!(matches!(relay.trouble(), Some(Error::StoreTimeout)), "{verb}");
        assert!(began.elapsed() >= secs(30) && began.elapsed() < secs(31), "{verb}: {:?}", began.elapsed());
        until(|| table.rows().is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn claims_whose_answer_was_lost_are_made_again_when_they_end() {
    let table = Fake::with_rows(5);
    table.fail("claim", 1, Fault::DoneButRefuse);
    let began = Instant::now();
    let (relay, seen) = relay(&table);
    until(|| table.rows().is_empty()).await;
    assert!(began.elapsed() >= secs(30) && began.elapsed() < Duration::from_secs(32), "{:?}", began.elapsed());
    assert_eq!(seen.keys(), [0, 1, 2, 3, 4], "row 1 is at its second attempt");
    assert_eq!(relay.stats().retried, 5);
}
