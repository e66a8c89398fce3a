//! How a cache is made.

use super::checker::Checker;
use super::coherent::{Coherence, Coherent};
use super::origin::{Origin, Writer};
use super::recovery::Recovery;
use super::second::Second;
use super::{Inner, TieredCache};
use crate::backoff::Backoffs;
use crate::clock::Clock;
use crate::codec::{Codec, MessagePack};
use crate::coherence::{Lease, Member, Notice};
use crate::counters::Counters;
use crate::error::{BoxError, Error, Result};
use crate::flights::Flights;
use crate::key::{Key, KeyParts, Namespace, read_key};
use crate::local::{LocalTier, NoLocal};
use crate::payload::Packing;
use crate::places::Places;
use crate::remote::RemoteTier;
use crate::stats::Window;
use crate::tasks::Tasks;
use crate::ttl::Ttl;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

/// How long the tombstone of an invalidation stays in L2: longer than any load may take.
const RETAIN: Duration = Duration::from_secs(60);
/// Defaults of what only L2 makes use of.
const SCHEMA: u32 = 1;
const MAX_VALUE_BYTES: usize = 1 << 20;
const LEASE: Duration = Duration::from_secs(2);
/// At once, and waiting.
const LOADS_AT_ONCE: (usize, usize) = (1_024, 8_192);
const LONGEST_LOAD: Duration = Duration::from_secs(60);
/// A lease must outlive the wait for the reply that grants it.
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// A value that the default codec can store in L2: anything `Serialize` and `DeserializeOwned`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be stored in L2: it has no codec",
    label = "not `Serialize` and `DeserializeOwned`",
    note = "derive serde's `Serialize` and `Deserialize`, or give a codec of your own with `l2_with(tier, codec)`"
)]
pub trait Storable: Serialize + DeserializeOwned {}

impl<V: Serialize + DeserializeOwned> Storable for V {}

/// What stands between this process and its second level.
type Border<K, V> = (Arc<dyn RemoteTier>, Box<dyn Codec<V>>, fn(&K, &mut KeyParts), fn(&[u8]) -> Option<K>);

/// Describes a cache. [`build`](Self::build) checks it as a whole.
///
/// | option | default | meaning |
/// |---|---|---|
/// | [`l1`](Self::l1) | none | the tier in this process |
/// | [`l2`](Self::l2), [`l2_with`](Self::l2_with) | none | the shared tier, and its codec (MessagePack) |
/// | [`ttl`](Self::ttl) | 5 min, jitter 10 % | how long values live |
/// | [`origin`](Self::origin) | none | what `load` loads from |
/// | [`writer`](Self::writer) | none | what `write` writes to |
/// | [`versioned`](Self::versioned) | no | where a value's version stands |
/// | [`prefix`](Self::prefix) | `cs` | before each key in L2 |
/// | [`schema`](Self::schema) | 1 | the shape of the value's type |
/// | [`max_value_bytes`](Self::max_value_bytes) | 1 MiB | larger values stay out of L2 |
/// | `compression` (features `lz4`, `zstd`) | none | whether larger values are compressed for L2 |
/// | `encryption` (feature `encryption`) | none | whether values are sealed for L2, and by which keys |
/// | [`load_timeout`](Self::load_timeout) | 10 s | how long a load, or a write, may take |
/// | [`loads_at_once`](Self::loads_at_once) | 1,024 and 8,192 | how many loads the origin has to bear, and how many wait |
/// | [`lease`](Self::lease) | 2 s | how long other nodes wait for this node's load |
/// | [`coherence`](Self::coherence) | 3 s, grace 30 s | how soon L1 follows other nodes' writes, whatever is lost; see [`Coherence`] |
/// | [`checked`](Self::checked) | none | which share of invalidated keys is looked at once more |
/// | [`strict`](Self::strict) | no | whether writes are announced before they are committed |
/// | [`clock`](Self::clock) | the kernel's | for tests |
///
/// ```
/// # tokio_test(async {
/// use cache_core::{EmbeddedTier, TieredCache, Ttl};
///
/// let cache = TieredCache::<u64, String>::builder("greeting")
///     .l2(EmbeddedTier::new())
///     .ttl(Ttl::minutes(5))
///     .origin(|id: u64| async move { Ok::<_, std::io::Error>(format!("hello {id}")) })
///     .build()?;
/// assert_eq!(cache.load(&7).await?, "hello 7");
/// # Ok::<_, cache_core::Error>(()) });
/// # fn tokio_test(f: impl Future<Output = cache_core::Result<()>>) {
/// #     tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f).unwrap();
/// # }
/// ```
///
/// A value that no codec can store is refused by the compiler:
///
/// ```compile_fail
/// use cache_core::{EmbeddedTier, TieredCache};
///
/// #[derive(Clone)]
/// struct NotSerde;
/// let _ = TieredCache::<u64, NotSerde>::builder("x").l2(EmbeddedTier::new());
/// ```
pub struct Builder<K, V, L = NoLocal> {
    name: String,
    prefix: String,
    l1: L,
    l2: Option<Border<K, V>>,
    ttl: Ttl,
    origin: Option<Origin<K, V>>,
    writer: Option<Writer<K, V>>,
    version_of: Option<fn(&V) -> u64>,
    schema: u32,
    max_value_bytes: usize,
    packing: Packing,
    load_timeout: Duration,
    /// And how many more may wait.
    loads_at_once: (usize, usize),
    lease: Duration,
    coherence: Option<Coherence>,
    strict: bool,
    checked: u32,
    clock: Clock,
}

