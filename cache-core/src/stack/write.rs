//! Writes: write, invalidate, clear, close. Each runs in a task of its own, so that half of one never stands.

use super::chain::on_behalf;
use super::origin::{BoxFuture, guarded};
use super::second::{Second, foreign};
use super::{Inner, TieredCache};
use crate::coherence::What;
use crate::counters::Event;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::flights::Flights;
use crate::key::RemoteKey;
use crate::local::LocalTier;
use crate::mutant::{Mutant, is};
use crate::prefix::KeyPrefix;
use crate::remote::{Invalidated, Invalidation, PutOutcome, Receipt};
use crate::token::Token;
use crate::written::WriteToken;
use std::borrow::Borrow;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Keys that one call tells L2 of. A server does them well within the time of a call.
const LOT: usize = 1_000;

/// What [`TieredCache::close`] left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Closed {
    /// Loads and writes that were still running when the time was over. They end by themselves.
    pub unfinished: usize,
    /// Keys whose invalidation failed and that L2 was not told of by then, `usize::MAX` for all of them. Other nodes may serve older values of them for the
    /// rest of their life.
    pub untold: usize,
}

impl<K, V, L> TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Writes a value through the writer registered with [`Builder::writer`](crate::Builder::writer), then makes both
    /// tiers follow. An unversioned cache invalidates: two writers that store would overtake each other. A versioned one puts the value in an older one's
    /// place; a key that L2 has no value of is invalidated up to this version, and loaded when somebody asks for it: had a newer write's value been
    /// evicted, nothing would tell that this one is late. A [`strict`](crate::Builder::strict) cache announces the write to L2 first, and invalidates.
    ///
    /// Once begun it runs to its end, also where this call is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Unannounced`]: a strict cache could not announce the write, and the writer was not called.
    /// [`ErrorKind::Origin`], [`ErrorKind::Panicked`], [`ErrorKind::Timeout`]: the writer's; it may have committed, so the
    /// key is invalidated all the same. [`ErrorKind::Unavailable`]: the writer has committed, and L2 could not be told:
    /// other nodes may serve the old value for the rest of its life; [`invalidate`](Self::invalidate) again.
    /// [`ErrorKind::NoOrigin`] without a writer.
    pub async fn write<Q>(&self, key: &Q, value: V) -> Result<WriteToken>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let Some(writer) = self.inner.writer.clone() else {
            return Err(Error::new(ErrorKind::NoOrigin, "write needs a writer: give the builder one, or use write_with"));
        };
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.inner
            .apart(async move {
                let commit = writer(key.clone(), value.clone());
                inner.write(&key, Box::pin(async move { commit.await.map(|()| value) })).await.map(|(_, token)| token)
            })
            .await
    }

    /// As [`write`](Self::write), with the write given here: it commits and returns the value as committed, which comes back with the token.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_with<Q, F, Fut, E>(&self, key: &Q, commit: F) -> Result<(V, WriteToken)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        let commit = Box::pin(async move { commit().await.map_err(Into::into) });
        self.inner.apart(async move { inner.write(&key, commit).await }).await
    }

    /// Makes the key's value unreadable: in L1 of this node and in L2. A load that began earlier gives its value to its
    /// callers and stores it nowhere.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`]: this node's L1 has let go of the value, L2 could not be told and
    /// may still serve it. [`ErrorKind::Foreign`]: what L2 holds under the key is not ours.
    pub async fn invalidate<Q>(&self, key: &Q) -> Result<WriteToken>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.invalidate_below(key, None).await
    }

    /// As [`invalidate`](Self::invalidate), for a versioned cache that knows the committed version: a value at least as
    /// new stays.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate); [`ErrorKind::Config`] if the cache is not versioned.
    pub async fn invalidate_older<Q>(&self, key: &Q, version: u64) -> Result<WriteToken>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        if self.inner.version_of.is_none() {
            return Err(Error::config("invalidate_older needs a versioned cache: give the builder versioned(…)"));
        }
        self.invalidate_below(key, Some(version)).await
    }

    async fn invalidate_below<Q>(&self, key: &Q, version: Option<u64>) -> Result<WriteToken>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.inner.apart(async move { inner.invalidate(&key, version).await }).await
    }

    /// As [`invalidate`](Self::invalidate) for many keys, in lots of 1,000, one after the other, with one request to L2 for each partition that those are of. A result for each key, in their
    /// order: where L2 could not be told of some of a lot, all of the lot get that error, and L2 will be told of all of it.
    ///
    /// A lot takes Redis about 10 ms, and one timeout of L2 at most; so does the whole for each 1,000 keys. Of keys that L2 could not be told 10,000 are remembered; with more of them the
    /// whole cache is cleared in L2 once that can be told.
    ///
    /// # Errors
    /// For each key as [`invalidate`](Self::invalidate).
    pub async fn invalidate_many(&self, keys: &[K]) -> Vec<Result<WriteToken>> {
        let (inner, keys) = (self.inner.clone(), keys.to_vec());
        let count = keys.len();
        match self.inner.apart(async move { Ok(inner.invalidate_many(&keys).await) }).await {
            Ok(results) => results,
            Err(err) => vec![Err(err); count],
        }
    }

    /// The key as L2 has it, for what a tier does besides caching: `RedisTier` counts, says how long a value will live, has it kept longer. `None` without L2.
    pub fn remote_key<Q>(&self, key: &Q) -> Option<RemoteKey>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
    {
        self.inner.l2.as_ref().map(|l2| l2.key(&key.to_owned()))
    }

    /// A key's bytes, for an outbox: a row beside the data, in the same transaction, to be given to [`invalidate_encoded`](Self::invalidate_encoded)
    /// once that is committed, by whatever node. Empty without L2.
    pub fn encode_key(&self, key: &K) -> Vec<u8> {
        self.inner.l2.as_ref().map(|l2| l2.key(key).encoded().to_vec()).unwrap_or_default()
    }

    /// As [`invalidate`](Self::invalidate) and, with a version, [`invalidate_older`](Self::invalidate_older), for a key as
    /// [`encode_key`](Self::encode_key) gave it.
    ///
    /// # Errors
    /// As those; [`ErrorKind::Config`] if these bytes are no key of this cache, or its keys have no [`Key::read`](crate::Key::read).
    pub async fn invalidate_encoded(&self, key: &[u8], version: Option<u64>) -> Result<WriteToken> {
        let read = self.inner.l2.as_ref().and_then(|l2| (l2.read_key)(key));
        let key = read.ok_or_else(|| Error::config("these bytes are no key of this cache, or its key type has no Key::read"))?;
        self.invalidate_below::<K>(&key, version).await
    }

    /// Makes every value of this cache unreadable, in L1 of this node and in L2. O(1) in L1. In L2 the cost grows with the
    /// number of keys in the whole store: a `SCAN` in bounded batches. Each record becomes a tombstone of some hundred bytes
    /// that stays for a minute.
    ///
    /// Its token is of no one place, so no L1 covers it: a read that is given it asks L2.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate); part of L2 may be cleared.
    pub async fn clear(&self) -> Result<WriteToken> {
        let inner = self.inner.clone();
        self.inner.apart(async move { inner.clear(None).await }).await.map(|()| WriteToken::default())
    }

    /// Makes every value unreadable whose key begins so, in L2, and with the promise of [`invalidate`](Self::invalidate). L1, of this node and of all others, lets go of whatever it has of
    /// this cache: a message names no prefix. What it lets go of and was not meant is in L2 still.
    ///
    /// The cost is that of [`clear`](Self::clear): a `SCAN` of the whole store. For what is done often, make it a cache of its own, or put a version into the key. Keys over 200 bytes are known to L2 by a digest, so
    /// all of them go with each prefix.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::{EmbeddedTier, KeyPrefix, TieredCache};
    ///
    /// let orders = TieredCache::<(u64, u64), String>::builder("orders").l2(EmbeddedTier::new()).build()?;
    /// orders.insert(&(17, 1), "of customer 17".to_owned()).await?;
    /// orders.insert(&(170, 1), "of customer 170".to_owned()).await?;
    /// orders.invalidate_prefix(&KeyPrefix::parts(["17"])).await?;
    /// assert_eq!(orders.get_many(&[(17, 1), (170, 1)]).await, [None, Some("of customer 170".to_owned())]);
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`clear`](Self::clear). A prefix that L2 could not be told of is owed as a clear of the whole cache.
    pub async fn invalidate_prefix(&self, prefix: &KeyPrefix) -> Result<WriteToken> {
        let (inner, prefix) = (self.inner.clone(), prefix.clone());
        self.inner.apart(async move { inner.clear(Some(&prefix)).await }).await.map(|()| WriteToken::default())
    }

    /// Closes the cache: it forgets L1, takes no more calls (they get [`ErrorKind::Closed`], `get` gets `None`), waits for
    /// loads and writes that run, for at most `limit`, and says how many are left. The values that L1 had are dropped, but for those that somebody is reading.
    ///
    /// The tiers of L2 may be shared with other caches and stay open.
    pub async fn close(&self, limit: Duration) -> Closed {
        // Ordering: before the clear, and read by `admits` at the moment a value would become readable: what is stored was
        // stored before the clear, or is not stored.
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.flights.poison_all();
        self.inner.l1.clear();
        let unfinished = self.inner.tasks.drain(limit).await;
        if let Some(coherent) = &self.inner.coherent {
            coherent.deployment.leave(coherent.signature);
        }
        // Nobody writes to it any more, which would do this by and by. Last, for it runs the values' drops, which may panic.
        self.inner.l1.sweep(self.inner.clock.now());
        Closed { unfinished, untold: self.inner.recovery.owed() }
    }
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Runs a write to its end, whether or not the caller stays.
    pub(super) async fn apart<T: Send + 'static>(&self, write: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.open()?;
        match self.tasks.spawn(self.clock.held(on_behalf(write)))?.await {
            Ok(outcome) => outcome,
            Err(err) if err.is_panic() => Err(Error::new(ErrorKind::Panicked, "a codec or a key of the cache panicked")),
            Err(_) => Err(Error::new(ErrorKind::Cancelled, "the runtime shut down during a write")),
        }
    }

    async fn write(self: Arc<Self>, key: &K, commit: BoxFuture<Result<V, BoxError>>) -> Result<(V, WriteToken)> {
        self.counters.count(Event::Write);
        if let (true, Some(l2)) = (self.strict, &self.l2) {
            return self.write_announced(l2, key, commit).await;
        }
        let committed = guarded("write", self.load_timeout, commit).await;
        let value = match committed {
            Ok(value) => value,
            Err(err) => {
                // It may have committed: a timeout on the way back from COMMIT looks the same.
                if let Err(err) = self.invalidate(key, None).await {
                    tracing::warn!(cache = %self.name, kind = ?err.kind(), "a write failed, and so did its invalidation");
                }
                return Err(err);
            }
        };
        let (Some(version_of), Some(l2)) = (self.version_of, &self.l2) else {
            let version = self.version_of.map(|version_of| version_of(&value));
            let token = self.invalidate(key, version).await.map_err(untold)?;
            return Ok((value, token));
        };
        let (hash, version, life) = (self.hash(key), version_of(&value), self.ttl.life());
        let began = self.clock.now();
        // Before the key is blocked, which would bar it.
        let boarding = self.flights.ticket(self.passage(hash, key));
        let block = Block::new(&self.flights, hash);
        self.flights.poison_others(&boarding);
        self.l1.remove(hash, key, Some(version), &|| ());
        self.flights.poison_others(&boarding);
        let (remote, token, servers) = (l2.key(key), Token::unique(), self.servers());
        let put = match l2.encode(&remote, &value, version, life) {
            Ok(body) => {
                let put = l2.put(&remote, token, version, body).await;
                put.inspect_err(|err| self.l2_failed("put", err))
            }
            Err(err) => {
                self.counters.count(Event::L2Unstorable);
                Err(err)
            }
        };
        // A reader may have fetched the older value between the first removal and the put, and may be about to keep it.
        self.flights.poison_others(&boarding);
        self.l1.remove(hash, key, Some(version), &|| ());
        let mut written = WriteToken::default();
        let put = put.map(|told| {
            written = WriteToken::new(&told.receipts);
            self.note_told(servers, &[Invalidation { key: remote.clone(), version: Some(version) }], &told.receipts);
            told.outcome
        });
        // Where it failed, the block stays until the invalidation below has one of its own.
        let _block = put.is_err().then_some(block);
        match put {
            Ok(PutOutcome::Stored) => {
                let (terms, now) = (self.terms(began, life, remote.partition(), version, token), self.clock.now());
                self.l1.insert(hash, key.clone(), value.clone(), &terms, now, &|| self.admits(boarding.is_live()));
                Ok((value, written))
            }
            // In L1 neither: the next reader loads it, under the floor of whoever wrote last.
            Ok(PutOutcome::Tombstoned | PutOutcome::NotNewer | PutOutcome::Marked) => Ok((value, written)),
            Ok(PutOutcome::Foreign) => Err(Error::new(
                ErrorKind::Foreign,
                "written to the origin, but L2 holds something under this key that is not ours",
            )),
            Err(err) => {
                // A value that L2 cannot take (too large, out of memory) must at least not leave the older one behind.
                tracing::debug!(cache = %self.name, kind = ?err.kind(), "L2 did not take the value; it is invalidated instead");
                let token = self.invalidate(key, Some(version)).await.map_err(untold)?;
                Ok((value, token))
            }
        }
    }

    /// The key is blocked until L2 was told, so that nobody keeps what is older; if it could not be told, until the recovery has done so.
    async fn invalidate(self: &Arc<Self>, key: &K, version: Option<u64>) -> Result<WriteToken> {
        self.counters.count(Event::Invalidation);
        let hash = self.hash(key);
        let Some(l2) = &self.l2 else {
            self.let_go(hash, key, version);
            return Ok(WriteToken::default());
        };
        self.wake();
        let block = Block::new(&self.flights, hash);
        self.let_go(hash, key, version);
        if is(Mutant::RemovedOnce) {
            self.flights.unblock(hash);
        }
        let (told, failures, servers) = (Invalidation { key: l2.key(key), version }, self.recovery.failures(), self.servers());
        let outcome = l2.invalidate(&told).await;
        if is(Mutant::RemovedOnce) {
            block.hand_over();
            return outcome.map(|receipts| WriteToken::new(&receipts));
        }
        // Between the removal above and the script's landing, a reader may have fetched the old value from L2.
        self.let_go(hash, key, version);
        match outcome {
            Ok(receipts) => {
                self.no_longer_owed(&told, failures);
                self.note_told(servers, &[told], &receipts);
                Ok(WriteToken::new(&receipts))
            }
            Err(err) => {
                self.invalidation_failed("invalidate", &err);
                if self.owe(key, hash, &told, &err) {
                    block.hand_over();
                }
                Err(err)
            }
        }
    }

    async fn invalidate_many(self: &Arc<Self>, keys: &[K]) -> Vec<Result<WriteToken>> {
        self.counters.add(Event::Invalidation, keys.len() as u64);
        let Some(l2) = &self.l2 else {
            for key in keys {
                self.let_go(self.hash(key), key, None);
            }
            return vec![Ok(WriteToken::default()); keys.len()];
        };
        self.wake();
        let mut told: Vec<_> = keys.iter().enumerate().map(|(at, key)| (at, key, l2.key(key))).collect();
        // By partitions, so by slots: in a cluster most lots of a long list are for one master, and those of another do not fail with it.
        told.sort_by_key(|(_, _, remote)| remote.partition());
        let mut results = vec![Ok(WriteToken::default()); keys.len()];
        for lot in told.chunks(LOT) {
            let keys: Vec<_> = lot.iter().map(|(_, key, remote)| (*key, remote)).collect();
            let outcomes = self.invalidate_lot(l2, &keys).await;
            for ((at, ..), outcome) in lot.iter().zip(outcomes) {
                results[*at] = outcome;
            }
        }
        results
    }

    /// So many keys that one call tells them.
    async fn invalidate_lot(self: &Arc<Self>, l2: &Second<K, V>, keys: &[(&K, &RemoteKey)]) -> Vec<Result<WriteToken>> {
        let hashes: Vec<_> = keys.iter().map(|(key, _)| self.hash(*key)).collect();
        let let_go = || keys.iter().zip(&hashes).for_each(|((key, _), hash)| self.let_go(*hash, key, None));
        let blocks: Vec<_> = hashes.iter().map(|hash| Block::new(&self.flights, *hash)).collect();
        let_go();
        let invalidations: Vec<_> = keys.iter().map(|(_, key)| Invalidation { key: (*key).clone(), version: None }).collect();
        let servers = self.servers();
        let told = l2.invalidate_many(&invalidations).await;
        let_go();
        match told {
            Ok(told) => {
                self.note_told(servers, &invalidations, &told.receipts);
                let token = |key: &RemoteKey| WriteToken::of(key.partition(), &told.receipts);
                let result = |(outcome, (_, key)): (_, &(_, &RemoteKey))| match outcome {
                    Invalidated::Foreign => Err(foreign()),
                    _ => Ok(token(key)),
                };
                told.outcome.into_iter().zip(keys).map(result).collect()
            }
            Err(err) => {
                for ((((key, _), hash), told), block) in keys.iter().zip(hashes).zip(&invalidations).zip(blocks) {
                    self.counters.count(Event::InvalidationError);
                    if self.owe(key, hash, told, &err) {
                        block.hand_over();
                    }
                }
                self.l2_failed("invalidate", &err);
                keys.iter().map(|_| Err(err.clone())).collect()
            }
        }
    }

    /// What this node has told others, since there were so many [servers](Self::servers), counts as heard here.
    pub(super) fn note_told(&self, servers: u64, keys: &[Invalidation], receipts: &[Receipt]) {
        if let (Some(l2), Some(coherent)) = (&self.l2, &self.coherent) {
            coherent.deployment.told(coherent.signature, &l2.namespace, servers, What::Keys(keys), receipts);
            for told in keys {
                self.sample(told.key.encoded(), told.version);
            }
        }
    }

    /// How many servers polls have told of: to be asked before L2 is told anything.
    pub(super) fn servers(&self) -> u64 {
        self.coherent.as_ref().map_or(0, |coherent| coherent.deployment.servers())
    }

    /// The same for a clear, which may have no receipt: where the store had no memory to tell.
    pub(super) fn note_cleared(&self, servers: u64, receipts: &[Receipt]) {
        if let (Some(l2), Some(coherent)) = (&self.l2, &self.coherent) {
            coherent.deployment.told(coherent.signature, &l2.namespace, servers, What::All, receipts);
        }
    }

    /// Poisons the key's tickets, then removes its entry: in this order, see [`LocalTier::insert`].
    ///
    /// Not in the removal's `bump`: to poison takes a lock, and drops keys and values of flights.
    pub(super) fn let_go(&self, hash: u64, key: &K, version: Option<u64>) {
        self.flights.poison(hash);
        self.l1.remove(hash, key, version, &|| ());
        // A flight that began in between may have taken the entry for its last resort.
        self.flights.poison(hash);
    }

    async fn clear(self: &Arc<Self>, prefix: Option<&KeyPrefix>) -> Result<()> {
        self.counters.count(Event::Invalidation);
        self.let_go_of_all();
        let Some(l2) = &self.l2 else { return Ok(()) };
        self.wake();
        let servers = self.servers();
        let outcome = l2.clear(prefix).await;
        // Not while L2 is scanned, for that may take long, and each read would go to the origin. But before all is let go of once more: who reads the older value from L2 from here on, where
        // it could not be told, keeps it no more than who has read it before.
        let block = AllBlocked::new(&self.flights);
        self.let_go_of_all();
        match outcome {
            Ok(told) => {
                self.note_cleared(servers, &told.receipts);
                Ok(())
            }
            Err(err) => {
                self.invalidation_failed("clear", &err);
                if !matches!(err.kind(), ErrorKind::Config | ErrorKind::Closed) {
                    self.owe_clear();
                    block.hand_over();
                }
                Err(err)
            }
        }
    }

    /// As of a key.
    pub(super) fn let_go_of_all(&self) {
        self.flights.poison_all();
        self.l1.clear();
        self.flights.poison_all();
    }

    pub(super) fn invalidation_failed(&self, verb: &'static str, err: &Error) {
        self.counters.count(Event::InvalidationError);
        // What is not ours is an answer, not a failure of L2.
        if err.kind() == ErrorKind::Foreign {
            self.counters.count(Event::L2Unreadable);
        } else {
            self.l2_failed(verb, err);
        }
    }
}

