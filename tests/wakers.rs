//! Who is woken when a load is over.

use cachestack::{MemoryTier, TieredCache};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::sync::Semaphore;

mod support;

/// Counts how often it was woken.
#[derive(Default)]
struct Counted(AtomicU64);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A caller whose future moves to another task between two polls, as in a `select!` or a `FuturesUnordered`.
#[tokio::test]
async fn a10_a_waker_that_changes_before_a_load_is_over_is_the_one_that_is_woken() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let load = move |key: u64| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(key)
        }
    };
    let cache = TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(10)).origin(load).build().unwrap();
    let wakers: [Arc<Counted>; 3] = Default::default();
    // The first leads the load, the second waits for it.
    let (mut leads, mut waits) = (pin!(cache.load(&1)), pin!(cache.load(&1)));
    for waker in &wakers {
        let waker = Waker::from(waker.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(leads.as_mut().poll(&mut cx).is_pending() && waits.as_mut().poll(&mut cx).is_pending());
        // Time for the load to begin.
        tokio::task::yield_now().await;
    }
    let before: Vec<_> = wakers.iter().map(|waker| waker.0.load(Ordering::SeqCst)).collect();
    gate.add_permits(1);
    support::until("the last waker is woken for both", || wakers[2].0.load(Ordering::SeqCst) >= before[2] + 2).await;
    let mut cx = Context::from_waker(Waker::noop());
    let results = [leads.as_mut().poll(&mut cx), waits.as_mut().poll(&mut cx)];
    assert!(results.iter().all(|result| matches!(result, Poll::Ready(Ok(1)))), "{results:?}");
}
