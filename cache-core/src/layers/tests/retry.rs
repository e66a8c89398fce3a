use super::support::{MINUTE, MS, Scripted, acquire_of, body, call, get, kind};
use crate::clock::ManualClock;
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::key::Echo;
use crate::layers::{Retry, RetryRules, Timeout, Verb};
use crate::machine::{Command, Reply, Slot, step};
use crate::remote::{Acquired, Fill, Filled, Put, PutOutcome};
use crate::testing::{Chaos, ChaosTier};
use crate::token::Token;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const LOST: Option<ErrorKind> = Some(ErrorKind::Unavailable);
const LATE: Option<ErrorKind> = Some(ErrorKind::Timeout);
const NOW: u64 = 1_795_000_000_000;

fn scripted() -> Arc<Scripted<EmbeddedTier>> {
    Scripted::new(EmbeddedTier::new())
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_until_it_succeeds_or_the_attempts_are_used_up() {
    let inside = scripted();
    let tier = Retry::new(inside.clone(), RetryRules::default().attempts(3));
    inside.next(&[LOST, LATE]);
    assert_eq!(kind(get(&tier).await), None);
    assert_eq!((inside.take_verbs().len(), tier.stats().repeats), (3, 2));
    inside.next(&[LOST, LOST, LATE]);
    assert_eq!(kind(get(&tier).await), LATE, "the last attempt's error");
    assert_eq!(inside.take_verbs().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_what_may_run_twice_is_repeated() {
    let inside = scripted();
    inside.then(LOST);
    let tier = Retry::new(inside.clone(), RetryRules::default().budget(0.1, 1, 100));
    for verb in Verb::ALL {
        assert_eq!(kind(call(&tier, verb).await), LOST);
        let twice = [Verb::Get, Verb::GetMany, Verb::Invalidate, Verb::Release, Verb::Mark, Verb::Unmark];
        let wanted = if twice.contains(&verb) { 3 } else { 1 };
        assert_eq!(inside.take_verbs(), vec![verb; wanted]);
    }
}

#[tokio::test(start_paused = true)]
async fn only_weather_is_repeated() {
    let inside = scripted();
    let tier = Retry::new(inside.clone(), RetryRules::default());
    for refusal in [ErrorKind::Credentials, ErrorKind::Overloaded, ErrorKind::Closed, ErrorKind::Config, ErrorKind::TooLarge] {
        inside.next(&[Some(refusal)]);
        assert_eq!(kind(get(&tier).await), Some(refusal));
        assert_eq!(inside.take_verbs().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_end_within_their_time_even_if_the_last_one_hangs() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    let rules = RetryRules::default().attempts(1_000).within(40 * MS).budget(1.0, 0, 1_000);
    let tier = Arc::new(Retry::new(inside.clone(), rules));
    let began = Instant::now();
    inside.set(Chaos::Down);
    assert_eq!(kind(get(&tier).await), LOST);
    assert!(began.elapsed() <= 41 * MS, "{:?}", began.elapsed());
    assert!(inside.calls() > 2);

    let began = Instant::now();
    let hanging = tokio::spawn({
        let tier = tier.clone();
        async move { kind(get(&*tier).await) }
    });
    tokio::task::yield_now().await;
    inside.set(Chaos::Held);
    assert_eq!(hanging.await.unwrap(), LATE);
    assert!(began.elapsed() <= 41 * MS, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_left_less_time_than_it_took_is_not_repeated() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    let tier = Retry::new(Timeout::new(inside.clone(), 30 * MS), RetryRules::default().within(50 * MS));
    inside.set(Chaos::Held);
    let began = Instant::now();
    assert_eq!(kind(get(&tier).await), LATE);
    assert!(began.elapsed() <= 31 * MS, "{:?}", began.elapsed());
    assert_eq!((inside.calls(), tier.stats().repeats), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn pauses_are_random_and_bounded() {
    let inside = scripted();
    inside.then(LOST);
    let rules = RetryRules::default().attempts(5).pauses(100 * MS, 200 * MS).within(MINUTE).budget(1.0, 0, 1_000);
    let tier = Retry::new(inside, rules);
    let mut totals = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let _ = get(&tier).await;
        totals.push(began.elapsed());
    }
    let (shortest, longest) = (totals.iter().min().unwrap(), totals.iter().max().unwrap());
    // Up to 100 + 200 + 200 + 200 ms, and a timer tick each; half of that on average.
    assert!(*longest <= 704 * MS, "{longest:?}");
    assert!(*longest > *shortest + 50 * MS, "{shortest:?} to {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_not_multiplied_by_its_repeats() {
    let inside = scripted();
    inside.then(LOST);
    let hands = ManualClock::new();
    let rules = RetryRules::default().budget(0.1, 1, 10);
    let tier = Retry::new(inside.clone(), rules).clock(hands.clock());
    for _ in 0..1_000 {
        assert_eq!(kind(get(&tier).await), LOST);
    }
    let calls = inside.take_verbs().len();
    assert!((1_000 + 100..=1_000 + 100 + 10).contains(&calls), "{calls}");
    assert!(tier.stats().over_budget > 800);
    // A service that calls rarely has the floor.
    hands.advance(Duration::from_secs(2));
    assert_eq!(kind(get(&tier).await), LOST);
    assert_eq!(inside.take_verbs().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_repeats_the_budget_is_not_asked() {
    let inside = scripted();
    inside.then(LOST);
    for attempts in [0, 1] {
        let tier = Retry::new(inside.clone(), RetryRules::default().attempts(attempts));
        assert_eq!(kind(get(&tier).await), LOST);
        assert_eq!((inside.take_verbs().len(), tier.stats().over_budget), (1, 0));
    }
}

// Why some verbs are not repeated: what the machine would do. In each, the first attempt is late and lands last.

#[test]
fn a_late_first_acquire_would_let_in_a_value_loaded_before_an_invalidation() {
    let acquire = acquire_of(Token::unique());
    let acquire = Command::Acquire(&acquire, Echo::default());
    let (slot, reply) = step(Slot::Absent, &acquire, NOW);
    assert_eq!(reply, Reply::Acquire(Acquired::Granted { floor: 0, at: NOW }), "the repeat; now the load reads the old row");
    let (slot, _) = step(slot, &Command::Invalidate { version: None, retain: MINUTE, echo: Echo::default() }, NOW);
    let (slot, _) = step(slot, &acquire, NOW);
    let Command::Acquire(acquire, _) = acquire else { unreachable!() };
    let fill = Fill { token: acquire.token, version: 0, created: NOW, body: body() };
    assert_eq!(step(slot, &Command::Fill(&fill), NOW).1, Reply::Fill(Filled::Stored), "the old row is back");
}

#[test]
fn a_repeated_acquire_would_wait_for_its_own_lease() {
    let acquire = acquire_of(Token::unique());
    let acquire = Command::Acquire(&acquire, Echo::default());
    let (slot, _) = step(Slot::Absent, &acquire, NOW);
    assert!(matches!(step(slot, &acquire, NOW).1, Reply::Acquire(Acquired::Busy(_))));
}

#[test]
fn a_repeated_fill_would_take_its_own_value_for_a_lost_lease() {
    let acquire = acquire_of(Token::unique());
    let (slot, _) = step(Slot::Absent, &Command::Acquire(&acquire, Echo::default()), NOW);
    let fill = Fill { token: acquire.token, version: 0, created: NOW, body: body() };
    let (slot, reply) = step(slot, &Command::Fill(&fill), NOW);
    assert_eq!(reply, Reply::Fill(Filled::Stored));
    assert_eq!(step(slot, &Command::Fill(&fill), NOW).1, Reply::Fill(Filled::LeaseLost));
}

#[test]
fn a_late_first_put_undoes_no_invalidation() {
    let put = Put { token: Token::unique(), version: 3, age: Duration::ZERO, body: body() };
    let put = Command::Put(&put, MINUTE);
    let (slot, _) = step(Slot::Absent, &put, NOW);
    let (slot, _) = step(slot, &Command::Invalidate { version: None, retain: MINUTE, echo: Echo::default() }, NOW);
    assert_eq!(step(slot, &put, NOW).1, Reply::Put(PutOutcome::Tombstoned));
}

#[test]
fn a_late_first_invalidation_or_release_costs_a_miss_at_most() {
    let invalidate = |version| Command::Invalidate { version, retain: MINUTE, echo: Echo::default() };
    let (first, second) = (acquire_of(Token::unique()), acquire_of(Token::unique()));
    let (slot, _) = step(Slot::Absent, &invalidate(Some(2)), NOW);
    // Another load has come since: what it stores is at least as new, or is gone again.
    let (slot, _) = step(slot, &Command::Acquire(&second, Echo::default()), NOW);
    let fill = Fill { token: second.token, version: 2, created: NOW, body: body() };
    let (filled, _) = step(slot, &Command::Fill(&fill), NOW);
    assert_eq!(step(filled.clone(), &invalidate(Some(2)), NOW).0, filled);
    assert!(matches!(step(filled.clone(), &invalidate(None), NOW).0, Slot::Held { record, .. } if !record.state.has_value()));
    // A release of an earlier load's token moves nothing, whatever stands there.
    assert_eq!(step(filled.clone(), &Command::Release(first.token), NOW), (filled.clone(), Reply::Release(false)));
    assert_eq!(step(filled.clone(), &Command::Release(second.token), NOW), (filled, Reply::Release(false)));
}
