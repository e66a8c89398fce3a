//! A layer is a tier: the public suite, and every verb where it belongs.

use super::support::{Scripted, call};
use crate::embedded::EmbeddedTier;
use crate::layers::{Breaker, BreakerRules, Bulkhead, BulkheadRules, Guarded, Observed, Retry, RetryRules, Timeout, Verb};
use crate::remote::RemoteTier;
use crate::testing::{Chaos, ChaosTier, remote_suite};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Each layer around a tier.
fn layers<T: RemoteTier>(tier: &Arc<T>) -> Vec<(&'static str, Arc<dyn RemoteTier>)> {
    let tier = || tier.clone();
    vec![
        ("timeout", Arc::new(Timeout::new(tier(), LONG))),
        ("retry", Arc::new(Retry::new(tier(), RetryRules::default()))),
        ("breaker", Arc::new(Breaker::new(tier(), BreakerRules::default()))),
        ("bulkhead", Arc::new(Bulkhead::new(tier(), BulkheadRules::default().inside(1)))),
        #[cfg(feature = "rate-limit")]
        ("rate limit", Arc::new(crate::layers::RateLimit::new(tier(), 1_000_000_000, 1_000_000_000))),
        ("observed", Arc::new(Observed::new(tier()))),
        ("guarded", Arc::new(Guarded::builder(tier()).timeout(LONG).build())),
    ]
}

#[tokio::test]
async fn every_layer_answers_as_the_tier_inside() {
    let inside = Arc::new(EmbeddedTier::new());
    for (at, (name, layer)) in layers(&inside).into_iter().enumerate() {
        println!("{name}");
        for seed in 0..8 {
            remote_suite(&*layer, &*inside, 1_000 * at as u64 + seed, 200).await;
        }
    }
}

#[tokio::test]
async fn every_layer_passes_every_verb_on_once_and_under_its_own_name() {
    let inside = Scripted::new(EmbeddedTier::new());
    for (name, layer) in layers(&inside) {
        for verb in Verb::ALL {
            call(&layer, verb).await.expect("the tier is well");
            assert_eq!(inside.take_verbs(), [verb], "{name}");
        }
        assert_eq!(layer.name(), "embedded", "{name}");
    }
}

#[tokio::test]
async fn every_layer_passes_close_on() {
    let inside = Arc::new(ClosingTier::default());
    for (name, layer) in layers(&inside) {
        layer.close().await;
        assert_eq!(inside.closed.swap(0, std::sync::atomic::Ordering::SeqCst), 1, "{name}");
    }
}

/// A tier that hears of its end.
#[derive(Default)]
struct ClosingTier {
    inner: EmbeddedTier,
    closed: std::sync::atomic::AtomicU32,
}

#[async_trait::async_trait]
impl RemoteTier for ClosingTier {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn get(&self, key: &crate::RemoteKey) -> crate::Result<crate::Fetched> {
        self.inner.get(key).await
    }
    async fn get_many(&self, keys: &[crate::RemoteKey]) -> crate::Result<Vec<crate::Result<crate::Fetched>>> {
        self.inner.get_many(keys).await
    }
    async fn acquire(&self, key: &crate::RemoteKey, acquire: &crate::Acquire) -> crate::Result<crate::Acquired> {
        self.inner.acquire(key, acquire).await
    }
    async fn fill(&self, key: &crate::RemoteKey, fill: &crate::Fill) -> crate::Result<crate::Filled> {
        self.inner.fill(key, fill).await
    }
    async fn release(&self, key: &crate::RemoteKey, token: crate::Token) -> crate::Result<bool> {
        self.inner.release(key, token).await
    }
    async fn invalidate(
        &self,
        keys: &[crate::Invalidation],
        retain: Duration,
        notice: Option<&crate::Notice>,
    ) -> crate::Result<crate::Told<Vec<crate::Invalidated>>> {
        self.inner.invalidate(keys, retain, notice).await
    }
    async fn put(
        &self,
        key: &crate::RemoteKey,
        put: &crate::Put,
        retain: Duration,
        notice: Option<&crate::Notice>,
    ) -> crate::Result<crate::Told<crate::PutOutcome>> {
        self.inner.put(key, put, retain, notice).await
    }
    async fn mark(&self, key: &crate::RemoteKey, mark: &crate::Mark) -> crate::Result<crate::Marked> {
        self.inner.mark(key, mark).await
    }
    async fn unmark(
        &self,
        key: &crate::RemoteKey,
        unmark: &crate::Unmark,
        notice: Option<&crate::Notice>,
    ) -> crate::Result<crate::Told<crate::Invalidated>> {
        self.inner.unmark(key, unmark, notice).await
    }
    async fn clear(
        &self,
        namespace: &crate::Namespace,
        retain: Duration,
        notice: Option<&crate::Notice>,
    ) -> crate::Result<crate::Told<u64>> {
        self.inner.clear(namespace, retain, notice).await
    }
    async fn poll(&self, prefix: &str, partitions: &[crate::Partition]) -> crate::Result<Vec<crate::Result<crate::Meta>>> {
        self.inner.poll(prefix, partitions).await
    }
    fn listen(&self, prefix: &str, ear: std::sync::Weak<dyn crate::Ear>) -> Option<crate::Listening> {
        self.inner.listen(prefix, ear)
    }
    fn deployments(&self) -> Option<&crate::Deployments> {
        self.inner.deployments()
    }
    async fn close(&self) {
        self.closed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn every_layer_reports_a_tier_that_is_down_as_an_error() {
    let inside = Arc::new(ChaosTier::new(EmbeddedTier::new()));
    inside.set(Chaos::Down);
    for (name, layer) in layers(&inside) {
        for verb in Verb::ALL {
            assert!(call(&layer, verb).await.is_err(), "{name}: {verb:?}");
        }
    }
}
