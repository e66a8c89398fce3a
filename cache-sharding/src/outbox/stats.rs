//! What a relay has done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;

/// What a relay has done since it was started, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayStats {
    /// Deliveries that returned `Ok`.
    pub delivered: u64,
    /// Deliveries that returned an error, took too long or panicked.
    pub failed: u64,
    /// Those of `failed` that took too long.
    pub timed_out: u64,
    /// Those of `failed` that panicked.
    pub panicked: u64,
    /// Deliveries of rows that had been claimed before, by any relay.
    pub retried: u64,
    /// Rows that were claimed and given back undelivered: their turn came too late to end within the claim, or the relay closed.
    pub given_back: u64,
    /// Claims, deletes and postponements that the database refused or did not answer.
    pub store_errors: u64,
    /// Rows claimed whose outcome is not written down yet.
    pub in_hand: u64,
}

/// A relay's counts, shared with whoever asks for them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) delivered: Count,
    pub(super) timed_out: Count,
    pub(super) panicked: Count,
    pub(super) refused: Count,
    pub(super) retried: Count,
    pub(super) given_back: Count,
    store_errors: Count,
    pub(super) claimed: Count,
    pub(super) settled: Count,
    trouble: Mutex<Option<Error>>,
}

impl Counters {
    pub(super) fn stats(&self) -> RelayStats {
        // Read before `claimed`, so that the difference is never below zero by this order alone.
        let settled = self.settled.get();
        let (timed_out, panicked) = (self.timed_out.get(), self.panicked.get());
        RelayStats {
            delivered: self.delivered.get(),
            failed: self.refused.get() + timed_out + panicked,
            timed_out,
            panicked,
            retried: self.retried.get(),
            given_back: self.given_back.get(),
            store_errors: self.store_errors.get(),
            in_hand: self.claimed.get().saturating_sub(settled),
        }
    }

    /// Remembers how the last call of the store ended.
    pub(super) fn store_answered<T>(&self, answer: &Result<T, Error>) {
        let error = answer.as_ref().err().cloned();
        self.store_errors.add(u64::from(error.is_some()));
        let mut trouble = self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _before = std::mem::replace(&mut *trouble, error);
    }

    pub(super) fn trouble(&self) -> Option<Error> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: u64) {
        // Ordering: pairs with nothing; a count guards no other memory.
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        // Ordering: as in `add`.
        self.0.load(Ordering::Relaxed)
    }
}
