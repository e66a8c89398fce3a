//! The origin's side: loaders and writers, boxed once a miss, never on a hit.

use crate::error::{BoxError, Error, ErrorKind};
use futures_util::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A load of one key, ready to run once.
pub type Loader<V> = Box<dyn FnOnce() -> BoxFuture<Result<V, BoxError>> + Send + 'static>;

/// The registered origin.
pub(crate) type Origin<K, V> = Arc<dyn Fn(K) -> BoxFuture<Result<V, BoxError>> + Send + Sync + 'static>;

/// The registered writer.
pub(crate) type Writer<K, V> = Arc<dyn Fn(K, V) -> BoxFuture<Result<(), BoxError>> + Send + Sync + 'static>;

/// Boxes a closure of the user as a loader.
pub(crate) fn loader<V, F, Fut, E>(load: F) -> Loader<V>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Into<BoxError>,
{
    Box::new(move || {
        // The closure itself runs inside the future, so that its panic is caught with the future's.
        Box::pin(async move { load().await.map_err(Into::into) })
    })
}

/// Runs the user's code to its end, its panic or its time limit.
pub(crate) async fn guarded<T>(what: &'static str, limit: Duration, future: BoxFuture<Result<T, BoxError>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, AssertUnwindSafe(future).catch_unwind()).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(source))) => Err(Error::new(ErrorKind::Origin, format!("the {what} failed")).with_source(source)),
        Ok(Err(panic)) => Err(Error::new(ErrorKind::Panicked, format!("the {what} panicked")).with_source(message(&*panic))),
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("the {what} took longer than {limit:?}"))),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
