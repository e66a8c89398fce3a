//! The whole tier, as small as it gets.

use crate::grace::Grace;
use crate::memory::{Change, Computed, MemoryTier};
use crate::sync::{Ordering, explore};
use cache_core::{Local, LocalTier, ManualClock, Moment, Partition, Stamp, Terms};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use std::time::Duration;

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

/// Of every key: what tells them apart is the comparison.
const HASH: u64 = 0x5EED_0001;

fn now() -> Moment {
    ManualClock::new().clock().now()
}

fn terms() -> Terms {
    let end = Moment::NEVER;
    Terms::from(Stamp { created: now(), soft: end, hard: end, last: end })
}

fn insert(tier: &Tier, key: u64, value: u64) -> bool {
    tier.insert(HASH, key, Watched::new(value), &terms(), now(), &|| true)
}

fn remove(tier: &Tier, key: u64) -> bool {
    tier.remove(HASH, &key, None, &|| ())
}

fn read(tier: &Tier, key: u64) -> Option<u64> {
    tier.with(HASH, &key, now(), |local| local.value.get())
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
    explore(None, || {
        let tier = tier(4);
        let other = beside(&tier, |tier| assert!(insert(tier, 7, 1)));
        assert!(insert(&tier, 7, 2));
        other.join().unwrap();
        assert_eq!(tier.len(), 1);
        assert!(remove(&tier, 7));
        assert_eq!(read(&tier, 7), None);
    });
}

#[test]
fn a_removal_and_an_insert_of_a_key_happen_one_after_the_other() {
    explore(None, || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        // Not loom's: it adds no order. Both are called under the lock.
        let is_last = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let other = {
            let is_last = is_last.clone();
            beside(&tier, move |tier| assert!(tier.remove(HASH, &7, None, &|| is_last.store(false, Ordering::SeqCst))))
        };
        let admit = || {
            is_last.store(true, Ordering::SeqCst);
            true
        };
        assert!(tier.insert(HASH, 7, Watched::new(2), &terms(), now(), &admit));
        other.join().unwrap();
        let found = is_last.load(Ordering::SeqCst).then_some(2);
        assert_eq!((read(&tier, 7), tier.len()), (found, u64::from(found.is_some())));
    });
}

#[test]
fn no_update_is_lost() {
    explore(Some(3), || {
        let tier = tier(4);
        insert(&tier, 7, 0);
        let increment = |tier: &Tier| {
            let next = |held: Option<Local<&Watched>>| Change::Put(Watched::new(held.unwrap().value.get() + 1), terms());
            assert!(tier.compute(HASH, 7, now, next) == Computed::Stored);
        };
        let other = beside(&tier, increment);
        increment(&tier);
        other.join().unwrap();
        assert_eq!(read(&tier, 7), Some(2));
    });
}

/// The slot that a compute has seen may have the same key again in another slab.
#[test]
fn a_compute_does_not_take_what_came_after_a_clear_for_what_it_saw() {
    explore(Some(2), || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        let other = beside(&tier, |tier| {
            tier.clear();
            insert(tier, 7, 10);
        });
        let next =
            |held: Option<Local<&Watched>>| Change::Put(Watched::new(held.map_or(0, |local| local.value.get()) + 1), terms());
        assert!(tier.compute(HASH, 7, now, next) == Computed::Stored);
        other.join().unwrap();
        assert!(matches!(read(&tier, 7), Some(10 | 11)));
    });
}

#[test]
fn a_reader_finds_a_key_that_is_overwritten_and_goes_forward() {
    explore(Some(3), || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        let reads = beside(&tier, |tier| {
            let (first, second) = (read(tier, 7), read(tier, 7));
            assert!(first.is_some() && first <= second);
        });
        insert(&tier, 7, 2);
        tier.sweep(now());
        insert(&tier, 7, 3);
        reads.join().unwrap();
    });
}

#[test]
fn a_value_is_not_dropped_under_its_reader() {
    explore(None, || {
        let tier = tier(1);
        insert(&tier, 7, 1);
        let reads = beside(&tier, |tier| assert!(matches!(read(tier, 7), None | Some(1))));
        remove(&tier, 7);
        tier.sweep(now());
        // In the same slot.
        insert(&tier, 8, 2);
        reads.join().unwrap();
    });
}

#[test]
fn a_clear_does_not_take_the_table_from_its_readers() {
    explore(None, || {
        let tier = tier(1);
        insert(&tier, 7, 1);
        let reads = beside(&tier, |tier| assert!(matches!(read(tier, 7), None | Some(1))));
        tier.clear();
        tier.sweep(now());
        reads.join().unwrap();
        assert_eq!(read(&tier, 7), None);
    });
}

/// The slots of the old slab that a sweep has in hand when it is cleared must not become the new one's.
#[test]
fn a_clear_beside_a_sweep_gives_no_slot_twice() {
    explore(Some(3), || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        remove(&tier, 7);
        let sweeps = beside(&tier, |tier| tier.sweep(now()));
        tier.clear();
        for key in 0..3 {
            insert(&tier, key, key);
        }
        sweeps.join().unwrap();
        for key in 3..4 {
            insert(&tier, key, key);
        }
        assert_eq!([0, 1, 2, 3].map(|key| read(&tier, key)), [Some(0), Some(1), Some(2), Some(3)]);
    });
}

