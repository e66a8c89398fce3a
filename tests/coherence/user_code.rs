//! Code of the user that runs while L1 lets go of something: it may read the cache, and it may panic.

use super::nodes::{BOUND, Cache, World};
use cachestack::testing::{ChaosTier, Messages};
use cachestack::{Cause, Coherence, MemoryTier, Namespace, Tier, Ttl};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// So often a partition is suspected, with something to suspect, until L1 goes through its entries and takes out what was suspected long ago.
const UNTIL_A_WALK: u64 = 128;

#[tokio::test(start_paused = true)]
async fn a_listener_that_reads_and_panics_while_a_poll_is_answered_leaves_no_older_value_anywhere() {
    let world = World::new();
    let l2 = ChaosTier::new(world.store.as_another_node());
    let (calls, itself) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::<Cache>::new()));
    let (counted, reads, hands) = (calls.clone(), itself.clone(), world.hands.clone());
    let listening = MemoryTier::builder(100).listener(move |key: &u64, _, cause| {
        if cause != Cause::Removed {
            return;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        // A look that finds nothing verified asks whether the machine was suspended: for that it needs each partition's lock.
        hands.suspend(Duration::from_secs(60));
        reads.get().and_then(|cache| cache.get_local(key));
        panic!("on purpose");
    });
    let builder = Cache::builder("t").l1(listening.build()).l2(l2.clone()).clock(world.hands.clock()).ttl(Ttl::minutes(60));
    let first = builder.origin(|_| async { Ok::<_, io::Error>(0) }).build().unwrap();
    assert!(itself.set(first.clone()).is_ok());
    let second = world.cache(l2.clone(), Coherence::default());
    let partition = |key: u64| Namespace::new("cs", "t").unwrap().key(&key).partition();
    let twin = (2..10_000).find(|key| partition(*key) == partition(1)).unwrap();
    // Each round of polls finds other sequences, and suspects everything once.
    let suspected = async |times: u64| {
        while first.stats().coherence.suspicions / 256 / 2 < times {
            world.store.forget_sequences();
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            first.load(&twin).await.unwrap();
        }
    };
    first.load(&twin).await.unwrap();
    suspected(UNTIL_A_WALK / 2).await;
    first.load(&1).await.unwrap();
    suspected(UNTIL_A_WALK - 3).await;
    second.load(&1).await.unwrap();
    assert_eq!((calls.load(Ordering::SeqCst), second.load_cached(&1).await.unwrap().tier), (0, Tier::L1));
    l2.set_messages(Messages::Lost);
    world.commit(1, 7);
    world.node().cache.invalidate(&1).await.unwrap();
    while calls.load(Ordering::SeqCst) == 0 {
        world.hands.advance(BOUND);
        world.store.forget_sequences();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        // Whose own walk it may be.
        let _ = first.load(&twin).await;
    }
    assert_eq!(second.load(&1).await.unwrap(), 7, "which is asked about again, whatever the other one's listener does");
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    second.load(&1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!(second.stats().coherence.unverified_partitions, 0, "and polls go on");
}
