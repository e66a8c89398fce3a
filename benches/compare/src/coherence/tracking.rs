//! What tracking takes from L1: it tells a node of its own loads as of foreign writes.

use cachestack::{MemoryTier, Ttl};
use fastrand::Rng;

use crate::args::Args;
use crate::error::Error;
use crate::remote::Failure;
use crate::zipf::Zipf;

use super::bed::{self, AsIs, Node};
use super::row::Row;

pub(crate) const NAME: &str = "tracking";
const BAR: f64 = 0.99;
const KEYS: u32 = 1_000;
const NODES: usize = 2;
/// By each node.
const READS: u64 = 200_000;

/// Two nodes read what nobody writes, from empty caches on, with tracking and without it.
pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Error> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        for (tracks, rates) in [(true, &mut with), (false, &mut without)] {
            rates.push(hit_rate(tracks, round as u64)?);
        }
    }
    let percent = |rates: &[f64]| rates.iter().map(|rate| rate * 100.0).collect::<Vec<_>>();
    Ok(vec![
        Row::of(NAME, "reads that hit L1, with tracking", "%", &percent(&with)),
        Row::of(NAME, "reads that hit L1, without", "%", &percent(&without)),
        Row::ratio(NAME, "the one to the other", &with, &without).at_least(BAR),
    ])
}

fn hit_rate(tracks: bool, seed: u64) -> Result<f64, Error> {
    bed::with_server(NAME, |redis, runtime| {
        runtime.block_on(async {
            let mut readers = Vec::new();
            for node in 0..NODES {
                let tier = if tracks { bed::tracking_tier(redis).await? } else { bed::tier(redis).await? };
                let builder = Node::builder(bed::NAME).l1(MemoryTier::new(100_000)).l2_with(tier, AsIs);
                let origin = |id: u64| async move { Ok::<_, std::io::Error>(id.to_be_bytes().to_vec()) };
                let cache: Node = builder.ttl(Ttl::minutes(60)).origin(origin).build()?;
                if !cache.ready(bed::READY).await {
                    return Err("the node is not verified".into());
                }
                readers.push(tokio::spawn(read(cache, Rng::with_seed(seed * NODES as u64 + node as u64))));
            }
            let (mut hits, mut changes) = (0, 0);
            for reader in readers {
                let cache = reader.await??;
                hits += cache.stats().l1.hits;
                changes += cache.stats().coherence.changes;
            }
            if tracks != (changes > 0) {
                return Err("the server did not track, or did though it was not asked to".into());
            }
            Ok(hits as f64 / (READS * NODES as u64) as f64)
        })
    })
}

async fn read(cache: Node, mut rng: Rng) -> Result<Node, Failure> {
    let zipf = Zipf::new(KEYS, 0.99);
    for _ in 0..READS {
        cache.load(&u64::from(zipf.draw(&mut rng))).await?;
    }
    Ok(cache)
}
