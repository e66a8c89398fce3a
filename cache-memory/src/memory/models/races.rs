//! The whole tier, in many random orders of its steps, by shuttle.

use crate::memory::{Cause, Change, Computed, MemoryTier};
use cache_core::{Local, LocalTier, ManualClock, Moment, Partition, Stamp, Terms};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Orders tried of each model, half of them at random and half by PCT, which interrupts rarely and at the worst moments. `SHUTTLE_ORDERS` is another number.
const ORDERS: usize = 10_000;

/// The interruptions of an order by PCT.
const DEPTH: usize = 3;

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("SHUTTLE_ORDERS").map_or(ORDERS, |orders| orders.parse().expect("a number of orders"));
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    let model = Arc::new(model);
    let again = model.clone();
    shuttle::Runner::new(RandomScheduler::new(orders / 2), config.clone()).run(move || model());
    shuttle::Runner::new(PctScheduler::new(DEPTH, orders / 2), config).run(move || again());
}

/// Runs all of them at once, each in a thread of its own.
fn all_at_once<const N: usize>(acts: [Box<dyn FnOnce() + Send>; N]) {
    for thread in acts.map(|act| thread::spawn(act)) {
        thread.join().unwrap();
    }
}

/// What there is of values. Of the standard library, so that it adds no steps to the orders.
#[derive(Default)]
struct Census {
    made: AtomicU64,
    dropped: AtomicU64,
}

impl Census {
    fn alive(&self) -> u64 {
        self.made.load(Ordering::SeqCst) - self.dropped.load(Ordering::SeqCst)
    }
}

const SEAL: u64 = 0x9E37_79B9_7F4A_7C15;

/// A value that shows when it is not whole, and when it is looked at after its drop.
struct Value {
    key: u64,
    number: u64,
    seal: u64,
    census: Arc<Census>,
}

impl Value {
    fn new(census: &Arc<Census>, key: u64, number: u64) -> Self {
        census.made.fetch_add(1, Ordering::SeqCst);
        Self { key, number, seal: (key ^ number).wrapping_mul(SEAL), census: census.clone() }
    }

    /// Looks twice, and lets others run in between.
    fn check(&self, key: u64) -> u64 {
        let number = self.number;
        for _ in 0..2 {
            // SAFETY: a reference. Volatile, so that the second look is one.
            let seal = unsafe { std::ptr::read_volatile(&raw const self.seal) };
            assert_eq!((self.key, self.number), (key, number));
            assert_eq!(seal, (key ^ number).wrapping_mul(SEAL), "a value that is not whole, or was dropped");
            thread::yield_now();
        }
        number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.seal, (self.key ^ self.number).wrapping_mul(SEAL), "dropped twice, or not written");
        // SAFETY: a reference. Volatile, so that it is done though nobody should look any more.
        unsafe { std::ptr::write_volatile(&raw mut self.seal, 0) };
        self.census.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A tier with all that a model needs around it.
struct Scene {
    tier: MemoryTier<u64, Value>,
    census: Arc<Census>,
    /// How often the listener was told of each number.
    told: Arc<Mutex<HashMap<u64, u64>>>,
    next: AtomicU64,
    hands: ManualClock,
}

const LIFE: Duration = Duration::from_secs(60);

impl Scene {
    fn new(capacity: u64, shards: usize) -> Arc<Self> {
        let told = Arc::new(Mutex::new(HashMap::new()));
        let listener = {
            let told = told.clone();
            move |key: &u64, value: &Value, _: Cause| {
                let number = value.check(*key);
                *told.lock().unwrap().entry(number).or_default() += 1;
            }
        };
        let tier = MemoryTier::builder(capacity).shards(shards).listener(listener).build();
        let (census, next) = (Arc::default(), AtomicU64::new(0));
        Arc::new(Self { tier, census, told, next, hands: ManualClock::new() })
    }

    fn now(&self) -> Moment {
        self.hands.clock().now()
    }

    fn terms(&self) -> Terms {
        let (created, end) = (self.now(), self.now().after(LIFE));
        Terms::from(Stamp { created, soft: end, hard: end, last: end })
    }

