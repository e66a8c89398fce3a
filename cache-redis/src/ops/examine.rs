//! What a doctor should know of a Redis: whether its versions, policies and members fit what caches need.

use super::info::{ServerInfo, info};
use crate::dial::CLIENT_NAME;
use crate::multiplexer::Request;
use crate::node::Node;
use crate::tier::{RedisTier, read};
use bytes::Bytes;
use cache_core::{Finding, Result, Severity};
use futures_util::future::{join, join_all};
use std::collections::BTreeSet;
use std::time::Instant;

/// The oldest that has what the scripts use.
const OLDEST: u32 = 7;

impl RedisTier {
    pub(crate) async fn examined(&self) -> Vec<Finding> {
        let deadline = self.deadline();
        let masters = match self.nodes().masters(deadline).await {
            Ok(masters) => masters,
            Err(err) => {
                let text = format!("{err}: the keys of those slots go without L2 until the cluster is whole");
                return vec![Finding::new(Severity::Fault, "cluster", text)];
            }
        };
        let asked = join_all(masters.iter().map(|master| info(master, deadline)));
        let names = join_all(masters.iter().map(|master| names(master, deadline)));
        let (infos, names) = join(asked, names).await;
        let mut findings = Vec::new();
        if self.nodes().are_many() {
            let text = format!("{} masters have all slots between them", masters.len());
            findings.push(Finding::new(Severity::Fine, "cluster", text));
        }
        let mut versions = BTreeSet::new();
        for answer in infos {
            match answer {
                Ok(server) => {
                    versions.extend(server.version.clone());
                    findings.extend(of_memory(&server));
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
        findings
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

fn of_memory(server: &ServerInfo) -> Option<Finding> {
    let policy = server.eviction_policy.as_deref()?;
    let (severity, text) = match (server.memory_max?, policy) {
        (0, _) => {
            (Severity::Note, "maxmemory is not set: Redis grows until the machine has no more. Set it, with maxmemory-policy volatile-lru".to_owned())
        }
        (_, "noeviction") => (
            Severity::Warning,
            "maxmemory-policy is noeviction: once memory is used up, nothing new is stored, and invalidations remove records instead of leaving \
                tombstones. Take volatile-lru"
                .to_owned(),
        ),
        (_, policy) if policy.starts_with("allkeys") => (
            Severity::Warning,
            format!(
                "maxmemory-policy is {policy}: it may evict the keys that count invalidations, and then every node asks again about a 256th of its L1. \
                They have no TTL, so volatile-lru spares them"
            ),
        ),
        (_, policy) => (Severity::Fine, format!("bounded, and {policy} spares the keys that count invalidations")),
    };
    Some(Finding::new(severity, "memory", text))
}

fn of_replicas(server: &ServerInfo) -> Option<Finding> {
    Some(match (server.replicas?, server.good_replicas) {
        (0, _) => Finding::new(Severity::Note, "replicas", "there is none: when this server dies, L2 is empty"),
        (_, None) => Finding::new(
            Severity::Note,
            "replicas",
            "min-replicas-to-write is not set: in a split brain the old master goes on taking writes that are lost, and invalidations with them",
        ),
        (count, Some(_)) => Finding::new(Severity::Fine, "replicas", format!("{count}, and writes need them")),
    })
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

/// Of the other processes that use this library here.
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
            "{listening} listen, of versions {}: where one does not understand another's message, it asks Redis about a 256th of its L1",
            all.join(", ")
        );
        Finding::new(Severity::Warning, "nodes", text)
    } else {
        Finding::new(Severity::Fine, "nodes", format!("{listening} listening connections, all of one version"))
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
        assert_eq!(severity(of_memory(&server(1, "allkeys-lru"))), Severity::Warning);
        assert_eq!(severity(of_memory(&server(1, "noeviction"))), Severity::Warning);
        assert_eq!(severity(of_memory(&server(0, "noeviction"))), Severity::Note);
        assert_eq!(severity(of_memory(&server(1, "volatile-lru"))), Severity::Fine);
        assert_eq!(of_memory(&ServerInfo::default()), None);
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
    fn nodes_of_another_version_of_this_library_are_a_warning_and_strangers_are_not() {
        let of = |names: &[&str]| of_nodes(vec![Ok(names.iter().map(|name| (*name).to_owned()).collect())]);
        assert_eq!(severity(of(&[CLIENT_NAME, CLIENT_NAME, "sidekiq", ""])), Severity::Fine);
        assert_eq!(severity(of(&[CLIENT_NAME, "cachestack-9.9.9"])), Severity::Warning);
        let refused = cache_core::Error::new(cache_core::ErrorKind::Credentials, "no");
        assert_eq!(severity(of_nodes(vec![Err(refused)])), Severity::Note);
    }
}
