//! Where a node's reads and writes are logged and counted, phase by phase.

use super::counts::Count;
use crate::boot_clock;
use crate::events::{Mark, Observed, ReadLog, Told, ToldLog};
use crate::orders::{Settings, Tally, Writing};
use cachestack::BoxError;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokio::sync::RwLock;

pub(super) struct Desk {
    folder: PathBuf,
    node: u32,
    told: ToldLog,
    phase: Mutex<Phase>,
    /// Held for reading by each write while it runs.
    writing: RwLock<Writing>,
    pub(super) counts: Counts,
}

struct Phase {
    reads: ReadLog,
    /// All counts when it began.
    before: Tally,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) reads: Count,
    pub(super) read_errors: Count,
    pub(super) writes: Count,
    pub(super) write_errors: Count,
    pub(super) invalidations: Count,
    pub(super) invalidation_errors: Count,
}

impl Desk {
    /// `before`: what the cache has counted so far.
    pub(super) fn open(settings: &Settings, before: Tally) -> io::Result<Self> {
        let Settings { folder, node, phase, .. } = settings;
        let phase = Phase { reads: ReadLog::create(folder, *node, *phase)?, before };
        Ok(Self {
            folder: folder.clone(),
            node: *node,
            told: ToldLog::create(folder, *node)?,
            phase: Mutex::new(phase),
            writing: RwLock::new(Writing::Paused),
            counts: Counts::default(),
        })
    }

    /// An invalidation has returned `Ok` just now.
    pub(super) fn told(&self, key: u64, version: u64) -> Result<(), BoxError> {
        let at = boot_clock::now();
        self.counts.invalidations.add_one();
        self.told.add(Told { at, version, key: u32::try_from(key)?, node: self.node }).map_err(BoxError::from)
    }

    pub(super) fn read(&self, began: u64, key: u64, version: u64, mark: Mark) -> Result<(), BoxError> {
        let read = Observed { began, version, key: u32::try_from(key)?, mark };
        self.phase.lock().unwrap_or_else(PoisonError::into_inner).reads.add(read).map_err(BoxError::from)
    }

    /// Ends a phase and begins the next. `cache` are the cache's own counts, since it was made.
    pub(super) fn turn(&self, next: u32, cache: Tally) -> io::Result<Tally> {
        let reads = ReadLog::create(&self.folder, self.node, next)?;
        let counts = &self.counts;
        let now = Tally {
            reads: counts.reads.get(),
            read_errors: counts.read_errors.get(),
            writes: counts.writes.get(),
            write_errors: counts.write_errors.get(),
            invalidations: counts.invalidations.get(),
            invalidation_errors: counts.invalidation_errors.get(),
            ..cache
        };
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.reads.flush()?;
        let ended = std::mem::replace(&mut *phase, Phase { reads, before: now });
        Ok(now.since(ended.before))
    }

    /// What the cache counted that is no part of the load.
    pub(super) fn leave_out(&self, cache: Tally) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        phase.before = phase.before.plus(cache);
    }

    /// How to write now, held until the write has ended.
    pub(super) async fn writing(&self) -> tokio::sync::RwLockReadGuard<'_, Writing> {
        self.writing.read().await
    }

    pub(super) async fn set_writing(&self, writing: Writing) {
        *self.writing.write().await = writing;
    }
}
