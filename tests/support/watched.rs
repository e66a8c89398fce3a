//! A tier that the test keeps a handle on, and in which something happens at the worst moment.

use cachestack::{Local, LocalTier, MemoryTier, Moment, Partition, Terms};
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

/// What happens, once, right after a look for a key; it is given the tier, the hash and the time of the look.
type AfterLook = Box<dyn FnOnce(&MemoryTier<u64, u64>, u64, Moment) + Send>;
/// What happens, once, right before a removal or a clear.
type BeforeRemoval = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
pub(crate) struct Watched(Arc<Watch>);

struct Watch {
    tier: MemoryTier<u64, u64>,
    after_look: Mutex<Option<AfterLook>>,
    before_removal: Mutex<Option<BeforeRemoval>>,
}

impl Watch {
    fn about_to_remove(&self) {
        let happens = self.before_removal.lock().unwrap().take();
        if let Some(happens) = happens {
            happens();
        }
    }
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Watch { tier: MemoryTier::new(1_000), after_look: Mutex::default(), before_removal: Mutex::default() }))
    }

    pub(crate) fn after_look(&self, happens: impl FnOnce(&MemoryTier<u64, u64>, u64, Moment) + Send + 'static) {
        *self.0.after_look.lock().unwrap() = Some(Box::new(happens));
    }

    pub(crate) fn before_removal(&self, happens: impl FnOnce() + Send + 'static) {
        *self.0.before_removal.lock().unwrap() = Some(Box::new(happens));
    }
}

impl LocalTier<u64, u64> for Watched {
    fn with<Q, F, R>(&self, hash: u64, key: &Q, now: Moment, f: F) -> Option<R>
    where
        u64: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&u64>) -> R,
    {
        let found = self.0.tier.with(hash, key, now, f);
        let happens = self.0.after_look.lock().unwrap().take();
        if let Some(happens) = happens {
            happens(&self.0.tier, hash, now);
        }
        found
    }

    fn terms<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Terms>
    where
        u64: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.tier.terms(hash, key, now)
    }

    fn insert(&self, hash: u64, key: u64, value: u64, terms: &Terms, now: Moment, admit: &dyn Fn() -> bool) -> bool {
        self.0.tier.insert(hash, key, value, terms, now, admit)
    }

    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>, bump: &dyn Fn()) -> bool
    where
        u64: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.about_to_remove();
        self.0.tier.remove(hash, key, version, bump)
    }

    fn suspect(&self, partition: Partition) {
        LocalTier::<u64, u64>::suspect(&self.0.tier, partition);
    }

    fn clear(&self) {
        self.0.about_to_remove();
        self.0.tier.clear();
    }

    fn len(&self) -> u64 {
        self.0.tier.len()
    }

    fn capacity(&self) -> Option<u64> {
        self.0.tier.capacity()
    }

    fn evictions(&self) -> u64 {
        self.0.tier.evictions()
    }
}
