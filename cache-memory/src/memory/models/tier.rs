//! The whole tier, as small as it gets.

use crate::memory::MemoryTier;
use crate::sync::explore;
use cache_core::{LocalTier, ManualClock, Moment, Terms};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;

/// A value that loom watches: to drop it is to write it.
struct Watched(UnsafeCell<u64>);

// SAFETY: loom's cells are for sharing; that is what they check.
unsafe impl Sync for Watched {}
// SAFETY: as above.
unsafe impl Send for Watched {}

impl Watched {
    fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn get(&self) -> u64 {
        // SAFETY: loom proves that nobody writes it meanwhile, or panics.
        self.0.with(|value| unsafe { *value })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: as above.
        self.0.with_mut(|value| unsafe { *value = u64::MAX });
    }
}

type Tier = MemoryTier<u64, Watched>;

const HASH: u64 = 0x5EED_0001;

fn now() -> Moment {
    ManualClock::new().clock().now()
}

fn insert(tier: &Tier, key: u64, value: u64) -> bool {
    tier.insert(HASH + key, key, Watched::new(value), &Terms::default().forever(), now(), &|| true)
}

trait Forever {
    fn forever(self) -> Self;
}

impl Forever for Terms {
    fn forever(mut self) -> Self {
        let (created, end) = (now(), Moment::NEVER);
        self.stamp = cache_core::Stamp { created, soft: end, hard: end, last: end };
        self
    }
}

fn read(tier: &Tier, key: u64) -> Option<u64> {
    tier.with(HASH + key, &key, now(), |local| local.value.get())
}

fn tier(capacity: u64) -> Arc<Tier> {
    Arc::new(Tier::builder(capacity).shards(1).policy(crate::Policy::Lru).build())
}

fn beside(tier: &Arc<Tier>, act: impl Fn(&Tier) + 'static) -> thread::JoinHandle<()> {
    let tier = tier.clone();
    thread::spawn(move || act(&tier))
}

/// Each searches before it has the lock, and must learn under the lock that its search no longer holds.
#[test]
fn two_inserts_of_a_key_leave_one_entry() {
    explore(Some(3), || {
        let tier = tier(4);
        let other = beside(&tier, |tier| assert!(insert(tier, 7, 1)));
        assert!(insert(&tier, 7, 2));
        other.join().unwrap();
        assert_eq!(tier.len(), 1);
        assert!(tier.remove(HASH + 7, &7, None, &|| ()));
        assert_eq!(read(&tier, 7), None);
    });
}

#[test]
fn a_removal_and_an_insert_of_a_key_happen_one_after_the_other() {
    explore(Some(3), || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        let other = beside(&tier, |tier| assert!(tier.remove(HASH + 7, &7, None, &|| ())));
        assert!(insert(&tier, 7, 2));
        other.join().unwrap();
        assert_eq!(tier.len(), u64::from(read(&tier, 7).is_some()));
    });
}

#[test]
fn a_value_is_not_dropped_under_its_reader() {
    explore(Some(2), || {
        let tier = tier(1);
        insert(&tier, 7, 1);
        let reads = beside(&tier, |tier| assert!(matches!(read(tier, 7), None | Some(1))));
        tier.remove(HASH + 7, &7, None, &|| ());
        tier.sweep(now());
        reads.join().unwrap();
    });
}

#[test]
fn a_clear_does_not_take_the_table_from_its_readers() {
    explore(Some(2), || {
        let tier = tier(1);
        insert(&tier, 7, 1);
        let reads = beside(&tier, |tier| assert!(matches!(read(tier, 7), None | Some(1))));
        tier.clear();
        tier.sweep(now());
        reads.join().unwrap();
        assert_eq!(read(&tier, 7), None);
    });
}
