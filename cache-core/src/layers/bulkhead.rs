//! Bounds how many calls are inside a tier at once, and how many wait for that.

use super::forward::{Call, forward_verbs};
use super::verb::Verb;
use crate::error::{Error, ErrorKind, Result};
use crate::places::{NoPlace, Places};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many calls a [`Bulkhead`] lets in, and how many wait for how long.
///
/// ```
/// use cache_core::layers::BulkheadRules;
/// use std::time::Duration;
///
/// let rules = BulkheadRules::default().inside(256).queue(64, Duration::from_millis(5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkheadRules {
    inside: usize,
    queue: usize,
    queue_for: Duration,
}

impl Default for BulkheadRules {
    fn default() -> Self {
        Self { inside: 2_048, queue: 2_048, queue_for: Duration::from_millis(20) }
    }
}

impl BulkheadRules {
    /// How many calls are inside at once. A call for many keys is one call. Default: 2,048. Zero counts as one.
    pub fn inside(mut self, calls: usize) -> Self {
        self.inside = calls.max(1);
        self
    }

    /// How many more may wait, and for how long. Default: 2,048, 20 ms. With zero calls or no time, what finds no place is refused
    /// at once.
    pub fn queue(mut self, calls: usize, time: Duration) -> Self {
        self.queue = calls;
        self.queue_for = time;
        self
    }

    pub(super) fn queue_for(mut self, time: Duration) -> Self {
        self.queue_for = time;
        self
    }
}

/// A snapshot of a [`Bulkhead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BulkheadStats {
    /// Calls inside now.
    pub inside: usize,
    /// Calls that wait now.
    pub waiting: usize,
    /// Calls refused because too many waited already.
    pub refused_full: u64,
    /// Calls refused because they had waited too long.
    pub refused_late: u64,
}

/// At most so many calls inside the tier; what comes on top waits in a bounded queue, first come, first served, and not for long. What
/// finds no place fails with [`ErrorKind::Overloaded`], and was not sent.
///
/// So a tier that hangs holds a bounded number of calls with their keys and values, and a burst is turned away before
/// it is old. Invalidations queue like all others; one that is refused is an error to its caller.
///
/// A call that is cancelled gives its place back, in the queue or inside. Costs two operations on an atomic, and in the queue one
/// timer of tokio.
///
/// ```
/// use cache_core::layers::{Bulkhead, BulkheadRules};
/// use cache_core::{EmbeddedTier, Namespace, RemoteTier};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tier = Bulkhead::new(EmbeddedTier::new(), BulkheadRules::default().inside(16));
/// let key = Namespace::new("app", "product")?.key(&7_u64);
/// tier.get(&key).await?;
/// assert_eq!(tier.stats().inside, 0);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Bulkhead<T> {
    inner: T,
    rules: BulkheadRules,
    places: Places,
    refused_full: AtomicU64,
    refused_late: AtomicU64,
}

impl<T> Bulkhead<T> {
    /// A tier with so many places.
    pub fn new(inner: T, rules: BulkheadRules) -> Self {
        let places = Places::new(rules.inside, rules.queue);
        Self { inner, rules, places, refused_full: AtomicU64::new(0), refused_late: AtomicU64::new(0) }
    }

    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// How it stands now, and whom it has refused since it was made.
    pub fn stats(&self) -> BulkheadStats {
        // Ordering: relaxed here and where they are counted: counts, which guard nothing.
        BulkheadStats {
            inside: self.places.taken(),
            waiting: self.places.waiting(),
            refused_full: self.refused_full.load(Ordering::Relaxed),
            refused_late: self.refused_late.load(Ordering::Relaxed),
        }
    }

    async fn through<'a, R>(&'a self, _verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        let _place = self.places.enter(self.rules.queue_for).await.map_err(|none| self.refused(none))?;
        call().await
    }

    fn refused(&self, none: NoPlace) -> Error {
        let (count, text) = match none {
            NoPlace::Full => (&self.refused_full, "too many calls of L2 are waiting already"),
            NoPlace::Late => (&self.refused_late, "the call waited too long for a place among the calls of L2"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        Error::new(ErrorKind::Overloaded, text)
    }
}

forward_verbs!(Bulkhead, |layer, inner| Some(inner?.saturating_add(layer.rules.queue_for)));
