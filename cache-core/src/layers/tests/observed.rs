use super::support::{CANARY, MS, Scripted, Traced, call, get, kind};
use crate::embedded::EmbeddedTier;
use crate::error::ErrorKind;
use crate::layers::{Observed, Verb};
use crate::testing::{Chaos, ChaosTier};
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn calls_and_errors_are_counted_by_verb_and_kind() {
    let inside = Scripted::new(EmbeddedTier::new());
    let tier = Observed::new(inside.clone());
    for (at, verb) in Verb::ALL.into_iter().enumerate() {
        for _ in 0..at {
            assert_eq!(kind(call(&tier, verb).await), None);
        }
        inside.next(&[Some(ErrorKind::Timeout)]);
        assert!(call(&tier, verb).await.is_err());
    }
    let stats = tier.stats();
    for (at, verb) in Verb::ALL.into_iter().enumerate() {
        let of = stats.of(verb);
        assert_eq!((of.calls(), of.errors(), of.cancelled), (at as u64 + 1, 1, 0), "{verb:?}");
        assert_eq!((of.errors_of(ErrorKind::Timeout), of.errors_of(ErrorKind::Unavailable)), (1, 0));
        assert_eq!(of.errors_by_kind().collect::<Vec<_>>(), [(ErrorKind::Timeout, 1)]);
    }
    get(&tier).await.unwrap();
    let since = tier.stats().since(&stats);
    assert_eq!((since.of(Verb::Get).calls(), since.of(Verb::Get).errors(), since.of(Verb::Put).calls()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn times_are_from_the_call_to_its_end() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    let tier = Arc::new(Observed::new(inside.clone()));
    inside.set(Chaos::Held);
    let slow = tokio::spawn({
        let tier = tier.clone();
        async move { get(&*tier).await }
    });
    tokio::task::yield_now().await;
    tokio::time::advance(10 * MS).await;
    inside.set(Chaos::Calm);
    slow.await.unwrap().unwrap();
    let latency = tier.stats().of(Verb::Get).latency;
    assert_eq!((latency.count(), latency.total()), (1, 10 * MS));
    assert_eq!(latency.quantile(0.5), Some(Duration::from_micros(16_384)));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_counted_as_cancelled() {
    let inside = ChaosTier::new(EmbeddedTier::new());
    inside.set(Chaos::Held);
    let tier = Observed::new(inside);
    assert!(get(&tier).now_or_never().is_none());
    let stats = tier.stats();
    assert_eq!((stats.of(Verb::Get).cancelled, stats.of(Verb::Get).latency.count(), stats.of(Verb::Get).calls()), (1, 0, 1));
}

#[test]
fn spans_name_tier_verb_and_error_and_no_key() {
    let (traced, _listening) = Traced::listen();
    let inside = Scripted::new(EmbeddedTier::new());
    let tier = Observed::new(inside.clone());
    for verb in Verb::ALL {
        inside.next(&[Some(ErrorKind::Timeout)]);
        assert!(call(&tier, verb).now_or_never().expect("nothing waits").is_err());
        let (_, text) = traced.take();
        for wanted in ["cache.l2 ", "embedded", &format!("verb=\"{}\" ", verb.name()), "error=Timeout "] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn counts_of_many_threads_add_up() {
    let tier = Observed::new(EmbeddedTier::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| get(&tier).now_or_never().expect("nothing waits").unwrap()));
        }
    });
    assert_eq!(tier.stats().of(Verb::Get).calls(), 4_000);
}
