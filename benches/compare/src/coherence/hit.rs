//! A hit in L1, with coherence and without.

use std::io;
use std::time::{Duration, Instant};

use cachestack::{EmbeddedTier, MemoryTier, TieredCache, Ttl};
use fastrand::Rng;
use tokio::runtime::Handle;

use crate::args::Args;
use crate::error::Error;
use crate::pinned::together;
use crate::ready::ready;
use crate::remote::Failure;
use crate::rounds::alternate;

use super::OURS;
use super::row::Row;

pub(crate) const NAME: &str = "l1-hit";
const BAR: f64 = 1.15;
const KEYS: u64 = 1_000;
/// Keys in the order in which they are read, over and over.
const SCRIPT: usize = 4_096;
/// The untimed part of a sample is its window divided by this.
const WARM_UP: u32 = 4;

type Cache = TieredCache<u64, u64>;

pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Error> {
    let keys: Vec<u64> = {
        let mut rng = Rng::with_seed(7);
        (0..SCRIPT).map(|_| rng.u64(..KEYS)).collect()
    };
    // Caches of its own for each sample: where their entries come to lie in memory is in the interval, and not in every figure alike.
    let sample = |coherent: &mut bool| sample(*coherent, &keys, args.window);
    let samples = alternate(&mut [true, false], args.rounds, sample).map_err(|source: Failure| Error::Client {
        work: NAME,
        subject: OURS,
        source,
    })?;
    let [with, without] = &samples[..] else { unreachable!("two were measured") };
    Ok(vec![
        Row::of(NAME, "with coherence", "ns", with),
        Row::of(NAME, "without", "ns", without),
        Row::ratio(NAME, "with to without", with, without).at_most(BAR),
    ])
}

/// Nanoseconds a hit.
fn sample(coherent: bool, keys: &[u64], window: Duration) -> Result<f64, Failure> {
    let builder = Cache::builder("compare").l1(MemoryTier::new(2 * KEYS)).l2(EmbeddedTier::new()).ttl(Ttl::minutes(60));
    let builder = builder.origin(|key: u64| async move { Ok::<_, io::Error>(key) });
    let cache = if coherent { builder.build()? } else { builder.incoherent().build()? };
    let is_ready = Handle::current().block_on(async {
        let is_ready = cache.ready(Duration::from_secs(10)).await;
        for key in 0..KEYS {
            cache.load(&key).await?;
        }
        Ok::<_, Failure>(is_ready)
    })?;
    if !is_ready {
        return Err("the cache is not verified".into());
    }
    let timed = together([()], |(), _| {
        run(&cache, keys, window / WARM_UP)?;
        let before = cache.stats();
        let (reads, took) = run(&cache, keys, window)?;
        let during = cache.stats().since(&before);
        // A read that went further than L1, or that nobody could verify, is no hit as it should be.
        if during.l1.hits < reads || during.coherence.unverified_hits > 0 || during.l1.misses > 0 {
            return Err(format!("of {reads} reads L1 answered {}", during.l1.hits).into());
        }
        Ok(took.as_nanos() as f64 / reads as f64)
    });
    timed.into_iter().next().unwrap_or_else(|| Err("nothing was measured".into()))
}

/// Reads for so long. Gives how many reads that were, and the time they took.
fn run(cache: &Cache, keys: &[u64], window: Duration) -> Result<(u64, Duration), Failure> {
    let (mut reads, begun) = (0, Instant::now());
    loop {
        let mut wrong = 0_u64;
        for key in keys {
            wrong |= ready(cache.load(key))? ^ key;
        }
        reads += keys.len() as u64;
        if wrong != 0 {
            return Err("a value of another key".into());
        }
        let took = begun.elapsed();
        if took >= window {
            return Ok((reads, took));
        }
    }
}
