//! Ctrl-C: the first ends the clients and lets everything be put away, the second ends the process.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports for a process that SIGINT ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether somebody asked for the end. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Must be called within the runtime.
    pub(crate) fn on_ctrl_c() -> Self {
        let stop = Self::default();
        let requested = stop.0.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                // Ordering: relaxed; nothing is published with it.
                if requested.swap(true, Ordering::Relaxed) {
                    process::exit(INTERRUPTED.into());
                }
            }
        });
        stop
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
