//! The Redis tier of cachestack: [`RedisTier`] is a [`RemoteTier`](cache_core::RemoteTier) on one Redis node, on the master that Sentinels name, or on a
//! Redis Cluster.
//!
//! ```no_run
//! # async fn example() -> cache_core::Result<()> {
//! use cache_redis::RedisTier;
//!
//! let tier = RedisTier::connect("redis://:password@localhost:6379/0").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Redis 7.0 or later; what is tested is 7.0.15. It is spoken to in RESP2, or in RESP3 where the URL says `?protocol=resp3`, but for Sentinels: to the tier they are the same, and
//! RESP3 is for a proxy or rules that want `HELLO`. [Tracking](RedisTierBuilder::tracking) takes RESP3 by itself, on the connection that listens. Its user needs `AUTH`, `TIME`, `INFO`, `GET`, `MGET`, `SCAN`, `SCRIPT LOAD`, `EVALSHA`, and within scripts
//! `GETRANGE`, `SETRANGE`, `SET`, `EXISTS`, `PTTL`, `PEXPIRETIME`, `PEXPIREAT`, `DEL` and `UNLINK`; in a cluster also `CLUSTER SLOTS` and `ASKING`; for the
//! master of Sentinels also `ROLE`, and for replicas `READONLY` and `ROLE`. Counters need `INCRBY` and `GET` in scripts too. For [other nodes to
//! hear of invalidations](#other-nodes) it needs `MSET`, `PUBLISH`, `SUBSCRIBE` and `PING`, in a cluster `SPUBLISH`,
//! `SSUBSCRIBE` and `SUNSUBSCRIBE`, and the channels `&<key prefix>{*}:!*`. Users of Redis 7 have no channels unless they are granted. [Tracking](RedisTierBuilder::tracking)
//! needs `HELLO` and `CLIENT TRACKING`, and a [doctor](cache_core::TieredCache::doctor) can say more with `CLIENT LIST`.
//!
//! # Many calls at once
//!
//! Calls need not be gathered by hand: those that come at the same time share a connection and go out in one write, and Redis answers them in one; GETs, acquires,
//! fills and invalidations are one command for several keys then, but in a cluster. Nobody
//! waits for a batch to fill, and a cancelled call leaves the others their own replies.
//!
//! # When Redis is away
//!
//! All calls to a node share one connection, which a task of the tier's own keeps up. A driver alone does not: some never redial, some make
//! calls wait for the redial, and none replaces a connection that is open but dead. So connections are not a driver's here.
//!
//! | what happens | what calls see | what the tier does |
//! |---|---|---|
//! | down at start, or the port refuses later | [`Unavailable`] at once | dials every 10 to 250 ms, with jitter and a new name lookup; of several addresses the next is tried beside the others after 50 ms |
//! | killed, restarted, or the connection is reset | [`Unavailable`] at once, outcome unknown if under way | the same; what Redis had is gone, and is a miss |
//! | Redis hangs, or the network swallows packets | [`Timeout`] after the timeout | after 5 in a row, with nothing read in between, drops the connection and dials |
//! | the connection is open and dead, while new ones work | the same | the same |
//! | idle on a dead connection | nothing | probes every 2 s, and drops it likewise |
//! | ten times the latency, or a long reply that takes longer than the timeout | nothing within the timeout, else [`Timeout`] | nothing while bytes keep coming, however late; the same when they stop |
//! | the way carries less than is asked for, so that all would be late | [`Overloaded`] at once for what it does not carry | lets in as many calls as were answered in one timeout, and more again when they are answered in time |
//! | a failover leaves a replica at the address, or behind the name | [`Unavailable`] for the first write | drops the connection and dials |
//! | Sentinels: the master dies | [`Unavailable`] at once | asks them at each dial, the next one after 50 ms, takes none but a master |
//! | cluster: a master dies | [`Unavailable`] at once for its own keys, until a replica takes over; no others notice | asks the others for the slots, the next one after 50 ms |
//! | cluster: slots move | nothing | follows MOVED and ASK, tries TRYAGAIN again |
//! | cluster: a slot is given away without its keys | a miss | follows it |
//! | restart, `SCRIPT FLUSH`, a failover | nothing | loads the script again, once, and repeats the call |
//! | out of memory, `noeviction` | [`Unavailable`] for acquire, fill and put; reads go on | nothing |
//! | the same, for an invalidation | nothing | puts the tombstone in the record's place, or removes the record; [`Unavailable`] if neither is taken |
//! | `allkeys-lru` and the like evict | a miss; a fill whose lease has gone is refused | nothing: this is how Redis should be run |
//! | any other reply that is an error (BUSY, LOADING, CLUSTERDOWN, …) | [`Unavailable`]; never a value | nothing |
//! | credentials or a permission refused | [`Credentials`] | [`connect`](RedisTier::connect) fails with it; later, dials every 1 to 2 s |
//! | TLS: a certificate that has expired, or is another's; no TLS there | [`Config`] at once | the same, and no password is sent |
//! | a call is cancelled, even in the middle of its reply | nothing | lets the command run; its reply is nobody's, least of all the next call's |
//! | who holds a lease dies | `Busy` until the lease ends by Redis' clock, then it is granted | nothing |
//! | a load outlives its lease | its fill is refused, if another load, a write or an invalidation came meanwhile | nothing |
//! | a record is damaged, cut short, or another key's | bytes that [`Record`](cache_core::record::Record) refuses: a miss | an acquire by force replaces it |
//! | a record is of a newer schema or format | `Newer`: a miss | leaves it alone |
//! | a record is larger than `max_record_bytes` | [`TooLarge`] when written; when read, its header alone: a miss | frees the rest |
//! | what stands there is not the library's | `Foreign`: a miss | leaves it alone |
//!
//! A [`TieredCache`](cache_core::TieredCache) above it answers its reads from the origin through all of this, one load a key at a time, and gives
//! an invalidation's error to who asked for it. What real servers can be made to do is tested with them, in `tests` here or in `tests/faults` of the workspace; silent networks, several addresses of a name and bent replies by what poses as one.
//!
//! A call counts as not answered once its time is over, whether or not its caller still waits, unless something was read in the second half of that
//! time; whatever is read begins the count anew. So a dead connection under traffic is given up within about one and a half timeouts of five calls, and one
//! caller at a time takes five timeouts.
//!
//! In [layers](cache_core::layers::Guarded), give them more time than the tier, as the defaults do: 120 ms of the 150 there, and 100 ms here. When a call
//! to one master of a cluster fails while at least half of the others are well, its error is [that of a part](cache_core::Error::is_partial), which no
//! circuit breaker counts: a master that is dead, hangs, or answers that it is loading, busy or read-only closes the way to none of the others. Other
//! answers that are errors count.
//!
//! One warning is traced when the connection is lost, one event at `INFO` when it is back, and failed calls at `DEBUG`. No event
//! and no error shows an address, a user, a password, a key or a value.
//!
//! # Other nodes
//!
//! The keys of a deployment (one key prefix in one database) are in 256 partitions. Beside its records each has a string `prefix{tag}:!m`, without
//! expiry: its *incarnation*, its *sequence*, and the *history* of the server that took it, eight bytes each. An invalidation with a
//! [`Notice`](cache_core::Notice) is one script: the next sequence of each partition, the tombstones, and a message a partition on the channel
//! `prefix{tag}:!database`; in a cluster a script a partition. Every node listens, on a connection of its own to each master, and [polls](cache_core::RemoteTier::poll) how far the
//! sequences have come: what was lost on the way shows as a gap.
//!
//! | what happens | what is said | what the tier does |
//! |---|---|---|
//! | a message is lost, or `PUBLISH` is refused | nothing; the poll shows a sequence that was not heard | nothing |
//! | the subscription ends, or two `PING`s a second apart are not answered | deaf, at once | dials every 10 to 250 ms, subscribes, makes sure that a message comes back: then listening |
//! | the subscription is to another server than the data's connection | deaf, within a second | the same |
//! | the user lacks a permission, a proxy passes no messages | deaf from the start, and one warning with what is missing | tries again every 1 to 2 s |
//! | a master was restarted, restored or promoted | another history, other incarnations | every script that takes a sequence compares the server's `run_id` and `master_replid` with the history |
//! | that string is lost, evicted or flushed | another incarnation | begins it |
//! | Redis is a replica, or is away | the poll of its partitions fails, no others | as for any call |
//! | out of memory, `noeviction`, and the key has no record | `Ok` without a receipt; the poll fails until there is memory, then another incarnation | ends the incarnation, which needs no memory, and publishes a message without a sequence |
//! | cluster: a slot moves | deaf for its partition, then listening; another incarnation | follows the map; while it moves, tombstones and telling are two steps |
//!
//! # Replicas
//!
//! By default nothing is read from replicas. [`read_from_replicas`](RedisTierBuilder::read_from_replicas) says when to: only
//! [while the master is away](ReplicaReads::WhenMasterIsAway), or [always](ReplicaReads::Preferred). Only `get` and `get_many` go there.
//!
//! | what happens | what a read sees |
//! |---|---|
//! | the replica lags | what was true that long ago, marked [`Unverified`]; never of a key that this tier wrote within the tombstone's life |
//! | the replica is gone, loading, cut off and says so, or has not the slot | the master's answer, in the same time |
//! | the replica hangs | the master's answer, after half the timeout; for a second no read asks it again |
//! | the replica has been made a master | the master's answer; nobody else's values are read |
//! | the master is away | the replica's value, marked; [`Unavailable`] for what this tier wrote within the tombstone's life |
//! | the master hangs | [`Timeout`], until its connection is given up after 5 in a row; then as above |
//! | both are away | [`Unavailable`] |
//!
//! **How old** such a value can be nobody can say: as old as the replica lags, which is milliseconds as a rule, and as long as it is cut off
//! otherwise; its own TTL is the only bound. With `replica-serve-stale-data no` a replica answers nothing while it is cut off, the death of its master
//! included; then nothing stands in for that. In a cluster, one that has lost a master's slots refuses all reads once it has noticed, unless
//! `cluster-allow-reads-when-down yes`. The tier remembers what it wrote by hash, in 256 KiB: of many writes, more keys than were written are read from
//! the master. A process that was started anew remembers nothing.
//!
//! # TLS
//!
//! With the feature `tls`, a URL of `rediss://` or `valkeys://` means TLS, by rustls. It holds for every connection by host and port that the tier
//! makes: to nodes that a cluster announces and to masters that Sentinels name as well. Nothing is ever sent in plain instead, and certificates are
//! always verified, by the host name or address through which the server is reached. Who is trusted, and the tier's own certificate, are given to
//! the [builder](RedisTierBuilder); default are the platform's authorities. Each dial shakes hands in full, so that a certificate counts as it is
//! today; revocation lists are not looked at. A connection that is up when its certificate expires stays up. With a certificate that is refused
//! [`connect`](RedisTier::connect) fails; a service that shall start without its Redis then uses [`lazy`](RedisTier::lazy).
//!
//! # fred
//!
//! With the feature `fred`, `RedisTierBuilder::driver` has [fred](https://docs.rs/fred) 10 carry the commands: one centralised client a node, for every
//! topology, under the same supervisor, slot map, scripts and verbs. The table above holds with it, but for what follows. It is for services
//! that have settled on fred; the tier's own multiplexer does less for a call, and is the default.
//!
//! | fred's fault | here |
//! |---|---|
//! | calls hang for ever once a connection has ended that may not reconnect; with a policy for it, calls wait for the redial and are repeated | mended: it may not, and nothing is repeated; calls end with the connection, which the supervisor replaces |
//! | no timeout for commands, 10 s for a connection | mended: the tier's timeouts bound each call and each dial |
//! | a connection that is open and dead is never replaced | mended: it is, after five calls without an answer, or by the probes when idle |
//! | a cluster client blocks every key while one master is down, and takes no command of several slots | mended: a client for each node, under our slot map |
//! | its queue has no limit | mended: beyond 64 MiB of commands that are not answered, cancelled ones included, a call is `Overloaded` |
//! | an `AUTH` with a password that the server has not is taken for accepted; a refused certificate is told as text | mended: each dial has our own connection log in first, and drops it. So a dial costs two connections, one after the other |
//! | no lock-step of `ASKING` and its command | mended: what belongs together is handed over together |
//! | it logs by the crate `log`, under the target `fred`, and shows addresses and what servers say of users; with `tls`, rustls logs host names | stays: filter both targets where that must not be |
//! | a reply is read into memory whole, however long | stays: `max_record_bytes` bounds what is written and handed out, not what is read |
//! | while a large command is being written no reply is read | stays: calls behind it wait, within their timeout |
//! | an answer that comes too late, or is still coming, is not seen | stays: five late ones in a row replace the connection, as five lost ones do; a call that its caller gave up sooner does not count |
//! | `CLUSTERDOWN` is taken for the end of the connection | stays: the calls under way there fail, and it is dialled anew |
//! | the other end closes while much is still to be written: up to 5 s are spent on that | stays: calls end by their timeouts until the supervisor gives it up |
//! | an array whose first element is a word of publish and subscribe is swallowed, and later replies would be another's | no command of the tier has such a reply: stored bytes are read by GET |
//! | it sends `PING` or `AUTH`, `CLIENT ID` and `INFO server` when it connects | stays: a user without a password needs `PING`; the others may be refused |
//! | each call takes a place in a channel, a timer, a channel for its reply and several allocations | stays: some 7 µs of this process' CPU a GET with 128 tasks, where our own takes 0.9 (beside other work, on the machine below) |
//!
//! # Besides caching
//!
//! | what for | how |
//! |---|---|
//! | rates, mentions: [`increment`](RedisTier::increment), [`counter`](RedisTier::counter), [`reset_counter`](RedisTier::reset_counter) | a plain integer beside the records, its TTL set once |
//! | is there a value, how long: [`exists`](RedisTier::exists), [`remaining`](RedisTier::remaining), [`touch`](RedisTier::touch) | the record's header, by Redis' time |
//! | set if absent: [`insert_absent`](RedisTier::insert_absent) | acquire of the vacant key, and fill |
//! | all keys that begin alike: [`invalidate_prefix`](RedisTier::invalidate_prefix) | `SCAN` in batches on every master |
//! | memory, hits, evictions: [`server_info`](RedisTier::server_info) | `INFO` of each master |
//! | a probe: [`health`](RedisTier::health) | a script that Redis refuses where it would refuse a write |
//!
//! # Whose clock
//!
//! Records are stamped by Redis' own clock: a load's value with the time at which the lease was granted, all else inside the scripts. [`Fetched::now`](cache_core::Fetched::now) is the latest time that
//! this clock may have shown when the read was sent: it is measured when connecting, every 2 s, and by every script's answer, against
//! the local monotonic clock. A drift of 1,000 ppm between the two is allowed for, and a clock that is set is noticed by the
//! next measurement. After a suspension of this machine the time may be too early until then.
//!
//! # Cost
//!
//! Every verb reads and writes heads of records only; the size of a value matters where it is sent. Thousands of instructions outside the kernel that the server
//! carries out a call, which no clock and no other work sway, by Callgrind, at 100 B, and before the scripts were made cheaper:
//!
//! | call | before | now | one of 16 at one time |
//! |---|---:|---:|---:|
//! | raw `GET` | 5.5 | 5.5 | |
//! | raw `SET` with `EX` | 10.8 | 10.8 | |
//! | acquire, nothing there | 96 | 51 | 31 |
//! | acquire, over a tombstone | 108 | 90 | 60 |
//! | acquire, answered by a hit | 74 | 62 | 40 |
//! | fill | 100 | 44 | 33 |
//! | fill, with a floor | 105 | 53 | 33 |
//! | release | 54 | 39 | |
//! | put | 99 | 61 | |
//! | invalidate one key, a value | 99 | 48 | 33 |
//! | the same, and tell other nodes | 100 | 87 | 56 |
//!
//! Of those 56 a script that does nothing but read the header and set the tombstone takes 22, and the three commands that tell 9; the rest is Lua's strings.
//!
//! An acquire tries to set before it looks: after a read that missed there is mostly nothing, and where there is something it pays for both. A miss, with its GET, was
//! measured at 0.69 of the driver's GET and SET so, with 128 tasks, from 0.39 the same minute, beside other work.
//!
//! What makes a long fill dear is not the script's own work: Redis' Lua hashes every byte of every string, the value's too. By Redis' own account (`INFO commandstats`) one of 64 KiB took
//! 113 µs where one of 100 B took 8. `cargo run --release -p cache-redis --example server_cost` says what it is on your machine.
//!
//! Measured on 2 vCPUs of an Intel Xeon under KVM, Redis 7.0.15, loopback, 21 November 2026.
//!
//! [`Unverified`]: cache_core::Freshness::Unverified
//! [`Unavailable`]: cache_core::ErrorKind::Unavailable
//! [`Overloaded`]: cache_core::ErrorKind::Overloaded
//! [`Timeout`]: cache_core::ErrorKind::Timeout
//! [`Credentials`]: cache_core::ErrorKind::Credentials
//! [`Config`]: cache_core::ErrorKind::Config
//! [`TooLarge`]: cache_core::ErrorKind::TooLarge
#![forbid(unsafe_code)]

mod backplane;
mod builder;
mod cluster;
mod config;
mod dial;
mod error;
mod first;
#[cfg(feature = "fred")]
mod fred;
mod invalidate;
mod link;
mod live;
mod loads;
mod marks;
mod multiplexer;
mod node;
mod nodes;
mod ops;
mod replicas;
mod resp3;
mod script;
mod sentinel;
mod server_time;
mod tier;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod url;
mod verbs;
mod vitals;

pub use builder::RedisTierBuilder;
pub use cache_core::KeyPrefix;
#[cfg(feature = "fred")]
pub use config::Driver;
pub use ops::{Health, NodeHealth, Remaining, Role, ServerInfo, Swept};
pub use replicas::ReplicaReads;
pub use tier::RedisTier;
