//! Which subjects take part in which work.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::Error;
use crate::ours::{Ours, OursBorrow, OursGet, OursLoad, OursLocal};
use crate::peers::{
    CachedLru, CachedLruTtl, Cachet, FoyerLru, FoyerS3Fifo, MiniMoka, MokaFuture, MokaSync, MultiTier, Noop, Papaya,
    PapayaBorrow, QuickCache, QuickCacheCoarse, QuickCacheDeadline, SccHashCache, SccHashCacheBorrow, SeqlockTable, Stretto,
    StrettoBorrow,
};
use crate::subject::{Key, Shared, Subject, Value};

use super::contender::{Contender, Entrant};
use super::memory::{Stock, Weight, weigh};
use super::script::Script;
use super::work::{Load, Work};
use super::{BARE_LOOP, OURS};

type Enter<K> = fn(&'static str, &'static str, Arc<Script<K>>) -> Result<Box<dyn Contender>, Error>;

/// A subject that has been named but not built yet.
struct Candidate<K> {
    name: &'static str,
    note: &'static str,
    enter: Enter<K>,
    weigh: fn(Stock) -> Option<Weight>,
}

/// The subjects of a work.
pub(crate) struct Roster<K, V> {
    candidates: Vec<Candidate<K>>,
    value: PhantomData<V>,
}

impl<K: Key, V: Value> Roster<K, V> {
    fn new() -> Self {
        Self { candidates: Vec::new(), value: PhantomData }
    }

    fn add<S: Subject<K, V>>(&mut self, name: &'static str, note: &'static str) {
        self.candidates.push(Candidate {
            name,
            note,
            enter: |name, note, script| Ok(Box::new(Entrant::<S, K, V>::enter(name, note, script)?)),
            weigh: weigh::<S, K, V>,
        });
    }

    /// Builds and fills those that are wanted.
    pub(crate) fn build(self, script: &Arc<Script<K>>, wanted: impl Fn(&str) -> bool) -> Result<Vec<Box<dyn Contender>>, Error> {
        let candidates = self.candidates.into_iter().filter(|candidate| wanted(candidate.name));
        candidates.map(|candidate| (candidate.enter)(candidate.name, candidate.note, script.clone())).collect()
    }

    /// What this subject takes when it is stocked so; nothing where the system does not tell, or there is no such subject.
    pub(crate) fn weigh(&self, name: &str, stock: Stock) -> Option<Weight> {
        let candidate = self.candidates.iter().find(|candidate| candidate.name == name)?;
        (candidate.weigh)(stock)
    }

    pub(crate) fn names_and_notes(&self) -> Vec<(&'static str, &'static str)> {
        self.candidates.iter().map(|candidate| (candidate.name, candidate.note)).collect()
    }

    /// The subjects that take any key and value.
    fn add_common(&mut self, expiring: bool, inserts: bool) {
        self.add::<Noop>(BARE_LOOP, "the bare loop");
        self.add::<Ours<K, V>>(OURS, "the tier alone, stats on");
        if expiring && !inserts {
            self.add::<OursLocal<K, V>>("cachestack-get-local", "a stack over the tier, stats on");
        }
        self.add::<MokaSync<K, V>>("moka-sync", "");
        self.add::<MokaFuture<K, V>>("moka-future", "");
        self.add::<MiniMoka<K, V>>("mini-moka", "");
        if expiring {
            self.add::<QuickCacheDeadline<K, V>>("quick_cache+deadline", "Instant beside the value");
            self.add::<QuickCacheCoarse<K, V>>("quick_cache+coarse", "coarse clock beside the value");
            self.add::<CachedLruTtl<K, V>>("cached", "ShardedLruTtlCache");
        } else {
            self.add::<CachedLru<K, V>>("cached", "ShardedLruCache");
        }
        if !inserts {
            // It buffers inserts, drops some when that is full, and works the rest off later on a thread of its own.
            self.add::<Stretto<K, V>>("stretto", "thread of its own");
        }
        let no_expiry = if expiring { "no expiry" } else { "" };
        self.add::<QuickCache<K, V>>("quick_cache", no_expiry);
        self.add::<FoyerS3Fifo<K, V>>("foyer-s3fifo", no_expiry);
        self.add::<FoyerLru<K, V>>("foyer-lru", no_expiry);
        self.add::<SccHashCache<K, V>>("scc-hashcache", no_expiry);
        self.add::<Papaya<K, V>>("papaya", "floor: no eviction, no expiry");
    }
}

impl Roster<u64, u64> {
    pub(crate) fn words(work: &Work) -> Self {
        let mut roster = Self::new();
        roster.add_common(work.ttl.is_some(), work.load.inserts());
        // It has room for what it was made for and no more.
        if matches!(work.load, Load::Reads { .. } | Load::Hot { .. }) {
            roster.add::<SeqlockTable>("seqlock-floor", "floor: no eviction");
        }
        roster
    }
}

impl Roster<String, Shared> {
    pub(crate) fn strings() -> Self {
        let mut roster = Self::new();
        roster.add_common(true, false);
        roster.add::<PapayaBorrow<String, Shared>>("papaya-borrow", "floor: no eviction, no expiry, read in place");
        roster
    }

    /// Those that can show a value in place: moka, mini-moka, `quick_cache` and cached only clone it out.
    pub(crate) fn strings_in_place() -> Self {
        let mut roster = Self::new();
        roster.add::<Noop>(BARE_LOOP, "the bare loop");
        roster.add::<OursBorrow<String, Shared>>(OURS, "the tier alone, stats on");
        roster.add::<StrettoBorrow<String, Shared>>("stretto", "under a shard's lock; thread of its own");
        roster.add::<FoyerS3Fifo<String, Shared>>("foyer-s3fifo", "a handle that counts references; no expiry");
        roster.add::<SccHashCacheBorrow<String, Shared>>("scc-hashcache", "under a bucket's lock; no expiry");
        roster.add::<PapayaBorrow<String, Shared>>("papaya-borrow", "floor: no eviction, no expiry");
        roster
    }

    pub(crate) fn tiered() -> Self {
        let mut roster = Self::new();
        roster.add::<Noop>(BARE_LOOP, "the bare loop");
        roster.add::<OursGet>(OURS, "get, L1 and L2 in memory");
        roster.add::<OursLoad>("cachestack-load", "load, L1 and L2 in memory");
        roster.add::<Cachet<String, Shared>>("cachet", "L1 and L2 in memory");
        roster.add::<MultiTier>("multi-tier-cache", "L1 and L2 in memory, values are bytes");
        roster.add::<MokaFuture<String, Shared>>("moka-future", "one tier alone");
        roster
    }
}
