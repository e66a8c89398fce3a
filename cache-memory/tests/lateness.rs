//! How long values stay that have left: fault A7. Apart from other tests: grace periods are the process's, so a reader of any tier holds up all.

use cache_core::{LocalTier, Moment, Stamp, Terms};
use cache_memory::{Compute, Computed, MemoryCache, MemoryTier};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, mpsc};

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(living: &Arc<AtomicU64>) -> Self {
        living.fetch_add(1, Ordering::Relaxed);
        Self(living.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn put<V: Send + Sync + 'static>(tier: &MemoryTier<u64, V>, key: u64, value: V) {
    let (now, last) = (Moment::ORIGIN, Moment::NEVER);
    let terms = Terms::from(Stamp { created: now, soft: last, hard: last, last });
    assert!(tier.insert(hash(key), key, value, &terms, now, &|| true));
}

fn hash(key: u64) -> u64 {
    (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The documented size of a batch, for a shard of this capacity.
fn batch(capacity: u64) -> u64 {
    (capacity / 64).clamp(16, 256)
}

/// The most that wait in a shard while no reader stays.
fn most(capacity: u64) -> u64 {
    3 * batch(capacity)
}

/// Puts so many keys, the same ones again after `keys`. The most values that lived at once beside those that were held.
fn churn(tier: &MemoryTier<u64, Counted>, living: &Arc<AtomicU64>, keys: u64, times: u64) -> u64 {
    let steps = (0..times).map(|step| {
        put(tier, step % keys, Counted::new(living));
        living.load(Ordering::Relaxed) - tier.len()
    });
    steps.max().unwrap_or(0)
}

#[test]
fn a7_no_more_wait_than_documented_whatever_the_capacity() {
    let _alone = alone();
    for capacity in [1, 10, 1_000, 5_000, 40_000] {
        // With room for all keys they are replaced, otherwise evicted.
        for keys in [capacity / 2 + 1, 3 * capacity + 1] {
            let (tier, living) = (MemoryTier::builder(capacity).shards(1).build(), Arc::default());
            let waited = churn(&tier, &living, keys, 3 * capacity + 2_000);
            assert!(waited <= most(capacity), "{waited} of {capacity}");
            assert!(waited > batch(capacity), "the barrier is for a batch, not for each: {waited}");
        }
    }
}

#[test]
fn heavy_values_wait_in_small_batches() {
    let _alone = alone();
    for (weight, batch) in [(100, 11), (600, 4), (60_000, 4)] {
        let builder = MemoryTier::builder(64_000).shards(1).weigher(move |_: &u64, _: &Counted| weight);
        let (tier, living) = (builder.build(), Arc::default());
        let waited = churn(&tier, &living, 5_000, 5_000);
        assert!(waited <= 3 * batch, "{waited} values of {weight}");
    }
}

#[test]
fn a_value_that_is_made_slowly_holds_up_nothing() {
    let _alone = alone();
    let capacity = 1_000;
    let (tier, living) = (MemoryTier::builder(capacity).shards(1).build(), Arc::default());
    let make = || churn(&tier, &living, 1_000_000, 20_000);
    let cache = MemoryCache::<u64, u64>::builder().build();
    let waited = cache.get_or_insert_with(1, make);
    assert!(waited <= most(capacity), "{waited} beside a making");
    let mut waited = 0;
    let done = cache.compute(2, |_| {
        waited = make();
        Compute::Put(waited)
    });
    assert!(done == Computed::Stored && waited <= most(capacity), "{waited} beside a compute of a new key");
}

/// As a thread that loses its core in a plain read, or that waits for the lock of a shard.
#[test]
fn a_reader_that_stays_for_a_moment_is_noticed_to_have_left_a_batch_later() {
    let _alone = alone();
    for capacity in [100, 1_000, 2_000] {
        let (tier, living) = (MemoryTier::builder(capacity).shards(1).build(), Arc::default());
        churn(&tier, &living, 1_000_000, 3 * capacity);
        let keeper = MemoryTier::new(1);
        put(&keeper, 0, 0);
        for _ in 0..20 {
            // As long as it takes to ask in vain once.
            keeper.with(hash(0), &0, Moment::ORIGIN, |_| churn(&tier, &living, 1_000_000, 2 * batch(capacity) + 1));
            let waited = churn(&tier, &living, 1_000_000, 1_000);
            assert!(waited <= 5 * batch(capacity), "{waited} of {capacity}");
        }
    }
}

thread_local! {
    /// Where this thread's next drop of a value stops, to go on later.
    static STOP: Cell<Option<Arc<[Barrier; 2]>>> = const { Cell::new(None) };
}

struct Stopping {
    _counted: Counted,
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(stop) = STOP.take() {
            stop.iter().for_each(|stop| _ = stop.wait());
        }
    }
}

#[test]
fn each_write_that_drops_slowly_holds_one_batch_more() {
    let _alone = alone();
    let capacity = 1_000;
    let (tier, living, slow) = (MemoryTier::builder(capacity).shards(1).build(), Arc::default(), 4);
    let put_some = |times: u64| {
        let steps = (0..times).map(|step| {
            put(&tier, step % 10_000, Stopping { _counted: Counted::new(&living) });
            living.load(Ordering::Relaxed) - tier.len()
        });
        steps.max().unwrap()
    };
    assert!(put_some(10_000) <= most(capacity));
    std::thread::scope(|scope| {
        let stops = [(); 4].map(|()| {
            let stop = Arc::new([Barrier::new(2), Barrier::new(2)]);
            let mine = stop.clone();
            scope.spawn(move || {
                STOP.set(Some(mine));
                put_some(1_000);
            });
            stop[0].wait();
            stop
        });
        let waited = put_some(10_000);
        assert!(waited <= most(capacity) + slow * batch(capacity), "{waited} while {slow} drop");
        assert!(waited > most(capacity), "they hold no batch: {waited}");
        for stop in stops {
            stop[1].wait();
        }
    });
}

#[test]
fn a7_what_left_while_a_reader_stayed_comes_back_when_it_has_left() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(1_000).shards(1).build(), Arc::default());
    put(&tier, 0, Counted::new(&living));
    let (parked, leave) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tier.with(hash(0), &0, Moment::ORIGIN, |_| {
                parked.wait();
                leave.wait();
            })
        });
        parked.wait();
        assert!(churn(&tier, &living, 1_000_000, 10_000) >= 9_000, "what a reader may see stays");
        tier.sweep(Moment::ORIGIN);
        assert!(living.load(Ordering::Relaxed) >= 10_000, "nor does a sweep take it from the reader");
        leave.wait();
    });
    // A try in 256, and then 512 a write.
    churn(&tier, &living, 1_000_000, 400);
    assert!(living.load(Ordering::Relaxed) <= tier.len() + most(1_000), "{} live", living.load(Ordering::Relaxed));
    tier.sweep(Moment::ORIGIN);
    assert_eq!(living.load(Ordering::Relaxed), tier.len());
}

