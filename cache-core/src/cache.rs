//! The one trait a service is written against.

use crate::answer::Cached;
use crate::error::{BoxError, Result};
use crate::local::LocalTier;
use crate::stack::{Loader, TieredCache, loader};
use crate::stats::Stats;
use async_trait::async_trait;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

/// A cache of values `V` by keys `K`.
///
/// Code that takes `impl Cache<K, V>` works with the stack ([`TieredCache`], of any tiers), with a
/// [`SharedCache`] in a service's state, and with the fake of [`crate::testing`] in the service's own tests. Errors and
/// cancellation are those of the methods of the same names on [`TieredCache`].
pub trait Cache<K, V>: Send + Sync
where
    K: Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value if the first level has it fresh: synchronous, and counted only when it hits.
    fn get_local(&self, key: &K) -> Option<V>;

    /// The value from the tiers, `None` if no tier has it.
    fn get(&self, key: &K) -> impl Future<Output = Option<V>> + Send;

    /// As [`get`](Self::get) with provenance; an error if a tier that might have it cannot be asked.
    fn get_cached(&self, key: &K) -> impl Future<Output = Result<Option<Cached<V>>>> + Send;

    /// The values of many keys, in their order.
    fn get_many(&self, keys: &[K]) -> impl Future<Output = Vec<Option<V>>> + Send;

    /// The value from the tiers or the registered origin; one load for all who ask.
    fn load(&self, key: &K) -> impl Future<Output = Result<V>> + Send;

    /// As [`load`](Self::load) with provenance.
    fn load_cached(&self, key: &K) -> impl Future<Output = Result<Cached<V>>> + Send;

    /// The value from the tiers, else from this closure; one load for all who ask.
    fn get_or_load<F, Fut, E>(&self, key: &K, load: F) -> impl Future<Output = Result<V>> + Send
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError> + 'static;

    /// Stores a value in the tiers.
    fn insert(&self, key: &K, value: V) -> impl Future<Output = Result<()>> + Send;

    /// Writes a value through the registered writer; the tiers follow.
    fn write(&self, key: &K, value: V) -> impl Future<Output = Result<()>> + Send;

    /// Makes the key's value unreadable.
    fn invalidate(&self, key: &K) -> impl Future<Output = Result<()>> + Send;

    /// Makes every value unreadable.
    fn clear(&self) -> impl Future<Output = Result<()>> + Send;

    /// What the cache has done.
    fn stats(&self) -> Stats;
}

impl<K, V, L> Cache<K, V> for TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    fn get_local(&self, key: &K) -> Option<V> {
        TieredCache::get_local(self, key)
    }

    async fn get(&self, key: &K) -> Option<V> {
        TieredCache::get(self, key).await
    }

    async fn get_cached(&self, key: &K) -> Result<Option<Cached<V>>> {
        TieredCache::get_cached(self, key).await
    }

    async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        TieredCache::get_many(self, keys).await
    }

    async fn load(&self, key: &K) -> Result<V> {
        TieredCache::load(self, key).await
    }

    async fn load_cached(&self, key: &K) -> Result<Cached<V>> {
        TieredCache::load_cached(self, key).await
    }

    async fn get_or_load<F, Fut, E>(&self, key: &K, load: F) -> Result<V>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        TieredCache::get_or_load(self, key, load).await
    }

    async fn insert(&self, key: &K, value: V) -> Result<()> {
        TieredCache::insert(self, key, value).await
    }

    async fn write(&self, key: &K, value: V) -> Result<()> {
        TieredCache::write(self, key, value).await.map(drop)
    }

    async fn invalidate(&self, key: &K) -> Result<()> {
        TieredCache::invalidate(self, key).await.map(drop)
    }

    async fn clear(&self) -> Result<()> {
        TieredCache::clear(self).await.map(drop)
    }

    fn stats(&self) -> Stats {
        TieredCache::stats(self)
    }
}

/// The object-safe twin of [`Cache`], which every cache implements. Name it in a type (`Arc<dyn DynCache<K, V>>`, or for
/// short [`SharedCache`]) and call the methods of [`Cache`] on that.
#[async_trait]
pub trait DynCache<K, V>: Send + Sync {
    /// [`Cache::get_local`]. Reads through `dyn` begin with it, so that an L1 hit boxes no future.
    fn dyn_local(&self, key: &K) -> Option<V>;
    /// [`Cache::get`].
    async fn dyn_get(&self, key: &K) -> Option<V>;
    /// [`Cache::get_cached`].
    async fn dyn_get_cached(&self, key: &K) -> Result<Option<Cached<V>>>;
    /// [`Cache::get_many`].
    async fn dyn_get_many(&self, keys: &[K]) -> Vec<Option<V>>;
    /// [`Cache::load`].
    async fn dyn_load(&self, key: &K) -> Result<V>;
    /// [`Cache::load_cached`].
    async fn dyn_load_cached(&self, key: &K) -> Result<Cached<V>>;
    /// [`Cache::get_or_load`].
    async fn dyn_get_or_load(&self, key: &K, load: Loader<V>) -> Result<V>;
    /// [`Cache::insert`].
    async fn dyn_insert(&self, key: &K, value: V) -> Result<()>;
    /// [`Cache::write`].
    async fn dyn_write(&self, key: &K, value: V) -> Result<()>;
    /// [`Cache::invalidate`].
    async fn dyn_invalidate(&self, key: &K) -> Result<()>;
    /// [`Cache::clear`].
    async fn dyn_clear(&self) -> Result<()>;
    /// [`Cache::stats`].
    fn dyn_stats(&self) -> Stats;
}

