//! One established connection, and what is known of it.

use crate::coalescer::{Coalescer, Reply, Request};
use crate::error::from_driver;
use crate::server_time::ServerTime;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::debug;

/// So many calls in a row without an answer, and the connection is replaced. TCP alone does not notice a server that hangs or
/// a connection that some box on the way has forgotten, and neither does the driver.
const TIMEOUTS_IN_A_ROW: u32 = 5;

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The other end, or the driver, closed it.
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

/// A connection in use. Calls share it, each holding it for its own time: when the last lets go, it is closed.
pub(crate) struct Live {
    coalescer: Coalescer,
    time: Mutex<ServerTime>,
    timeouts: AtomicU32,
    read_only: AtomicBool,
    doubt: Notify,
    _driver: Driver,
}

/// The task that reads and writes a connection. It ends with this.
pub(crate) struct Driver(pub(crate) AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Live {
    pub(crate) fn new(connection: MultiplexedConnection, mget: bool, time: ServerTime, driver: Driver) -> Self {
        Self {
            coalescer: Coalescer::new(connection, mget),
            time: Mutex::new(time),
            timeouts: AtomicU32::new(0),
            read_only: AtomicBool::new(false),
            doubt: Notify::new(),
            _driver: driver,
        }
    }

    /// A handle to send with. Dropping a call's future leaves its reply to the driver, which throws it away: replies are
    /// matched to calls by their order on the wire, so no other call ever gets it.
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.coalescer.connection()
    }

    /// Sends a request, together with others where there are many; `None` if the connection breaks.
    pub(crate) async fn send(&self, request: Request) -> Option<Reply> {
        self.coalescer.send(request).await
    }

    /// The server's time, at most, at a local moment.
    pub(crate) fn latest_ms(&self, when: Instant) -> u64 {
        self.time.lock().latest_ms(when)
    }

    /// Takes in the server's time from a reply that has just come.
    pub(crate) fn observe(&self, sent: Instant, server_us: i64) {
        self.time.lock().observe(sent, Instant::now(), server_us);
    }

    /// Notes an answer, be it an error.
    pub(crate) fn answered(&self) {
        if self.timeouts.load(Ordering::Relaxed) != 0 {
            self.timeouts.store(0, Ordering::Relaxed);
        }
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

    /// Asks for the server's time, which also shows whether it still answers. `false` if it did not in time.
    pub(crate) async fn probe(&self, timeout: Duration) -> bool {
        let mut connection = self.connection();
        let sent = Instant::now();
        let time = redis::cmd("TIME");
        match tokio::time::timeout(timeout, time.query_async::<(i64, i64)>(&mut connection)).await {
            Ok(Ok((seconds, micros))) => {
                self.observe(sent, seconds * 1_000_000 + micros);
                self.answered();
                true
            }
            Ok(Err(err)) => {
                debug!(error = %from_driver(&err), "a probe of Redis failed");
                true
            }
            Err(_) => {
                self.timed_out();
                false
            }
        }
    }
}
