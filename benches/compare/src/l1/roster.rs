//! Which subjects take part in which work.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::Error;
use crate::ours::{OursGet, OursLoad, OursLocal, OursTier};
use crate::peers::{
    CachedLru, CachedLruTtl, Cachet, FoyerLru, FoyerS3Fifo, MiniMoka, MokaFuture, MokaSync, MultiTier, Noop, Papaya,
    PapayaBorrow, QuickCache, QuickCacheCoarse, QuickCacheDeadline, SccHashCache, SeqlockTable, Stretto,
};
use crate::subject::{Key, Shared, Subject, Value};

use super::contender::{Contender, Entrant};
use super::script::Script;
use super::work::Work;
use super::{BARE_LOOP, OURS};

type Enter<K> = fn(&'static str, &'static str, Arc<Script<K>>) -> Result<Box<dyn Contender>, Error>;

/// Subjects that have been named but not built yet.
pub(crate) struct Roster<K, V> {
    subjects: Vec<(&'static str, &'static str, Enter<K>)>,
    value: PhantomData<V>,
}

impl<K: Key, V: Value> Roster<K, V> {
    fn new() -> Self {
        Self { subjects: Vec::new(), value: PhantomData }
    }

    fn add<S: Subject<K, V>>(&mut self, name: &'static str, note: &'static str) {
        self.subjects.push((name, note, |name, note, script| Ok(Box::new(Entrant::<S, K, V>::enter(name, note, script)?))));
    }

    /// Builds and fills those that are wanted.
    pub(crate) fn build(self, script: &Arc<Script<K>>, wanted: impl Fn(&str) -> bool) -> Result<Vec<Box<dyn Contender>>, Error> {
        let subjects = self.subjects.into_iter().filter(|(name, ..)| wanted(name));
        subjects.map(|(name, note, enter)| enter(name, note, script.clone())).collect()
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.subjects.iter().map(|(name, ..)| *name).collect()
    }

    /// The subjects that take any key and value.
    fn add_common(&mut self, expiring: bool, inserts: bool) {
        self.add::<Noop>(BARE_LOOP, "the bare loop");
        self.add::<OursTier<K, V>>(OURS, "memory tier");
        if expiring && !inserts {
            self.add::<OursLocal<K, V>>("cachestack-get-local", "stack over the memory tier, stats on");
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
        if !work.load.inserts() {
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
