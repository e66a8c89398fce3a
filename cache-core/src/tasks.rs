//! The tasks a cache has running, so that closing can wait for them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Default)]
pub(crate) struct Tasks(Arc<Running>);

#[derive(Debug, Default)]
struct Running {
    count: AtomicUsize,
    none: Notify,
}

struct Departure(Arc<Running>);

impl Drop for Departure {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

impl Tasks {
    /// Runs a future in a task of its own.
    pub(crate) fn spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let runtime = Handle::try_current()
            .map_err(|err| Error::new(ErrorKind::Config, "the cache needs a running tokio runtime").with_source(err))?;
        self.0.count.fetch_add(1, Ordering::AcqRel);
        let departure = Departure(self.0.clone());
        Ok(runtime.spawn(async move {
            let _departure = departure;
            future.await
        }))
    }

    /// Waits until no task runs, or for `limit`. Returns how many still run.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        let drained = async {
            loop {
                let none = self.0.none.notified();
                let mut none = std::pin::pin!(none);
                none.as_mut().enable();
                if self.0.count.load(Ordering::Acquire) == 0 {
                    break;
                }
                none.await;
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
        self.0.count.load(Ordering::Acquire)
    }
}
