//! What a doctor should know of the keys that count invalidations: whether they are what this library made of them, and where they are.

use crate::backplane::meta_key;
use crate::error::is_wrong_type;
use crate::node::Node;
use crate::tier::RedisTier;
use cache_core::{Finding, Partition, Result, Severity};
use futures_util::future::join_all;
use redis::{Pipeline, RedisResult, Value};
use std::sync::Arc;
use std::time::Instant;

/// As long they are, once they are begun: incarnation, sequence and history.
const LENGTH: i64 = 24;

/// What was found.
pub(super) struct Sequences {
    pub(super) findings: Vec<Finding>,
    /// The servers that they are on, each with a partition that it answers for, or, where it does not answer, should.
    pub(super) servers: Vec<(Arc<Node>, Partition)>,
}

/// How many of the 256 keys are like this.
#[derive(Default)]
struct Count {
    foreign: usize,
    ending: usize,
    unserved: usize,
    untold: usize,
}

/// Two small commands for each key, in one pipeline a master.
pub(super) async fn sequences(tier: &RedisTier, prefix: &str, deadline: Instant) -> Sequences {
    let mut count = Count::default();
    let mut shares: Vec<(Arc<Node>, Vec<Partition>)> = Vec::new();
    for partition in (0..=u8::MAX).map(Partition::from_index) {
        match tier.nodes().of(deadline, &meta_key(prefix, partition)).await {
            Ok(node) => match shares.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &node)) {
                Some((_, share)) => share.push(partition),
                None => shares.push((node, vec![partition])),
            },
            Err(_) => count.unserved += 1,
        }
    }
    let asked = shares.iter().map(|(node, share)| ask(node, prefix, share, deadline));
    let answers = join_all(asked).await;
    let mut servers = Vec::with_capacity(shares.len());
    for (answer, (node, share)) in answers.into_iter().zip(shares) {
        let of = if let Ok(replies) = answer {
            replies.chunks(2).for_each(|about| count.take_in(about));
            // Our map may be older than a gap in its slots.
            share.iter().zip(replies.chunks(2)).find(|(_, about)| !is_elsewhere(&about[0])).map(|(partition, _)| *partition)
        } else {
            // Why is said where it is asked for its figures.
            count.untold += share.len();
            share.first().copied()
        };
        servers.extend(of.map(|partition| (node, partition)));
    }
    Sequences { findings: count.findings(), servers }
}

async fn ask(node: &Node, prefix: &str, share: &[Partition], deadline: Instant) -> Result<Vec<RedisResult<Value>>> {
    let mut commands = Pipeline::with_capacity(share.len() * 2);
    for partition in share {
        let key = meta_key(prefix, *partition);
        commands.cmd("STRLEN").arg(&key).cmd("PTTL").arg(&key);
    }
    Ok(node.send_all(deadline, &commands).await?.reply)
}

/// Whether who answers has not the slot.
fn is_elsewhere(reply: &RedisResult<Value>) -> bool {
    reply.as_ref().is_err_and(|err| matches!(err.code(), Some("MOVED" | "ASK" | "CLUSTERDOWN")))
}

impl Count {
    /// The replies about one key.
    fn take_in(&mut self, about: &[RedisResult<Value>]) {
        match about {
            [Err(err), _] if is_wrong_type(err) => self.foreign += 1,
            [Ok(Value::Int(length)), _] if *length != 0 && *length != LENGTH => self.foreign += 1,
            // Below zero is none, or no key.
            [Ok(Value::Int(_)), Ok(Value::Int(left))] => self.ending += usize::from(*left >= 0),
            // A node whose map has a gap, where ours has none so far.
            [Err(err), _] if err.code() == Some("CLUSTERDOWN") => self.unserved += 1,
            // It is moving.
            [reply, _] if is_elsewhere(reply) => {}
            _ => self.untold += 1,
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let Self { foreign, ending, unserved, untold } = *self;
        [
            (
                unserved,
                Severity::Fault,
                "cluster",
                "partitions are in slots that no node has: their keys go without L2 until the cluster is whole",
            ),
            (
                foreign,
                Severity::Fault,
                "sequences",
                "keys that count invalidations hold something else: nobody is told of the invalidations of those partitions, and L1 asks L2 about all it has \
                    of them. Find who writes to keys that end with `:!m`, and delete these",
            ),
            (
                ending,
                Severity::Warning,
                "sequences",
                "keys that count invalidations have a TTL, which nothing here gives them: when one ends, every node asks again about a 256th of its L1. Find \
                    who sets it, and PERSIST them",
            ),
            (untold, Severity::Note, "sequences", "keys that count invalidations could not be looked at"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, severity, about, text)| Finding::new(severity, about, format!("{count} of 256 {text}")))
        .collect()
    }
}