impl<K, V, L> TieredCache<K, V, L> {
    /// Begins the description of a cache. The name is its identity in L2, in stats and in traces: 1 to 64 of
    /// `A-Z a-z 0-9 . _ -`.
    pub fn builder(name: impl Into<String>) -> Builder<K, V> {
        Builder {
            name: name.into(),
            prefix: "cs".into(),
            l1: NoLocal,
            l2: None,
            ttl: Ttl::default(),
            origin: None,
            writer: None,
            version_of: None,
            schema: SCHEMA,
            max_value_bytes: MAX_VALUE_BYTES,
            packing: Packing::default(),
            load_timeout: Duration::from_secs(10),
            loads_at_once: LOADS_AT_ONCE,
            lease: LEASE,
            coherence: Some(Coherence::default()),
            strict: false,
            checked: 0,
            clock: Clock::default(),
        }
    }
}

impl<K, V, L> Builder<K, V, L> {
    /// The tier in this process.
    pub fn l1<T: LocalTier<K, V>>(self, tier: T) -> Builder<K, V, T> {
        let Self {
            name,
            prefix,
            l2,
            ttl,
            origin,
            writer,
            version_of,
            schema,
            max_value_bytes,
            packing,
            load_timeout,
            loads_at_once,
            lease,
            coherence,
            strict,
            checked,
            clock,
            ..
        } = self;
        Builder {
            name,
            prefix,
            l1: tier,
            l2,
            ttl,
            origin,
            writer,
            version_of,
            schema,
            max_value_bytes,
            packing,
            load_timeout,
            loads_at_once,
            lease,
            coherence,
            strict,
            checked,
            clock,
        }
    }

    /// The shared tier, with values as MessagePack.
    pub fn l2<T: RemoteTier>(self, tier: T) -> Self
    where
        K: Key,
        V: Storable,
    {
        self.l2_with(tier, MessagePack)
    }

    /// The shared tier, with a codec.
    pub fn l2_with<T: RemoteTier, C: Codec<V>>(mut self, tier: T, codec: C) -> Self
    where
        K: Key,
    {
        self.l2 = Some((Arc::new(tier), Box::new(codec), |key, parts| key.write(parts), read_key));
        self
    }

    /// How long values live.
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// What [`load`](TieredCache::load) loads from: it runs once for all who ask for a key at the same time.
    pub fn origin<F, Fut, E>(mut self, load: F) -> Self
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<BoxError>,
        K: Send + 'static,
    {
        let load = Arc::new(load);
        self.origin = Some(Arc::new(move |key| {
            let load = load.clone();
            // The call is inside the future, so that a panic in it is caught like one in its future.
            Box::pin(async move { load(key).await.map_err(Into::into) })
        }));
        self
    }

