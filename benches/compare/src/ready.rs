//! Drives a cache hit's future on the measuring thread.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Polls until the future is done. A hit is done at the first poll, so that this adds nothing to what an `await` costs; should one have to
/// wait for a lock, it is polled again at once. For futures that wait for no timer and no socket.
#[inline]
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::yield_now();
    }
}
