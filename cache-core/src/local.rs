//! The L1 trait: typed, synchronous, infallible, in process.

use crate::clock::Moment;
use crate::partition::Partition;
use crate::record::Life;
use crate::token::Token;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// A value's life on the cache's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// When the load that made the value began.
    pub created: Moment,
    /// Fresh before this.
    pub soft: Moment,
    /// Served while it is refreshed before this.
    pub hard: Moment,
    /// Served when the origin fails before this; a tier forgets it then.
    pub last: Moment,
}

impl Stamp {
    /// The stamp of a value made at `created`, kept in L1 until `limit` after `now` at most.
    pub(crate) fn new(created: Moment, life: Life, now: Moment, limit: Option<Duration>) -> Self {
        let end = limit.map_or(Moment::NEVER, |limit| now.after(limit));
        let at = |life: Duration| created.after(life).min(end);
        Self { created, soft: at(life.soft), hard: at(life.hard), last: at(life.last) }
    }
}

/// On what terms a tier keeps an entry.
///
/// ```
/// use cache_core::{ManualClock, Stamp, Terms};
/// use std::time::Duration;
///
/// let now = ManualClock::new().clock().now();
/// let end = now.after(Duration::from_secs(60));
/// let terms = Terms { version: 7, ..Terms::from(Stamp { created: now, soft: end, hard: end, last: end }) };
/// assert_eq!((terms.stamp.last, terms.idle), (end, None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// How long it may serve.
    pub stamp: Stamp,
    /// Forgotten when nobody has read it for so long, counted from the insert and from each read. `None`: only by its stamp.
    pub idle: Option<Duration>,
    /// The partition of its key, for [`LocalTier::suspect`]; the default one where there is no L2.
    pub partition: Partition,
    /// The row's version; 0 in an unversioned namespace.
    pub version: u64,
    /// Of the load that made the value; [`Token::default`] where there is none.
    pub token: Token,
}

impl From<Stamp> for Terms {
    fn from(stamp: Stamp) -> Self {
        Self { stamp, ..Self::default() }
    }
}

/// What a local tier holds of a key: a `Local<&V>` in its place, a `Local<V>` taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local<T> {
    /// The value.
    pub value: T,
    /// Its life.
    pub stamp: Stamp,
    /// The partition of its key, as it was given.
    pub partition: Partition,
    /// Whether its partition was [suspected](LocalTier::suspect) after it was stored.
    pub suspect: bool,
}

impl<V: Clone> Local<&V> {
    /// The same, taken out by a clone of the value.
    #[inline]
    pub fn cloned(self) -> Local<V> {
        let Self { value, stamp, partition, suspect } = self;
        Local { value: value.clone(), stamp, partition, suspect }
    }
}

