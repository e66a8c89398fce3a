//! Routing: a 16-byte key over 16 shards, by each placement, through the whole router.
//!
//! The keys change from call to call and are many, so branch prediction and caches see what a service sees: one key repeated would flatter jump,
//! whose number of rounds depends on the key, and the tables of rendezvous and ring. `cargo bench --bench route`

use std::hint::black_box;
use std::time::Duration;

use cache_sharding::{Placement, ShardKey, ShardRouter, ShardRouterBuilder};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};

/// A power of two; more than a branch predictor learns by heart, and enough to touch most of a placement's table.
const KEYS: usize = 1 << 16;

fn shards(count: usize) -> ShardRouterBuilder<usize> {
    ShardRouter::builder().shards((0..count).map(|i| (format!("shard-{i}"), i)))
}

fn keys() -> Vec<[u8; 16]> {
    (0..KEYS as u128).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_le_bytes()).collect()
}

fn measure<K: ShardKey, P: Placement>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[K],
    router: &ShardRouter<usize, P>,
) {
    let mut next = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            next = (next + 1) % KEYS;
            *router.route(black_box(&keys[next])).primary()
        });
    });
}

fn route(criterion: &mut Criterion) {
    let bytes = keys();
    let texts: Vec<String> = (0..KEYS).map(|n| format!("user:{n:011}")).collect();
    let pairs: Vec<(u64, u64)> = (0..KEYS as u64).map(|n| (n % 7, n)).collect();

    let mut group = criterion.benchmark_group("route/16-byte-key/16-shards");
    measure(&mut group, "modulo", &bytes, &shards(16).modulo().unwrap());
    measure(&mut group, "jump", &bytes, &shards(16).jump().unwrap());
    measure(&mut group, "rendezvous", &bytes, &shards(16).rendezvous().unwrap());
    measure(&mut group, "ring", &bytes, &shards(16).ring().unwrap());
    measure(&mut group, "rendezvous, String", &texts, &shards(16).rendezvous().unwrap());
    measure(&mut group, "rendezvous, (u64, u64)", &pairs, &shards(16).rendezvous().unwrap());
    group.finish();

    let mut group = criterion.benchmark_group("route/16-byte-key/256-shards");
    measure(&mut group, "jump", &bytes, &shards(256).jump().unwrap());
    measure(&mut group, "rendezvous", &bytes, &shards(256).rendezvous().unwrap());
    measure(&mut group, "ring", &bytes, &shards(256).ring().unwrap());
    group.finish();

    let mut group = criterion.benchmark_group("build/16-shards");
    group.bench_function("rendezvous", |bencher| bencher.iter(|| shards(16).rendezvous().unwrap()));
    group.bench_function("ring", |bencher| bencher.iter(|| shards(16).ring().unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(50);
    targets = route
}
criterion_main!(benches);
