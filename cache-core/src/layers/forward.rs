//! How a layer becomes a tier: every verb, written out once, goes through the layer's `through`.

use crate::error::Result;
use std::future::Future;
use std::pin::Pin;

/// A call of the tier inside, not polled so far.
pub(super) type Call<'a, R> = Pin<Box<dyn Future<Output = Result<R>> + Send + 'a>>;

/// Implements [`RemoteTier`](crate::RemoteTier) for a layer with a field `inner` and a method
/// `async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R>`.
///
/// Each run of `call` is one call of the tier inside. `name` and `close` go straight to it.
macro_rules! forward_verbs {
    ($layer:ident) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: $crate::RemoteTier> $crate::RemoteTier for $layer<T> {
            fn name(&self) -> &'static str {
                self.inner.name()
            }

            async fn get(&self, key: &$crate::RemoteKey) -> $crate::Result<$crate::Fetched> {
                self.through($crate::layers::Verb::Get, || self.inner.get(key)).await
            }

            async fn get_many(&self, keys: &[$crate::RemoteKey]) -> $crate::Result<Vec<$crate::Result<$crate::Fetched>>> {
                self.through($crate::layers::Verb::GetMany, || self.inner.get_many(keys)).await
            }

            async fn acquire(&self, key: &$crate::RemoteKey, acquire: &$crate::Acquire) -> $crate::Result<$crate::Acquired> {
                self.through($crate::layers::Verb::Acquire, || self.inner.acquire(key, acquire)).await
            }

            async fn fill(&self, key: &$crate::RemoteKey, fill: &$crate::Fill) -> $crate::Result<$crate::Filled> {
                self.through($crate::layers::Verb::Fill, || self.inner.fill(key, fill)).await
            }

            async fn release(&self, key: &$crate::RemoteKey, token: $crate::Token) -> $crate::Result<bool> {
                self.through($crate::layers::Verb::Release, || self.inner.release(key, token)).await
            }

            async fn invalidate(
                &self,
                keys: &[$crate::Invalidation],
                retain: std::time::Duration,
            ) -> $crate::Result<Vec<$crate::Invalidated>> {
                self.through($crate::layers::Verb::Invalidate, || self.inner.invalidate(keys, retain)).await
            }

            async fn put(
                &self,
                key: &$crate::RemoteKey,
                put: &$crate::Put,
                retain: std::time::Duration,
            ) -> $crate::Result<$crate::PutOutcome> {
                self.through($crate::layers::Verb::Put, || self.inner.put(key, put, retain)).await
            }

            async fn clear(&self, namespace: &$crate::Namespace, retain: std::time::Duration) -> $crate::Result<u64> {
                self.through($crate::layers::Verb::Clear, || self.inner.clear(namespace, retain)).await
            }

            async fn close(&self) {
                self.inner.close().await;
            }
        }
    };
}

pub(super) use forward_verbs;
