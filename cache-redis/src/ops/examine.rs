//! What a doctor should know of a Redis: whether its versions, policies and members fit what caches need.

use super::info::{ServerInfo, info};
use super::sequences::{Sequences, sequences};
use crate::dial::CLIENT_NAME;
use crate::multiplexer::Request;
use crate::node::Node;
use crate::tier::{RedisTier, read};
use bytes::Bytes;
use cache_core::{Examine, Examined, Finding, Result, Severity};
use futures_util::future::{join, join_all};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The oldest that has what the scripts use.
const OLDEST: u32 = 7;
/// A replica tells how far it is once a second: one that has not for so long lags, or is gone.
const LONGEST_LAG: Duration = Duration::from_secs(3);
/// More than caches write between two such times.
const FARTHEST_BEHIND: u64 = 16 << 20;

impl RedisTier {
    pub(crate) async fn examined(&self, examine: &Examine<'_>) -> Examined {
        let deadline = self.deadline();
        let Sequences { mut findings, servers } = sequences(self, examine.prefix, deadline).await;
        // Those of the sequences, where some slots have no node.
        let masters = match self.nodes().masters(deadline).await {
            Ok(masters) => masters,
            Err(err) => {
                let text = format!("{err}: the keys of those slots go without L2 until the cluster is whole");
                findings.push(Finding::new(Severity::Fault, "cluster", text));
                servers.iter().map(|(node, _)| node.clone()).collect()
            }
        };
        let asked = join_all(masters.iter().map(|master| info(master, deadline)));
        let names = join_all(masters.iter().map(|master| names(master, deadline)));
        let (infos, names) = join(asked, names).await;
        if self.nodes().are_many() && findings.iter().all(|finding| finding.about != "cluster") {
            let text = format!("{} masters have all slots between them", masters.len());
            findings.push(Finding::new(Severity::Fine, "cluster", text));
        }
        let mut versions = BTreeSet::new();
        for answer in infos {
            match answer {
                Ok(server) => {
                    versions.extend(server.version.clone());
                    findings.push(of_memory(&server, examine.strict));
                    findings.extend(of_replicas(&server));
                }
                Err(err) => {
                    findings.push(Finding::new(Severity::Warning, "server", format!("it tells nothing of itself: {err}")));
                }
            }
        }
        findings.extend(of_versions(&versions));
        findings.push(of_nodes(names));
        // What several masters have in common is said once.
        let mut said = BTreeSet::new();
        findings.retain(|finding| said.insert((finding.about, finding.text.clone())));
        let partitions = servers.into_iter().map(|(_, partition)| partition).collect();
        Examined { findings, partitions }
    }
}

/// The names of the clients that listen.
async fn names(node: &Node, deadline: Instant) -> Result<Vec<String>> {
    let mut cmd = redis::cmd("CLIENT");
    cmd.arg("LIST").arg("TYPE").arg("pubsub");
    let called = node.send(deadline, Request::Run(&cmd)).await?;
    let list = read::<Bytes>(called.reply)?;
    let name = |line: &str| line.split(' ').find_map(|field| field.strip_prefix("name=")).map(str::to_owned);
    Ok(String::from_utf8_lossy(&list).lines().filter_map(name).collect())
}

fn of_memory(server: &ServerInfo, strict: bool) -> Finding {
    let wanted = if strict { "noeviction, for strict writes count on their marks" } else { "volatile-lru" };
    let (Some(max), Some(policy)) = (server.memory_max, server.eviction_policy.as_deref()) else {
        let text = format!(
            "how much it may use, and what it evicts then, was not told: see that maxmemory is set, with maxmemory-policy {wanted}"
        );
        return Finding::new(Severity::Note, "memory", text);
    };
    let spares_sequences = policy.starts_with("volatile");
    let (severity, text) = match policy {
        _ if max == 0 => {
            (Severity::Note, format!("maxmemory is not set: Redis grows until the machine has no more. Set it, with maxmemory-policy {wanted}"))
        }
        "noeviction" if strict => (
            Severity::Note,
            "maxmemory-policy is noeviction, as strict writes need it. Once memory is used up, nothing new is stored and strict writes fail: watch it".to_owned(),
        ),
        "noeviction" => (
            Severity::Warning,
            "maxmemory-policy is noeviction: once memory is used up, nothing new is stored, and invalidations remove records instead of leaving \
                tombstones. Take volatile-lru"
                .to_owned(),
        ),
        _ if policy.starts_with("allkeys") || spares_sequences && strict => {
            let mut text = format!("maxmemory-policy is {policy}: it may evict");
            if strict {
                text += " the marks of strict writes, and then other nodes find or load the older value in L2 while a write commits";
            }
            if !spares_sequences {
                text += if strict { ", and" } else { "" };
                text += " the keys that count invalidations, and then every node asks again about a 256th of its L1";
            }
            let spares = if strict { "" } else { ": those have no TTL" };
            (Severity::Warning, format!("{text}. Take {wanted}{spares}"))
        }
        _ if spares_sequences => {
            (Severity::Fine, format!("bounded, and {policy} spares the keys that count invalidations; tombstones are evicted like values"))
        }
        // A Redis of later days, or what only resembles one.
        _ => (Severity::Note, format!("maxmemory-policy is {policy}, which is not known here: caches want {wanted}")),
    };
    Finding::new(severity, "memory", text)
}