    /// What [`write`](TieredCache::write) commits to.
    pub fn writer<F, Fut, E>(mut self, write: F) -> Self
    where
        F: Fn(K, V) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
        K: Send + 'static,
        V: Send + 'static,
    {
        let write = Arc::new(write);
        self.writer = Some(Arc::new(move |key, value| {
            let write = write.clone();
            Box::pin(async move { write(key, value).await.map_err(Into::into) })
        }));
        self
    }

    /// Declares that every value carries its row's version, which rises with each commit. Then a write replaces an older value
    /// in L2 instead of invalidating it, and a loader that reads a lagging replica cannot bring an older row back while L2 can be
    /// asked and remembers the write (its tombstone stays for a minute). Without L2 a write invalidates.
    pub fn versioned(mut self, version_of: fn(&V) -> u64) -> Self {
        self.version_of = Some(version_of);
        self
    }

    /// What stands before each key in L2, so that deployments can share a Redis. At most 64 of `A-Z a-z 0-9 . _ -`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Number of the value type's shape. Raise it when older code can no longer read what newer code writes, or the
    /// reverse: values of an older shape are replaced, those of a newer one left alone, and neither is an error.
    pub fn schema(mut self, schema: u32) -> Self {
        self.schema = schema;
        self
    }

    /// Encoded values larger than this are served and kept in L1, not stored in L2. Counted before compression and encryption.
    ///
    /// A value is encoded whole before its length is known: this bounds what is sent and stored, not what encoding costs. One far larger
    /// takes that memory for a moment, at each load and write.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Compresses larger values on their way to L2. Not by default.
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    pub fn compression(mut self, compression: crate::Compression) -> Self {
        self.packing.compression = Some(compression);
        self
    }

    /// Seals values on their way to L2, and takes from it only what was sealed by one of these keys. Not by default.
    #[cfg(feature = "encryption")]
    pub fn encryption(mut self, keyring: crate::Keyring) -> Self {
        self.packing.keyring = Some(keyring);
        self
    }

