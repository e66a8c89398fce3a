//! Whom a load runs for: a load that waits for itself would wait for ever.

use crate::flights::Flights;
use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    /// The keys that are being loaded for the sake of this task, innermost first.
    pub(super) static LOADING: Arc<Chain>;
}

/// A key being loaded, and what it is loaded for.
pub(super) struct Chain {
    cache: usize,
    hash: u64,
    outer: Option<Arc<Chain>>,
}

impl Chain {
    /// A load of a key, for the sake of whatever this task runs for.
    pub(super) fn link<K, V>(flights: &Arc<Flights<K, V>>, hash: u64) -> Arc<Self> {
        Arc::new(Self { cache: Arc::as_ptr(flights) as usize, hash, outer: LOADING.try_with(Arc::clone).ok() })
    }

    /// Whether another load waits for this one.
    pub(super) fn is_inner(&self) -> bool {
        self.outer.is_some()
    }

    fn contains(&self, cache: usize, hash: u64) -> bool {
        let mut link = Some(self);
        while let Some(chain) = link {
            if chain.cache == cache && chain.hash == hash {
                return true;
            }
            link = chain.outer.as_deref();
        }
        false
    }
}

/// Whether this task runs on behalf of a load of this very key: waiting for it would be waiting for itself.
pub(super) fn is_loading<K, V>(flights: &Arc<Flights<K, V>>, hash: u64) -> bool {
    LOADING.try_with(|chain| chain.contains(Arc::as_ptr(flights) as usize, hash)).unwrap_or(false)
}

/// A future for another task that runs for the sake of the same loads as the task that calls this now.
pub(super) fn on_behalf<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let chain = LOADING.try_with(Arc::clone).ok();
    async move {
        match chain {
            Some(chain) => LOADING.scope(chain, future).await,
            None => future.await,
        }
    }
}
