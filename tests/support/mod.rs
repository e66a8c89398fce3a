//! What several test files need.

use std::time::{Duration, Instant};

/// Gives other tasks their turn until something has come to pass. A test that waits in vain fails instead of hanging.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}
