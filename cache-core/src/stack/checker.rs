//! The live checker: some of the keys that are invalidated are looked at once more, when nobody may have the older value any longer.

use super::second::Read;
use super::{Inner, Recalled};
use crate::clock::Moment;
use crate::counters::Event;
use crate::local::LocalTier;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// So many keys wait to be looked at; more are passed over.
const MOST_WAITING: usize = 1_000;
/// Behind the bound, for whoever is in the middle of a step.
const MARGIN: Duration = Duration::from_millis(250);
/// Times are no better known than that: those of L2 by a measured offset, those of L1 by what it keeps of them.
const SLACK: Duration = Duration::from_secs(1);
/// The same as a share of a value's life.
const SHARE: u32 = 50_000;

/// Which keys are looked at.
#[derive(Debug)]
pub(super) struct Checker {
    one_in: u32,
    passed: AtomicU32,
    waiting: Arc<AtomicUsize>,
    /// A key could not be read from how it is encoded: most likely no key of its type can.
    unreadable: AtomicBool,
}

/// A place among those that wait, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Checker {
    pub(super) fn new(one_in: u32) -> Self {
        Self { one_in, passed: AtomicU32::new(0), waiting: Arc::default(), unreadable: AtomicBool::new(false) }
    }

    /// Whether a key was found that cannot be looked at, for want of [`Key::read`](crate::Key::read).
    pub(super) fn cannot_read(&self) -> bool {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Whether it is this key's turn, and there is a place for it.
    fn place(&self) -> Option<Place> {
        if !self.passed.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in) {
            return None;
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(self.waiting.clone());
        (waiting < MOST_WAITING).then_some(place)
    }
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Has a key looked at later, if it is its turn. Whoever hears of an invalidation comes by here: of its own and of others'.
    pub(super) fn sample(&self, encoded: &[u8], version: Option<u64>) {
        let (Some(checker), Some(coherent), Ok(runtime)) = (&self.checker, &self.coherent, Handle::try_current()) else { return };
        let Some(place) = checker.place() else { return };
        let bound = coherent.coherence.bound;
        // What was loaded later than this may be loaded behind the invalidation, however long its message took.
        let limit = self.clock.now().before(bound);
        let (inner, encoded) = (self.me.clone(), encoded.to_vec());
        runtime.spawn(async move {
            let _place = place;
            tokio::time::sleep(bound + MARGIN).await;
            if let Some(inner) = inner.upgrade() {
                inner.check(&encoded, version, limit).await;
            }
        });
    }

    /// Looks at a key in L1, as a read would see it, and in L2.
    async fn check(&self, encoded: &[u8], version: Option<u64>, limit: Moment) {
        let Some(l2) = &self.l2 else { return };
        let Some(key) = self.read_key(encoded) else {
            if let Some(checker) = &self.checker {
                checker.unreadable.store(true, Ordering::Relaxed);
            }
            return;
        };
        let is_old = |known: u64, created: Moment, life: Duration| match version {
            Some(version) if self.version_of.is_some() => known < version,
            _ => created.after(SLACK).after(life / SHARE) < limit,
        };
        if let Recalled::Known(local) = self.recall(self.hash(&key), &key, self.clock.now()) {
            let life = local.stamp.last.since(local.stamp.created);
            if is_old(self.version(&local.value), local.stamp.created, life) {
                self.violated("L1");
            }
        }
        // One that fails compares nothing: L2 is looked at with the next key.
        let Ok(read) = l2.read(&l2.key(&key), &self.clock).await else { return };
        if let Read::Value(found, _) = read
            && is_old(found.version, found.created, found.life.last)
        {
            self.violated("L2");
        }
        self.counters.count(Event::Checked);
    }

    fn violated(&self, tier: &'static str) {
        self.counters.count(Event::Violation);
        tracing::error!(cache = %self.name, tier, "a value that was invalidated longer ago than the bound is still there");
    }
}