    /// How long a load may take from when it is asked for, and a write: at most a minute. Up to half of it may go into
    /// waiting for another node's load of the key, and what it waits for a [place](Self::loads_at_once) counts. L2 has its own time, see [`TieredCache`]. Its callers then get [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    pub fn load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = limit;
        self
    }

    /// How many loads of this cache run at once, so that the origin survives what no tier answers: a start with empty tiers, or L2 away. `waiting` more wait for their turn, within their
    /// [`load_timeout`](Self::load_timeout); then, or where still more wait, a load fails with [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded), counted in
    /// [`Stats::loads_refused`](crate::Stats::loads_refused). A stale value that [`Ttl::stale_if_error`](crate::Ttl::stale_if_error) allows is given instead.
    ///
    /// A load waits before it asks the origin and behind what L2 has to say: hits of L2 wait for nobody. What a load loads in its turn needs no
    /// place, or loads would wait for each other. Default: 1,024 and 8,192. Zero at once counts as one.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::{EmbeddedTier, TieredCache};
    ///
    /// // As many as the pool of the database has connections; who would wait for more than a few rounds is turned away.
    /// let cache = TieredCache::<u64, u64>::builder("n").l2(EmbeddedTier::new()).loads_at_once(32, 256).build()?;
    /// assert_eq!(cache.get_or_load(&1, || async { Ok::<_, std::io::Error>(7) }).await?, 7);
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    pub fn loads_at_once(mut self, loads: usize, waiting: usize) -> Self {
        self.loads_at_once = (loads, waiting);
        self
    }

    /// How long other nodes wait for this node's load of a key before they load it themselves. A load that takes longer
    /// can still be stored, if nobody else took over.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Within which time L1 of this node follows what other nodes write, and what it does while it cannot know.
    pub fn coherence(mut self, coherence: Coherence) -> Self {
        self.coherence = Some(coherence);
        self
    }

    /// Looks once more at one in so many keys that this node invalidates or hears of, when the bound is over: neither L1 as a read would see it nor L2 may have a value
    /// from before. What is found is counted in [`CoherenceStats::violations`](crate::CoherenceStats::violations) and logged as an error. 0, the default, is none.
    ///
    /// For production: proof where it matters, with the faults that there are. It costs one read of L2 for each key that is looked at, of which 1,000 wait at most. Values
    /// are told apart by their versions, and without versions by when their loads began, to about the bound and a second: a value that was loaded right before its
    /// invalidation escapes. A node whose message was lost is given nothing to look at by it: its polls find that out. Keys without
    /// [`Key::read`](crate::Key::read) are not looked at, and a look that L2 does not answer is not counted.
    pub fn checked(mut self, one_in: u32) -> Self {
        self.checked = one_in;
        self
    }

    /// Neither tells other nodes of this one's writes nor listens to theirs: L1 of any node may then serve an overwritten value for the rest of its
    /// life, or [`Ttl::l1_at_most`]. For a service of one process, and for values that never change.
    pub fn incoherent(mut self) -> Self {
        self.coherence = None;
        self
    }

    /// Announces each [`write`](TieredCache::write) in L2 before it is committed, so that from the commit on no node finds the older value there: without
    /// this, L2 serves it until the invalidation behind the commit has come. For values where that moment matters, such as rights and balances. All
    /// nodes that write the namespace must do so.
    ///
    /// A write then is: the **mark**, which removes the key's value from L2 and keeps others off; this node's L1 lets go of the key; the commit; and the
    /// **unmark**, which invalidates the key and tells other nodes. L1 of those follows as always, within the bound of their
    /// [`coherence`](Self::coherence): it may serve the older value for so long.
    ///
    /// - It costs one more round trip to L2 before the commit, and what `write` saves in a [`versioned`](Self::versioned) cache: no write replaces a value, so
    ///   the key's next reader loads it.
    /// - While a key is marked, other nodes' readers wait for the write, for half of their [`load_timeout`](Self::load_timeout) at most; then they load, and
    ///   no tier keeps what they got. Readers of this node load at once. At most 64 writes of a key may be under way.
    /// - With L2 away **nothing is written**: `write` gives [`ErrorKind::Unannounced`](crate::ErrorKind::Unannounced) and the writer is not called. So it does
    ///   where what L2 holds under the key is not ours.
    /// - A mark stands for `load_timeout` and 2 s. The writer counts on it for 1 s less from when it was sent, and gives a write up that takes longer:
    ///   the key is invalidated, for it may have committed, and the caller gets [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). The mark of a writer that
    ///   died ends by itself.
    /// - [`insert`](TieredCache::insert), [`invalidate`](TieredCache::invalidate) and writes that are made elsewhere are not announced.
    ///
    /// **Loaders must read the primary.** Two things break the promise: a replica of the database that lags, where the mark ends by itself between the commit
    /// and the unmark; and a mark that Redis evicts, which every `maxmemory-policy` but `noeviction` may do. A value that
    /// is read from a replica of Redis is as old as that, and marked so.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use cache_core::{EmbeddedTier, TieredCache};
    ///
    /// let rights = TieredCache::<u64, String>::builder("rights").l2(EmbeddedTier::new()).strict().build()?;
    /// rights.write_with(&7, || async { Ok::<_, std::io::Error>("none".to_owned()) }).await?;
    /// assert_eq!(rights.get(&7).await, None, "its next reader loads it");
    /// # Ok::<_, cache_core::Error>(()) }).unwrap();
    /// ```
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Where the cache reads the time.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl<K, V, L> Builder<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// What was given, other than by its default, and is L2's alone.
    fn only_of_l2(&self) -> Vec<&'static str> {
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        let compresses = self.packing.compression.is_some();
        #[cfg(not(any(feature = "lz4", feature = "zstd")))]
        let compresses = false;
        #[cfg(feature = "encryption")]
        let encrypts = self.packing.keyring.is_some();
        #[cfg(not(feature = "encryption"))]
        let encrypts = false;
        let options = [
            ("compression", compresses),
            ("encryption", encrypts),
            ("schema", self.schema != SCHEMA),
            ("lease", self.lease != LEASE),
            ("max_value_bytes", self.max_value_bytes != MAX_VALUE_BYTES),
        ];
        options.into_iter().filter(|(_, given)| *given).map(|(option, _)| option).collect()
    }

    /// Makes the cache.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), saying what is wrong and what to do.
    pub fn build(self) -> Result<TieredCache<K, V, L>> {
        let namespace = Namespace::new(&self.prefix, &self.name)?;
        self.ttl.check()?;
        match self.l1.capacity() {
            Some(0) => return Err(Error::config("the L1 has a capacity of zero: give it some, or leave .l1(…) out")),
            None if self.l2.is_none() => return Err(Error::config("the cache has no tier: give it .l1(…) or .l2(…)")),
            _ => {}
        }
        if self.max_value_bytes == 0 && self.l2.is_some() {
            return Err(Error::config("max_value_bytes is zero: nothing would ever be stored in L2; leave .l2(…) out instead"));
        }
        if self.strict && self.l2.is_none() {
            return Err(Error::config("strict writes are announced in L2: give the cache one, or leave .strict() out"));
        }
        if self.load_timeout.is_zero() || self.load_timeout > LONGEST_LOAD {
            return Err(Error::config("load_timeout must lie above zero and at most at 60 s, the life of a tombstone in L2"));
        }
        if self.lease < SHORTEST_LEASE || self.lease > LONGEST_LOAD {
            return Err(Error::config("lease must lie between 100 ms and 60 s"));
        }
        let without_l2 = if self.l2.is_none() { self.only_of_l2() } else { Vec::new() };
        let (schema, max_value_bytes, lease) = (self.schema, self.max_value_bytes, self.lease);
        let packing = self.packing.checked(max_value_bytes)?;
        if let Some(coherence) = self.coherence {
            coherence.check()?;
        }
        let joined = self.l2.as_ref().zip(self.coherence).and_then(|((tier, ..), coherence)| {
            let deployment = tier.deployments()?.join(tier, namespace.prefix(), &self.clock, coherence.bound);
            Some(Coherent { deployment, coherence, lease: Lease::new(coherence.bound), signature: fastrand::u64(1..) })
        });
        let notice = joined.as_ref().map(|joined| Notice { node: joined.signature, namespace: namespace.clone() });
        let l2 = self.l2.map(|(tier, codec, write_key, read_key)| Second {
            tier,
            codec,
            packing,
            write_key,
            read_key,
            notice,
            namespace: namespace.clone(),
            schema,
            max_value_bytes,
            lease,
            retain: RETAIN,
            lengths: AtomicUsize::new(0),
        });
        let inner = Arc::new_cyclic(|me| Inner {
            me: me.clone(),
            checker: (self.checked > 0).then(|| Checker::new(self.checked)),
            name: namespace.name().into(),
            window: Window::new(&self.clock),
            clock: self.clock,
            ttl: self.ttl,
            hasher: foldhash::quality::RandomState::default(),
            l1: self.l1,
            l2,
            coherent: joined,
            origin: self.origin,
            writer: self.writer,
            version_of: self.version_of,
            load_timeout: self.load_timeout,
            places: Places::new(self.loads_at_once.0, self.loads_at_once.1),
            strict: self.strict,
            without_l2,
            flights: Arc::new(Flights::new()),
            backoffs: Backoffs::default(),
            recovery: Recovery::default(),
            counters: Counters::new(),
            tasks: Tasks::default(),
            closed: AtomicBool::new(false),
        });
        if let Some(coherent) = &inner.coherent {
            let member: Arc<dyn Member> = inner.clone();
            coherent.deployment.admit(Arc::downgrade(&member));
            // If it is within a runtime: or else its first call that needs L2 does it.
            coherent.deployment.start();
        }
        Ok(TieredCache { inner })
    }
}
