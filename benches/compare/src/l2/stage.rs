//! What the clients run on.

use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

use super::servers::Servers;

/// Of the multi-threaded runtime: one a core of the machine that the bars were set on.
const WORKERS: usize = 2;

/// A runtime of its own, which ends with it.
pub(crate) struct Stage {
    runtime: Option<Runtime>,
    _pinned: Option<Pinned>,
}

impl Stage {
    /// Two workers that wander over the cores, as the servers do. For one task: this thread alone, on one core, and the server's on another,
    /// for the way between two cores that wander is most of what one call at a time costs.
    pub(crate) fn new(tasks: usize, servers: &Servers) -> Result<Self, Error> {
        let pinned = (tasks == 1).then(|| Pinned::apart_from(servers)).flatten();
        let mut builder = if tasks == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        let runtime = builder.worker_threads(WORKERS).enable_all().build().map_err(Error::Runtime)?;
        Ok(Self { runtime: Some(runtime), _pinned: pinned })
    }

    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().expect("it ends with the stage").block_on(future)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Connections end with their tasks. None is waited for: some drivers' would go on.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

/// Keeps this thread and a server on a core each; undone when dropped.
struct Pinned {
    before: CpuSet,
    server: Option<Pid>,
}

impl Pinned {
    /// Nothing where there is one core, or the system does not allow it: figures are then only less steady.
    fn apart_from(servers: &Servers) -> Option<Self> {
        let before = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        let (first, second) = (cores.next()?, cores.next()?);
        let server = servers.process().and_then(|process| Pid::from_raw(process.cast_signed()));
        let only = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        sched_setaffinity(server, &only(first)).ok()?;
        sched_setaffinity(None, &only(second)).ok()?;
        Some(Self { before, server })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for thread in [None, self.server] {
            let _ = sched_setaffinity(thread, &self.before);
        }
    }
}
