//! Values from elsewhere than the origin: insert, over what is there or where nothing is.

use super::second::{Second, foreign};
use super::{Inner, TieredCache};
use crate::counters::Event;
use crate::error::{Error, ErrorKind, Result};
use crate::flights::Boarding;
use crate::key::RemoteKey;
use crate::local::{LocalTier, Terms};
use crate::partition::Partition;
use crate::record::Life;
use crate::remote::{Acquired, Claim, Filled};
use crate::token::Token;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

impl<K, V, L> TieredCache<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Stores a value in both tiers, over what is there. Loads that began earlier store nothing. Ends within one timeout of L2.
    ///
    /// For values that come from elsewhere than the origin. After a commit to the origin use [`write`](Self::write) or
    /// [`invalidate`](Self::invalidate): two writers that insert can overtake each other.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if the key was invalidated or written meanwhile, or (versioned) the value is older than what
    /// is known: no tier keeps it. [`ErrorKind::Unavailable`], [`ErrorKind::Timeout`]: L2 was not reached; this node's L1
    /// has the value, other nodes do not see it. [`ErrorKind::Foreign`], [`ErrorKind::Codec`], [`ErrorKind::TooLarge`]:
    /// L2 cannot take it; L1 has it.
    pub async fn insert<Q>(&self, key: &Q, value: V) -> Result<()>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.inner.apart(async move { inner.insert(&key, value, Claim::Force).await.map(drop) }).await
    }

    /// Stores a value in both tiers if L2 has none: absent, invalidated, or past its hard life. `true` if it was stored; `false` if there is one, or a load or an
    /// announced write is about to bring one. Of many nodes at once one stores. For what is made once and by whoever comes first: a session, a token of idempotency.
    ///
    /// It lasts as long as a cache's values do: L2 may evict it, and a failover forget it. A lock, or anything that must not happen twice, needs a database.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::{EmbeddedTier, TieredCache};
    ///
    /// let seen = TieredCache::<String, u64>::builder("seen").l2(EmbeddedTier::new()).build()?;
    /// assert!(seen.insert_absent("request-17", 1).await?);
    /// assert!(!seen.insert_absent("request-17", 2).await?);
    /// assert_eq!(seen.get("request-17").await, Some(1));
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`insert`](Self::insert), but where L2 was not reached or cannot take the value, L1 has it neither. [`ErrorKind::Config`] without L2, which alone can say what is absent.
    pub async fn insert_absent<Q>(&self, key: &Q, value: V) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + Sync + ?Sized,
    {
        if self.inner.l2.is_none() {
            return Err(Error::config("insert_absent needs an L2, which alone can say what is absent"));
        }
        let (inner, key) = (self.inner.clone(), key.to_owned());
        self.inner.apart(async move { inner.insert(&key, value, Claim::Vacant).await }).await
    }
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Whether it was stored: what is vacant may turn out not to be.
    async fn insert(self: Arc<Self>, key: &K, value: V, claim: Claim) -> Result<bool> {
        self.counters.count(Event::Insert);
        let hash = self.hash(key);
        if claim == Claim::Force {
            // What was loaded before this call must not land on top of it.
            self.flights.poison(hash);
        }
        let boarding = self.flights.ticket(self.passage(hash, key));
        let (began, life, version) = (self.clock.now(), self.ttl.life(), self.version(&value));
        let mut terms = self.terms(began, life, Partition::default(), version, Token::default());
        let stored = match &self.l2 {
            Some(l2) => {
                let remote = l2.key(key);
                (terms.partition, terms.token) = (remote.partition(), Token::unique());
                let stored = self.store(l2, &remote, &value, life, &terms, claim, &boarding).await;
                stored.map_err(|Unstored { why, leased }| {
                    if leased {
                        self.give_back(remote, terms.token);
                    }
                    why
                })
            }
            None => Ok(true),
        };
        if claim == Claim::Vacant && !matches!(stored, Ok(true)) {
            return stored;
        }
        // A reader may have fetched the older value since the first poison, and may be about to keep it.
        self.flights.poison_others(&boarding);
        if matches!(&stored, Err(err) if err.kind() == ErrorKind::Refused) {
            self.l1.remove(hash, key, None, &|| ());
        } else {
            self.l1.insert(hash, key.clone(), value, &terms, self.clock.now(), &|| self.admits(boarding.is_live()));
        }
        stored
    }

    /// In one timeout of L2, in both of its calls together. Whether it was stored.
    #[allow(clippy::too_many_arguments)]
    async fn store(
        &self,
        l2: &Second<K, V>,
        key: &RemoteKey,
        value: &V,
        life: Life,
        &Terms { version, token, .. }: &Terms,
        claim: Claim,
        boarding: &Boarding<K, V>,
    ) -> Result<bool, Unstored> {
        let mut allowance = l2.allowance();
        let unleased = |why| Unstored { why, leased: false };
        let leased = |why| Unstored { why, leased: true };
        let refused = |text| Error::new(ErrorKind::Refused, text);
        let body = l2.encode(key, value, version, life).map_err(|why| {
            self.counters.count(Event::L2Unstorable);
            unleased(why)
        })?;
        // Where it fails the lease may stand, though nobody heard so.
        let acquired = allowance.of(l2.acquire(key, token, claim)).await.map_err(|why| {
            self.l2_failed("acquire", &why);
            leased(why)
        })?;
        let created = match acquired {
            // An invalidation that has run since the call began left no lease to lose: its poison tells.
            Acquired::Granted { .. } if boarding.is_overtaken() => {
                self.counters.count(Event::L2Refused);
                return Err(leased(refused("the key was invalidated or written meanwhile")));
            }
            Acquired::Granted { at, .. } => at,
            Acquired::Foreign => return Err(unleased(foreign())),
            Acquired::Busy(_) | Acquired::Hit | Acquired::Newer if claim == Claim::Vacant => return Ok(false),
            Acquired::Newer => return Err(unleased(refused("L2 holds a value of a newer schema or format"))),
            Acquired::Busy(_) | Acquired::Hit => return Err(unleased(refused("a write of this key has been announced"))),
        };
        match allowance.of(l2.fill(key, token, version, created, body)).await {
            Ok(Filled::Stored) => Ok(true),
            Ok(Filled::LeaseLost) => {
                self.counters.count(Event::L2Refused);
                Err(unleased(refused("the key was invalidated or written meanwhile")))
            }
            Ok(Filled::TooOld) => {
                self.counters.count(Event::L2Refused);
                Err(leased(refused("the value is older than what is known of the key")))
            }
            Err(why) => {
                self.l2_failed("fill", &why);
                Err(leased(why))
            }
        }
    }

    /// Gives a lease back, or others would wait for its end. In a task of its own: nobody should wait for an answer because L2 is slow.
    fn give_back(self: &Arc<Self>, key: RemoteKey, token: Token) {
        let inner = self.clone();
        // This is called within a runtime: it cannot fail.
        let _ = self.tasks.spawn(async move {
            if let Some(l2) = &inner.l2
                && let Err(err) = l2.release(&key, token).await
            {
                inner.l2_failed("release", &err);
            }
        });
    }
}

/// Why L2 did not store a value, and whether a lease may have been left behind.
struct Unstored {
    why: Error,
    leased: bool,
}
