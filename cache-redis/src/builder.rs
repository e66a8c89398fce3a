//! How a tier is configured.

use crate::cluster::Cluster;
#[cfg(feature = "fred")]
use crate::config::Driver;
use crate::config::{Address, Config, Login, Sentinels};
use crate::error::config_error;
use crate::node::Node;
use crate::nodes::Nodes;
use crate::replicas::{Named, Place, ReplicaReads, Replicas};
use crate::tier::RedisTier;
use crate::tls::Trust;
use crate::url::{Parsed, parse, parse_all};
use cache_core::Result;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Redis' own limit (`proto-max-bulk-len`).
const LONGEST_STRING: usize = 512 << 20;

/// What a tier is built from.
struct Plan {
    topology: Topology,
    config: Config,
    is_tls: bool,
    trust: Trust,
    replica_reads: Option<ReplicaReads>,
    /// Listed by URLs.
    replicas: Vec<Address>,
}

impl Plan {
    fn new(topology: Topology, config: Config, is_tls: bool) -> Self {
        Self { topology, config, is_tls, trust: Trust::default(), replica_reads: None, replicas: Vec::new() }
    }
}

/// What is behind a tier.
enum Topology {
    One(Address),
    Cluster(Vec<Address>),
}

/// Configures a [`RedisTier`]. From [`RedisTier::builder`].
///
/// | option | default | meaning |
/// |---|---|---|
/// | [`timeout`](Self::timeout) | 100 ms | every call ends within it |
/// | [`connect_timeout`](Self::connect_timeout) | 500 ms | a dial with its handshake ends within it |
/// | `tls_roots`, with the feature `tls` | the platform's | whose certificates are trusted |
/// | `tls_identity`, with the feature `tls` | none | the tier's own certificate |
/// | `driver`, with the feature `fred` | the tier's own | who carries the commands |
/// | [`tracking`](Self::tracking) | off | whether L1 follows foreign programs that write to Redis |
/// | [`max_record_bytes`](Self::max_record_bytes) | 8 MiB | larger records are neither written nor handed out |
/// | [`read_from_replicas`](Self::read_from_replicas) | never | when reads go to replicas |
/// | [`replicas`](Self::replicas) | none | the replicas of one node, which nobody else names |
#[must_use = "a builder does nothing until it is connected"]
pub struct RedisTierBuilder(Result<Plan>);

impl fmt::Debug for RedisTierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Address, user and password stay out of logs.
        f.debug_tuple("RedisTierBuilder").field(&self.0.as_ref().map(|plan| &plan.config)).finish()
    }
}

impl RedisTierBuilder {
    pub(crate) fn new(url: &str) -> Self {
        Self(parse(url).map(|Parsed { address, config, is_tls }| Plan::new(Topology::One(address), config, is_tls)))
    }

    pub(crate) fn cluster<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Self {
        Self(parse_all(urls).and_then(|(addresses, config, is_tls)| {
            if config.database != 0 {
                return Err(config_error("a Redis cluster has one database: remove its number from the URL"));
            }
            if !addresses.iter().all(|address| matches!(address, Address::Tcp(..))) {
                return Err(config_error("the nodes of a Redis cluster are found by host and port"));
            }
            Ok(Plan::new(Topology::Cluster(addresses), Config { gathers: false, ..config }, is_tls))
        }))
    }

    pub(crate) fn sentinel<U: AsRef<str>>(master: &str, urls: impl IntoIterator<Item = U>) -> Self {
        Self(parse_all(urls).and_then(|(addresses, config, is_tls)| {
            if master.is_empty() {
                return Err(config_error("the name that the Sentinels know the master by is empty"));
            }
            let host = |address| match address {
                Address::Tcp(host, port) => Ok((host, port)),
                _ => Err(config_error("Sentinels are found by host and port")),
            };
            let hosts = addresses.into_iter().map(host).collect::<Result<_>>()?;
            let sentinels = Sentinels { hosts, login: config.login, master: master.to_owned() };
            let topology = Topology::One(Address::Sentinel(Arc::new(sentinels)));
            Ok(Plan::new(topology, Config { login: None, ..config }, is_tls))
        }))
    }

    /// The user and password of the data nodes, in place of what the URL has. `None` for the default user. With Sentinels, whose URLs
    /// have the Sentinels' own, this is the only way to give them.
    ///
    /// ```
    /// use cache_redis::RedisTier;
    ///
    /// let sentinels = ["redis://sentinel-0:26379", "redis://sentinel-1:26379", "redis://sentinel-2:26379"];
    /// let builder = RedisTier::sentinel("mymaster", sentinels).login(Some("cache"), "secret");
    /// ```
    pub fn login(self, username: Option<&str>, password: &str) -> Self {
        self.with(|config| {
            config.login = Some(Login { username: username.map(ToOwned::to_owned), password: password.to_owned() });
        })
    }

