//! Many at once: a cache filled before the first request, and inserts with a result for each key.

use super::TieredCache;
use crate::error::{ErrorKind, Result};
use crate::local::LocalTier;
use futures_util::stream::{FuturesUnordered, StreamExt, iter};
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

/// Writes and loads under way at once unless told.
const CONCURRENCY: usize = 32;

/// How fast a cache is warmed, and for how long.
///
/// | option | default | meaning |
/// |---|---|---|
/// | [`concurrency`](Self::concurrency) | 32 | so many keys are under way at once |
/// | [`budget`](Self::budget) | none | no key is begun after it |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    concurrency: usize,
    budget: Option<Duration>,
}

impl Default for WarmUp {
    fn default() -> Self {
        Self { concurrency: CONCURRENCY, budget: None }
    }
}

impl WarmUp {
    /// 32 at once, to the end.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many keys are under way at once, one at least. It bounds what warming asks of Redis and of the database, and what it holds in memory.
    pub fn concurrency(mut self, keys: usize) -> Self {
        self.concurrency = keys.max(1);
        self
    }

    /// No key is begun once this time is over; those under way come to their end, each within its own timeouts. For a start
    /// that must not wait longer for its cache.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }
}

/// How far a warm-up has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Warmed {
    /// Keys whose value is cached now.
    pub stored: u64,
    /// Keys of which something newer was known ([`ErrorKind::Refused`]). That is as good.
    pub refused: u64,
    /// Keys that failed otherwise.
    pub failed: u64,
    /// Some keys were not begun: the budget was over, or the cache was closed.
    pub cut_short: bool,
}

