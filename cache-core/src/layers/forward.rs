//! How a layer becomes a tier: every verb, written out once, goes through the layer's `through`.

use crate::error::Result;
use std::future::Future;
use std::pin::Pin;

/// A call of the tier inside, not polled so far.
pub(super) type Call<'a, R> = Pin<Box<dyn Future<Output = Result<R>> + Send + 'a>>;

/// Implements [`RemoteTier`](crate::RemoteTier) for a layer with a field `inner` and a method
/// `async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R>`.
///
/// Each run of `call` is one call of the tier inside. `name`, `poll`, `listen`, `deployments` and `close` go straight to it. A layer in
/// which calls take another time than inside says so by a second argument, a function of itself and the tier's timeout.
macro_rules! forward_verbs {
    ($layer:ident) => {
        $crate::layers::forward::forward_verbs!($layer, |_, inner| inner);
    };
    ($layer:ident, $within:expr) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: $crate::RemoteTier> $crate::RemoteTier for $layer<T> {
            fn name(&self) -> &'static str {
                self.inner.name()
            }

            fn timeout(&self) -> Option<std::time::Duration> {
                let within: fn(&Self, Option<std::time::Duration>) -> Option<std::time::Duration> = $within;
                within(self, self.inner.timeout())
            }

            async fn get(&self, key: &$crate::RemoteKey) -> $crate::Result<$crate::Fetched> {
                self.through($crate::layers::Verb::Get, || self.inner.get(key)).await
            }

            async fn head(&self, key: &$crate::RemoteKey) -> $crate::Result<$crate::Fetched> {
                self.through($crate::layers::Verb::Get, || self.inner.head(key)).await
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
                notice: Option<&$crate::Notice>,
            ) -> $crate::Result<$crate::Told<Vec<$crate::Invalidated>>> {
                self.through($crate::layers::Verb::Invalidate, || self.inner.invalidate(keys, retain, notice)).await
            }

            async fn put(
                &self,
                key: &$crate::RemoteKey,
                put: &$crate::Put,
                retain: std::time::Duration,
                notice: Option<&$crate::Notice>,
            ) -> $crate::Result<$crate::Told<$crate::PutOutcome>> {
                self.through($crate::layers::Verb::Put, || self.inner.put(key, put, retain, notice)).await
            }

            async fn mark(&self, key: &$crate::RemoteKey, mark: &$crate::Mark) -> $crate::Result<$crate::Marked> {
                self.through($crate::layers::Verb::Mark, || self.inner.mark(key, mark)).await
            }

            async fn unmark(
                &self,
                key: &$crate::RemoteKey,
                unmark: &$crate::Unmark,
                notice: Option<&$crate::Notice>,
            ) -> $crate::Result<$crate::Told<$crate::Invalidated>> {
                self.through($crate::layers::Verb::Unmark, || self.inner.unmark(key, unmark, notice)).await
            }

            async fn clear(
                &self,
                namespace: &$crate::Namespace,
                retain: std::time::Duration,
                notice: Option<&$crate::Notice>,
            ) -> $crate::Result<$crate::Told<u64>> {
                self.through($crate::layers::Verb::Clear, || self.inner.clear(namespace, retain, notice)).await
            }

            async fn invalidate_prefix(
                &self,
                namespace: &$crate::Namespace,
                prefix: &$crate::KeyPrefix,
                retain: std::time::Duration,
                notice: Option<&$crate::Notice>,
            ) -> $crate::Result<$crate::Told<u64>> {
                self.through($crate::layers::Verb::Clear, || self.inner.invalidate_prefix(namespace, prefix, retain, notice))
                    .await
            }

            // Not through the layer: polls are nobody's call, so none waits behind them, and they are neither counted nor held off by a breaker.
            async fn poll(
                &self,
                prefix: &str,
                partitions: &[$crate::Partition],
            ) -> $crate::Result<Vec<$crate::Result<$crate::Meta>>> {
                self.inner.poll(prefix, partitions).await
            }

            fn listen(&self, prefix: &str, ear: std::sync::Weak<dyn $crate::Ear>) -> Option<$crate::Listening> {
                self.inner.listen(prefix, ear)
            }

            fn deployments(&self) -> Option<&$crate::Deployments> {
                self.inner.deployments()
            }

            async fn examine(&self, examine: &$crate::Examine<'_>) -> $crate::Examined {
                self.inner.examine(examine).await
            }

            async fn close(&self) {
                self.inner.close().await;
            }
        }
    };
}

pub(super) use forward_verbs;