    /// How long a call may take, from the call to its answer, waiting for a first connection and for a place in the
    /// pipeline included. Default 100 ms. A call for many keys gets the same time; an invalidation costs Redis some 5 µs a key.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.timeout = timeout)
    }

    /// Has L1 follow what *foreign* programs do to records in Redis: a `DEL` by hand or by a script of another language, a restored backup. Off by default, for
    /// what caches write themselves they tell each other anyway.
    ///
    /// The connection that listens to invalidations then also tracks writes, of all keys with the deployment's prefix (RESP3's `CLIENT TRACKING ON BCAST`). It is
    /// relied on only when that is confirmed, and what L1 had before is asked about once more. As a rule L1 follows within a millisecond. No bound is promised as
    /// it is for invalidations: pushes have no sequence, so one that is lost is noticed only with its connection, 1 s and a timeout, of at least 0.5 s, after its
    /// server fell silent.
    ///
    /// The price: Redis tells each node of every write to a record, loads and their leases included, some 100 bytes each. And since a push does not say whose
    /// write it was, a value that a node has loaded itself comes to stay in its L1 when it is read for the second time, from Redis. Values of keys that cannot be
    /// [read back](cache_core::Key::read), and of those longer than 200 bytes, have L1 ask again about a 256th of all keys: for such caches this is no good.
    ///
    /// Needs, with ACLs, `+client|tracking` and `+hello`; without them L1 is not relied on, and a warning says so.
    ///
    /// ```
    /// use cache_redis::RedisTier;
    ///
    /// let tier = RedisTier::builder("redis://localhost:6379").tracking().lazy()?;
    /// # Ok::<_, cache_core::Error>(())
    /// ```
    pub fn tracking(self) -> Self {
        self.with(|config| config.tracks = true)
    }

    /// Trusts servers whose certificates are issued by these authorities, in PEM, and no others. Default are the platform's, or those of the
    /// environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR`; to read them takes some milliseconds, once, when the tier is built.
    ///
    /// A server's certificate must be for the host name or address by which it is reached, which for a cluster's nodes is the one that the
    /// cluster announces and for a master the one that the Sentinels name. There is no way to switch this off.
    ///
    /// What is no PEM of certificates, or given without a `rediss://` URL, fails the build of the tier with
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config).
    ///
    /// ```no_run
    /// # async fn example() -> cache_core::Result<()> {
    /// use cache_redis::RedisTier;
    ///
    /// let authority = std::fs::read("/etc/ssl/redis-authority.pem").expect("the authority is deployed");
    /// let tier = RedisTier::builder("rediss://cache:password@redis.internal:6379").tls_roots(&authority).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls_roots(self, pem: &[u8]) -> Self {
        self.trusting(|trust| trust.set_roots(pem))
    }

    /// The certificate to show to servers that ask for one (`tls-auth-clients`), and its private key, both in PEM. The certificate comes first,
    /// and then those that lead from it to its root, if any; the key is not encrypted. Default: none.
    ///
    /// What is no PEM of these, a key of another certificate, or either without a `rediss://` URL, fails the build of the tier with
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config). To show a new certificate, build a new tier.
    ///
    /// ```no_run
    /// # fn example() -> cache_core::Result<()> {
    /// # let (certificate, key): (Vec<u8>, Vec<u8>) = Default::default();
    /// let tier = cache_redis::RedisTier::builder("rediss://redis.internal").tls_identity(&certificate, &key).lazy()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls_identity(self, certificate: &[u8], key: &[u8]) -> Self {
        self.trusting(|trust| trust.set_identity(certificate, key))
    }

    /// How long a dial may take: name lookup, connect, TLS, authentication, and the scripts. Default 500 ms. Of a name's addresses each gets 50 ms
    /// before the next is tried beside it, so that one that leads nowhere does not take all.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.with(|config| config.connect_timeout = timeout)
    }

    /// Who carries the commands over the connections to the data nodes; default [`Driver::Own`], which is the faster. Sentinels are asked by the
    /// tier's own in any case. What differs with fred is in the [crate's documentation](crate#fred).
    ///
    /// ```
    /// use cache_redis::{Driver, RedisTier};
    ///
    /// let builder = RedisTier::cluster(["redis://node-0:6379", "redis://node-1:6379"]).driver(Driver::Fred);
    /// ```
    #[cfg(feature = "fred")]
    pub fn driver(self, driver: Driver) -> Self {
        self.with(|config| config.driver = driver)
    }

    /// The longest record to store or to hand out, header included; default 8 MiB, and 512 MiB at most, for Redis takes no longer strings.
    ///
    /// A fill or put of a larger one fails with [`ErrorKind::TooLarge`](cache_core::ErrorKind::TooLarge) and is not sent. A
    /// larger one that is read is cut off after its header, which makes it an unreadable record: a miss, that a load replaces.
    pub fn max_record_bytes(self, bytes: usize) -> Self {
        self.with(|config| config.max_record_bytes = bytes)
    }

    /// Sends reads, and nothing else, to replicas: always, or only while the master is away. Default: never. The replicas of a cluster are those
    /// that its map names, with Sentinels those that they name and take for well; for one node they are [listed](Self::replicas).
    ///
    /// A value from a replica may be old: one that another process has invalidated is served for as long as the replica lags, **without limit if
    /// its link to the master is broken**: Redis serves on, unless the replica is configured with `replica-serve-stale-data no`. Sentinels tell of such
    /// a link, and the replica is left out; a cluster does not. Likewise a replica may not have a value yet, and a `get` finds none. A value is marked
    /// [`Unverified`](cache_core::Freshness::Unverified), counted in [`from_replicas`](cache_core::TierStats::from_replicas), and never kept in L1; loads
    /// and refreshes are decided by the master alone: where a replica has nothing to serve, an acquire says whether the master has.
    ///
    /// What *this* tier and its clones have invalidated or written is read from the master until the tombstone's life (a minute) is over: they see no
    /// older value of it, unless the replica lags by more than that. After a clear, or an invalidation of a prefix, that is so of every key.
    ///
    /// A replica that is away, loading, or says that its master is down or the slot another's costs a read no more than half its timeout, and then
    /// the master is asked; for a second it is left alone. Of several replicas each read takes one by chance.
    ///
    /// Costs a connection to each replica, 256 KiB of memory, and a hash of the key with each read. The user needs `READONLY` and `ROLE`.
    ///
    /// ```
    /// use cache_redis::{RedisTier, ReplicaReads};
    ///
    /// let cluster = RedisTier::cluster(["redis://node-0:6379", "redis://node-1:6379"]).read_from_replicas(ReplicaReads::WhenMasterIsAway);
    /// ```
    pub fn read_from_replicas(self, when: ReplicaReads) -> Self {
        Self(self.0.map(|plan| Plan { replica_reads: Some(when), ..plan }))
    }

    /// The replicas of one node: `redis://host[:port]` or `unix:///path`. Login, database and options are the tier's.
    ///
    /// Of no use without [`read_from_replicas`](Self::read_from_replicas), and refused for a cluster and with Sentinels, which name their replicas
    /// themselves. A server here that is a master is not read from.
    ///
    /// ```
    /// use cache_redis::{RedisTier, ReplicaReads};
    ///
    /// let builder = RedisTier::builder("redis://:secret@redis-0:6379")
    ///     .replicas(["redis://redis-1:6379", "redis://redis-2:6379"])
    ///     .read_from_replicas(ReplicaReads::Preferred);
    /// ```
    pub fn replicas<U: AsRef<str>>(self, urls: impl IntoIterator<Item = U>) -> Self {
        Self(self.0.and_then(|mut plan| {
            for url in urls {
                let Parsed { address, config, is_tls } = parse(url.as_ref())?;
                if config.login.is_some() || config.database != 0 {
                    let text = "login and database are the same for all: remove them from the URLs of the Redis replicas";
                    return Err(config_error(text));
                }
                if is_tls != plan.is_tls {
                    return Err(config_error("some of the Redis URLs ask for TLS and some do not"));
                }
                plan.replicas.push(address);
            }
            Ok(plan)
        }))
    }

    /// Dials, and returns as soon as the first dial has succeeded or failed, within the connect timeout.
    ///
    /// A Redis that is down is weather and no error: the tier is returned, its calls fail at once, and it comes up by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config) for a URL, option, database number or certificate that cannot work, an expired one
    /// among them, [`ErrorKind::Credentials`](cache_core::ErrorKind::Credentials) if Redis refuses the user, the password or a permission.
    pub async fn connect(self) -> Result<RedisTier> {
        let tier = self.lazy()?;
        tier.nodes().first_dial().await?;
        if let Some(replicas) = tier.replicas() {
            replicas.first_dial().await?;
        }
        Ok(tier)
    }

    /// A tier that dials at its first call, which waits for that dial within its own timeout.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cache_core::ErrorKind::Config) for a URL or option that cannot work. Refused credentials and a server's
    /// certificate fail the calls instead, with [`ErrorKind::Credentials`](cache_core::ErrorKind::Credentials) and `Config`: a service built
    /// so starts without L2.
    pub fn lazy(self) -> Result<RedisTier> {
        let Plan { topology, mut config, is_tls, trust, replica_reads, replicas } = self.0?;
        for (name, value) in [("timeout", config.timeout), ("connect timeout", config.connect_timeout)] {
            if value < Duration::from_millis(1) {
                return Err(config_error(format!("the {name} of the Redis tier must be at least 1 ms")));
            }
        }
        if config.max_record_bytes < cache_core::record::HEADER_LEN {
            return Err(config_error("max_record_bytes must hold at least a record's header of 92 bytes"));
        }
        if config.max_record_bytes > LONGEST_STRING {
            return Err(config_error("max_record_bytes must be 512 MiB at most: Redis has no longer strings"));
        }
        if is_tls {
            config.tls = Some(trust.build()?);
        } else if trust.is_given() {
            return Err(config_error("TLS roots and certificates are of no use without TLS: write rediss:// in the Redis URL"));
        }
        let config = Arc::new(config);
        let place = match &topology {
            Topology::One(Address::Sentinel(_)) | Topology::Cluster(_) if !replicas.is_empty() => {
                return Err(config_error("the Redis cluster or its Sentinels name the replicas: list none"));
            }
            Topology::One(Address::Sentinel(sentinels)) => Place::Named(Named::new(config.clone(), sentinels.clone())),
            Topology::Cluster(_) => Place::Map,
            Topology::One(_) => Place::listed(&config, replicas),
        };
        let replicas = match (replica_reads, place) {
            (Some(_), Place::Listed(replicas)) if replicas.is_empty() => {
                return Err(config_error("reads from Redis replicas are asked for, and none is listed"));
            }
            (None, Place::Listed(replicas)) if !replicas.is_empty() => {
                return Err(config_error("Redis replicas are listed: say when to read from them"));
            }
            (when, place) => when.map(|when| Replicas::new(when, place)),
        };
        let nodes = match topology {
            Topology::One(address) => Nodes::One(Arc::new(Node::new(config.clone(), address))),
            Topology::Cluster(seeds) => Nodes::Cluster(Cluster::new(config.clone(), seeds, replica_reads.is_some())),
        };
        Ok(RedisTier::new(config, nodes, replicas))
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        if let Ok(plan) = &mut self.0 {
            change(&mut plan.config);
        }
        self
    }

    #[cfg(feature = "tls")]
    fn trusting(self, change: impl FnOnce(&mut Trust) -> Result<()>) -> Self {
        Self(self.0.and_then(|mut plan| change(&mut plan.trust).map(|()| plan)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_core::ErrorKind;

    fn refused(url: &str) -> String {
        let err = RedisTier::lazy(url).expect_err("a wrong URL");
        assert_eq!(err.kind(), ErrorKind::Config, "{err}");
        assert!(!format!("{err} {err:?}").contains("canary"), "{err:?}");
        err.to_string()
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_is_wrong_and_without_quoting_it() {
        for (url, says) in [
            ("", "not a Redis URL"),
            ("canary", "not a Redis URL"),
            ("http://canary/", "scheme"),
            ("rediss://:canary@host/#insecure", "verified"),
            ("rediss://:canary@0.0.0.0/", "wildcard"),
            ("redis://:canary@/", "wrong"),
            ("redis://:canary@host:99999/", "wrong"),
            ("redis://:canary@host/canary", "database number"),
            ("redis://:canary@host/-1", "negative"),
            ("redis://0.0.0.0/", "wildcard"),
            ("redis://:canary@host/?protocol=canary", "protocol"),
        ] {
            let text = refused(url);
            assert!(text.contains(says), "{url}: {text}");
        }
        let mixed = RedisTier::cluster(["redis://a/", "redis://b/?protocol=resp3"]).lazy().expect_err("one or the other");
        assert!(mixed.kind() == ErrorKind::Config && mixed.to_string().contains("RESP3"), "{mixed}");
    }

    #[test]
    fn a_url_chooses_the_protocol() {
        for (url, resp3) in
            [("redis://host/", false), ("redis://host/?protocol=resp2", false), ("redis://host/?protocol=resp3", true)]
        {
            assert_eq!(parse(url).unwrap().config.resp3, resp3, "{url}");
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn a_url_of_tls_without_the_feature_is_refused_and_the_feature_is_named() {
        for url in ["rediss://:canary@host/", "valkeys://:canary@host/"] {
            let text = refused(url);
            assert!(text.contains("feature `tls`"), "{url}: {text}");
        }
    }

    #[test]
    fn a_url_gives_address_credentials_and_database() {
        let Parsed { address, config, .. } = parse("redis://user:p%40ss@example.org:6380/3").unwrap();
        assert!(matches!(&address, Address::Tcp(host, 6380) if host == "example.org"));
        let login = config.login.unwrap();
        assert_eq!((login.username.as_deref(), login.password.as_str()), (Some("user"), "p@ss"));
        assert_eq!(config.database, 3);
        let Parsed { address, .. } = parse("redis://[::1]").unwrap();
        assert!(matches!(&address, Address::Tcp(host, 6379) if host == "::1"));
    }

    #[test]
    fn urls_of_one_tier_that_say_different_things_are_refused_and_one_may_speak_for_all() {
        let first = "redis://user:canary@a/2";
        for (url, says) in [
            ("redis://user:canary2@b/2", "logins"),
            ("redis://:canary@b/2", "logins"),
            ("redis://canary@b/2", "logins"),
            ("redis://user:canary@b/3", "databases"),
            ("rediss://user:canary@b/2", "TLS"),
        ] {
            for urls in [[first, first, url], [first, "redis://b", url]] {
                let err = parse_all(urls).map(drop).expect_err("they differ");
                assert!(err.kind() == ErrorKind::Config && err.to_string().contains(says), "{url}: {err}");
                assert!(!format!("{err:?}").contains("canary"), "{err:?}");
            }
        }
        let err = parse_all(["redis://a", "redis://:canary@b"]).map(drop).expect_err("the first has none");
        assert!(err.to_string().contains("logins"), "{err}");
        for urls in [[first, first], [first, "redis://b"]] {
            let (addresses, config, _) = parse_all(urls).expect("they do not differ");
            assert_eq!(
                (addresses.len(), config.database, config.login.map(|login| login.password)),
                (2, 2, Some("canary".into()))
            );
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        let builder = || RedisTier::builder("redis://localhost/");
        assert!(builder().timeout(Duration::ZERO).lazy().is_err());
        assert!(builder().connect_timeout(Duration::ZERO).lazy().is_err());
        assert!(builder().max_record_bytes(91).lazy().is_err());
        let err = builder().max_record_bytes(LONGEST_STRING + 1).lazy().expect_err("no such string");
        assert!(err.kind() == ErrorKind::Config && err.to_string().contains("512 MiB"), "{err}");
        assert!(builder().max_record_bytes(LONGEST_STRING).lazy().is_ok());
        assert!(builder().lazy().is_ok());
    }

    #[test]
    fn replicas_that_cannot_be_read_from_are_refused() {
        const REPLICA: [&str; 1] = ["redis://canary:1"];
        let one = || RedisTier::builder("redis://localhost/");
        let when = ReplicaReads::Preferred;
        for (builder, says) in [
            (one().read_from_replicas(when), "none is listed"),
            (one().replicas(REPLICA), "say when"),
            (one().replicas(["redis://:canary@host"]).read_from_replicas(when), "the same for all"),
            (one().replicas(["redis://canary/1"]).read_from_replicas(when), "the same for all"),
            (one().replicas(["rediss://canary"]).read_from_replicas(when), "TLS"),
            (RedisTier::cluster(["redis://host"]).replicas(REPLICA).read_from_replicas(when), "list none"),
            (RedisTier::sentinel("name", ["redis://host"]).replicas(REPLICA).read_from_replicas(when), "list none"),
        ] {
            let err = builder.lazy().expect_err("it cannot work");
            assert!(err.kind() == ErrorKind::Config && err.to_string().contains(says), "{err}");
            assert!(!format!("{err:?}").contains("canary"), "{err:?}");
        }
        assert!(one().replicas(REPLICA).read_from_replicas(when).lazy().is_ok());
        assert!(RedisTier::cluster(["redis://host"]).read_from_replicas(when).lazy().is_ok());
    }

    #[test]
    fn debug_shows_no_part_of_the_url() {
        let builder = RedisTier::builder("redis://canary:canary@canary:1/");
        assert!(!format!("{builder:?}").contains("canary"));
        assert!(!format!("{:?}", builder.lazy().unwrap()).contains("canary"));
    }
}
