//! Ends calls that take too long.

use super::forward::{Call, forward_verbs};
use super::verb::Verb;
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// A minute: by the times that the Redis tier states, enough for some ten million keys.
const DEFAULT_CLEAR: Duration = Duration::from_secs(60);

/// Every call ends within a time, with [`ErrorKind::Timeout`] if need be. Its outcome is then unknown: the command may have run,
/// or may still run.
///
/// `clear` has a time of its own, a minute unless told, because its cost grows with the store. `close` has none.
///
/// A call that ends is dropped inside the tier; a [`RemoteTier`](crate::RemoteTier) must stand that. Costs one timer of tokio for
/// a call that does not end at once.
///
/// ```
/// use cache_core::layers::Timeout;
/// use cache_core::{EmbeddedTier, Namespace, RemoteTier};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tier = Timeout::new(EmbeddedTier::new(), Duration::from_millis(50));
/// let key = Namespace::new("app", "product")?.key(&7_u64);
/// assert_eq!(tier.get(&key).await?.record, None);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Timeout<T> {
    inner: T,
    limit: Duration,
    clear: Duration,
}

impl<T> Timeout<T> {
    /// A tier whose calls end within `limit`. With zero, only calls that end without waiting for anything succeed.
    pub fn new(inner: T, limit: Duration) -> Self {
        Self { inner, limit, clear: DEFAULT_CLEAR.max(limit) }
    }

    /// The time of `clear`. Default: a minute, or the other limit if that is longer.
    pub fn clear_within(mut self, limit: Duration) -> Self {
        self.clear = limit;
        self
    }

    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        let limit = if verb == Verb::Clear { self.clear } else { self.limit };
        tokio::time::timeout(limit, call()).await.unwrap_or_else(|_| Err(late()))
    }
}

forward_verbs!(Timeout, |layer, inner| Some(inner.map_or(layer.limit, |inner| inner.min(layer.limit))));

pub(super) fn late() -> Error {
    Error::new(ErrorKind::Timeout, "L2 did not answer in time")
}