impl<K, V, L> TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Inserts many values, a result for each in their order. 32 are under way at once.
    ///
    /// Dropping the future begins no more; what is under way comes to its end. Of one key that is named twice either value may stay.
    ///
    /// # Errors
    /// For each key as [`insert`](Self::insert).
    pub async fn insert_many(&self, entries: impl IntoIterator<Item = (K, V), IntoIter: Send> + Send) -> Vec<Result<()>> {
        let inserts = entries.into_iter().map(|(key, value)| self.insert_owned(key, value));
        iter(inserts).buffered(CONCURRENCY).collect().await
    }

    /// Fills the cache from an iterator of values, which is drawn from as fast as they are stored: it may be longer than memory. Overwrites
    /// what is there, as [`insert`](Self::insert) does.
    ///
    /// `each` is told of every key as it ends, in no particular order, with its result and the counts so far. Dropping the future begins no
    /// more; what is under way comes to its end. An L2 that is down makes each key fail within its timeout, and L1 has it all the same.
    ///
    /// **A value that was read before an invalidation and is inserted after it is old, and stays** for its TTL. A versioned cache refuses it.
    /// For one that is not, warm before writers run, or [`preload`](Self::preload) the keys, which has no such gap.
    ///
    /// ```
    /// # use cache_core::{LocalTier, TieredCache, WarmUp};
    /// # use std::time::Duration;
    /// # async fn example<L: LocalTier<u64, String>>(cache: TieredCache<u64, String, L>, rows: Vec<(u64, String)>) {
    /// let most_read = WarmUp::new().concurrency(64).budget(Duration::from_secs(10));
    /// let warmed = cache.warm(rows, most_read, |_key, _result, so_far| {
    ///     if so_far.stored % 10_000 == 0 {
    ///         println!("{} are warm", so_far.stored);
    ///     }
    /// });
    /// println!("{:?}", warmed.await);
    /// # }
    /// ```
    pub async fn warm(
        &self,
        entries: impl IntoIterator<Item = (K, V), IntoIter: Send> + Send,
        how: WarmUp,
        each: impl FnMut(&K, &Result<()>, &Warmed) + Send,
    ) -> Warmed {
        let insert = |(key, value): (K, V)| async move {
            let result = self.insert_owned(key.clone(), value).await;
            (key, result)
        };
        self.drive(entries.into_iter(), how, insert, each).await
    }

    /// Loads the values of many keys, as [`load`](Self::load) does: those that a tier has cost no query, the others one each, and an
    /// invalidation meanwhile is never overtaken. Otherwise as [`warm`](Self::warm).
    ///
    /// ```
    /// # use cache_core::{LocalTier, TieredCache, WarmUp};
    /// # async fn example<L: LocalTier<u64, String>>(cache: TieredCache<u64, String, L>) {
    /// let warmed = cache.preload(1..=1_000, WarmUp::new(), |_, _, _| ()).await;
    /// assert_eq!(warmed.failed, 0);
    /// # }
    /// ```
    pub async fn preload(
        &self,
        keys: impl IntoIterator<Item = K, IntoIter: Send> + Send,
        how: WarmUp,
        each: impl FnMut(&K, &Result<()>, &Warmed) + Send,
    ) -> Warmed {
        let load = |key: K| async move {
            let result = self.load(&key).await.map(drop);
            (key, result)
        };
        self.drive(keys.into_iter(), how, load, each).await
    }

    async fn insert_owned(&self, key: K, value: V) -> Result<()> {
        self.insert(&key, value).await
    }

    /// Keeps so many under way until there are no more, or no more may begin.
    async fn drive<T, Fut: Future<Output = (K, Result<()>)> + Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        how: WarmUp,
        begin: impl Fn(T) -> Fut + Send,
        mut each: impl FnMut(&K, &Result<()>, &Warmed) + Send,
    ) -> Warmed {
        let clock = &self.inner.clock;
        let over = how.budget.map(|budget| clock.now().after(budget));
        let (mut items, mut warmed) = (items.fuse(), Warmed::default());
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < how.concurrency && !warmed.cut_short {
                let Some(item) = items.next() else { break };
                if over.is_some_and(|over| clock.now() >= over) {
                    warmed.cut_short = true;
                } else {
                    under_way.push(begin(item));
                }
            }
            let Some((key, result)) = under_way.next().await else { return warmed };
            match &result {
                Ok(()) => warmed.stored += 1,
                Err(err) => match err.kind() {
                    ErrorKind::Refused => warmed.refused += 1,
                    kind => {
                        warmed.failed += 1;
                        warmed.cut_short |= kind == ErrorKind::Closed;
                    }
                },
            }
            each(&key, &result, &warmed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::embedded::EmbeddedTier;
    use crate::key::Namespace;
    use crate::remote::{Invalidation, RemoteTier};
    use crate::testing::{Chaos, ChaosTier};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    type Cache = TieredCache<u64, u64>;

    fn cache(l2: impl RemoteTier) -> Cache {
        Cache::builder("t").l2(l2).build().unwrap()
    }

    fn assert_send<T: Send>(future: T) -> T {
        future
    }

    #[tokio::test]
    async fn every_value_is_stored_and_told_of_once() {
        let cache = cache(EmbeddedTier::new());
        let mut told = BTreeMap::new();
        let mut counts = Vec::new();
        let warm = cache.warm((0..1_000).map(|n| (n, n * 2)), WarmUp::new(), |key, result, so_far| {
            assert!(result.is_ok() && told.insert(*key, so_far.stored).is_none());
            counts.push(so_far.stored);
        });
        let warmed = assert_send(warm).await;
        assert_eq!(warmed, Warmed { stored: 1_000, ..Warmed::default() });
        assert!(counts.into_iter().eq(1..=1_000) && told.len() == 1_000);
        assert_eq!(cache.get_many(&[0, 7, 999]).await, [Some(0), Some(14), Some(1_998)]);
    }

    #[tokio::test]
    async fn no_more_keys_are_under_way_than_allowed_and_the_iterator_waits() {
        let (gate, inside, drawn) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)), AtomicU64::new(0));
        let origin = {
            let (gate, inside) = (gate.clone(), inside.clone());
            move |key: u64| {
                let (gate, inside) = (gate.clone(), inside.clone());
                async move {
                    inside.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    Ok::<_, std::io::Error>(key)
                }
            }
        };
        let cache = Cache::builder("t").l2(EmbeddedTier::new()).origin(origin).build().unwrap();
        let keys = (0..20).inspect(|_| _ = drawn.fetch_add(1, Ordering::SeqCst));
        let most = AtomicU64::new(0);
        let preload = cache.preload(keys, WarmUp::new().concurrency(3), |_, _, so_far| {
            let ahead = drawn.load(Ordering::SeqCst) - so_far.stored;
            most.fetch_max(ahead, Ordering::SeqCst);
        });
        let open = async {
            while inside.load(Ordering::SeqCst) < 3 {
                tokio::task::yield_now().await;
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!((inside.load(Ordering::SeqCst), drawn.load(Ordering::SeqCst)), (3, 3));
            gate.add_permits(20);
        };
        let (warmed, ()) = tokio::join!(assert_send(preload), open);
        assert_eq!((warmed.stored, warmed.failed), (20, 0));
        assert!(most.into_inner() <= 2, "beside the one that has just ended");
    }

    #[tokio::test]
    async fn a_budget_that_is_over_begins_no_more() {
        let hands = ManualClock::new();
        let cache = Cache::builder("t").l2(EmbeddedTier::new()).clock(hands.clock()).build().unwrap();
        let how = WarmUp::new().concurrency(1).budget(Duration::from_secs(10));
        let warmed = cache.warm((0..100).map(|n| (n, n)), how, |_, _, _| hands.advance(Duration::from_secs(3))).await;
        assert_eq!(warmed, Warmed { stored: 4, cut_short: true, ..Warmed::default() });
        assert_eq!(cache.get_many(&[3, 4]).await, [Some(3), None]);
        let warmed = cache.warm([(7, 7)], how, |_, _, _| hands.advance(Duration::from_secs(30))).await;
        assert!(!warmed.cut_short, "there was nothing left");
    }

    #[tokio::test]
    async fn what_fails_is_counted_and_what_is_outdated_is_told_apart() {
        let l2 = EmbeddedTier::new();
        let versioned = Cache::builder("t").l2(l2.clone()).versioned(|value| *value).build().unwrap();
        let key = Namespace::new("cs", "t").unwrap().key(&5_u64);
        l2.invalidate(&[Invalidation { key, version: Some(100) }], Duration::from_secs(60), None).await.unwrap();
        let warmed = versioned.warm((1..=10).map(|n| (n, n)), WarmUp::new(), |_, _, _| ()).await;
        assert_eq!(warmed, Warmed { stored: 9, refused: 1, ..Warmed::default() });

        let broken = ChaosTier::new(EmbeddedTier::new());
        broken.set(Chaos::Down);
        let warmed = cache(broken).warm((1..=10).map(|n| (n, n)), WarmUp::new(), |_, _, _| ()).await;
        assert_eq!(warmed, Warmed { failed: 10, ..Warmed::default() });
    }

    #[tokio::test]
    async fn a_closed_cache_ends_a_warm_up_that_would_not_end() {
        let cache = cache(EmbeddedTier::new());
        cache.close(Duration::ZERO).await;
        let warmed = cache.warm((0..).map(|n| (n, n)), WarmUp::new(), |_, _, _| ()).await;
        assert!(warmed.cut_short && warmed.stored == 0, "{warmed:?}");
    }

    #[tokio::test]
    async fn inserts_of_many_keys_answer_each_in_its_place() {
        const THEIRS: [usize; 4] = [3, 11, 29, 70];
        let l2 = EmbeddedTier::new();
        let namespace = Namespace::new("cs", "t").unwrap();
        for key in THEIRS {
            l2.plant(&namespace.key(&(key as u64)), &b"theirs"[..]);
        }
        let held = ChaosTier::new(l2);
        held.set(Chaos::HeldWrites);
        let cache = cache(held.clone());
        let let_go = async {
            while held.calls() < CONCURRENCY as u64 {
                tokio::task::yield_now().await;
            }
            // In whatever order.
            held.set(Chaos::Calm);
        };
        let (results, ()) = tokio::join!(assert_send(cache.insert_many((0..100).map(|n| (n, n + 1)))), let_go);
        assert_eq!(results.len(), 100);
        for (key, result) in results.into_iter().enumerate() {
            assert_eq!(result.err().map(|err| err.kind()), THEIRS.contains(&key).then_some(ErrorKind::Foreign), "{key}");
        }
        assert_eq!(cache.get(&99).await, Some(100));
    }
}
