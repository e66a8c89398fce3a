//! What Redis says of itself: INFO, as a typed struct.

use crate::multiplexer::Request;
use crate::node::Node;
use crate::tier::{RedisTier, failed, read};
use bytes::Bytes;
use cache_core::Result;
use futures_util::future::join_all;
use std::time::Duration;
use std::time::Instant;

/// Texts that INFO gives are cut off here.
const LONGEST_TEXT: usize = 64;

/// What a server is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It takes writes.
    Master,
    /// It follows a master.
    Replica,
}

/// Figures of one server, since its start unless told, and of all who use it. `None` is what it does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Version, `7.0.15` for instance. Valkey gives the version of Redis that it stands in for.
    pub version: Option<String>,
    /// Master or replica.
    pub role: Option<Role>,
    /// Replicas that follow it.
    pub replicas: Option<u64>,
    /// Of those, the ones that do not lag: told only where `min-replicas-to-write` is set.
    pub good_replicas: Option<u64>,
    /// Of those that follow it, the ones that have all its data and take in what is new; the others are copying it, or waiting to.
    pub replicas_online: Option<u64>,
    /// The longest since one of those that are online has told how far it is, in whole seconds: each does once a second.
    pub replica_lag: Option<Duration>,
    /// Bytes of the stream of writes that the furthest of those that are online had not taken in by what it told last.
    pub replica_behind: Option<u64>,
    /// Time since its start, in whole seconds.
    pub uptime: Option<Duration>,
    /// Connections from clients, this tier's included.
    pub clients: Option<u64>,
    /// Bytes in use (`used_memory`).
    pub memory_used: Option<u64>,
    /// The most bytes it may use; 0 is no limit.
    pub memory_max: Option<u64>,
    /// What it evicts when it has no more: `allkeys-lru` for instance, or `noeviction`.
    pub eviction_policy: Option<String>,
    /// Keys in all its databases, those included that have expired and were not yet noticed.
    pub keys: u64,
    /// Lookups that found a key.
    pub hits: Option<u64>,
    /// Lookups that found none.
    pub misses: Option<u64>,
    /// Keys that went for want of memory.
    pub evicted: Option<u64>,
    /// Keys that went because their time was over.
    pub expired: Option<u64>,
}

impl RedisTier {
    /// The figures of each master, in no particular order; one result if there is one server, or if no node of a cluster is known. One `INFO` a node,
    /// all at once, within the timeout: some 30 µs of Redis' time each. Safe to cancel.
    ///
    /// ```no_run
    /// # async fn example(tier: cache_redis::RedisTier) {
    /// for info in tier.server_info().await {
    ///     match info {
    ///         Ok(info) => println!("{:?} of {:?} bytes, {} keys", info.memory_used, info.memory_max, info.keys),
    ///         Err(err) => println!("no figures: {err}"),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// For each master: [`ErrorKind::Credentials`](cache_core::ErrorKind::Credentials) if the tier's user may not call `INFO`;
    /// [`ErrorKind::Unavailable`](cache_core::ErrorKind::Unavailable) and [`ErrorKind::Timeout`](cache_core::ErrorKind::Timeout).
    pub async fn server_info(&self) -> Vec<Result<ServerInfo>> {
        let deadline = self.deadline();
        match self.nodes().masters(deadline).await {
            Ok(masters) => join_all(masters.iter().map(|master| info(master, deadline))).await,
            Err(err) => {
                failed("server_info", &err);
                vec![Err(err)]
            }
        }
    }
}

pub(super) async fn info(node: &Node, deadline: Instant) -> Result<ServerInfo> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg(&["server", "clients", "memory", "stats", "replication", "keyspace"]);
    let called = node.send(deadline, Request::Run(&cmd)).await;
    let text = called.and_then(|called| read::<Bytes>(called.reply)).inspect_err(|err| failed("server_info", err))?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Lines of `field:value`. What is not understood is left out.