/// A first level. Implementations are proven by [`crate::testing::local_suite`] and
/// [`crate::testing::local_reentrancy_suite`].
///
/// The stack computes the key's hash once a call and passes it along; it is well mixed and seeded per process, so a tier
/// may use its bits as they are. A tier runs no user code (`Drop`, `Hash`, `Eq`, `Clone`, a listener, the closure of
/// [`with`](Self::with)) under a lock of its own.
///
/// # Times
///
/// A tier has no clock: `now` comes with each call, and goes forward but for calls that overtake each other. It may keep
/// times a little coarsely, so that they take less memory: `created` up to 3 ms and a 100,000th of the whole life early,
/// each of `soft`, `hard` and `last`, and an end by `idle`, up to 2 ms and a thousandth of its distance from `created` (of
/// `idle`) early. None is ever late, and [`Moment::NEVER`] stays what it is. Moments lie around [`Moment::ORIGIN`].
pub trait LocalTier<K, V>: Send + Sync + 'static {
    /// Reads the entry of a key in its place, if there is one and it is neither past its `last` nor idle for too long.
    ///
    /// `f` may do anything, use the tier included. But memory of removed entries may not come back before it returns: keep
    /// it short.
    fn with<Q, F, R>(&self, hash: u64, key: &Q, now: Moment, f: F) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&V>) -> R;

    /// As [`with`](Self::with), taken out by a clone.
    #[inline]
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is of one lifetime, the closure of any")]
    fn get<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.with(hash, key, now, |local| local.cloned())
    }

    /// The terms on which the entry of a key was inserted, where [`with`](Self::with) would find one; the times as coarse
    /// as there. A slower look than `with`, to revalidate an entry or compare its version.
    fn terms<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Terms>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Stores an entry, over what is there, if `admit` says so at the moment the entry would become readable. `true` if it
    /// was stored. What has expired by `now` may be forgotten to make room.
    ///
    /// This is what keeps a fill that began before an invalidation from landing after it. The stack poisons the fill's
    /// ticket no later than in the `bump` of the [`remove`](Self::remove), and before a [`clear`](Self::clear); `admit`
    /// reads the ticket. So of any insert and invalidation of a key, either `admit` must see the poison, or the
    /// invalidation must see the entry. A tier with a lock a bucket gets this by calling `admit` under the lock that
    /// `remove` takes; `admit` is the stack's code, brief, and takes no lock.
    fn insert(&self, hash: u64, key: K, value: V, terms: &Terms, now: Moment, admit: &dyn Fn() -> bool) -> bool;

    /// Removes the entry of a key, unless it is of `version` or newer. `true` if one was removed.
    ///
    /// `bump` is called once, right before the entry becomes unreadable, under the lock that [`insert`](Self::insert) calls
    /// `admit` under; also when there is no entry, or it stays. So who admits under that lock sees both, the bump and the
    /// removal, or neither. Like `admit` it is brief, and does not use the tier.
    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>, bump: &dyn Fn()) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized;

    /// Makes every entry of the partition that is in the tier now suspect: reads say so in [`Local::suspect`] until the key
    /// is inserted anew. O(1), and for as many times as it is called.
    fn suspect(&self, partition: Partition);

    /// Makes every entry unreadable at once; memory may be given back later. The rule of [`insert`](Self::insert) holds.
    fn clear(&self);

    /// How many entries it holds, about: maintenance may lag.
    fn len(&self) -> u64;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most it will hold, in entries or in weight; `None` for a tier that stores nothing.
    fn capacity(&self) -> Option<u64>;

    /// How many entries had to go to make room, since it was made.
    fn evictions(&self) -> u64;

    /// Takes out what has expired by `now`, and drops what has left and nobody reads any more, where that waits for later writes. Runs code of keys and values; costs a look at each entry.
    fn sweep(&self, now: Moment) {
        let _ = now;
    }
}

/// A tier that is kept beside the cache it is given to: for what it can do and the stack does not ask for, such as to be resized. Each call costs
/// one pointer more to follow.
///
/// Its entries are the cache's: what is inserted, removed or cleared by another way passes by the cache's tickets and counts.
impl<K, V, L: LocalTier<K, V>> LocalTier<K, V> for Arc<L> {
    #[inline]
    fn with<Q, F, R>(&self, hash: u64, key: &Q, now: Moment, f: F) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&V>) -> R,
    {
        (**self).with(hash, key, now, f)
    }

    #[inline]
    fn get<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Local<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        (**self).get(hash, key, now)
    }

    fn terms<Q>(&self, hash: u64, key: &Q, now: Moment) -> Option<Terms>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        (**self).terms(hash, key, now)
    }

    fn insert(&self, hash: u64, key: K, value: V, terms: &Terms, now: Moment, admit: &dyn Fn() -> bool) -> bool {
        (**self).insert(hash, key, value, terms, now, admit)
    }

    fn remove<Q>(&self, hash: u64, key: &Q, version: Option<u64>, bump: &dyn Fn()) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        (**self).remove(hash, key, version, bump)
    }

    fn suspect(&self, partition: Partition) {
        (**self).suspect(partition);
    }

    fn clear(&self) {
        (**self).clear();
    }

    fn len(&self) -> u64 {
        (**self).len()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn capacity(&self) -> Option<u64> {
        (**self).capacity()
    }

    fn evictions(&self) -> u64 {
        (**self).evictions()
    }

    fn sweep(&self, now: Moment) {
        (**self).sweep(now);
    }
}

/// The absence of a first level: a cache of L2 alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLocal;

impl<K, V> LocalTier<K, V> for NoLocal {
    fn with<Q, F, R>(&self, _: u64, _: &Q, _: Moment, _: F) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        F: FnOnce(Local<&V>) -> R,
    {
        None
    }

    fn terms<Q>(&self, _: u64, _: &Q, _: Moment) -> Option<Terms>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: u64, _: K, _: V, _: &Terms, _: Moment, _: &dyn Fn() -> bool) -> bool {
        false
    }

    fn remove<Q>(&self, _: u64, _: &Q, _: Option<u64>, bump: &dyn Fn()) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        bump();
        false
    }

    fn suspect(&self, _: Partition) {}

    fn clear(&self) {}

    fn len(&self) -> u64 {
        0
    }

    fn capacity(&self) -> Option<u64> {
        None
    }

    fn evictions(&self) -> u64 {
        0
    }
}
