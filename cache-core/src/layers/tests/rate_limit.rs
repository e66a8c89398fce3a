use super::support::{MS, Scripted, call, get, kind};
use crate::clock::ManualClock;
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::layers::{RateLimit, Verb};
use futures_util::FutureExt;
use std::time::Duration;

#[tokio::test]
async fn what_is_over_the_rate_is_refused_at_once_and_not_sent() {
    let hands = ManualClock::new();
    let inside = Scripted::new(EmbeddedTier::new());
    let tier = RateLimit::new(inside.clone(), 100, 5).clock(hands.clock());
    let ask = || kind(get(&tier).now_or_never().expect("it does not wait"));
    let allowed = |times: usize| (0..times).filter(|_| ask().is_none()).count();
    assert_eq!(allowed(20), 5, "the burst");
    assert_eq!(ask(), Some(ErrorKind::Overloaded));
    hands.advance(30 * MS);
    assert_eq!(allowed(20), 3, "what 30 ms earn");
    hands.advance(Duration::from_secs(3_600));
    assert_eq!(allowed(20), 5, "no more than the burst");
    assert_eq!(inside.take_verbs().len(), 13);
    assert_eq!(tier.refused(), 15 + 1 + 17 + 15);
}

#[tokio::test]
async fn every_verb_counts_and_a_refused_invalidation_is_an_error() {
    let hands = ManualClock::new();
    let inside = Scripted::new(EmbeddedTier::new());
    for verb in Verb::ALL {
        let tier = RateLimit::new(inside.clone(), 1, 1).clock(hands.clock());
        assert_eq!(kind(call(&tier, verb).await), None);
        assert_eq!(kind(call(&tier, verb).await), Some(ErrorKind::Overloaded), "{verb:?}");
        assert_eq!(inside.take_verbs(), [verb]);
    }
}

#[tokio::test]
async fn rates_at_both_ends_are_rates() {
    let slowest = RateLimit::new(EmbeddedTier::new(), 0, 0);
    assert_eq!((kind(get(&slowest).await), slowest.refused()), (None, 0));
    let fastest = RateLimit::new(EmbeddedTier::new(), u32::MAX, u32::MAX);
    assert_eq!((kind(get(&fastest).await), fastest.refused()), (None, 0));
}
