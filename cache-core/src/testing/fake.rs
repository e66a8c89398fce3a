//! A cache for a service's own tests: everything in a map, nothing expires, failures on demand.
//!
//! `write` stores, as that of a versioned cache does; an unversioned one invalidates, and the next read loads.

use crate::answer::{Cached, Freshness, Tier};
use crate::cache::Cache;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::stats::Stats;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type Load<K, V> = Arc<dyn Fn(K) -> Pin<Box<dyn Future<Output = Result<V, BoxError>> + Send>> + Send + Sync>;

/// A fake [`Cache`]. Cloning shares it, so a test keeps one handle and gives the service the other.
///
/// ```
/// use cache_core::testing::FakeCache;
/// use cache_core::{Cache, ErrorKind, SharedCache};
/// use std::sync::Arc;
///
/// # futures_util::FutureExt::now_or_never(async {
/// let fake = FakeCache::new().with_origin(|id: u64| async move { Ok::<_, std::io::Error>(id * 2) });
/// let shared: SharedCache<u64, u64> = Arc::new(fake.clone());
/// assert_eq!(shared.load(&21).await.unwrap(), 42);
/// assert_eq!(fake.peek(&21), Some(42));
///
/// fake.fail_with(Some(ErrorKind::Unavailable));
/// assert!(shared.invalidate(&21).await.is_err());
/// assert_eq!(shared.load(&21).await.unwrap(), 42, "a hit needs nobody");
/// # }).unwrap();
/// ```
pub struct FakeCache<K, V> {
    inner: Arc<Mutex<Inner<K, V>>>,
}

struct Inner<K, V> {
    values: HashMap<K, V>,
    origin: Option<Load<K, V>>,
    failing: Option<ErrorKind>,
    stats: Stats,
}

impl<K, V> Clone for FakeCache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V> std::fmt::Debug for FakeCache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeCache").field("stats", &self.inner.lock().stats).finish_non_exhaustive()
    }
}

impl<K, V> Default for FakeCache<K, V> {
    fn default() -> Self {
        let inner = Inner { values: HashMap::new(), origin: None, failing: None, stats: Stats::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FakeCache<K, V> {
    /// An empty fake without an origin.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with an origin for `load`.
    pub fn with_origin<F, Fut, E>(self, load: F) -> Self
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        self.inner.lock().origin = Some(Arc::new(move |key| {
            let load = load(key);
            Box::pin(async move { load.await.map_err(Into::into) })
        }));
        self
    }

    /// From now on, loads that miss, inserts, writes, invalidations and clears fail with this kind; `None` ends it.
    pub fn fail_with(&self, kind: Option<ErrorKind>) {
        self.inner.lock().failing = kind;
    }

    /// What it holds for a key, not counted.
    pub fn peek(&self, key: &K) -> Option<V> {
        self.inner.lock().values.get(key).cloned()
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.inner.lock().values.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn change(&self, change: impl FnOnce(&mut Inner<K, V>)) -> Result<()> {
        let mut inner = self.inner.lock();
        if let Some(kind) = inner.failing {
            return Err(Error::new(kind, "the fake was told to fail"));
        }
        change(&mut inner);
        Ok(())
    }

    async fn load_missing(&self, key: &K) -> Result<V> {
        let origin = self.inner.lock().origin.clone();
        let origin =
            origin.ok_or_else(|| Error::new(ErrorKind::NoOrigin, "the fake has no origin: give it one with with_origin"))?;
        self.load_by(key, origin(key.clone())).await
    }

    async fn load_by(&self, key: &K, load: impl Future<Output = Result<V, BoxError>> + Send) -> Result<V> {
        self.change(|inner| inner.stats.loads += 1)?;
        match load.await {
            Ok(value) => {
                self.inner.lock().values.insert(key.clone(), value.clone());
                Ok(value)
            }
            Err(source) => {
                self.inner.lock().stats.load_errors += 1;
                Err(Error::new(ErrorKind::Origin, "the load failed").with_source(source))
            }
        }
    }
}

fn from_memory<V>(value: V) -> Cached<V> {
    Cached::new(value, Tier::L1, Duration::ZERO, Freshness::Fresh)
}

impl<K, V> Cache<K, V> for FakeCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn get_local(&self, key: &K) -> Option<V> {
        let mut inner = self.inner.lock();
        let value = inner.values.get(key).cloned()?;
        inner.stats.l1.hits += 1;
        Some(value)
    }

    async fn get(&self, key: &K) -> Option<V> {
        let value = self.get_local(key);
        self.inner.lock().stats.l1.misses += u64::from(value.is_none());
        value
    }

    async fn get_cached(&self, key: &K) -> Result<Option<Cached<V>>> {
        Ok(self.get(key).await.map(from_memory))
    }

    async fn load_cached(&self, key: &K) -> Result<Cached<V>> {
        if let Some(value) = self.get(key).await {
            return Ok(from_memory(value));
        }
        let value = self.load_missing(key).await?;
        Ok(Cached::new(value, Tier::Origin, Duration::ZERO, Freshness::Fresh))
    }

    async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key).await);
        }
        values
    }

    async fn load(&self, key: &K) -> Result<V> {
        if let Some(value) = self.get(key).await {
            return Ok(value);
        }
        let origin = self.inner.lock().origin.clone();
        let origin =
            origin.ok_or_else(|| Error::new(ErrorKind::NoOrigin, "the fake has no origin: give it one with with_origin"))?;
        self.load_by(key, origin(key.clone())).await
    }

    async fn get_or_load<F, Fut, E>(&self, key: &K, load: F) -> Result<V>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        match self.get(key).await {
            Some(value) => Ok(value),
            None => self.load_by(key, async move { load().await.map_err(Into::into) }).await,
        }
    }

    async fn insert(&self, key: &K, value: V) -> Result<()> {
        self.change(|inner| {
            inner.stats.inserts += 1;
            inner.values.insert(key.clone(), value);
        })
    }

    async fn write(&self, key: &K, value: V) -> Result<()> {
        self.change(|inner| {
            inner.stats.writes += 1;
            inner.values.insert(key.clone(), value);
        })
    }

    async fn invalidate(&self, key: &K) -> Result<()> {
        self.change(|inner| {
            inner.stats.invalidations += 1;
            inner.values.remove(key);
        })
    }

    async fn clear(&self) -> Result<()> {
        self.change(|inner| {
            inner.stats.invalidations += 1;
            inner.values.clear();
        })
    }

    fn stats(&self) -> Stats {
        let inner = self.inner.lock();
        let mut stats = inner.stats;
        stats.l1.entries = inner.values.len() as u64;
        stats
    }
}
