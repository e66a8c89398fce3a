//! A hit allocates nothing, and the futures are small.

use cachestack::{Cache as _, EmbeddedTier, Local, LocalTier, MemoryTier, Moment, Partition, SharedCache, Terms, TieredCache};
use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, RwLock};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// Drives a future on this thread that must be ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("a hit that waits"),
    }
}

type Value = Arc<[u8; 128]>;

fn cache<L: LocalTier<String, Value>>(l1: L) -> TieredCache<String, Value, L> {
    let cache = TieredCache::<String, Value>::builder("t")
        .l1(l1)
        .l2_with(EmbeddedTier::new(), Raw)
        .origin(|_| async { Ok::<_, io::Error>(Arc::new([7; 128])) })
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for key in 0..1_000 {
            cache.load(&key.to_string()).await.unwrap();
        }
    });
    cache
}

/// A map under a lock, the least a tier can be: what is allocated over it is allocated by the stack.
#[derive(Default)]
struct MapTier(RwLock<HashMap<String, (Value, Terms)>>);

impl LocalTier<String, Value> for MapTier {
    fn with<Q, F, R>(&self, _: u64, key: &Q, _: Moment, f: F) -> Option<R>
    where
        String: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&Value>) -> R,
    {
        let map = self.0.read().unwrap();
        map.get(key).map(|(value, terms)| f(Local { value, stamp: terms.stamp, partition: terms.partition, suspect: false }))
    }

    fn terms<Q>(&self, _: u64, key: &Q, _: Moment) -> Option<Terms>
    where
        String: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.read().unwrap().get(key).map(|(_, terms)| *terms)
    }

    fn insert(&self, _: u64, key: String, value: Value, terms: &Terms, _: Moment, admit: &dyn Fn() -> bool) -> bool {
        let mut map = self.0.write().unwrap();
        let admitted = admit();
        if admitted {
            map.insert(key, (value, *terms));
        }
        admitted
    }

    fn remove<Q>(&self, _: u64, key: &Q, _: Option<u64>, bump: &dyn Fn()) -> bool
    where
        String: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut map = self.0.write().unwrap();
        bump();
        map.remove(key).is_some()
    }

    fn suspect(&self, _: Partition) {}

    fn clear(&self) {
        self.0.write().unwrap().clear();
    }

    fn len(&self) -> u64 {
        self.0.read().unwrap().len() as u64
    }

    fn capacity(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    fn evictions(&self) -> u64 {
        0
    }
}

struct Raw;

impl cachestack::Codec<Value> for Raw {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &Value) -> Result<Vec<u8>, cachestack::BoxError> {
        Ok(value.to_vec())
    }

    fn decode(&self, payload: &[u8]) -> Result<Value, cachestack::BoxError> {
        Ok(Arc::new(payload.try_into()?))
    }
}

type Read<'a> = &'a dyn Fn(&String) -> Value;

/// Allocations in 20,000 hits by each way of reading, after as many to warm up.
fn allocations_of_hits<L: LocalTier<String, Value>>(l1: L) -> Vec<(&'static str, u64)> {
    let cache = cache(l1);
    let shared: SharedCache<String, Value> = Arc::new(cache.clone());
    let keys: Vec<String> = (0..1_000).map(|key| key.to_string()).collect();
    let none = || async { Ok::<_, io::Error>(Arc::new([0; 128])) };
    let ways: [(&'static str, Read<'_>); 6] = [
        ("load", &|key| now(cache.load(key.as_str())).unwrap()),
        ("get", &|key| now(cache.get(key.as_str())).unwrap()),
        ("get_or_load", &|key| now(cache.get_or_load(key.as_str(), none)).unwrap()),
        ("get_local", &|key| cache.get_local(key.as_str()).unwrap()),
        ("with_local", &|key| cache.with_local(key.as_str(), Arc::clone).unwrap()),
        ("load through dyn", &|key| now(shared.load(key)).unwrap()),
    ];
    let rounds = |read: Read<'_>| {
        (0..20).for_each(|_| keys.iter().for_each(|key| assert_eq!(read(key)[0], 7)));
    };
    rounds(ways[0].1);
    let counts = ways.map(|(way, read)| (way, allocations(|| rounds(read))));
    assert_eq!(cache.stats().l1.misses, 1_000, "all but the first reads were hits");
    counts.to_vec()
}

#[test]
fn the_stack_allocates_nothing_on_an_l1_hit() {
    for (way, count) in allocations_of_hits(MapTier::default()) {
        assert_eq!(count, 0, "{way}: {count} allocations in 20,000 hits");
    }
}

#[test]
fn an_l1_hit_allocates_nothing() {
    for (way, count) in allocations_of_hits(MemoryTier::new(10_000)) {
        assert_eq!(count, 0, "{way}: {count} allocations in 20,000 hits");
    }
}

/// Moka runs its maintenance on readers' threads after every 64 reads, and that allocates a bag for its collector: not
/// ours to forbid, and the reason why the bound here is not zero.
#[test]
#[cfg(feature = "moka")]
fn over_moka_nothing_is_allocated_but_by_mokas_own_maintenance() {
    for (way, count) in allocations_of_hits(cachestack::MokaTier::new(10_000)) {
        assert!(count <= 20_000 / 64, "{way}: {count} allocations in 20,000 hits");
    }
}

#[test]
fn b9_the_futures_of_load_and_get_are_small() {
    let cache = cache(MemoryTier::new(10_000));
    let key = "1".to_owned();
    let load = size_of_val(&cache.load(&key));
    let get = size_of_val(&cache.get(&key));
    let closure = size_of_val(&cache.get_or_load(&key, || async { Ok::<_, io::Error>(Arc::new([0; 128])) }));
    assert!(load < 256 && get < 256 && closure < 256, "load {load}, get {get}, get_or_load {closure} bytes");
}
