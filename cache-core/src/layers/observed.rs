//! Counts and times the calls of a tier, and traces them.

use super::forward::{Call, forward_verbs};
use super::latency::{Latency, Timings};
use super::verb::Verb;
use crate::error::{ErrorKind, Result};
use crate::remote::RemoteTier;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;
use tracing::Instrument;
use tracing::field::{Empty, debug};

/// What an [`Observed`] has seen since it was made. Two snapshots subtract: `later.since(&earlier)`.
///
/// A snapshot taken under load may miss what is being counted that instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallStats {
    verbs: [VerbStats; Verb::ALL.len()],
}

/// The calls of one verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VerbStats {
    /// Calls that were dropped before they ended.
    pub cancelled: u64,
    /// How long those that ended took, whether well or not.
    pub latency: Latency,
    errors: [u64; KINDS.len()],
}

impl CallStats {
    /// The calls of one verb.
    pub fn of(&self, verb: Verb) -> &VerbStats {
        &self.verbs[verb as usize]
    }

    /// What happened between an earlier snapshot and this one.
    pub fn since(&self, earlier: &Self) -> Self {
        Self { verbs: std::array::from_fn(|verb| self.verbs[verb].since(&earlier.verbs[verb])) }
    }
}

impl VerbStats {
    /// Calls that ended or were cancelled.
    pub fn calls(&self) -> u64 {
        self.latency.count() + self.cancelled
    }

    /// Calls that ended in an error.
    pub fn errors(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Calls that ended in an error of this kind.
    pub fn errors_of(&self, kind: ErrorKind) -> u64 {
        self.errors[index(kind)]
    }

    /// The kinds of errors that calls ended in, and how many did.
    pub fn errors_by_kind(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        KINDS.into_iter().zip(self.errors).filter(|(_, count)| *count > 0)
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut errors = self.errors;
        for (count, earlier) in errors.iter_mut().zip(earlier.errors) {
            *count = count.saturating_sub(earlier);
        }
        let cancelled = self.cancelled.saturating_sub(earlier.cancelled);
        Self { cancelled, latency: self.latency.since(&earlier.latency), errors }
    }
}

/// Counts the calls of each verb, their errors by kind and their times, and opens a tracing span `cache.l2` at `DEBUG` for each, with the
/// fields `tier`, `verb` and, after an error, `error` (its kind). No span and no count shows a key or a value.
///
/// Outermost it sees what the stack sees: queueing, repeats and refusals included. Right around the tier it sees what the
/// network does. It may stand in both places.
///
/// A call that is cancelled is counted as such. Costs two readings of the monotonic clock and two additions to atomics that all
/// threads share; a span only where somebody subscribes to it.
///
/// ```
/// use cache_core::layers::{Observed, Verb};
/// use cache_core::{EmbeddedTier, Namespace, RemoteTier};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tier = Observed::new(EmbeddedTier::new());
/// let key = Namespace::new("app", "product")?.key(&7_u64);
/// tier.get(&key).await?;
/// let stats = tier.stats();
/// assert_eq!((stats.of(Verb::Get).calls(), stats.of(Verb::Get).errors()), (1, 0));
/// assert!(stats.of(Verb::Get).latency.quantile(0.99).is_some());
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Observed<T> {
    inner: T,
    verbs: [Counts; Verb::ALL.len()],
}

/// Of one verb, on lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Counts {
    timings: Timings,
    cancelled: AtomicU64,
    errors: [AtomicU64; KINDS.len()],
}

impl<T> Observed<T> {
    /// A tier whose calls are counted.
    pub fn new(inner: T) -> Self {
        Self { inner, verbs: [const { Counts::new() }; Verb::ALL.len()] }
    }

    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// What it has seen since it was made. Costs a reading of some 300 counts.
    pub fn stats(&self) -> CallStats {
        CallStats { verbs: std::array::from_fn(|verb| self.verbs[verb].snapshot()) }
    }
}

impl<T: RemoteTier> Observed<T> {
    async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        let span = tracing::debug_span!("cache.l2", tier = self.inner.name(), verb = verb.name(), error = Empty);
        let watch = Watch { counts: &self.verbs[verb as usize], began: Instant::now(), ended: false };
        let answer = call().instrument(span.clone()).await;
        watch.end(&answer);
        if let Err(err) = &answer {
            span.record("error", debug(err.kind()));
        }
        answer
    }
}

forward_verbs!(Observed);

impl Counts {
    const fn new() -> Self {
        let errors = [const { AtomicU64::new(0) }; KINDS.len()];
        Self { timings: Timings::new(), cancelled: AtomicU64::new(0), errors }
    }

    fn snapshot(&self) -> VerbStats {
        // Ordering: relaxed, here and where they are counted: counts, which guard nothing.
        VerbStats {
            cancelled: self.cancelled.load(Ordering::Relaxed),
            latency: self.timings.snapshot(),
            errors: std::array::from_fn(|kind| self.errors[kind].load(Ordering::Relaxed)),
        }
    }
}

/// A call in progress. Dropped before its end, it was cancelled.
struct Watch<'a> {
    counts: &'a Counts,
    began: Instant,
    ended: bool,
}

impl Watch<'_> {
    fn end<R>(mut self, answer: &Result<R>) {
        self.ended = true;
        self.counts.timings.count(self.began.elapsed());
        if let Err(err) = answer {
            self.counts.errors[index(err.kind())].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.counts.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// In the order of [`index`].
const KINDS: [ErrorKind; 16] = [
    ErrorKind::Config,
    ErrorKind::Credentials,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::Overloaded,
    ErrorKind::Refused,
    ErrorKind::Foreign,
    ErrorKind::Origin,
    ErrorKind::Panicked,
    ErrorKind::Recursive,
    ErrorKind::Cancelled,
    ErrorKind::Closed,
    ErrorKind::NoOrigin,
    ErrorKind::Codec,
    ErrorKind::TooLarge,
    ErrorKind::Unannounced,
];

/// A match and not a cast, so that a new kind does not compile before it has a place.
fn index(kind: ErrorKind) -> usize {
    match kind {
        ErrorKind::Config => 0,
        ErrorKind::Credentials => 1,
        ErrorKind::Unavailable => 2,
        ErrorKind::Timeout => 3,
        ErrorKind::Overloaded => 4,
        ErrorKind::Refused => 5,
        ErrorKind::Foreign => 6,
        ErrorKind::Origin => 7,
        ErrorKind::Panicked => 8,
        ErrorKind::Recursive => 9,
        ErrorKind::Cancelled => 10,
        ErrorKind::Closed => 11,
        ErrorKind::NoOrigin => 12,
        ErrorKind::Codec => 13,
        ErrorKind::TooLarge => 14,
        ErrorKind::Unannounced => 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_every_verb_has_a_place_of_its_own() {
        assert!(KINDS.into_iter().enumerate().all(|(at, kind)| index(kind) == at));
        assert!(Verb::ALL.into_iter().enumerate().all(|(at, verb)| verb as usize == at));
    }
}