fn of_replicas(server: &ServerInfo) -> Vec<Finding> {
    let Some(count) = server.replicas else {
        return vec![Finding::new(Severity::Note, "replicas", "how many there are was not told")];
    };
    let mut findings = Vec::new();
    let mut push = |severity, text: String| findings.push(Finding::new(severity, "replicas", text));
    match (count, server.good_replicas) {
        // Told only where writes need them.
        (count, Some(0)) => push(
            Severity::Fault,
            format!("{count}, none of which keeps up: as min-replicas-to-write is set, this server refuses all writes, invalidations among them"),
        ),
        (0, None) => push(Severity::Note, "there is none: when this server dies, L2 is empty".to_owned()),
        (_, None) => push(
            Severity::Note,
            "min-replicas-to-write is not set: in a split brain the old master goes on taking writes that are lost, and invalidations with them"
                .to_owned(),
        ),
        (count, Some(good)) if good < count => push(Severity::Warning, format!("of {count} only {good} keep up, and writes need them")),
        (count, Some(_)) => push(Severity::Fine, format!("{count}, and writes need them")),
    }
    let online = server.replicas_online.unwrap_or(count);
    if online < count {
        let text = format!("{} of {count} copy the data still: one that takes over now has lost it", count - online);
        push(Severity::Warning, text);
    }
    if let Some(lag) = server.replica_lag.filter(|lag| *lag > LONGEST_LAG) {
        let text = format!(
            "one lags: it has told nothing for {lag:?}. If it takes over now, invalidations since then are lost with the rest"
        );
        push(Severity::Warning, text);
    }
    if let Some(behind) = server.replica_behind.filter(|behind| *behind > FARTHEST_BEHIND) {
        let text = format!(
            "one lags: it is {} MiB of writes behind. If it takes over now, the invalidations among them are lost",
            behind >> 20
        );
        push(Severity::Warning, text);
    }
    findings
}

fn of_versions(versions: &BTreeSet<String>) -> Option<Finding> {
    let newest = versions.last()?;
    let too_old = |version: &&String| {
        version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major < OLDEST)
    };
    if let Some(version) = versions.iter().find(too_old) {
        return Some(Finding::new(Severity::Fault, "version", format!("Redis {version}: 7.0 or later is needed")));
    }
    if versions.len() > 1 {
        let all: Vec<_> = versions.iter().map(String::as_str).collect();
        return Some(Finding::new(
            Severity::Note,
            "version",
            format!("masters of several versions of Redis: {}", all.join(", ")),
        ));
    }
    Some(Finding::new(Severity::Fine, "version", format!("Redis {newest}")))
}

