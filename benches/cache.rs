//! What a call of the stack costs: hits, misses that load and fill, many keys, invalidations.
//!
//! `cargo bench --bench cache`. Groups with `redis` in their name need a `redis-server` on the PATH and say so if there is none.

use cachestack::{Cache as _, EmbeddedTier, MemoryTier, RemoteTier, SharedCache, TieredCache, Ttl};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Runtime;

const KEYS: u64 = 1_000;

type Value = Arc<[u8]>;
type Cache = TieredCache<u64, Value>;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn builder(name: &str) -> cachestack::Builder<u64, Value, MemoryTier<u64, Value>> {
    Cache::builder(name)
        .l1(MemoryTier::new(100_000))
        .ttl(Ttl::minutes(5))
        .origin(|key: u64| async move { Ok::<_, io::Error>(Arc::from(vec![key as u8; 128])) })
}

fn memory() -> Cache {
    builder("bench").build().expect("a sound configuration")
}

fn over<T: RemoteTier>(tier: T) -> Cache {
    builder("bench").l2(tier).build().expect("a sound configuration")
}

async fn warm(cache: &Cache) {
    for key in 0..KEYS {
        cache.load(&key).await.expect("the origin answers");
    }
}

/// Polls a hit, which is ready at once: no executor in the measurement.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a hit is ready at once"),
    }
}

fn hits(c: &mut Criterion) {
    let runtime = runtime();
    let cache = over(EmbeddedTier::new());
    runtime.block_on(warm(&cache));
    let shared: SharedCache<u64, Value> = Arc::new(cache.clone());
    let mut key = 0;
    let mut next = move || {
        key = (key + 7) % KEYS;
        key
    };
    let mut group = c.benchmark_group("l1-hit");
    group.bench_function("get_local", |b| b.iter(|| cache.get_local(black_box(&next()))));
    group.bench_function("get", |b| b.iter(|| now(cache.get(black_box(&next())))));
    group.bench_function("load", |b| b.iter(|| now(cache.load(black_box(&next())))));
    group.bench_function("load-cached", |b| b.iter(|| now(cache.load_cached(black_box(&next())))));
    group.bench_function("load-dyn", |b| b.iter(|| now(shared.load(black_box(&next())))));
    group.finish();
}

fn misses(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("miss-and-fill");
    for (name, cache) in subjects(&runtime) {
        let mut key = 1_000_000;
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.to_async(&runtime).iter(|| {
                key += 1;
                let cache = &cache;
                async move { cache.load(&key).await }
            });
        });
    }
    group.finish();
}

fn second_level_hits(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("l2-hit");
    for (name, tier) in remote(&runtime) {
        runtime.block_on(warm(&over(tier.clone())));
        // No L1, so that every read goes to L2.
        let cache = cache_core::TieredCache::<u64, Value>::builder("bench").l2(tier).build().expect("a sound configuration");
        let keys: Vec<u64> = (0..100).collect();
        let mut key = 0;
        group.bench_function(BenchmarkId::new("get", name), |b| {
            b.to_async(&runtime).iter(|| {
                key = (key + 7) % KEYS;
                let cache = &cache;
                async move { cache.get(&key).await.expect("a hit") }
            });
        });
        group.throughput(Throughput::Elements(100));
        group.bench_function(BenchmarkId::new("get_many-100", name), |b| b.to_async(&runtime).iter(|| cache.get_many(&keys)));
    }
    group.finish();
}

fn many(c: &mut Criterion) {
    let runtime = runtime();
    let cache = memory();
    runtime.block_on(warm(&cache));
    let keys: Vec<u64> = (0..100).collect();
    let mut group = c.benchmark_group("l1-hit");
    group.throughput(Throughput::Elements(100));
    group.bench_function("get_many-100", |b| b.iter(|| now(cache.get_many(black_box(&keys)))));
    group.finish();
}

fn invalidations(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("invalidate");
    for (name, cache) in subjects(&runtime) {
        let mut key = 0;
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.to_async(&runtime).iter_batched(
                || {
                    key = (key + 1) % KEYS;
                    key
                },
                |key| {
                    let cache = &cache;
                    async move { cache.invalidate(&key).await }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn subjects(runtime: &Runtime) -> Vec<(&'static str, Cache)> {
    let mut subjects = vec![("l1", memory())];
    subjects.extend(remote(runtime).into_iter().map(|(name, tier)| (name, over(tier))));
    subjects
}

/// A remote tier behind a pointer, so that several can stand in one list.
type Remote = Arc<dyn RemoteTier>;

fn remote(runtime: &Runtime) -> Vec<(&'static str, Remote)> {
    let mut tiers: Vec<(&'static str, Remote)> = vec![("embedded", Arc::new(EmbeddedTier::new()))];
    #[cfg(all(unix, feature = "redis"))]
    if let Some(url) = redis_url() {
        let tier = runtime.block_on(cachestack::RedisTier::connect(&url)).expect("the server that was just started");
        tiers.push(("redis", Arc::new(tier)));
    }
    let _ = runtime;
    tiers
}

/// One server for the whole run, stopped with the process.
#[cfg(all(unix, feature = "redis"))]
fn redis_url() -> Option<String> {
    static SERVER: std::sync::OnceLock<Option<test_servers::Redis>> = std::sync::OnceLock::new();
    let server =
        SERVER.get_or_init(|| test_servers::Redis::try_start().inspect_err(|err| eprintln!("without Redis: {err}")).ok());
    server.as_ref().map(test_servers::Redis::url)
}

criterion_group!(benches, hits, many, misses, second_level_hits, invalidations);
criterion_main!(benches);