#[test]
fn writes_after_a_clear_drop_what_was_in_the_tier() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(100_000).shards(1).build(), Arc::default());
    churn(&tier, &living, 80_000, 80_000);
    tier.clear();
    assert_eq!((tier.len(), living.load(Ordering::Relaxed)), (0, 80_000));
    // 96 entries and buckets each: 12,000 buckets, for the whole capacity. And some writes until the grace period is over.
    churn(&tier, &living, 10, (80_000 + 12_000) / 96 + 20);
    let left = living.load(Ordering::Relaxed) - tier.len();
    assert!(left <= most(100_000), "{left} live");
}

#[test]
fn what_was_cleared_under_a_reader_goes_though_nothing_else_leaves() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(100_000).shards(1).build(), Arc::default());
    (0..1_000).for_each(|key| put(&tier, key, Counted::new(&living)));
    tier.with(hash(0), &0, Moment::ORIGIN, |_| tier.clear());
    (0..100).for_each(|key| put(&tier, key, Counted::new(&living)));
    assert_eq!((tier.len(), living.load(Ordering::Relaxed)), (100, 100));
}

#[test]
fn readers_that_take_turns_hold_up_what_each_may_see_and_no_more() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(1_000).shards(1).build(), Arc::default());
    put(&tier, 0, Counted::new(&living));
    let keeper = MemoryTier::new(1);
    put(&keeper, 0, 0);
    std::thread::scope(|scope| {
        let stay = || {
            let (entered, wait) = mpsc::channel();
            let (leave, told) = mpsc::channel::<()>();
            let keeper = &keeper;
            let reader = scope.spawn(move || {
                keeper.with(hash(0), &0, Moment::ORIGIN, |_| {
                    entered.send(()).unwrap();
                    _ = told.recv();
                })
            });
            wait.recv().unwrap();
            move || {
                drop(leave);
                reader.join().unwrap()
            }
        };
        // At no moment is there nobody in a region.
        let mut leave = stay();
        for _ in 0..100 {
            let next = stay();
            std::mem::replace(&mut leave, next)();
            churn(&tier, &living, 1_000_000, 200);
        }
        let left = living.load(Ordering::Relaxed) - tier.len();
        assert!(left < 2_000, "{left} of 20,000");
        leave();
    });
}

