use super::{S3Fifo, Slot};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io::Read;

fn mix(key: u64) -> u64 {
    // The finalizer of splitmix64: every bit of the key moves half the bits of the hash.
    let mut hash = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

fn web07() -> Vec<u64> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data/web07.u64.zst");
    let file = std::fs::File::open(path).expect("the trace is in the repository");
    let mut bytes = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut bytes).unwrap();
    bytes.chunks_exact(8).map(|key| u64::from_le_bytes(key.try_into().unwrap())).collect()
}

/// The share of requests that find their key when every miss inserts it.
fn hit_ratio(trace: &[u64], capacity: usize) -> f64 {
    let mut policy = S3Fifo::new(capacity as u32);
    let mut held: HashMap<u64, Slot> = HashMap::new();
    let mut hits = 0_u64;
    for &key in trace {
        let hash = mix(key);
        if let Some(&slot) = held.get(&hash) {
            policy.mark(slot);
            hits += 1;
            continue;
        }
        if policy.is_full() {
            let victim = policy.evict().unwrap();
            held.remove(&policy.hash(victim)).expect("a victim was held");
        }
        held.insert(hash, policy.insert(hash).unwrap());
    }
    100.0 * hits as f64 / trace.len() as f64
}

#[test]
fn a_web_trace_hits_as_often_as_the_papers_policy_simulated() {
    let trace = web07();
    let distinct = trace.iter().collect::<HashSet<_>>().len();
    let (tenth, hundredth) = (hit_ratio(&trace, distinct / 10), hit_ratio(&trace, distinct / 100));
    println!("{} requests, {distinct} keys: {tenth:.2} at 10 %, {hundredth:.2} at 1 %", trace.len());
    assert!(tenth >= 57.5 && hundredth >= 43.0, "{tenth:.2} at 10 %, {hundredth:.2} at 1 %");
}