/// Of the other processes that use this library here, for whatever deployment: what they are called does not say.
fn of_nodes(names: Vec<Result<Vec<String>>>) -> Finding {
    let library = CLIENT_NAME.split_once('-').map_or("", |(library, _)| library);
    let mut listening = 0;
    let mut versions = BTreeSet::new();
    for names in names {
        let Ok(names) = names else {
            let text = "who else listens was not looked at: this user may not call CLIENT LIST";
            return Finding::new(Severity::Note, "nodes", text);
        };
        let ours = names.iter().filter_map(|name| name.strip_prefix(library)?.strip_prefix('-'));
        let ours: Vec<_> = ours.filter(|version| version.len() <= 32).map(str::to_owned).collect();
        listening = listening.max(ours.len());
        versions.extend(ours);
    }
    if versions.len() > 1 {
        let all: Vec<_> = versions.into_iter().collect();
        let text = format!(
            "{listening} listening connections to this Redis, this cache's and other deployments', of versions {} of this library: where one does not \
                understand the message of another of its deployment, it asks Redis about a 256th of its L1",
            all.join(", ")
        );
        Finding::new(Severity::Note, "nodes", text)
    } else {
        Finding::new(Severity::Fine, "nodes", format!("{listening} listening connections to this Redis, all of one version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(max: u64, policy: &str) -> ServerInfo {
        ServerInfo { memory_max: Some(max), eviction_policy: Some(policy.to_owned()), ..ServerInfo::default() }
    }

    fn severity(finding: impl Into<Option<Finding>>) -> Severity {
        finding.into().unwrap().severity
    }

    #[test]
    fn a_policy_that_may_evict_what_counts_invalidations_is_a_warning() {
        let of = |max, policy| severity(of_memory(&server(max, policy), false));
        assert_eq!(of(1, "allkeys-lru"), Severity::Warning);
        assert_eq!(of(1, "noeviction"), Severity::Warning);
        assert_eq!(of(0, "noeviction"), Severity::Note);
        assert_eq!(of(1, "volatile-lru"), Severity::Fine);
    }

    #[test]
    fn a_policy_that_may_evict_marks_is_a_warning_where_writes_are_strict() {
        let of = |max, policy| of_memory(&server(max, policy), true);
        for policy in ["allkeys-lru", "volatile-lru", "volatile-ttl"] {
            let finding = of(1, policy);
            assert_eq!(finding.severity, Severity::Warning);
            assert!(finding.text.contains("marks") && finding.text.contains("Take noeviction"), "{finding}");
        }
        assert_eq!(of(1, "noeviction").severity, Severity::Note);
        let unbounded = of(0, "volatile-lru");
        assert!(unbounded.severity == Severity::Note && unbounded.text.contains("noeviction"), "{unbounded}");
    }

    #[test]
    fn a_policy_or_a_limit_that_is_not_known_is_noted() {
        for strict in [false, true] {
            assert_eq!(severity(of_memory(&ServerInfo::default(), strict)), Severity::Note);
            assert_eq!(severity(of_memory(&server(1, "clairvoyant"), strict)), Severity::Note);
            let no_limit = ServerInfo { memory_max: None, ..server(1, "volatile-lru") };
            assert_eq!(severity(of_memory(&no_limit, strict)), Severity::Note);
        }
    }

    fn replicas(count: u64, good: Option<u64>) -> ServerInfo {
        ServerInfo { replicas: Some(count), good_replicas: good, replicas_online: Some(count), ..ServerInfo::default() }
    }

    fn worst(server: &ServerInfo) -> (Severity, String) {
        let worst = of_replicas(server).into_iter().max_by_key(|finding| finding.severity).unwrap();
        (worst.severity, worst.text)
    }

    #[test]
    fn replicas_that_writes_need_are_fine_only_if_they_keep_up() {
        assert_eq!(worst(&replicas(2, Some(2))).0, Severity::Fine);
        assert_eq!(worst(&replicas(2, Some(1))).0, Severity::Warning);
        assert_eq!(worst(&replicas(2, Some(0))).0, Severity::Fault);
        assert_eq!(worst(&replicas(0, Some(0))).0, Severity::Fault);
        assert_eq!(worst(&replicas(2, None)).0, Severity::Note);
        assert_eq!(worst(&replicas(0, None)).0, Severity::Note);
        assert_eq!(worst(&ServerInfo::default()).0, Severity::Note);
    }

    #[test]
    fn a_replica_that_lags_is_a_warning() {
        let in_time = replicas(2, Some(2));
        let in_time = ServerInfo { replica_lag: Some(Duration::from_secs(1)), replica_behind: Some(1 << 20), ..in_time };
        assert_eq!(worst(&in_time).0, Severity::Fine);
        for (server, words) in [
            (ServerInfo { replica_lag: Some(Duration::from_secs(9)), ..in_time.clone() }, "nothing for 9s"),
            (ServerInfo { replica_behind: Some(64 << 20), ..in_time.clone() }, "64 MiB"),
            (ServerInfo { replicas_online: Some(1), ..in_time.clone() }, "1 of 2 copy"),
        ] {
            let (severity, text) = worst(&server);
            assert!(severity == Severity::Warning && text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_redis_that_is_too_old_is_a_fault_and_several_versions_are_told() {
        let of = |versions: &[&str]| of_versions(&versions.iter().map(|version| (*version).to_owned()).collect());
        assert_eq!(severity(of(&["7.0.15"])), Severity::Fine);
        assert_eq!(severity(of(&["7.0.15", "7.2.1"])), Severity::Note);
        assert_eq!(severity(of(&["7.0.15", "6.2.1"])), Severity::Fault);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn other_versions_of_this_library_are_told_whoever_they_are_and_strangers_are_not() {
        let of = |names: &[&str]| of_nodes(vec![Ok(names.iter().map(|name| (*name).to_owned()).collect())]);
        assert_eq!(severity(of(&[CLIENT_NAME, CLIENT_NAME, "sidekiq", ""])), Severity::Fine);
        let two = of(&[CLIENT_NAME, "cachestack-9.9.9"]);
        assert!(two.severity == Severity::Note && two.text.contains("9.9.9") && two.text.contains("other deployments"), "{two}");
        let refused = cache_core::Error::new(cache_core::ErrorKind::Credentials, "no");
        assert_eq!(severity(of_nodes(vec![Err(refused)])), Severity::Note);
    }
}
