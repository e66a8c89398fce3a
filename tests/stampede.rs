//! One load a key, whatever its callers do: group B of the fault list.

use cache_core::testing::{Chaos, ChaosTier};
use cachestack::{EmbeddedTier, ErrorKind, ManualClock, MemoryTier, TieredCache, Ttl};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

mod support;
use support::until;

type Cache = TieredCache<u64, u64>;

/// An origin that counts its loads and lets each go on only when a permit is given.
#[derive(Clone)]
struct Gate {
    loads: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
}

impl Gate {
    fn shut() -> Self {
        Self { loads: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
    }

    fn open(&self) {
        self.permits.add_permits(1_000_000);
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    async fn load(self, key: u64) -> Result<u64, io::Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.expect("never closed").forget();
        Ok(key * 2)
    }
}

fn cache(gate: &Gate) -> Cache {
    let gate = gate.clone();
    Cache::builder("t").l1(MemoryTier::new(10_000)).origin(move |key| gate.clone().load(key)).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_thousand_callers_of_a_cold_key_cost_one_load_though_ten_are_cancelled() {
    let gate = Gate::shut();
    let cache = cache(&gate);
    let mut callers = JoinSet::new();
    let mut handles = Vec::new();
    for _ in 0..1_000 {
        let cache = cache.clone();
        handles.push(callers.spawn(async move { cache.load(&7).await.unwrap() }));
    }
    until("all followers wait", || cache.stats().coalesced == 999).await;
    // The first ones, the leader's caller surely among them.
    handles.iter().take(10).for_each(tokio::task::AbortHandle::abort);
    gate.open();
    let mut answers = 0;
    while let Some(answer) = callers.join_next().await {
        answers += answer.map_or(0, |value| u64::from(value == 14));
    }
    assert_eq!((answers, gate.loads()), (990, 1));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.coalesced, stats.l1.misses), (1, 999, 1_000));
}

fn bug() -> Result<u64, io::Error> {
    panic!("a bug in the loader")
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_a_panicking_loader_is_an_error_for_all_and_frees_the_key() {
    let cache = Cache::builder("t").l1(MemoryTier::new(100)).build().unwrap();
    let go = Arc::new(Semaphore::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let (cache, go) = (cache.clone(), go.clone());
        let load = move || async move {
            drop(go.acquire().await);
            bug()
        };
        callers.spawn(async move { cache.get_or_load(&7, load).await });
    }
    until("all followers wait", || cache.stats().coalesced == 999).await;
    go.add_permits(1);
    while let Some(answer) = callers.join_next().await {
        let err = answer.unwrap().unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Panicked);
        assert_eq!(std::error::Error::source(&err).unwrap().to_string(), "a bug in the loader");
    }
    assert_eq!(cache.stats().load_errors, 1);
    assert_eq!(cache.get_or_load(&7, || async { Ok::<_, io::Error>(3) }).await.unwrap(), 3);
}

#[tokio::test]
async fn b4_a_panic_in_the_closure_itself_is_caught_too() {
    let cache = Cache::builder("t")
        .l1(MemoryTier::new(100))
        .origin(|key: u64| {
            assert!(key != 7, "before the first await");
            async move { Ok::<_, io::Error>(key) }
        })
        .build()
        .unwrap();
    assert_eq!(cache.load(&7).await.unwrap_err().kind(), ErrorKind::Panicked);
    assert_eq!(cache.load(&8).await.unwrap(), 8);
}

#[tokio::test]
async fn b5_a_failed_load_is_shared_by_those_who_wait_and_run_again_for_who_comes_later() {
    let loads = Arc::new(AtomicU64::new(0));
    let counted = loads.clone();
    let origin = move |_: u64| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::task::yield_now().await;
            Err::<u64, _>(io::Error::other("no such row"))
        }
    };
    let cache = Cache::builder("t").l1(MemoryTier::new(100)).origin(origin).build().unwrap();
    let answers = futures_join(100, || cache.load(&1)).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|err| err.find::<io::Error>().is_some())));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert!(cache.load(&1).await.is_err());
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

/// Runs so many futures of one kind concurrently on this task.
async fn futures_join<F: Future>(n: usize, future: impl Fn() -> F) -> Vec<F::Output> {
    let mut futures: Vec<_> = (0..n).map(|_| (Box::pin(future()), None)).collect();
    poll_fn(|cx| {
        let mut ready = true;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => ready = false,
                }
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

/// Polls a future so many times, then drops it. True if it was still pending.
async fn poll_then_drop(future: impl Future, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(true);
        }
        left -= 1;
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[tokio::test]
async fn b1_a_leader_dropped_at_any_await_point_leaves_one_load_and_its_value() {
    for polls in 0..12 {
        let l2 = ChaosTier::new(EmbeddedTier::new());
        let loads = Arc::new(AtomicU64::new(0));
        let counted = loads.clone();
        let origin = move |key: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, io::Error>(key)
            }
        };
        let cache = Cache::builder("t").l1(MemoryTier::new(100)).l2(l2).origin(origin).build().unwrap();
        poll_then_drop(cache.load(&5), polls).await;
        let followers = futures_join(5, || cache.load(&5)).await;
        assert!(followers.into_iter().all(|answer| answer.unwrap() == 5), "dropped after {polls} polls");
        assert_eq!(loads.load(Ordering::SeqCst), 1, "dropped after {polls} polls");
    }
}

