//! What encoding and decoding a value costs. `cargo bench --bench codecs`; bytes are printed first.

use cachestack::{Bincode, Codec, Json, MessagePack, Postcard};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use std::hint::black_box;

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    description: String,
    price_cents: u64,
    stock: u32,
    tags: Vec<String>,
    updated_at: u64,
}

fn product() -> Product {
    Product {
        id: 20_484,
        name: "Anvil, drop-forged, 50 kg".into(),
        description: "For the smith who has everything but an anvil. ".repeat(4),
        price_cents: 18_990,
        stock: 12,
        tags: ["tools", "forge", "heavy"].map(String::from).to_vec(),
        updated_at: 1_795_000_000,
    }
}

fn codecs(c: &mut Criterion) {
    let codecs: [(&str, Box<dyn Codec<Product>>); 4] = [
        ("messagepack", Box::new(MessagePack)),
        ("json", Box::new(Json)),
        ("postcard", Box::new(Postcard)),
        ("bincode", Box::new(Bincode)),
    ];
    let product = product();
    let mut group = c.benchmark_group("codec");
    for (name, codec) in &codecs {
        let bytes = codec.encode(&product).expect("a plain struct");
        println!("{name}: {} bytes", bytes.len());
        group.bench_function(BenchmarkId::new("encode", name), |b| b.iter(|| codec.encode(black_box(&product))));
        group.bench_function(BenchmarkId::new("decode", name), |b| b.iter(|| codec.decode(black_box(&bytes))));
    }
    group.finish();
}

criterion_group!(benches, codecs);
criterion_main!(benches);
