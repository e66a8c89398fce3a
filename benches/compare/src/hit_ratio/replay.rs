//! What a trace is replayed through.

use crate::ours::{Ours, OursLru};
use crate::peers::{FoyerLfu, FoyerLru, FoyerS3Fifo, FoyerSieve, MokaSync, MokaSyncLru, QuickCache};
use crate::subject::Subject;

use super::trace::Trace;
use super::{LRU, OPT, OURS, lru, opt};

/// moka as no user has it: see [`read_through_settled`].
pub(super) const MOKA_SETTLED: &str = "moka-sync-settled";

/// A policy or a cache, by the hits it has at a capacity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay {
    pub(crate) name: &'static str,
    pub(crate) hits: fn(&Trace, usize) -> u64,
}

/// The references first, then ours, then the peers.
pub(crate) fn subjects() -> Vec<Replay> {
    vec![
        Replay { name: OPT, hits: opt::hits },
        Replay { name: LRU, hits: lru::hits },
        Replay { name: OURS, hits: read_through::<Ours<u64, u64>> },
        Replay { name: "cachestack-lru", hits: read_through::<OursLru<u64, u64>> },
        Replay { name: "moka-sync", hits: read_through::<MokaSync<u64, u64>> },
        Replay { name: "moka-sync-lru", hits: read_through::<MokaSyncLru<u64, u64>> },
        Replay { name: MOKA_SETTLED, hits: read_through_settled::<MokaSync<u64, u64>> },
        Replay { name: "quick_cache", hits: read_through::<QuickCache<u64, u64>> },
        Replay { name: "foyer-lru", hits: read_through::<FoyerLru<u64, u64>> },
        Replay { name: "foyer-lfu", hits: read_through::<FoyerLfu<u64, u64>> },
        Replay { name: "foyer-s3fifo", hits: read_through::<FoyerS3Fifo<u64, u64>> },
        Replay { name: "foyer-sieve", hits: read_through::<FoyerSieve<u64, u64>> },
    ]
}

/// Gets each key and inserts it where it is missing, as a user would.
fn read_through<S: Subject<u64, u64>>(trace: &Trace, capacity: usize) -> u64 {
    replay(&S::new(capacity, None), trace, |_| {})
}

/// The same, maintenance done after every insert.
///
/// moka works inserts off in batches of 64, and until then holds that many entries more than it has room for: a smallest cell's capacity again.
/// That flatters it there, but its users have it, and what waits is on trial meanwhile, which its policy does not do by itself. So both
/// are shown: as it is, and never over its capacity.
fn read_through_settled<S: Subject<u64, u64>>(trace: &Trace, capacity: usize) -> u64 {
    replay(&S::new(capacity, None), trace, S::settle)
}

fn replay<S: Subject<u64, u64>>(cache: &S, trace: &Trace, after_insert: impl Fn(&S)) -> u64 {
    let mut hits = 0;
    for key in &trace.keys {
        if cache.get(key).is_some() {
            hits += 1;
        } else {
            cache.insert(*key, *key);
            after_insert(cache);
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_references_come_first() {
        let mut names: Vec<&str> = subjects().iter().map(|subject| subject.name).collect();
        assert_eq!(names[..2], [OPT, LRU]);
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn nothing_hits_more_often_than_foresight() {
        let mut rng = fastrand::Rng::with_seed(9);
        // Small numbers are wanted more often than large ones.
        let keys = (0..20_000).map(|_| rng.u64(..2_000) * rng.u64(..2_000) / 2_000).collect();
        let trace = Trace::of("t".into(), keys);
        let best = opt::hits(&trace, 100);
        for subject in subjects() {
            let hits = (subject.hits)(&trace, 100);
            // moka as it is holds more than its capacity.
            let bounded = !subject.name.starts_with("moka") || subject.name == MOKA_SETTLED;
            assert!(hits > 0 && (hits <= best || !bounded), "{}: {hits} of {best}", subject.name);
        }
    }
}
