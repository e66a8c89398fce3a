//! A remote tier that fails on demand.

use crate::coherence::{Deployments, Ear, Listening, Meta, Notice};
use crate::diagnosis::{Examine, Examined};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Namespace, RemoteKey};
use crate::partition::Partition;
use crate::prefix::KeyPrefix;
use crate::remote::{
    Acquire, Acquired, Fetched, Fill, Filled, Invalidated, Invalidation, Mark, Marked, Put, PutOutcome, RemoteTier, Told, Unmark,
};
use crate::token::Token;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
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
    /// Passes them on after so long.
    Slow(Duration),
    /// Holds them until the chaos changes, then passes them on.
    Held,
    /// Holds whatever changes the store, and passes reads on.
    HeldWrites,
    /// Both: holds whatever changes the store, and the answers of reads.
    HeldWritesAndAnswers,
    /// Passes a call of this verb on and then fails it: its reply was lost. Passes everything else on.
    ReplyLostOf(&'static str),
    /// Refuses calls of this verb, as a server that answers and does not allow it. Passes everything else on.
    RefusedOf(&'static str),
    /// Fails invalidations of keys of this partition, as where its server is down and others are not. Passes everything else on.
    DownFor(Partition),
    /// Has invalidations of more keys than this time out, as where a server cannot do so many in its time. Passes everything else on.
    TooSlowFor(usize),
    /// Passes invalidations and clears on and loses their receipts, as a server that had no memory to tell others.
    NoReceipts,
    /// Has clears change the store, and holds what they tell others until the chaos changes: the two steps that they have. Passes everything else on.
    HeldMessagesOfClears,
    /// Passes reads on and holds their answers until the chaos changes: what comes then is old.
    HeldAnswers,
    /// The same of calls of this verb alone, whether or not they change the store.
    HeldAnswersOf(&'static str),
}

impl Chaos {
    fn holds(self, verb: &str) -> bool {
        match self {
            Self::Held => true,
            Self::HeldWrites | Self::HeldWritesAndAnswers => !reads(verb),
            _ => false,
        }
    }

    fn holds_answer(self, verb: &str) -> bool {
        match self {
            Self::HeldAnswers | Self::HeldWritesAndAnswers => reads(verb),
            Self::HeldAnswersOf(held) => held == verb,
            _ => false,
        }
    }
}

fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "head" | "get_many" | "poll")
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
#[derive(Clone)]
pub struct ChaosTier<T> {
    inner: T,
    chaos: Arc<watch::Sender<Chaos>>,
    calls: Arc<AtomicU64>,
    verbs: Arc<Mutex<Vec<&'static str>>>,
    rumours: Arc<Mutex<Rumours>>,
}

/// What a [`ChaosTier`] does to messages of invalidations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Messages {
    /// Passes them on.
    #[default]
    Delivered,
    /// Loses them, and what a store says that tracks writes; all else looks well.
    Lost,
    /// Keeps them until this is changed, and passes them on then, the last one first, each of them three times.
    HeldAndJumbled,
    /// Keeps the store's word that it listens, too, and loses whatever comes until this is changed.
    Unconfirmed,
}

#[derive(Default)]
struct Rumours {
    fate: Messages,
    held: Vec<(Partition, Vec<u8>)>,
    unconfirmed: Vec<(Weak<dyn Ear>, Vec<Partition>)>,
    heard: u64,
}

/// Between the tier inside and who listens.
struct Hearing {
    ear: Weak<dyn Ear>,
    rumours: Arc<Mutex<Rumours>>,
}

impl Ear for Hearing {
    fn listening(&self, partitions: &[Partition]) {
        let mut rumours = self.rumours.lock();
        if rumours.fate == Messages::Unconfirmed {
            return rumours.unconfirmed.push((self.ear.clone(), partitions.to_vec()));
        }
        drop(rumours);
        if let Some(ear) = self.ear.upgrade() {
            ear.listening(partitions);
        }
    }

    fn deaf(&self, partitions: &[Partition]) {
        if let Some(ear) = self.ear.upgrade() {
            ear.deaf(partitions);
        }
    }

    fn hear(&self, partition: Partition, message: &[u8]) {
        let Some(ear) = self.ear.upgrade() else { return };
        let mut rumours = self.rumours.lock();
        rumours.heard += 1;
        match rumours.fate {
            Messages::Lost | Messages::Unconfirmed => return,
            Messages::HeldAndJumbled => return rumours.held.push((partition, message.to_vec())),
            Messages::Delivered => {}
        }
        let held = std::mem::take(&mut rumours.held);
        drop(rumours);
        for (partition, message) in held.iter().rev() {
            (0..3).for_each(|_| ear.hear(*partition, message));
        }
        ear.hear(partition, message);
    }

    fn changed(&self, key: &[u8]) {
        let lost = matches!(self.rumours.lock().fate, Messages::Lost | Messages::Unconfirmed);
        if let Some(ear) = self.ear.upgrade().filter(|_| !lost) {
            ear.changed(key);
        }
    }