#[test]
fn threads_leave_no_more_behind_than_one() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(1_000).shards(4).build(), Arc::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (tier, living) = (&tier, &living);
            scope.spawn(move || {
                for step in 0..5_000 {
                    put(tier, step * 4 + thread, Counted::new(living));
                    tier.with(hash(step), &step, Moment::ORIGIN, |_| ());
                }
            });
        }
    });
    // A try in 256 in each shard.
    churn(&tier, &living, 1_000_000, 4 * 400);
    let left = living.load(Ordering::Relaxed) - tier.len();
    assert!(left <= 4 * most(250), "{left} live");
}

/// A value whose weight counts.
struct Heavy(u32, Arc<AtomicU64>);

impl Heavy {
    fn new(weight: u32, living: &Arc<AtomicU64>) -> Self {
        living.fetch_add(weight.into(), Ordering::Relaxed);
        Self(weight, living.clone())
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.into(), Ordering::Relaxed);
    }
}

#[test]
fn heavy_values_exceed_the_capacity_by_a_small_batch() {
    let _alone = alone();
    let capacity = 1_000_000;
    for weight in [1_000, 10_000, 100_000, 500_000, 1_000_000] {
        let builder = MemoryTier::builder(capacity).shards(1).weigher(|_: &u64, value: &Heavy| value.0);
        let (tier, living) = (builder.build(), Arc::default());
        let alive = (0..3_000).map(|key| {
            // The new one lives before there is room for it.
            let value = Heavy::new(weight, &living);
            let alive = living.load(Ordering::Relaxed);
            put(&tier, key, value);
            alive
        });
        let over = alive.max().unwrap() - capacity;
        let batch = capacity / 64 + u64::from(weight);
        // Where a batch is of few entries, the write that fills it also drops it.
        let bound = if weight < 10_000 { 2 * batch } else { batch } + u64::from(weight);
        assert!(over <= bound, "{over} more than {capacity} by weights of {weight}");
    }
}

#[test]
fn what_a_reader_held_up_goes_bit_by_bit_soon_after_it_left() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(1_000).shards(1).build(), Arc::<AtomicU64>::default());
    let keeper = MemoryTier::new(1);
    put(&keeper, 0, 0);
    keeper.with(hash(0), &0, Moment::ORIGIN, |_| churn(&tier, &living, 1_000_000, 50_000));
    assert_eq!(living.load(Ordering::Relaxed), 50_000);
    let dropped = (0..1_000).map(|key| {
        let before = living.load(Ordering::Relaxed);
        put(&tier, 1_000_000 + key, Counted::new(&living));
        before + 1 - living.load(Ordering::Relaxed)
    });
    let most_dropped = dropped.max().unwrap();
    assert!(most_dropped <= 600, "{most_dropped} by one write");
    let left = living.load(Ordering::Relaxed) - tier.len();
    assert!(left <= most(1_000), "{left} of 49,000 are left after 1,000 writes");
}

#[test]
fn little_that_is_cleared_often_does_not_pile_up() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(100_000).shards(8).build(), Arc::default());
    let left = (0..2_000).map(|key| {
        put(&tier, key, Counted::new(&living));
        tier.clear();
        living.load(Ordering::Relaxed)
    });
    let left = left.max().unwrap();
    assert!(left <= 20, "{left} live in an empty tier");
}

/// A value whose drop panics.
struct Loud {
    _counted: Counted,
}

impl Drop for Loud {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

#[test]
fn a_drop_that_panics_in_one_shard_does_not_keep_a_sweep_from_the_others() {
    let _alone = alone();
    let (tier, living) = (MemoryTier::builder(100_000).shards(8).build(), Arc::<AtomicU64>::default());
    (0..80).for_each(|key| put(&tier, key, Loud { _counted: Counted::new(&living) }));
    (0..80).for_each(|key| assert!(tier.remove(hash(key), &key, None, &|| ())));
    assert_eq!(living.load(Ordering::Relaxed), 80, "too few for a batch in each shard");
    let swept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tier.sweep(Moment::ORIGIN)));
    assert!(swept.is_err(), "the first panic goes on");
    assert_eq!(living.load(Ordering::Relaxed), 0);
}
