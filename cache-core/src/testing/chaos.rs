//! A remote tier that fails on demand.

use crate::error::{Error, ErrorKind, Result};
use crate::key::{Namespace, RemoteKey};
use crate::remote::{Acquire, Acquired, Fetched, Fill, Filled, Invalidated, Invalidation, Put, PutOutcome, RemoteTier};
use crate::token::Token;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What a [`ChaosTier`] does to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Chaos {
    /// Passes them on.
    #[default]
    Calm,
    /// Fails them at once, as a server that is down.
    Down,
    /// Passes them on and then fails them: the reply was lost, the command was run.
    ReplyLost,
    /// Holds them until the chaos changes, then passes them on.
    Held,
    /// Holds whatever changes the store, and passes reads on.
    HeldWrites,
    /// Both: holds whatever changes the store, and the answers of reads.
    HeldWritesAndAnswers,
    /// Passes a call of this verb on and then fails it: its reply was lost. Passes everything else on.
    ReplyLostOf(&'static str),
    /// Passes reads on and holds their answers until the chaos changes: what comes then is old.
    HeldAnswers,
}

impl Chaos {
    fn holds(self, verb: &str) -> bool {
        match self {
            Self::Held => true,
            Self::HeldWrites | Self::HeldWritesAndAnswers => !matches!(verb, "get" | "get_many"),
            Self::Calm | Self::Down | Self::ReplyLost | Self::ReplyLostOf(_) | Self::HeldAnswers => false,
        }
    }

    fn holds_answer(self, verb: &str) -> bool {
        matches!(self, Self::HeldAnswers | Self::HeldWritesAndAnswers) && matches!(verb, "get" | "get_many")
    }
}

/// A wrapper around a remote tier for tests of what a service does when Redis is ill. Cloning shares it.
///
/// ```
/// use cache_core::testing::{Chaos, ChaosTier};
/// use cache_core::{EmbeddedTier, TieredCache};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let redis = ChaosTier::new(EmbeddedTier::new());
/// let cache = TieredCache::<u64, u64>::builder("n").l2(redis.clone()).build()?;
/// redis.set(Chaos::Down);
/// assert_eq!(cache.get_or_load(&1, || async { Ok::<_, std::io::Error>(7) }).await?, 7);
/// assert!(cache.stats().l2.errors > 0);
/// assert!(cache.invalidate(&1).await.is_err());
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct ChaosTier<T> {
    inner: T,
    chaos: Arc<watch::Sender<Chaos>>,
    calls: Arc<AtomicU64>,
    verbs: Arc<Mutex<Vec<&'static str>>>,
}

impl<T> ChaosTier<T> {
    /// Wraps a tier, calm at first.
    pub fn new(inner: T) -> Self {
        Self { inner, chaos: Arc::new(watch::Sender::new(Chaos::Calm)), calls: Arc::default(), verbs: Arc::default() }
    }

    /// What happens to calls from now on; releases those that are held.
    pub fn set(&self, chaos: Chaos) {
        self.chaos.send_replace(chaos);
    }

    /// How many calls have come in.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The verbs of the calls that have come in since this was last asked, in order.
    pub fn take_verbs(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.verbs.lock())
    }

    async fn through<R>(&self, verb: &'static str, call: impl Future<Output = Result<R>>) -> Result<R> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.verbs.lock().push(verb);
        let mut chaos = self.chaos.subscribe();
        let now = *chaos.wait_for(|chaos| !chaos.holds(verb)).await.map_err(|_| lost())?;
        match now {
            Chaos::Down => Err(lost()),
            Chaos::ReplyLost => call.await.and(Err(lost())),
            Chaos::ReplyLostOf(lost_verb) if lost_verb == verb => call.await.and(Err(lost())),
            _ => {
                let answer = call.await;
                chaos.wait_for(|chaos| !chaos.holds_answer(verb)).await.map_err(|_| lost())?;
                answer
            }
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "chaos: the server is down")
}

#[async_trait]
impl<T: RemoteTier> RemoteTier for ChaosTier<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        self.through("get", self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        self.through("get_many", self.inner.get_many(keys)).await
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        self.through("acquire", self.inner.acquire(key, acquire)).await
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        self.through("fill", self.inner.fill(key, fill)).await
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        self.through("release", self.inner.release(key, token)).await
    }

    async fn invalidate(&self, keys: &[Invalidation], retain: Duration) -> Result<Vec<Invalidated>> {
        self.through("invalidate", self.inner.invalidate(keys, retain)).await
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration) -> Result<PutOutcome> {
        self.through("put", self.inner.put(key, put, retain)).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration) -> Result<u64> {
        self.through("clear", self.inner.clear(namespace, retain)).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
