//! Asking many shards at once.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time;

use crate::gathered::{Gathered, GatheredKeys, KeysAnswer, ShardAnswer, ShardError};
use crate::key::ShardKey;
use crate::placement::Placement;
use crate::router::ShardRouter;
use crate::shard::Shard;

/// Shards asked at the same time unless said otherwise.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// A question to many shards, being described. Made by [`ShardRouter::scatter`].
///
/// Each shard is asked in a task of its own, at most [`concurrency`](Self::concurrency) of them at once, and each shard's result is its own: an
/// error, a missed deadline or a panic costs the answer of that shard and no other's.
///
/// # Cancellation
///
/// Dropping the future of [`all`](Self::all) or [`keys`](Self::keys) aborts its tasks: the ones that run stop at their next `await`, the others
/// never start. What a database was already asked may still happen there.
///
/// # Panics
///
/// Awaiting needs a Tokio runtime, with its timer where a deadline is set. A panic in a shard's task is caught only where panics unwind.
#[derive(Debug)]
#[must_use = "a scatter asks nothing until `all` or `keys` is awaited"]
pub struct Scatter<'a, H, P> {
    router: &'a ShardRouter<H, P>,
    concurrency: NonZeroUsize,
    deadline: Option<Duration>,
}

impl<'a, H, P: Placement> Scatter<'a, H, P> {
    pub(crate) fn new(router: &'a ShardRouter<H, P>) -> Self {
        Self { router, concurrency: CONCURRENCY, deadline: None }
    }

    /// How many shards are asked at the same time; 16 unless said otherwise.
    pub fn concurrency(mut self, shards: NonZeroUsize) -> Self {
        self.concurrency = shards;
        self
    }

    /// How long each shard may take, counted from the moment it is asked; no limit unless said otherwise.
    ///
    /// A shard that waits for its turn is not being asked yet: with `n` shards, `c` of them at a time, the whole ends within `ceil(n / c)`
    /// deadlines. A closure that blocks its thread cannot be interrupted.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Asks every shard.
    ///
    /// ```
    /// # use cache_sharding::{ShardRouter, ShardError};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let router = ShardRouter::builder().shard("east", 3_u64).shard("west", 0).rendezvous()?;
    /// let counts = router.scatter().all(|shard| async move { 12_u64.checked_div(*shard.primary()).ok_or("down") }).await;
    ///
    /// assert_eq!(counts.successes().sum::<u64>(), 4);
    /// let (shard, error) = counts.failures().next().unwrap();
    /// assert_eq!((shard.name(), error), ("west", &ShardError::Failed("down")));
    /// # Ok(()) }
    /// ```
    pub async fn all<T, E, F, Fut>(self, ask: F) -> Gathered<T, E>
    where
        H: Send + Sync + 'static,
        F: Fn(Shard<H>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let ask = Arc::new(ask);
        let questions = self.router.shards().iter().map(|shard| {
            let (ask, shard) = (Arc::clone(&ask), shard.clone());
            async move { ask(shard).await }
        });
        let results = gather(questions, self.concurrency, self.deadline).await;
        let shards = self.router.shards().iter();
        Gathered::new(shards.zip(results).map(|(shard, result)| ShardAnswer { shard: shard.id().clone(), result }).collect())
    }

    /// Asks the shards that hold `keys`, each for its own; the others are not asked. The keys of a shard come in the order given, repeated where
    /// they were.
    ///
    /// See [`GatheredKeys::merge`] for the answers by key.
    pub async fn keys<K, T, E, F, Fut>(self, keys: impl IntoIterator<Item = K>, ask: F) -> GatheredKeys<K, T, E>
    where
        H: Send + Sync + 'static,
        K: ShardKey + Send + Sync + 'static,
        F: Fn(Shard<H>, Arc<[K]>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let ask = Arc::new(ask);
        let batches: Vec<(&Shard<H>, Arc<[K]>)> =
            self.router.route_many(keys).into_iter().map(|batch| (batch.shard, batch.keys.into())).collect();
        let questions = batches.iter().map(|(shard, keys)| {
            let (ask, shard, keys) = (Arc::clone(&ask), Shard::clone(shard), Arc::clone(keys));
            async move { ask(shard, keys).await }
        });
        let results = gather(questions, self.concurrency, self.deadline).await;
        let answers = batches.into_iter().zip(results).map(|((shard, keys), result)| KeysAnswer {
            shard: shard.id().clone(),
            keys,
            result,
        });
        GatheredKeys::new(answers.collect())
    }
}

/// Runs the questions, `concurrency` of them at a time, and returns their results in their order.
async fn gather<T, E, Q>(
    questions: impl ExactSizeIterator<Item = Q>,
    concurrency: NonZeroUsize,
    deadline: Option<Duration>,
) -> Vec<Result<T, ShardError<E>>>
where
    Q: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut results: Vec<Option<Result<T, ShardError<E>>>> = (0..questions.len()).map(|_| None).collect();
    let mut questions = questions.enumerate();
    // Dropped with this future, and a dropped set aborts its tasks.
    let mut running = JoinSet::new();
    let mut positions: HashMap<Id, usize> = HashMap::new();
    loop {
        while running.len() < concurrency.get() {
            let Some((position, question)) = questions.next() else { break };
            let task = running.spawn(within(deadline, question));
            positions.insert(task.id(), position);
        }
        let Some(ended) = running.join_next_with_id().await else { break };
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(unfinished(&error))),
        };
        results[positions[&id]] = Some(result);
    }
    results.into_iter().map(|result| result.expect("every question was spawned and joined")).collect()
}

async fn within<T, E>(deadline: Option<Duration>, question: impl Future<Output = Result<T, E>>) -> Result<T, ShardError<E>> {
    let Some(deadline) = deadline else { return question.await.map_err(ShardError::Failed) };
    match time::timeout(deadline, question).await {
        Ok(result) => result.map_err(ShardError::Failed),
        Err(_) => Err(ShardError::DeadlineExceeded { deadline }),
    }
}

/// What to call a task that ended without a result.
fn unfinished<E>(error: &JoinError) -> ShardError<E> {
    if error.is_panic() { ShardError::Panicked } else { ShardError::Cancelled }
}
