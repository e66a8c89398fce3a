//! Threads that use a tier while they end.

use super::{MemoryTier, put, read};
use crate::grace::check::records;
use std::cell::RefCell;
use std::sync::Arc;

type Tier = Arc<MemoryTier<u64, u64>>;

/// Uses a tier when its thread's locals are destroyed.
struct Late(RefCell<Option<Tier>>);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(tier) = self.0.take() {
            // One region within another, too.
            super::LocalTier::with(&*tier, super::hash(1), &1, super::NOW, |_| assert_eq!(read(&tier, 2), Some(2))).unwrap();
            assert!(put(&tier, 3, 3));
        }
    }
}

thread_local! {
    static LATE: Late = const { Late(RefCell::new(None)) };
}

#[test]
fn threads_that_use_a_tier_when_they_end_leave_no_record() {
    let tier = Tier::new(MemoryTier::new(100));
    (0..10).for_each(|key| assert!(put(&tier, key, key)));
    let (before, threads) = (records(), if cfg!(miri) { 20 } else { 1_000 });
    for _ in 0..threads {
        let tier = tier.clone();
        let thread = std::thread::spawn(move || {
            // Before the tier is used, so that it is destroyed after the thread's record is given back.
            LATE.with(|late| *late.0.borrow_mut() = Some(tier.clone()));
            assert_eq!(read(&tier, 1), Some(1));
        });
        thread.join().unwrap();
    }
    // Other tests have threads, but not so many more at once.
    let more = records() - before;
    assert!(more < threads / 2, "{more} records of {threads} threads");
    // What is lent is not read from for ever.
    tier.drain(super::NOW);
}
