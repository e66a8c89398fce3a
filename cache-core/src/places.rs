//! Places that so many may have at once, and a bounded queue for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(crate) struct Places {
    free: Semaphore,
    all: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// Why there is no place for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Too many waited already.
    Full,
    /// It has waited too long.
    Late,
}

impl Places {
    /// Zero places count as one.
    pub(crate) fn new(all: usize, most_waiting: usize) -> Self {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Semaphore::new(all), all, waiting: AtomicUsize::new(0), most_waiting }
    }

    /// A place, after waiting for `limit` at most; first come, first served. Whoever is cancelled gives his back, in the queue or inside. Costs two operations on an atomic, and
    /// in the queue one timer of tokio.
    pub(crate) async fn enter(&self, limit: Duration) -> Result<SemaphorePermit<'_>, NoPlace> {
        if let Ok(place) = self.free.try_acquire() {
            return Ok(place);
        }
        let Some(_waiter) = Waiter::join(&self.waiting, self.most_waiting) else { return Err(NoPlace::Full) };
        // The semaphore is never closed: both errors are the queue's time.
        match tokio::time::timeout(limit, self.free.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(NoPlace::Late),
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.all - self.free.available_permits()
    }

    pub(crate) fn waiting(&self) -> usize {
        // Ordering: relaxed, as wherever it is counted: it guards nothing but itself.
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in the queue, given back however the wait ends.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn join(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let join = |waiting| (waiting < most).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
