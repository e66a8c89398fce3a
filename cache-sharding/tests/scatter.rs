//! Scatter and gather over shards that fail in every way a closure can.

use std::collections::HashSet;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache_sharding::{Rendezvous, Shard, ShardError, ShardRouter};
use tokio::sync::{Barrier, mpsc};

fn router(shards: usize) -> ShardRouter<usize, Rendezvous> {
    ShardRouter::builder().shards((0..shards).map(|i| (format!("shard-{i}"), i))).rendezvous().unwrap()
}

/// Fails a test that would hang. Its clock is paused, so this takes no time: it jumps ahead once nothing else can run.
async fn ended<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3600), future).await.expect("it hangs")
}

#[tokio::test]
async fn every_shard_gives_its_own_answer_in_order() {
    let gathered = router(5).scatter().all(|shard| async move { Ok::<_, ()>(*shard.primary() * 10) }).await;
    assert_eq!(gathered.answers()[3].shard.name(), "shard-3");
    assert_eq!(gathered.complete().unwrap(), [0, 10, 20, 30, 40]);
}

#[tokio::test]
async fn a_failed_shard_costs_its_own_answer_only() {
    let ask = |shard: Shard<usize>| async move { if *shard.primary() == 2 { Err("down") } else { Ok(*shard.primary()) } };
    let gathered = router(4).scatter().all(ask).await;
    assert_eq!(gathered.successes().collect::<Vec<_>>(), [&0, &1, &3]);
    let failures: Vec<_> = gathered.failures().map(|(shard, error)| (shard.name(), error)).collect();
    assert_eq!(failures, [("shard-2", &ShardError::Failed("down"))]);
    assert_eq!(gathered.complete().unwrap_err().0.name(), "shard-2");
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_shard() {
    // Both kinds: before the future exists, and while it runs.
    let gathered = router(4)
        .scatter()
        .all(|shard| {
            assert!(*shard.primary() != 1, "expected: no future for this shard");
            async move {
                assert!(*shard.primary() != 3, "expected: this shard's future panics");
                Ok::<_, ()>(())
            }
        })
        .await;
    let failures: Vec<_> = gathered.failures().map(|(shard, error)| (shard.name(), error)).collect();
    assert_eq!(failures, [("shard-1", &ShardError::Panicked), ("shard-3", &ShardError::Panicked)]);
    assert_eq!(gathered.successes().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_hangs_misses_its_deadline_and_the_others_answer() {
    let deadline = Duration::from_millis(250);
    let ask = |shard: Shard<usize>| async move {
        if *shard.primary() == 0 {
            std::future::pending::<()>().await;
        }
        Ok::<_, ()>(())
    };
    let router = router(3);
    let gathered = ended(router.scatter().deadline(deadline).all(ask)).await;
    let failures: Vec<_> = gathered.failures().collect();
    assert_eq!(failures.len(), 1);
    assert_eq!((failures[0].0.name(), failures[0].1), ("shard-0", &ShardError::DeadlineExceeded { deadline }));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_from_the_shards_own_turn() {
    let deadline = Duration::from_secs(10);
    let ask = |_| async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Ok::<_, ()>(())
    };
    let one_at_a_time = NonZeroUsize::MIN;
    let gathered = router(3).scatter().concurrency(one_at_a_time).deadline(deadline).all(ask).await;
    assert_eq!(gathered.successes().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn as_many_shards_are_asked_at_once_as_allowed_and_no_more() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Nobody passes before three are in: fewer at once would hang, and six shards make two full rounds.
    let three = Arc::new(Barrier::new(3));
    let seen = Arc::clone(&most);
    let ask = move |_| {
        let (running, most, three) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&three));
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            three.wait().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, ()>(())
        }
    };
    let router = router(6);
    let gathered = ended(router.scatter().concurrency(NonZeroUsize::new(3).unwrap()).all(ask)).await;
    assert_eq!(gathered.successes().count(), 6);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_gather_stops_its_work() {
    let (started, mut has_started) = mpsc::unbounded_channel();
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    let ask = move |shard: Shard<usize>| {
        let (started, alive) = (started.clone(), Arc::clone(&alive));
        async move {
            started.send(*shard.primary()).unwrap();
            std::future::pending::<()>().await;
            drop(alive);
            Ok::<_, ()>(())
        }
    };
    let router = router(4);
    let scatter = router.scatter().concurrency(NonZeroUsize::new(2).unwrap());
    let mut gather = Box::pin(scatter.all(ask));
    let two_have_started = async {
        for _ in 0..2 {
            has_started.recv().await.unwrap();
        }
    };
    ended(async {
        tokio::select! {
            _ = &mut gather => unreachable!("no shard ever answers"),
            () = two_have_started => {}
        }
    })
    .await;
    drop(gather);
    // The closure and both futures are gone: nothing can send any more, and the shards in the queue were never asked.
    assert_eq!(ended(has_started.recv()).await, None);
    assert!(watched.upgrade().is_none());
}

/// Fault G3.
#[tokio::test]
async fn one_of_ten_shards_down_costs_its_keys_of_a_hundred() {
    let router = router(10);
    let down = "shard-4";
    let ask = move |shard: Shard<usize>, keys: Arc<[u64]>| async move {
        if shard.name() == down {
            Err("connection refused")
        } else {
            Ok(keys.iter().map(|&key| (key, key * 2)).collect::<Vec<_>>())
        }
    };
    let merged = router.scatter().keys(0..100_u64, ask).await.merge();

    let lost: HashSet<u64> = (0..100).filter(|key| router.route(key).name() == down).collect();
    assert!((3..=20).contains(&lost.len()), "about ten of a hundred keys lie on one of ten shards, here {}", lost.len());
    assert_eq!(merged.found.len(), 100 - lost.len());
    assert!(merged.found.iter().all(|(key, value)| *value == key * 2 && !lost.contains(key)));
    assert!(merged.absent.is_empty());
    assert_eq!(merged.failed_keys().map(|(key, _)| *key).collect::<HashSet<_>>(), lost);
    assert!(
        merged
            .failed_keys()
            .all(|(_, failed)| failed.shard.name() == down && failed.error == ShardError::Failed("connection refused"))
    );
    assert!(!merged.is_complete());
}

#[tokio::test]
async fn a_key_is_absent_only_when_its_shard_answered() {
    let router = router(4);
    let down = router.route("lost").name().to_owned();
    let ask = move |shard: Shard<usize>, keys: Arc<[String]>| {
        let down = shard.name() == down;
        // Every shard also claims a key it was not asked for.
        let rows = keys.iter().filter(|key| !key.starts_with("none")).cloned().chain(["foreign".to_owned()]).map(|key| (key, 1));
        let rows = if down { Err(()) } else { Ok(rows.collect::<Vec<_>>()) };
        async move { rows }
    };
    let keys: Vec<String> = (0..20).flat_map(|n| [format!("some-{n}"), format!("none-{n}")]).chain(["lost".to_owned()]).collect();
    let merged = router.scatter().keys(keys.clone(), ask).await.merge();
    let failed: HashSet<_> = merged.failed_keys().map(|(key, _)| key.clone()).collect();
    assert!(failed.contains("lost"));
    for key in keys {
        let places = [merged.found.contains_key(&key), merged.absent.contains(&key), failed.contains(&key)];
        assert_eq!(places.iter().filter(|&&is| is).count(), 1, "{key} is in one place: {places:?}");
        assert!(failed.contains(&key) || merged.absent.contains(&key) == key.starts_with("none"));
    }
    assert!(!merged.found.contains_key("foreign"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scatter_can_be_awaited_in_a_task_that_changes_threads() {
    let router = router(3);
    let task = tokio::spawn(async move {
        let all = router.scatter().all(|shard| async move { Ok::<_, ()>(*shard.primary()) }).await;
        let ask =
            |_: Shard<usize>, keys: Arc<[u64]>| async move { Ok::<_, ()>(keys.iter().map(|&key| (key, ())).collect::<Vec<_>>()) };
        let keyed = router.scatter().keys((0..10_u64).map(|key| key * 3), ask).await.merge();
        (all.successes().count(), keyed.found.len())
    });
    assert_eq!(task.await.unwrap(), (3, 10));
}

#[tokio::test]
async fn no_keys_ask_nobody() {
    let ask = |_: Shard<usize>, _: Arc<[u64]>| async { Err::<Vec<(u64, ())>, _>("asked") };
    assert!(router(3).scatter().keys([], ask).await.answers().is_empty());
}

#[test]
fn a_shard_cancelled_by_a_runtime_that_ends_is_reported_so() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let router = router(1);
    let gather = {
        let _entered = elsewhere.enter();
        let mut gather = Box::pin(async move { router.scatter().all(|_| std::future::pending::<Result<(), ()>>()).await });
        // One poll, to spawn the task there.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(gather.as_mut().poll(&mut context).is_pending());
        gather
    };
    elsewhere.shutdown_background();
    let gathered = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(gather);
    assert_eq!(gathered.failures().filter(|(_, error)| **error == ShardError::Cancelled).count(), 1);
}
