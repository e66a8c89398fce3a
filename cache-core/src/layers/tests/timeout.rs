use super::support::{MS, call, kind};
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::layers::{Timeout, Verb};
use crate::testing::{Chaos, ChaosTier};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_with_the_timeout() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    let tier = Timeout::new(inside, 50 * MS).clear_within(70 * MS);
    for verb in Verb::ALL {
        let began = Instant::now();
        assert_eq!(kind(call(&tier, verb).await), Some(ErrorKind::Timeout), "{verb:?}");
        let limit = if verb == Verb::Clear { 70 } else { 50 };
        assert_eq!(began.elapsed(), limit * MS, "{verb:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clear_may_take_longer_than_other_calls_unless_told_otherwise() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    let tier = Timeout::new(inside, 50 * MS);
    let began = Instant::now();
    assert_eq!(kind(call(&tier, Verb::Clear).await), Some(ErrorKind::Timeout));
    assert_eq!(began.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn limits_at_both_ends_of_time_are_limits() {
    let patient = Timeout::new(EmbeddedTier::new(), Duration::MAX);
    assert_eq!(kind(call(&patient, Verb::Get).await), None);
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    let began = Instant::now();
    assert_eq!(kind(call(&Timeout::new(inside, Duration::ZERO), Verb::Get).await), Some(ErrorKind::Timeout));
    // The timer's resolution.
    assert!(began.elapsed() <= MS);
}
