//! A load that is held inside the origin until the test lets it go.

use std::io;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};

#[derive(Clone)]
pub(crate) struct Slow {
    begun: Arc<Notify>,
    go: Arc<Semaphore>,
}

impl Slow {
    pub(crate) fn new() -> Self {
        Self { begun: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    /// The load: says that it has begun, waits, and gives this value.
    pub(crate) async fn load<V>(self, value: V) -> Result<V, io::Error> {
        self.begun.notify_one();
        drop(self.go.acquire().await);
        Ok(value)
    }

    /// Waits until the load is inside the origin.
    pub(crate) async fn has_begun(&self) {
        self.begun.notified().await;
    }

    pub(crate) fn let_go(&self) {
        self.go.add_permits(1);
    }
}
