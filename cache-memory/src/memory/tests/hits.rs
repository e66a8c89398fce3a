//! What a hit does not do.

use super::{LocalTier, MemoryTier, NOW, POLICIES, hash, put, read};
use crate::memory::mark::check::stores;
use std::sync::mpsc;
use std::time::Duration;

#[test]
#[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
fn hits_within_a_pulse_write_the_mark_once() {
    for kind in POLICIES {
        let tier = MemoryTier::builder(64_000).shards(1).policy(kind).build();
        (0..100).for_each(|key| assert!(put(&tier, key, key)));
        let hit = |times: u64| {
            let before = stores();
            for _ in 0..times {
                (0..100).for_each(|key| assert_eq!(read(&tier, key), Some(key)));
            }
            stores() - before
        };
        assert!(hit(1) <= 100, "{kind:?}");
        assert_eq!(hit(10), 0, "{kind:?}: a hit wrote to a line that all readers of the entry share");
        // Many pulses later.
        (1_000..65_000).for_each(|key| assert!(put(&tier, key, key)));
        (0..100).for_each(|key| _ = put(&tier, key, key));
        (65_000..70_000).for_each(|key| assert!(put(&tier, key, key)));
        assert_eq!((hit(1), hit(10)), (100, 0), "{kind:?}");
    }
}

#[test]
fn a_hit_takes_no_shard_s_lock() {
    let tier = MemoryTier::builder(1_000).shards(4).build();
    (0..100).for_each(|key| assert!(put(&tier, key, key)));
    let (done, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let locks: Vec<_> = tier.shards.iter().map(|shard| shard.writer.lock()).collect();
        let tier = &tier;
        scope.spawn(move || {
            for key in 0..200 {
                let there = (key < 100).then_some(key);
                assert_eq!(tier.with(hash(key), &key, NOW, |local| *local.value), there);
                assert_eq!(read(tier, key), there);
                assert_eq!(
                    (tier.terms(hash(key), &key, NOW).is_some(), tier.holds(hash(key), &key, NOW)),
                    (key < 100, key < 100)
                );
            }
            done.send(()).unwrap();
        });
        let done = told.recv_timeout(Duration::from_secs(20));
        // Before the assertion, so that a reader that waits for one of them ends.
        drop(locks);
        assert_eq!(done, Ok(()), "a reader waits for a lock");
    });
}
