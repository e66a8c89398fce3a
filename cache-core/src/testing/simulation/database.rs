//! The simulated database of a trial: rows with versions, and a replica that lags.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A row of a [`Trial`](super::Trial)'s database, and the value of its caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its key.
    pub key: u64,
    /// Rises with each commit.
    pub version: u64,
}

/// By key, when each version was committed; version 0 was there before all.
pub(super) struct Database(Vec<Mutex<Vec<Duration>>>);

impl Database {
    pub(super) fn new(keys: usize) -> Self {
        Self((0..keys).map(|_| Mutex::new(vec![Duration::ZERO])).collect())
    }

    /// The version that is current.
    pub(super) fn version(&self, key: usize) -> u64 {
        self.0[key].lock().len() as u64 - 1
    }

    /// The next version.
    pub(super) fn commit(&self, key: usize, now: Duration) -> u64 {
        let mut commits = self.0[key].lock();
        commits.push(now);
        commits.len() as u64 - 1
    }

    /// The version that was current so long ago.
    pub(super) fn version_at(&self, key: usize, then: Duration) -> u64 {
        let commits = self.0[key].lock();
        commits.iter().rposition(|commit| *commit <= then).unwrap_or(0) as u64
    }
}