fn parse(text: &str) -> ServerInfo {
    let mut info = ServerInfo::default();
    let (mut offset, mut furthest) = (None, None);
    for (field, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
        let number = || value.parse::<u64>().ok();
        match field {
            "redis_version" => info.version = plain(value),
            "role" => {
                info.role = match value {
                    "master" => Some(Role::Master),
                    "slave" => Some(Role::Replica),
                    _ => None,
                }
            }
            "connected_slaves" => info.replicas = number(),
            "min_slaves_good_slaves" => info.good_replicas = number(),
            "master_repl_offset" => offset = number(),
            "uptime_in_seconds" => info.uptime = number().map(Duration::from_secs),
            "connected_clients" => info.clients = number(),
            "used_memory" => info.memory_used = number(),
            "maxmemory" => info.memory_max = number(),
            "maxmemory_policy" => info.eviction_policy = plain(value),
            "keyspace_hits" => info.hits = number(),
            "keyspace_misses" => info.misses = number(),
            "evicted_keys" => info.evicted = number(),
            "expired_keys" => info.expired = number(),
            _ if is_numbered(field, "slave") => {
                if let Some((lag, taken_in)) = follower(value) {
                    info.replicas_online = Some(info.replicas_online.unwrap_or(0).saturating_add(1));
                    info.replica_lag = info.replica_lag.max(Some(lag));
                    furthest = Some(furthest.map_or(taken_in, |furthest: u64| furthest.min(taken_in)));
                }
            }
            _ => {
                let is_database = is_numbered(field, "db");
                if is_database {
                    // keys=3,expires=1,avg_ttl=0
                    let keys = value.split(',').find_map(|figure| figure.strip_prefix("keys=")?.parse::<u64>().ok());
                    info.keys = info.keys.saturating_add(keys.unwrap_or(0));
                }
            }
        }
    }
    if info.replicas.is_some() {
        info.replicas_online.get_or_insert(0);
    }
    info.replica_behind = offset.zip(furthest).map(|(offset, furthest)| offset.saturating_sub(furthest));
    info
}

fn is_numbered(field: &str, of: &str) -> bool {
    field.strip_prefix(of).is_some_and(|number| number.parse::<u32>().is_ok())
}

/// How long ago a replica that is online told how far it is, and how far that was, of `ip=…,port=…,state=online,offset=12,lag=0`.
fn follower(value: &str) -> Option<(Duration, u64)> {
    let figure = |name: &str| {
        value.split(',').find_map(|figure| figure.split_once('=').filter(|(of, _)| *of == name)).map(|(_, figure)| figure)
    };
    let (lag, offset) = (figure("lag")?.parse().ok()?, figure("offset")?.parse().ok()?);
    (figure("state")? == "online").then_some((Duration::from_secs(lag), offset))
}

/// A text that may go into a log or onto a page as it is.
fn plain(value: &str) -> Option<String> {
    (value.len() <= LONGEST_TEXT && value.bytes().all(|byte| byte.is_ascii_graphic())).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_are_read_and_unknown_fields_are_left_out() {
        let text = "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:12\r\nnew_in_9:yes\r\n\r\n# Clients\r\nconnected_clients:3\r\n\
            used_memory:1048576\r\nused_memory_human:1.00M\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nrole:master\r\nconnected_slaves:3\r\n\
            slave0:ip=127.0.0.1,port=7001,state=online,offset=990,lag=1\r\nslave1:ip=::1,port=7002,state=online,offset=400,lag=0\r\n\
            slave2:ip=127.0.0.1,port=7003,state=wait_bgsave,offset=0,lag=9\r\nmaster_repl_offset:1000\r\n\
            keyspace_hits:10\r\nkeyspace_misses:2\r\nevicted_keys:1\r\nexpired_keys:4\r\n\
            # Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\ndb12:keys=4,expires=0,avg_ttl=0\r\ndbx:keys=9\r\n";
        let info = parse(text);
        let wanted = ServerInfo {
            version: Some("7.0.15".to_owned()),
            role: Some(Role::Master),
            replicas: Some(3),
            good_replicas: None,
            replicas_online: Some(2),
            replica_lag: Some(Duration::from_secs(1)),
            replica_behind: Some(600),
            uptime: Some(Duration::from_secs(12)),
            clients: Some(3),
            memory_used: Some(1 << 20),
            memory_max: Some(0),
            eviction_policy: Some("allkeys-lru".to_owned()),
            keys: 7,
            hits: Some(10),
            misses: Some(2),
            evicted: Some(1),
            expired: Some(4),
        };
        assert_eq!(info, wanted);
    }

    #[test]
    fn what_makes_no_sense_is_not_told() {
        let text = format!(
            "redis_version:{}\nrole:emperor\nused_memory:-1\nmaxmemory:99999999999999999999\nkeyspace_hits:1e3\ndb0:keys=x\n\
             maxmemory_policy:a\u{1b}[31m\ndb1:keys=18446744073709551615\ndb2:keys=2",
            "7".repeat(65)
        );
        assert_eq!(parse(&text), ServerInfo { keys: u64::MAX, ..ServerInfo::default() });
    }

    proptest! {
        #[test]
        fn hostile_text_is_no_panic(text in "((redis_version|(db|slave)[0-9]{0,12}|role|uptime_in_seconds):?[-0-9a-z=,:\u{0}é]{0,30}\r?\n?){0,8}") {
            let info = parse(&text);
            prop_assert!(info.version.is_none_or(|version| version.len() <= LONGEST_TEXT));
        }
    }
}