    /// Pairs of keys have one hash, so that only their comparison tells them apart.
    fn hash(key: u64) -> u64 {
        (key / 2).wrapping_mul(SEAL)
    }

    fn value(&self, key: u64) -> Value {
        Value::new(&self.census, key, self.next.fetch_add(1, Ordering::SeqCst))
    }

    fn insert(&self, key: u64, value: Value, admit: &dyn Fn() -> bool) -> bool {
        self.tier.insert(Self::hash(key), key, value, &self.terms(), self.now(), admit)
    }

    fn put(&self, key: u64) -> u64 {
        let value = self.value(key);
        let number = value.number;
        assert!(self.insert(key, value, &|| true));
        number
    }

    fn read<R>(&self, key: u64, f: impl FnOnce(Local<&Value>, u64) -> R) -> Option<R> {
        self.tier.with(Self::hash(key), &key, self.now(), |local| {
            let number = local.value.check(key);
            f(local, number)
        })
    }

    fn get(&self, key: u64) -> Option<u64> {
        self.read(key, |_, number| number)
    }

    fn remove(&self, key: u64, bump: &dyn Fn()) -> bool {
        self.tier.remove(Self::hash(key), &key, None, bump)
    }

    /// Nobody uses the tier any more: all that has left is dropped, and the listener was told of it once.
    fn settle(self: Arc<Self>) {
        // A grave is taken apart in steps.
        for _ in 0..3 {
            self.tier.sweep(self.now());
        }
        assert_eq!(self.census.alive(), self.tier.len(), "what has left is not dropped");
        let told = self.told.lock().unwrap();
        assert!(told.values().all(|times| *times == 1), "told twice of an entry");
        assert_eq!(told.len() as u64, self.census.dropped.load(Ordering::SeqCst), "not told of an entry");
        drop(told);
        let census = self.census.clone();
        drop(self);
        assert_eq!(census.alive(), 0, "a value outlives its tier");
    }
}

/// An act over the scene, for [`all_at_once`].
fn act(scene: &Arc<Scene>, act: impl FnOnce(&Scene) + Send + 'static) -> Box<dyn FnOnce() + Send> {
    let scene = scene.clone();
    Box::new(move || act(&scene))
}

#[test]
fn whatever_is_done_at_once_values_are_whole_and_dropped_once() {
    explore(|| {
        let scene = Scene::new(6, 2);
        let reader = |scene: &Scene| {
            for _ in 0..8 {
                let (outer, inner) = (thread_rng().gen_range(0..10), thread_rng().gen_range(0..10));
                scene.read(outer, |local, number| {
                    scene.get(inner);
                    assert_eq!(local.value.check(outer), number);
                });
            }
        };
        let writer = |scene: &Scene| {
            for _ in 0..12 {
                scene.put(thread_rng().gen_range(0..10));
                assert!(scene.tier.len() <= 9);
            }
        };
        let rest = |scene: &Scene| {
            for _ in 0..8 {
                match thread_rng().gen_range(0..8) {
                    0 => scene.tier.clear(),
                    1 => scene.tier.suspect(Partition::default()),
                    2 => scene.tier.resize(thread_rng().gen_range(4..9)),
                    3 => scene.tier.sweep(scene.now()),
                    4 => scene.hands.advance(LIFE / 2),
                    5 => assert!(scene.tier.weight() <= 9),
                    _ => drop(scene.remove(thread_rng().gen_range(0..10), &|| ())),
                }
            }
        };
        all_at_once([act(&scene, reader), act(&scene, writer), act(&scene, writer), act(&scene, rest)]);
        scene.settle();
    });
}

#[test]
fn the_capacity_holds_at_every_instant() {
    explore(|| {
        let scene = Scene::new(3, 1);
        let writer = |scene: &Scene| {
            for key in 0..6 {
                scene.put(key + 10 * thread_rng().gen_range(0..2));
            }
        };
        let observer = |scene: &Scene| {
            for _ in 0..6 {
                assert!(scene.tier.len() <= 3);
            }
        };
        all_at_once([act(&scene, writer), act(&scene, writer), act(&scene, observer)]);
        scene.settle();
    });
}

#[test]
fn a_key_that_is_only_overwritten_is_always_found_and_goes_forward() {
    explore(|| {
        let scene = Scene::new(1_000, 1);
        // So many that the index, of room for 64, grows under the readers.
        for key in 0..60 {
            scene.put(key);
        }
        let reader = |scene: &Scene| {
            let mut last = 0;
            for _ in 0..10 {
                let number = scene.get(7).expect("a key that nobody removes");
                assert!(number >= last, "an older value after a newer one");
                last = number;
            }
        };
        let overwriter = |scene: &Scene| {
            for _ in 0..20 {
                scene.put(7);
            }
        };
        let grower = |scene: &Scene| {
            for key in 100..110 {
                scene.put(key);
            }
        };
        all_at_once([act(&scene, reader), act(&scene, overwriter), act(&scene, grower)]);
        assert_eq!(scene.tier.len(), 70);
        scene.settle();
    });
}

#[test]
fn no_update_is_lost() {
    explore(|| {
        let scene = Scene::new(100, 1);
        let counter = |scene: &Scene| {
            for turn in 0..6 {
                let key = turn % 2;
                let mut counted = None;
                let done = scene.tier.compute(
                    Scene::hash(key),
                    key,
                    || scene.now(),
                    |held| {
                        let count = held.map_or(0, |local| local.value.check(key));
                        counted = Some(count + 1);
                        Change::Put(Value::new(&scene.census, key, count + 1), scene.terms())
                    },
                );
                assert!(done == Computed::Stored && counted.is_some());
            }
        };
        let others = |scene: &Scene| {
            for key in 10..20 {
                scene.put(key);
                scene.remove(key, &|| ());
            }
        };
        all_at_once([act(&scene, counter), act(&scene, counter), act(&scene, counter), act(&scene, others)]);
        assert_eq!((scene.get(0), scene.get(1)), (Some(9), Some(9)));
    });
}

/// The rule of [`LocalTier::insert`]: of a fill and an invalidation, either the fill sees that it comes too late, or the invalidation takes its value out.
#[test]
fn a_fill_that_an_invalidation_overtook_is_never_read() {
    explore(|| {
        let scene = Scene::new(100, 1);
        let generation = Arc::new(shuttle::sync::atomic::AtomicU64::new(0));
        let filler = |generation: Arc<shuttle::sync::atomic::AtomicU64>| {
            move |scene: &Scene| {
                for _ in 0..5 {
                    let began = generation.load(Ordering::SeqCst);
                    let value = Value::new(&scene.census, 7, began);
                    scene.insert(7, value, &|| generation.load(Ordering::SeqCst) == began);
                    scene.put(thread_rng().gen_range(20..22));
                }
            }
        };
        let invalidator = |generation: Arc<shuttle::sync::atomic::AtomicU64>, by_clear: bool| {
            move |scene: &Scene| {
                for _ in 0..4 {
                    let mine = AtomicU64::new(0);
                    let bump = || mine.store(generation.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    if by_clear {
                        bump();
                        scene.tier.clear();
                    } else {
                        scene.remove(7, &bump);
                    }
                    let oldest = mine.load(Ordering::SeqCst);
                    assert!(scene.get(7).is_none_or(|began| began >= oldest), "read from before an invalidation");
                }
            }
        };
        all_at_once([
            act(&scene, filler(generation.clone())),
            act(&scene, filler(generation.clone())),
            act(&scene, invalidator(generation.clone(), false)),
            act(&scene, invalidator(generation.clone(), true)),
        ]);
        assert!(scene.get(7).is_none_or(|began| began == generation.load(Ordering::SeqCst)));
    });
}

#[test]
fn what_was_stored_before_a_suspicion_is_suspect() {
    explore(|| {
        let scene = Scene::new(100, 1);
        let suspicious = |scene: &Scene| {
            for _ in 0..4 {
                let number = scene.put(7);
                scene.tier.suspect(Partition::default());
                scene.read(7, |local, read| assert!(local.suspect || read != number));
            }
        };
        let writer = |scene: &Scene| {
            for _ in 0..6 {
                scene.put(7);
            }
        };
        all_at_once([act(&scene, suspicious), act(&scene, suspicious), act(&scene, writer)]);
        scene.put(7);
        scene.read(7, |local, _| assert!(!local.suspect));
        scene.settle();
    });
}