    fn may_have_changed(&self, partitions: &[Partition]) {
        if let Some(ear) = self.ear.upgrade() {
            ear.may_have_changed(partitions);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ChaosTier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChaosTier").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T> ChaosTier<T> {
    /// Wraps a tier, calm at first.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            chaos: Arc::new(watch::Sender::new(Chaos::Calm)),
            calls: Arc::default(),
            verbs: Arc::default(),
            rumours: Arc::default(),
        }
    }

    /// What happens to calls from now on; releases those that are held.
    pub fn set(&self, chaos: Chaos) {
        self.chaos.send_replace(chaos);
    }

    /// What happens to messages from now on. Those that were held are passed on before the next one.
    pub fn set_messages(&self, fate: Messages) {
        let mut rumours = self.rumours.lock();
        rumours.fate = fate;
        let confirmed = if fate == Messages::Unconfirmed { Vec::new() } else { std::mem::take(&mut rumours.unconfirmed) };
        drop(rumours);
        for (ear, partitions) in confirmed {
            if let Some(ear) = ear.upgrade() {
                ear.listening(&partitions);
            }
        }
    }

    /// How many messages have come in.
    pub fn messages(&self) -> u64 {
        self.rumours.lock().heard
    }

    /// How many calls have come in.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// The verbs of the calls that have come in since this was last asked, in order.
    pub fn take_verbs(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.verbs.lock())
    }

    fn without_receipts<R>(&self, told: Told<R>) -> Told<R> {
        if *self.chaos.borrow() == Chaos::NoReceipts { Told::silently(told.outcome) } else { told }
    }

    async fn through<R>(&self, verb: &'static str, call: impl Future<Output = Result<R>>) -> Result<R> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.verbs.lock().push(verb);
        self.met(verb, call).await
    }

    async fn met<R>(&self, verb: &'static str, call: impl Future<Output = Result<R>>) -> Result<R> {
        let mut chaos = self.chaos.subscribe();
        let now = *chaos.wait_for(|chaos| !chaos.holds(verb)).await.map_err(|_| lost())?;
        match now {
            Chaos::Down => Err(lost()),
            Chaos::Slow(by) => {
                tokio::time::sleep(by).await;
                call.await
            }
            Chaos::RefusedOf(refused) if refused == verb => {
                Err(Error::new(ErrorKind::Refused, "chaos: the server does not allow it"))
            }
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

impl<T: RemoteTier> ChaosTier<T> {
    /// The messages go out with a clear of a cache that nobody has.
    async fn clear_in_two_steps(&self, namespace: &Namespace, retain: Duration, notice: &Notice) -> Result<Told<u64>> {
        let scan = self.inner.clear(namespace, retain, None);
        let scanned = self.through("clear", scan).await?;
        let mut chaos = self.chaos.subscribe();
        chaos.wait_for(|chaos| *chaos != Chaos::HeldMessagesOfClears).await.map_err(|_| lost())?;
        let nobody = Namespace::new(namespace.prefix(), "nobody")?;
        let told = self.inner.clear(&nobody, retain, Some(notice)).await?;
        Ok(Told { outcome: scanned.outcome, receipts: told.receipts })
    }
}

#[async_trait]
impl<T: RemoteTier> RemoteTier for ChaosTier<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn timeout(&self) -> Option<Duration> {
        self.inner.timeout()
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        self.through("get", self.inner.get(key)).await
    }

    async fn head(&self, key: &RemoteKey) -> Result<Fetched> {
        self.through("head", self.inner.head(key)).await
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

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        if let Chaos::DownFor(partition) = *self.chaos.borrow()
            && keys.iter().any(|told| told.key.partition() == partition)
        {
            return Err(lost());
        }
        if let Chaos::TooSlowFor(most) = *self.chaos.borrow()
            && keys.len() > most
        {
            return Err(Error::new(ErrorKind::Timeout, "chaos: the server is not done with so many keys in time"));
        }
        let told = self.through("invalidate", self.inner.invalidate(keys, retain, notice)).await?;
        Ok(self.without_receipts(told))
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        self.through("put", self.inner.put(key, put, retain, notice)).await
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        self.through("mark", self.inner.mark(key, mark)).await
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        self.through("unmark", self.inner.unmark(key, unmark, notice)).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        let in_two_steps = *self.chaos.borrow() == Chaos::HeldMessagesOfClears;
        if let Some(notice) = notice.filter(|_| in_two_steps) {
            return self.clear_in_two_steps(namespace, retain, notice).await;
        }
        let told = self.through("clear", self.inner.clear(namespace, retain, notice)).await?;
        Ok(self.without_receipts(told))
    }

    async fn invalidate_prefix(
        &self,
        namespace: &Namespace,
        prefix: &KeyPrefix,
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<u64>> {
        self.through("invalidate_prefix", self.inner.invalidate_prefix(namespace, prefix, retain, notice)).await
    }

    /// Not counted among the calls.
    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        self.met("poll", self.inner.poll(prefix, partitions)).await
    }

    fn listen(&self, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
        let between: Arc<dyn Ear> = Arc::new(Hearing { ear, rumours: self.rumours.clone() });
        let listening = self.inner.listen(prefix, Arc::downgrade(&between))?;
        Some(Listening::new((between, listening)))
    }

    fn deployments(&self) -> Option<&Deployments> {
        self.inner.deployments()
    }

    async fn examine(&self, examine: &Examine<'_>) -> Examined {
        self.inner.examine(examine).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
