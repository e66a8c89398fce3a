//! What a local tier may not do under a lock of its own: run the code of keys, values and readers.

use super::local_suite::hash;
use crate::clock::Moment;
use crate::local::{Local, LocalTier, Stamp};
use crate::partition::Partition;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A value whose `Clone` and `Drop` use the tier that holds it.
pub struct Meddler(Option<Arc<dyn Fn() + Send + Sync>>);

impl Meddler {
    fn meddle(&self) {
        if let Some(act) = &self.0 {
            act();
        }
    }
}

impl Clone for Meddler {
    fn clone(&self) -> Self {
        self.meddle();
        Self(self.0.clone())
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.meddle();
    }
}

impl fmt::Debug for Meddler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meddler").finish_non_exhaustive()
    }
}

/// Longer than the suite takes on the slowest machine: by then it stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks that a tier can be used from within the closure of [`LocalTier::with`], and from within `Clone` and `Drop` of
/// its values. The tier must be empty and serve nothing else; to see its evictions too, let it hold 100 entries or so.
///
/// # Panics
/// When a use of the tier waits for itself, after a minute; and when what was stored is not found.
pub fn local_reentrancy_suite<T: LocalTier<String, Meddler>>(tier: Arc<T>) {
    let (done, wait) = mpsc::channel();
    // In a thread of its own, which stays behind if it stands still.
    let suite = std::thread::spawn(move || {
        reads_may_use_the_tier(&*tier);
        clones_and_drops_may_use_the_tier(&tier);
        drop(tier);
        let _ = done.send(());
    });
    match wait.recv_timeout(PATIENCE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a use of the tier waits for itself"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = suite.join() {
                resume_unwind(panic);
            }
        }
    }
}

/// A tier at a moment.
struct Scene<'a, T> {
    tier: &'a T,
    now: Moment,
}

impl<T: LocalTier<String, Meddler>> Scene<'_, T> {
    fn put(&self, key: &str, value: Meddler, admitted: bool) -> bool {
        let last = self.now.after(Duration::from_secs(180));
        let stamp = Stamp { created: self.now, soft: last, hard: last, last };
        self.tier.insert(hash(key), key.to_owned(), value, &stamp.into(), self.now, &|| admitted)
    }

    fn with<R>(&self, key: &str, f: impl FnOnce(Local<&Meddler>) -> R) -> Option<R> {
        self.tier.with(hash(key), key, self.now, f)
    }

    fn has(&self, key: &str) -> bool {
        self.with(key, |_| ()).is_some()
    }

    fn remove(&self, key: &str, version: Option<u64>) -> bool {
        self.tier.remove(hash(key), key, version, &|| ())
    }

    /// Each operation, on a key and on another, which stay. But for a clear, which takes away what a caller may look for.
    fn use_all(&self, key: &str) {
        for key in [key, "other"] {
            drop(self.tier.get(hash(key), key, self.now));
            let _ = self.tier.terms(hash(key), key, self.now);
            self.put(key, Meddler(None), true);
            self.remove(key, Some(0));
            self.remove(key, None);
            self.put(key, Meddler(None), true);
        }
        self.tier.suspect(Partition::default());
        let _ = (self.tier.len(), self.tier.evictions(), self.tier.capacity());
    }
}

fn reads_may_use_the_tier<T: LocalTier<String, Meddler>>(tier: &T) {
    let scene = Scene { tier, now: Moment::ORIGIN };
    scene.put("read", Meddler(None), true);
    let read = scene.with("read", |outer| {
        scene.use_all("read");
        let inner = scene.with("read", |inner| !std::ptr::eq(inner.value, outer.value));
        assert_eq!(inner, Some(true), "what was inserted within a read is found there, and what is being read stays");
        tier.clear();
    });
    assert!(read.is_some() && !scene.has("read"), "a clear within a read");
    scene.put("read", Meddler(None), true);
    let panics = AssertUnwindSafe(|| scene.with("read", |_| resume_unwind(Box::new("a read that panics"))));
    assert!(catch_unwind(panics).is_err());
    assert!(scene.has("read") && scene.remove("read", None), "a read that panicked leaves no lock behind");
}

thread_local! {
    /// Keeps a use within a use from going on for ever.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

fn clones_and_drops_may_use_the_tier<T: LocalTier<String, Meddler>>(tier: &Arc<T>) {
    let uses = Arc::new(AtomicU64::new(0));
    // A second a round: some entries come to their end and some, in a small tier, are evicted.
    for round in 0..1_000 {
        let scene = Scene { tier: &**tier, now: Moment::ORIGIN.after(Duration::from_secs(round)) };
        let meddler = || {
            let (tier, uses, now) = (Arc::downgrade(tier), uses.clone(), scene.now);
            Meddler(Some(Arc::new(move || {
                if let Some(tier) = tier.upgrade()
                    && !INSIDE.replace(true)
                {
                    uses.fetch_add(1, Ordering::Relaxed);
                    Scene { tier: &*tier, now }.use_all("meddled");
                    INSIDE.set(false);
                }
            })))
        };
        let key = format!("m{round}");
        scene.put("meddled", meddler(), true);
        drop(tier.get(hash("meddled"), "meddled", scene.now));
        scene.put("meddled", meddler(), true);
        assert!(!scene.put(&key, meddler(), false), "not admitted");
        scene.put(&key, meddler(), true);
        scene.put(&key, meddler(), true);
        if round % 3 == 0 {
            scene.remove(&key, None);
        }
        if round % 250 == 249 {
            tier.clear();
        }
    }
    assert!(uses.load(Ordering::Relaxed) > 0, "no value was cloned or dropped");
}
