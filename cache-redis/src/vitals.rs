//! What is known of one connection besides its bytes: the server's clock, its history, and whether it is still of use.

use crate::backplane::Server;
use crate::server_time::ServerTime;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

/// So many calls in a row without an answer, and the connection is replaced. TCP alone does not notice a server that hangs or
/// a connection that some box on the way has forgotten.
const TIMEOUTS_IN_A_ROW: u32 = 5;

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// One of the two ends closed it.
    Closed,
    /// Calls in a row were not answered.
    Timeouts,
    /// A write was refused: the server is a replica now.
    ReadOnly,
}

impl Loss {
    /// For logs.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Closed => "the connection was closed",
            Self::Timeouts => "calls in a row were not answered",
            Self::ReadOnly => "the server is a replica and refuses writes",
        }
    }
}

/// Written by the connection's task and its callers, read by its supervisor.
#[derive(Default)]
pub(crate) struct Vitals {
    /// `None` until the first measurement.
    time: Mutex<Option<ServerTime>>,
    timeouts: AtomicU32,
    read_only: AtomicBool,
    /// See [`Server`]; 0 while unknown.
    process: AtomicU64,
    history: AtomicU64,
    doubt: Notify,
}

impl Vitals {
    /// The server's time, at most, at a local moment; 0 if nothing is known of it.
    pub(crate) fn latest_ms(&self, when: Instant) -> u64 {
        self.time.lock().as_ref().map_or(0, |time| time.latest_ms(when))
    }

    /// Takes in the server's time from a reply that has just come.
    pub(crate) fn observe(&self, sent: Instant, server_us: i64) {
        let now = Instant::now();
        match &mut *self.time.lock() {
            Some(time) => time.observe(sent, now, server_us),
            time => *time = Some(ServerTime::new(sent, server_us)),
        }
    }

    /// Takes in what the server says of itself.
    pub(crate) fn know(&self, server: &Server) {
        self.process.store(server.process, Ordering::Relaxed);
        self.history.store(server.history, Ordering::Relaxed);
    }

    /// The server's history, once it is known.
    pub(crate) fn history(&self) -> Option<u64> {
        Some(self.history.load(Ordering::Relaxed)).filter(|history| *history != 0)
    }

    /// The server's process, once it is known.
    pub(crate) fn process(&self) -> Option<u64> {
        Some(self.process.load(Ordering::Relaxed)).filter(|process| *process != 0)
    }

    /// Notes an answer, be it an error, or a part of one.
    pub(crate) fn answered(&self) {
        if self.timeouts.load(Ordering::Relaxed) != 0 {
            self.timeouts.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the last call was answered in time, as far as is known.
    pub(crate) fn is_answering(&self) -> bool {
        self.timeouts.load(Ordering::Relaxed) == 0
    }

    /// Notes a call that was not answered in time.
    pub(crate) fn timed_out(&self) {
        if self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW {
            self.doubt.notify_one();
        }
    }

    /// Notes that the server refuses writes.
    pub(crate) fn read_only(&self) {
        self.read_only.store(true, Ordering::Relaxed);
        self.doubt.notify_one();
    }

    /// Returns when calls have found the connection useless.
    pub(crate) async fn doubted(&self) -> Loss {
        self.doubt.notified().await;
        if self.read_only.load(Ordering::Relaxed) { Loss::ReadOnly } else { Loss::Timeouts }
    }
}