/// A write searches, and finds when it has the lock that the tier was cleared: what it found is of another slab.
#[test]
fn an_insert_beside_a_clear_comes_before_or_after_it() {
    explore(Some(3), || {
        let tier = tier(2);
        insert(&tier, 7, 1);
        let other = beside(&tier, |tier| assert!(insert(tier, 7, 2)));
        tier.clear();
        // In the slot that the first one had.
        insert(&tier, 8, 3);
        other.join().unwrap();
        assert_eq!(read(&tier, 8), Some(3));
        assert!(matches!(read(&tier, 7), None | Some(2)));
        assert_eq!(tier.len(), 1 + u64::from(read(&tier, 7).is_some()));
    });
}

#[test]
fn a_reader_finds_its_key_while_the_index_grows() {
    explore(Some(3), || {
        let tier = tier(1);
        // The first index is of one bucket, for 12 keys.
        tier.resize(100);
        for key in 0..12 {
            insert(&tier, key, key);
        }
        let reads = beside(&tier, |tier| assert_eq!(read(tier, 11), Some(11)));
        let advances = thread::spawn(|| Grace::global().advance());
        insert(&tier, 12, 12);
        insert(&tier, 12, 12);
        for thread in [reads, advances] {
            thread.join().unwrap();
        }
        assert_eq!(read(&tier, 12), Some(12));
    });
}

/// The first entry that needs an extra brings the memory for all of its chunk.
#[test]
fn an_extra_that_comes_beside_a_reader_is_whole_and_of_its_entry() {
    explore(Some(3), || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        let reads = beside(&tier, |tier| {
            let version = |key| tier.terms(HASH, &key, now()).map(|terms| (terms.version, terms.idle));
            assert_eq!(version(7), Some((0, None)), "of another entry");
            assert!(matches!(version(8), None | Some((5, None))), "half of it");
        });
        let terms = Terms { version: 5, ..terms() };
        assert!(tier.insert(HASH, 8, Watched::new(2), &terms, now(), &|| true));
        reads.join().unwrap();
    });
}

/// Readers look whether an entry lay idle once there is one that may, and the first one is found by none that does not.
#[test]
fn the_first_entry_that_may_lie_idle_is_not_read_when_it_lay_idle_too_long() {
    explore(Some(3), || {
        let tier = tier(4);
        insert(&tier, 7, 1);
        let (idle, later) = (Duration::from_secs(1), now().after(Duration::from_secs(2)));
        let reads = beside(&tier, move |tier| {
            let value = |key, at| tier.with(HASH, &key, at, |local| local.value.get());
            assert_eq!(value(8, later), None, "it lay idle");
            assert_eq!(value(7, later), Some(1));
        });
        let terms = Terms { idle: Some(idle), ..terms() };
        assert!(tier.insert(HASH, 8, Watched::new(2), &terms, now(), &|| true));
        reads.join().unwrap();
    });
}

/// The older of two readers may stand still between its look at the last read and its own: it must not take the newer one's back.
#[test]
fn a_read_never_makes_an_entry_more_idle() {
    explore(None, || {
        let tier = tier(4);
        let second = Duration::from_secs(1);
        let terms = Terms { idle: Some(second * 10), ..terms() };
        assert!(tier.insert(HASH, 8, Watched::new(2), &terms, now(), &|| true));
        let read_at =
            move |tier: &Tier, seconds: u32| tier.with(HASH, &8, now().after(second * seconds), |local| local.value.get());
        let other = beside(&tier, move |tier| assert_eq!(read_at(tier, 5), Some(2)));
        assert_eq!(read_at(&tier, 9), Some(2));
        other.join().unwrap();
        assert!(tier.holds(HASH, &8, now().after(second * 18)));
    });
}

#[test]
fn a_smaller_capacity_holds_whatever_comes_beside_it() {
    explore(Some(3), || {
        let tier = tier(2);
        insert(&tier, 7, 1);
        let resizes = beside(&tier, |tier| {
            tier.resize(1);
            assert!(tier.weight() <= 1);
        });
        assert!(insert(&tier, 8, 2));
        resizes.join().unwrap();
        assert_eq!((tier.len(), tier.weight()), (1, 1));
        assert!(matches!((read(&tier, 7), read(&tier, 8)), (Some(1), None) | (None, Some(2))));
    });
}

fn is_trusted(tier: &Tier, key: u64) -> bool {
    tier.with(HASH, &key, now(), |local| !local.suspect).unwrap_or(false)
}

/// The mark that something was stored is lost to a suspicion that comes at the same time, and not to the next.
#[test]
fn what_is_stored_beside_a_suspicion_is_suspect_after_another() {
    explore(None, || {
        let tier = tier(4);
        insert(&tier, 5, 1);
        let other = beside(&tier, |tier| assert!(insert(tier, 7, 1)));
        tier.suspect(Partition::default());
        assert!(!is_trusted(&tier, 5));
        other.join().unwrap();
        tier.suspect(Partition::default());
        assert!(!is_trusted(&tier, 7) && !is_trusted(&tier, 5));
        insert(&tier, 7, 2);
        assert!(is_trusted(&tier, 7));
    });
}

#[test]
fn who_hears_of_an_insert_suspects_it_and_who_hears_of_a_suspicion_sees_it() {
    explore(None, || {
        let (tier, told) = (tier(4), Arc::new(loom::sync::atomic::AtomicU32::new(0)));
        let told_of = told.clone();
        let other = beside(&tier, move |tier| {
            insert(tier, 7, 1);
            told_of.store(1, Ordering::Release);
        });
        let heard = told.load(Ordering::Acquire) == 1;
        tier.suspect(Partition::default());
        let told_of = told.clone();
        let reader = beside(&tier, move |tier| assert!(told_of.load(Ordering::Acquire) < 2 || !heard || !is_trusted(tier, 7)));
        if heard {
            told.store(2, Ordering::Release);
        }
        reader.join().unwrap();
        other.join().unwrap();
    });
}
