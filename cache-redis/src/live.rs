//! One established connection in use.

use crate::error::from_driver;
use crate::multiplexer::{Guard, Multiplexer};
use crate::vitals::Vitals;
use redis::{Pipeline, from_redis_value};
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// A connection in use. Calls share it; when the last lets go, it is closed.
pub(crate) struct Live {
    pub(crate) multiplexer: Multiplexer,
    _task: Guard,
}

impl Live {
    pub(crate) fn new(multiplexer: Multiplexer, task: Guard) -> Self {
        Self { multiplexer, _task: task }
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        self.multiplexer.vitals()
    }

    /// Asks for the server's time, which also shows whether it still answers. `false` if it did not in time.
    pub(crate) async fn probe(&self, timeout: Duration) -> bool {
        let mut commands = Pipeline::with_capacity(1);
        commands.cmd("TIME");
        let sent = tokio::time::timeout(timeout, self.multiplexer.send_all(&commands)).await;
        let Ok(sent) = sent else {
            self.vitals().timed_out();
            return false;
        };
        // A connection that is closed the supervisor sees by itself.
        let Some((time, sent)) = sent.ok().and_then(|mut many| Some((many.replies.pop()?, many.sent))) else { return true };
        match time.and_then(|time| Ok(from_redis_value::<(i64, i64)>(time)?)) {
            Ok((seconds, micros)) => self.vitals().observe(sent, seconds * 1_000_000 + micros),
            Err(err) => debug!(error = %from_driver(&err), "a probe of Redis failed"),
        }
        true
    }
}
