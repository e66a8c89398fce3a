use super::support::{CANARY, MS, Scripted, Traced, call, get, kind};
use crate::clock::ManualClock;
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::layers::{Breaker, BreakerRules, BreakerState, Verb};
use crate::testing::{Chaos, ChaosTier};
use futures_util::FutureExt;
use std::sync::Arc;
use tracing::Level;

const LOST: Option<ErrorKind> = Some(ErrorKind::Unavailable);
const LATE: Option<ErrorKind> = Some(ErrorKind::Timeout);
const READS: [Verb; 2] = [Verb::Get, Verb::GetMany];
const CHANGES: [Verb; 5] = [Verb::Acquire, Verb::Fill, Verb::Release, Verb::Put, Verb::Mark];
const PROMISES: [Verb; 3] = [Verb::Invalidate, Verb::Unmark, Verb::Clear];

type Inside = Arc<Scripted<EmbeddedTier>>;

fn breaker(hands: &ManualClock) -> (Breaker<Inside>, Inside) {
    let inside = Scripted::new(EmbeddedTier::new());
    let rules = BreakerRules::default().in_a_row(3).open_for(100 * MS).probes(1);
    (Breaker::new(inside.clone(), rules).clock(hands.clock()), inside)
}

async fn fail(tier: &Breaker<Inside>, verb: Verb, times: usize) {
    for _ in 0..times {
        assert!(call(tier, verb).await.is_err());
    }
}

#[tokio::test]
async fn a_tier_that_keeps_failing_is_left_alone_and_found_again() {
    let hands = ManualClock::new();
    let (tier, inside) = breaker(&hands);
    inside.then(LATE);
    fail(&tier, Verb::Get, 3).await;
    inside.take_verbs();
    assert_eq!(tier.reads().state, BreakerState::Open);
    for verb in READS {
        let answer = call(&tier, verb).now_or_never().expect("a refusal waits for nothing");
        assert_eq!(kind(answer), LOST);
    }
    assert_eq!((inside.take_verbs(), tier.reads().refused), (vec![], 2));

    hands.advance(100 * MS);
    assert_eq!(kind(get(&tier).await), LATE, "a probe, which fails");
    assert_eq!(tier.reads().state, BreakerState::Open);
    inside.then(None);
    assert_eq!(kind(get(&tier).await), LOST);
    hands.advance(100 * MS);
    assert_eq!(kind(get(&tier).await), None);
    assert_eq!((tier.reads().state, tier.reads().opened), (BreakerState::Closed, 2));
}

#[tokio::test]
async fn a_tier_that_takes_no_writes_goes_on_being_read() {
    let (tier, inside) = breaker(&ManualClock::new());
    for &verb in &CHANGES[..3] {
        inside.next(&[LOST]);
        assert_eq!(kind(call(&tier, verb).await), LOST);
        assert_eq!(kind(get(&tier).await), None);
    }
    assert_eq!((tier.changes().state, tier.reads().state), (BreakerState::Open, BreakerState::Closed));
    inside.take_verbs();
    for verb in CHANGES {
        assert_eq!(kind(call(&tier, verb).await), LOST);
    }
    assert_eq!(inside.take_verbs(), []);
}

#[tokio::test]
async fn invalidations_are_tried_whatever_the_circuits_say_and_their_errors_are_errors() {
    let (tier, inside) = breaker(&ManualClock::new());
    inside.then(LATE);
    fail(&tier, Verb::Get, 3).await;
    fail(&tier, Verb::Acquire, 3).await;
    assert_eq!((tier.changes().state, tier.reads().state), (BreakerState::Open, BreakerState::Open));
    inside.take_verbs();
    for verb in PROMISES {
        assert_eq!(kind(call(&tier, verb).await), LATE);
    }
    inside.then(None);
    for verb in PROMISES {
        assert_eq!(kind(call(&tier, verb).await), None);
    }
    assert_eq!(inside.take_verbs(), [PROMISES, PROMISES].concat());
}