/// A cache in a service's state: any cache of these types, shared.
///
/// An L1 hit costs a virtual call more than through the concrete type; whatever goes further costs a box.
///
/// ```
/// use cache_core::{Cache, SharedCache};
///
/// struct Service {
///     names: SharedCache<u64, String>,
/// }
///
/// impl Service {
///     async fn greet(&self, id: u64) -> cache_core::Result<String> {
///         let load = move || async move { Ok::<_, std::io::Error>(format!("user {id}")) };
///         Ok(format!("hello {}", self.names.get_or_load(&id, load).await?))
///     }
/// }
/// ```
pub type SharedCache<K, V> = Arc<dyn DynCache<K, V>>;

#[async_trait]
impl<K, V, C> DynCache<K, V> for C
where
    C: Cache<K, V>,
    K: Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn dyn_local(&self, key: &K) -> Option<V> {
        self.get_local(key)
    }

    async fn dyn_get(&self, key: &K) -> Option<V> {
        self.get(key).await
    }

    async fn dyn_get_cached(&self, key: &K) -> Result<Option<Cached<V>>> {
        self.get_cached(key).await
    }

    async fn dyn_get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        self.get_many(keys).await
    }

    async fn dyn_load(&self, key: &K) -> Result<V> {
        self.load(key).await
    }

    async fn dyn_load_cached(&self, key: &K) -> Result<Cached<V>> {
        self.load_cached(key).await
    }

    async fn dyn_get_or_load(&self, key: &K, load: Loader<V>) -> Result<V> {
        self.get_or_load(key, load).await
    }

    async fn dyn_insert(&self, key: &K, value: V) -> Result<()> {
        self.insert(key, value).await
    }

    async fn dyn_write(&self, key: &K, value: V) -> Result<()> {
        self.write(key, value).await
    }

    async fn dyn_invalidate(&self, key: &K) -> Result<()> {
        self.invalidate(key).await
    }

    async fn dyn_clear(&self) -> Result<()> {
        self.clear().await
    }

    fn dyn_stats(&self) -> Stats {
        self.stats()
    }
}

// `(**self)`, never `self.dyn_…`: an `Arc<dyn DynCache>` is a `Cache` and so a `DynCache` itself, and would call itself.
impl<K, V> Cache<K, V> for SharedCache<K, V>
where
    K: Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn get_local(&self, key: &K) -> Option<V> {
        (**self).dyn_local(key)
    }

    async fn get(&self, key: &K) -> Option<V> {
        match (**self).dyn_local(key) {
            Some(value) => Some(value),
            None => (**self).dyn_get(key).await,
        }
    }

    async fn get_cached(&self, key: &K) -> Result<Option<Cached<V>>> {
        (**self).dyn_get_cached(key).await
    }

    async fn load_cached(&self, key: &K) -> Result<Cached<V>> {
        (**self).dyn_load_cached(key).await
    }

    async fn get_many(&self, keys: &[K]) -> Vec<Option<V>> {
        (**self).dyn_get_many(keys).await
    }

    async fn load(&self, key: &K) -> Result<V> {
        match (**self).dyn_local(key) {
            Some(value) => Ok(value),
            None => (**self).dyn_load(key).await,
        }
    }

    async fn get_or_load<F, Fut, E>(&self, key: &K, load: F) -> Result<V>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        match (**self).dyn_local(key) {
            Some(value) => Ok(value),
            None => (**self).dyn_get_or_load(key, loader(load)).await,
        }
    }

    async fn insert(&self, key: &K, value: V) -> Result<()> {
        (**self).dyn_insert(key, value).await
    }

    async fn write(&self, key: &K, value: V) -> Result<()> {
        (**self).dyn_write(key, value).await
    }

    async fn invalidate(&self, key: &K) -> Result<()> {
        (**self).dyn_invalidate(key).await
    }

    async fn clear(&self) -> Result<()> {
        (**self).dyn_clear().await
    }

    fn stats(&self) -> Stats {
        (**self).dyn_stats()
    }
}
