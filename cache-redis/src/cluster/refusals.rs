//! Masters that answer with an error, whatever they are asked: which of them did so of late.

use super::slots::Endpoint;
use parking_lot::Mutex;
use redis::RedisError;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A master that refused is not taken for well for so long. Under load it is asked many times meanwhile.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Whether an error is about the state of the node, or of a slot, that it came from, and neither about the command nor about the whole cluster.
pub(super) fn is_of_node(err: &RedisError) -> bool {
    match err.code() {
        Some("LOADING" | "MASTERDOWN" | "BUSY" | "READONLY" | "MISCONF" | "NOREPLICAS") => true,
        // Else "The cluster is down", which is of all slots.
        Some("CLUSTERDOWN") => err.detail().is_some_and(|detail| detail.starts_with("Hash slot not served")),
        _ => false,
    }
}

/// When each master last refused so.
#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<Endpoint, Instant>>);

impl Refusals {
    /// Notes one.
    pub(super) fn note(&self, at: &Endpoint, now: Instant) {
        let mut refusals = self.0.lock();
        refusals.retain(|_, when| is_recent(*when, now));
        refusals.insert(at.clone(), now);
    }

    /// Whether a master has refused of late.
    pub(super) fn has(&self, at: &Endpoint, now: Instant) -> bool {
        self.0.lock().get(at).is_some_and(|when| is_recent(*when, now))
    }
}

fn is_recent(when: Instant, now: Instant) -> bool {
    now.saturating_duration_since(when) < REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::parse_redis_value;

    #[test]
    fn errors_of_one_node_are_told_from_those_of_the_command_and_of_the_cluster() {
        let is_of_node = |reply: &str| {
            let reply = parse_redis_value(format!("-{reply}\r\n").as_bytes()).unwrap();
            is_of_node(&reply.extract_error().unwrap_err())
        };
        for node in [
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "READONLY You can't write against a read only replica.",
            "CLUSTERDOWN Hash slot not served",
        ] {
            assert!(is_of_node(node), "{node}");
        }
        for other in ["CLUSTERDOWN The cluster is down", "CLUSTERDOWN", "ERR unknown command", "WRONGTYPE x", "NOPERM x", "OOM x"]
        {
            assert!(!is_of_node(other), "{other}");
        }
    }

    #[test]
    fn a_refusal_is_remembered_for_a_second() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let [one, other] = ["one", "other"].map(|host| Endpoint::new(host, 1));
        refusals.note(&one, now);
        assert!(refusals.has(&one, now + REMEMBERED / 2) && !refusals.has(&other, now));
        assert!(!refusals.has(&one, now + REMEMBERED));
        refusals.note(&other, now + REMEMBERED);
        assert_eq!(refusals.0.lock().len(), 1, "those of long ago are forgotten");
    }
}