#[tokio::test]
async fn errors_that_are_not_the_tiers_health_open_nothing() {
    let (tier, inside) = breaker(&ManualClock::new());
    for other in [ErrorKind::Credentials, ErrorKind::Overloaded, ErrorKind::TooLarge, ErrorKind::Foreign, ErrorKind::Closed] {
        inside.then(Some(other));
        fail(&tier, Verb::Get, 200).await;
        assert_eq!((tier.reads().state, tier.reads().recent_failures), (BreakerState::Closed, 0));
    }
}

#[tokio::test]
async fn failures_of_a_part_open_nothing_and_fail_no_probe() {
    let hands = ManualClock::new();
    let (tier, inside) = breaker(&hands);
    inside.set_partial(true);
    for kind in [LOST, LATE] {
        inside.then(kind);
        fail(&tier, Verb::Get, 200).await;
        fail(&tier, Verb::Acquire, 200).await;
        assert_eq!((tier.reads().opened, tier.changes().opened, tier.reads().recent_failures), (0, 0, 0));
    }
    inside.set_partial(false);
    fail(&tier, Verb::Get, 3).await;
    hands.advance(100 * MS);
    inside.set_partial(true);
    fail(&tier, Verb::Get, 10).await;
    assert_eq!(tier.reads().state, BreakerState::HalfOpen, "their places are free again");
    inside.then(None);
    assert_eq!(kind(get(&tier).await), None);
    assert_eq!(tier.reads().state, BreakerState::Closed);
}

#[tokio::test]
async fn a_probe_that_is_cancelled_gives_its_place_to_another_call() {
    let hands = ManualClock::new();
    let inside = ChaosTier::new(EmbeddedTier::new());
    let rules = BreakerRules::default().in_a_row(1).open_for(100 * MS).probes(1);
    let tier = Breaker::new(inside.clone(), rules).clock(hands.clock());
    inside.set(Chaos::Down);
    assert!(get(&tier).await.is_err());
    hands.advance(100 * MS);
    inside.set(Chaos::Held);
    let mut probe = Box::pin(get(&tier));
    assert!(probe.as_mut().now_or_never().is_none());
    assert_eq!(get(&tier).now_or_never().map(kind), Some(LOST), "its place is taken");
    drop(probe);
    assert_eq!(tier.reads().state, BreakerState::HalfOpen, "neither success nor failure");
    inside.set(Chaos::Calm);
    assert_eq!(kind(get(&tier).await), None);
    assert_eq!(tier.reads().state, BreakerState::Closed);
}

#[tokio::test]
async fn failures_between_successes_open_it_by_their_share() {
    let inside = Scripted::new(EmbeddedTier::new());
    let rules = BreakerRules::default().in_a_row(100).failures(5, 20);
    let tier = Breaker::new(inside.clone(), rules);
    for _ in 0..100 {
        // One in five: four failures among any twenty.
        inside.next(&[LOST, None, None, None, None]);
        for _ in 0..5 {
            let _ = get(&tier).await;
        }
    }
    assert_eq!((tier.reads().state, tier.reads().recent_failures), (BreakerState::Closed, 4));
    inside.next(&[LOST, LOST]);
    for _ in 0..2 {
        let _ = get(&tier).await;
    }
    assert_eq!(tier.reads().state, BreakerState::Open);
}

#[test]
fn each_transition_is_one_event_that_shows_no_key() {
    let (traced, _listening) = Traced::listen();
    let hands = ManualClock::new();
    let (tier, inside) = breaker(&hands);
    let ask = || get(&tier).now_or_never().expect("nothing waits");
    inside.then(LOST);
    (0..10).for_each(|_| assert!(ask().is_err()));
    assert_eq!(traced.take().0, [Level::WARN]);
    hands.advance(100 * MS);
    assert!(ask().is_err());
    assert_eq!(traced.take().0, [Level::INFO, Level::WARN]);
    hands.advance(100 * MS);
    inside.then(None);
    (0..10).for_each(|_| assert!(ask().is_ok()));
    let (levels, text) = traced.take();
    assert_eq!(levels, [Level::INFO, Level::INFO]);
    assert!(text.contains("reads") && text.contains("embedded") && !text.contains(CANARY), "{text}");
}