#[tokio::test]
async fn b2_a_leader_that_is_held_and_never_polled_again_holds_up_nobody() {
    let gate = Gate::shut();
    let cache = cache(&gate);
    let mut held = pin!(cache.load(&1));
    poll_fn(|cx| {
        assert!(held.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    gate.open();
    assert_eq!(cache.load(&1).await.unwrap(), 2);
    assert_eq!(gate.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn b3_a_load_whose_callers_have_all_timed_out_is_cached_for_the_next() {
    let gate = Gate::shut();
    let cache = cache(&gate);
    let waits = futures_join(10, || tokio::time::timeout(Duration::from_millis(5), cache.load(&1))).await;
    assert!(waits.iter().all(Result::is_err));
    gate.open();
    until("the value is in L1", || cache.get_local(&1).is_some()).await;
    assert_eq!(cache.load(&1).await.unwrap(), 2);
    assert_eq!(gate.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_never_ends_ends_by_the_load_timeout() {
    let gate = Gate::shut();
    let cache = cache(&gate);
    assert_eq!(cache.load(&1).await.unwrap_err().kind(), ErrorKind::Timeout);
    gate.open();
    assert_eq!(cache.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn b6_a_loader_that_asks_for_its_own_key_gets_an_error_and_other_keys_work() {
    let cell = Arc::new(std::sync::OnceLock::<Cache>::new());
    let inner = cell.clone();
    // 1 asks for 1; 2 asks for 3, which asks for 2; 4 asks for 5, which is fine.
    let origin = move |key: u64| {
        let cache = inner.get().expect("set").clone();
        async move {
            let next = match key {
                1 => 1,
                2 => 3,
                3 => 2,
                4 => 5,
                key => return Ok(key),
            };
            cache.load(&next).await
        }
    };
    cell.set(Cache::builder("t").l1(MemoryTier::new(100)).origin(origin).build().unwrap()).unwrap();
    let cache = cell.get().unwrap();
    for key in [1, 2] {
        let err = cache.load(&key).await.unwrap_err();
        let innermost = std::iter::successors(Some(&err), |err| err.find::<cachestack::Error>()).last().unwrap();
        assert_eq!(innermost.kind(), ErrorKind::Recursive, "key {key}: {err:?}");
    }
    assert_eq!(cache.load(&4).await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn b6_a_cycle_between_two_independent_loads_ends_by_the_load_timeout() {
    let cell = Arc::new(std::sync::OnceLock::<Cache>::new());
    let (inner, both) = (cell.clone(), Arc::new(tokio::sync::Barrier::new(2)));
    let origin = move |key: u64| {
        let (cache, both) = (inner.get().expect("set").clone(), both.clone());
        async move {
            if key > 2 {
                return Ok(key);
            }
            both.wait().await;
            cache.load(&(3 - key)).await
        }
    };
    cell.set(Cache::builder("t").l1(MemoryTier::new(100)).origin(origin).build().unwrap()).unwrap();
    let cache = cell.get().unwrap();
    let (one, two, other) = tokio::join!(cache.load(&1), cache.load(&2), cache.load(&9));
    assert!(one.is_err() && two.is_err());
    assert_eq!(other.unwrap(), 9);
}

/// Two caches of one name on one L2: two nodes.
fn nodes(l2: &ChaosTier<EmbeddedTier>, hands: &ManualClock, gates: [&Gate; 2]) -> [Cache; 2] {
    gates.map(|gate| {
        let gate = gate.clone();
        Cache::builder("t")
            .l1(MemoryTier::new(100))
            .l2(l2.clone())
            .ttl(Ttl::minutes(5))
            .clock(hands.clock())
            .origin(move |key| gate.clone().load(key))
            .build()
            .unwrap()
    })
}

/// Lets an injected clock go with tokio's paused one.
fn wind(hands: &ManualClock) {
    let hands = hands.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            hands.advance(Duration::from_millis(1));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn two_nodes_share_one_load() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let (first, second) = (Gate::shut(), Gate::shut());
    let [a, b] = nodes(&l2, &hands, [&first, &second]);
    wind(&hands);
    let leader = tokio::spawn({
        let a = a.clone();
        async move { a.load(&3).await }
    });
    until("the load has begun", || first.loads() > 0).await;
    let follower = tokio::spawn({
        let b = b.clone();
        async move { b.load_cached(&3).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    first.open();
    second.open();
    assert_eq!(leader.await.unwrap().unwrap(), 6);
    let answer = follower.await.unwrap().unwrap();
    assert_eq!((answer.value, answer.tier), (6, cachestack::Tier::L2));
    assert_eq!((first.loads(), second.loads()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn b10_a_lease_holder_that_dies_delays_others_by_no_more_than_its_lease() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let (dead, alive) = (Gate::shut(), Gate::shut());
    let [a, b] = nodes(&l2, &hands, [&dead, &alive]);
    wind(&hands);
    let holder = tokio::spawn(async move { a.load(&3).await });
    until("the load has begun", || dead.loads() > 0).await;
    alive.open();
    let began = tokio::time::Instant::now();
    assert_eq!(b.load(&3).await.unwrap(), 6);
    assert!(began.elapsed() <= Duration::from_millis(2_100), "waited {:?} for a lease of 2 s", began.elapsed());
    holder.abort();
}

#[tokio::test(start_paused = true)]
async fn b11_a_load_slower_than_its_lease_does_not_overwrite_its_successor() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let (slow, fast) = (Gate::shut(), Gate::shut());
    let [a, b] = nodes(&l2, &hands, [&slow, &fast]);
    wind(&hands);
    let late = tokio::spawn({
        let a = a.clone();
        async move { a.load(&3).await }
    });
    until("the load has begun", || slow.loads() > 0).await;
    fast.open();
    assert_eq!(b.load(&3).await.unwrap(), 6);
    slow.open();
    assert_eq!(late.await.unwrap().unwrap(), 6, "its own callers get their value");
    assert_eq!(a.stats().l2.refused, 1);
    assert!(a.get_local(&3).is_none(), "and no cache keeps it");
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_gives_its_lease_back() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let failing = Cache::builder("t")
        .l1(MemoryTier::new(100))
        .l2(l2.clone())
        .clock(hands.clock())
        .origin(|_| async { Err::<u64, _>(io::Error::other("down")) })
        .build()
        .unwrap();
    let gate = Gate::shut();
    gate.open();
    let [healthy, _] = nodes(&l2, &hands, [&gate, &gate]);
    failing.load(&3).await.unwrap_err();
    until("the lease is given back", || l2.take_verbs().contains(&"release")).await;
    // The clock stands still: a lease that was kept would never end.
    assert_eq!(healthy.load(&3).await.unwrap(), 6);
}

#[tokio::test]
async fn an_l2_whose_replies_are_lost_costs_a_load_and_no_error() {
    let l2 = ChaosTier::new(EmbeddedTier::new());
    l2.set(Chaos::ReplyLost);
    let gate = Gate::shut();
    gate.open();
    let [cache, _] = nodes(&l2, &ManualClock::new(), [&gate, &gate]);
    assert_eq!(cache.load(&3).await.unwrap(), 6);
    assert_eq!(cache.load(&3).await.unwrap(), 6);
    assert_eq!(gate.loads(), 1);
}

#[tokio::test]
async fn b6_a_loader_that_writes_a_key_whose_write_loads_its_own_gets_an_error() {
    let cache = Cache::builder("t").l1(MemoryTier::new(10)).build().unwrap();
    let again = cache.clone();
    let load = move || async move {
        let inner = again.clone();
        let write = again.write_with(&2, move || async move { inner.get_or_load(&1, || async { Ok::<_, io::Error>(1) }).await });
        write.await.map(|(value, _)| value)
    };
    let err = cache.get_or_load(&1, load).await.unwrap_err();
    let innermost = std::iter::successors(Some(&err), |err| err.find::<cachestack::Error>()).last().unwrap();
    assert_eq!(innermost.kind(), ErrorKind::Recursive, "{err:?}");
}

#[test]
fn a_leader_whose_runtime_has_stopped_holds_its_followers_up_for_a_bounded_time() {
    let gate = Gate::shut();
    let cache = cache(&gate);
    let stopped = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let leader = cache.clone();
    // Begun, and then nobody drives that runtime any more.
    stopped.block_on(async { poll_then_drop(leader.load(&1), 1).await });
    let other = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    assert_eq!(other.block_on(cache.load(&1)).unwrap_err().kind(), ErrorKind::Timeout);
    gate.open();
    assert_eq!(other.block_on(cache.load(&1)).unwrap(), 2, "and the key is free");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_others_lease_for_ever_is_loaded_uncached_with_time_to_spare() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let (stuck, slow) = (Gate::shut(), Gate::shut());
    let [a, b] = nodes(&l2, &hands, [&stuck, &slow]);
    let holder = tokio::spawn(async move { a.load(&3).await });
    until("the load has begun", || stuck.loads() > 0).await;
    // The store's clock stands still: the lease never ends. Waiting takes half of the ten seconds, the load three more.
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(8)).await;
        slow.open();
    });
    assert_eq!(b.load(&3).await.unwrap(), 6);
    assert_eq!(b.stats().l2.refused, 0, "a load without a lease does not try to fill");
    holder.abort();
}