/// An error behind a commit: the caller must know that the origin has the value.
pub(super) fn untold(err: Error) -> Error {
    Error::new(err.kind(), "written to the origin, but L2 could not be told").with_source(err)
}

/// A block of all keys, taken back when it is dropped.
struct AllBlocked<'a, K, V>(&'a Flights<K, V>);

impl<'a, K, V> AllBlocked<'a, K, V> {
    fn new(flights: &'a Flights<K, V>) -> Self {
        flights.block_all();
        Self(flights)
    }

    /// Whoever takes it over takes it back.
    fn hand_over(self) {
        std::mem::forget(self);
    }
}

impl<K, V> Drop for AllBlocked<'_, K, V> {
    fn drop(&mut self) {
        self.0.unblock_all();
    }
}

/// A key's block, taken back when it is dropped.
pub(super) struct Block<'a, K, V> {
    flights: &'a Flights<K, V>,
    hash: u64,
}

impl<'a, K, V> Block<'a, K, V> {
    pub(super) fn new(flights: &'a Flights<K, V>, hash: u64) -> Self {
        flights.block(hash);
        Self { flights, hash }
    }

    /// Whoever takes it over takes it back.
    pub(super) fn hand_over(self) {
        std::mem::forget(self);
    }
}

impl<K, V> Drop for Block<'_, K, V> {
    fn drop(&mut self) {
        self.flights.unblock(self.hash);
    }
}
