use super::support::{MS, get, kind};
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::layers::{Bulkhead, BulkheadRules};
use crate::testing::{Chaos, ChaosTier};
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const OVERLOADED: Option<ErrorKind> = Some(ErrorKind::Overloaded);

type Tier = Arc<Bulkhead<ChaosTier<EmbeddedTier>>>;

/// Two places, and two in the queue for 30 ms; the tier hangs.
fn hanging() -> (Tier, ChaosTier<EmbeddedTier>) {
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    (Arc::new(Bulkhead::new(inside.clone(), BulkheadRules::default().inside(2).queue(2, 30 * MS))), inside)
}

/// Starts a call, and lets it go as far as it can.
async fn start(tier: &Tier) -> tokio::task::JoinHandle<Option<ErrorKind>> {
    let tier = tier.clone();
    let task = tokio::spawn(async move { kind(get(&*tier).await) });
    tokio::task::yield_now().await;
    task
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_inside_than_it_has_places() {
    let (tier, inside) = hanging();
    let calls = [start(&tier).await, start(&tier).await, start(&tier).await, start(&tier).await];
    assert_eq!((inside.calls(), tier.stats().inside, tier.stats().waiting), (2, 2, 2));
    inside.set(Chaos::Calm);
    for call in calls {
        assert_eq!(call.await.unwrap(), None);
    }
    assert_eq!((inside.calls(), tier.stats().inside, tier.stats().waiting), (4, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_finds_the_queue_full_is_refused_at_once() {
    let (tier, inside) = hanging();
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(start(&tier).await);
    }
    for _ in 0..100 {
        assert_eq!(kind(get(&*tier).now_or_never().expect("it does not wait")), OVERLOADED);
    }
    assert_eq!((inside.calls(), tier.stats().refused_full), (2, 100));
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_refused_and_not_sent() {
    let (tier, inside) = hanging();
    let _places = [start(&tier).await, start(&tier).await];
    let began = Instant::now();
    let refused = tokio::time::timeout(Duration::from_secs(60), get(&*tier)).await.expect("it is not inside");
    assert_eq!(kind(refused), OVERLOADED);
    assert_eq!((began.elapsed(), inside.calls(), tier.stats().refused_late), (30 * MS, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_give_their_places_back() {
    let (tier, inside) = hanging();
    let [first, second] = [start(&tier).await, start(&tier).await];
    let [third, fourth] = [start(&tier).await, start(&tier).await];
    third.abort();
    let _ = third.await;
    assert_eq!(tier.stats().waiting, 1, "from the queue");
    first.abort();
    let _ = first.await;
    tokio::task::yield_now().await;
    assert_eq!((tier.stats().inside, tier.stats().waiting, inside.calls()), (2, 0, 3), "from inside, to the next in the queue");
    for call in [second, fourth] {
        call.abort();
        let _ = call.await;
    }
    assert_eq!(tier.stats().inside, 0);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_served_in_order() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    let tier = Arc::new(Bulkhead::new(inside.clone(), BulkheadRules::default().inside(1).queue(10, Duration::from_secs(60))));
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut calls = Vec::new();
    for at in 0..5 {
        let (tier, order) = (tier.clone(), order.clone());
        calls.push(tokio::spawn(async move {
            get(&*tier).await.expect("it waits long enough");
            order.lock().push(at);
        }));
        tokio::task::yield_now().await;
    }
    inside.set(Chaos::Calm);
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn no_place_and_no_queue_are_taken_for_one_place_and_no_queue() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    let tier = Arc::new(Bulkhead::new(inside.clone(), BulkheadRules::default().inside(0).queue(0, Duration::MAX)));
    assert_eq!(kind(get(&*tier).await), None);
    inside.set(Chaos::Held);
    let _place = start(&tier).await;
    assert_eq!(kind(get(&*tier).now_or_never().expect("it does not wait")), OVERLOADED);
}
