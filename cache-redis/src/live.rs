//! One established connection in use.

use crate::error::from_driver;
use crate::multiplexer::{Guard, Many, Multiplexer, Request, Underway};
use crate::vitals::Vitals;
use cache_core::Result;
use redis::{Pipeline, from_redis_value};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// What carries commands over a connection.
#[derive(Clone)]
pub(crate) enum Wire {
    Own(Multiplexer),
    #[cfg(feature = "fred")]
    Fred(crate::fred::Fred),
}

impl Wire {
    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        match self {
            Self::Own(multiplexer) => multiplexer.vitals(),
            #[cfg(feature = "fred")]
            Self::Fred(fred) => fred.vitals(),
        }
    }

    /// What ended the connection, where that is known. Told once.
    pub(crate) fn cause(&self) -> Option<io::Error> {
        match self {
            Self::Own(multiplexer) => multiplexer.cause(),
            #[cfg(feature = "fred")]
            Self::Fred(_) => None,
        }
    }

    /// Sends a command. Never waits. What is returned may be dropped: the command runs nonetheless.
    pub(crate) fn send(&self, deadline: Instant, request: Request<'_>) -> Result<Underway> {
        match self {
            Self::Own(multiplexer) => multiplexer.send(deadline, request),
            #[cfg(feature = "fred")]
            Self::Fred(fred) => {
                let call = match request {
                    Request::Run(cmd) => fred.send(deadline, cmd),
                    request => fred.send(deadline, &request.command(fred.vitals().history())?),
                };
                call.map(|call| Underway::Fred(Box::new(call)))
            }
        }
    }

    /// Sends commands, no other's between them, and waits for their replies, in their order, for as long as the connection lives; errors that the
    /// server answered with are replies. Safe to cancel.
    pub(crate) async fn send_all(&self, commands: &Pipeline) -> Result<Many> {
        match self {
            Self::Own(multiplexer) => multiplexer.send_all(commands).await,
            #[cfg(feature = "fred")]
            Self::Fred(fred) => fred.send_all(commands).await,
        }
    }
}

/// A connection in use. Calls share it; when the last lets go, it is closed.
pub(crate) struct Live {
    pub(crate) wire: Wire,
    _task: Guard,
}

impl Live {
    pub(crate) fn new(wire: Wire, task: Guard) -> Self {
        Self { wire, _task: task }
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        self.wire.vitals()
    }

    /// Asks for the server's time, which also shows whether it still answers. `false` if it did not in time.
    pub(crate) async fn probe(&self, timeout: Duration) -> bool {
        let mut commands = Pipeline::with_capacity(1);
        commands.cmd("TIME");
        let sent = tokio::time::timeout(timeout, self.wire.send_all(&commands)).await;
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
