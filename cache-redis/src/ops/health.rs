//! A health probe: does each master answer, and would it take a write?

use crate::error::is_no_script;
use crate::multiplexer::Request;
use crate::node::Node;
use crate::script::SCRIPTS;
use crate::tier::{RedisTier, failed, read};
use cache_core::{Error, Result};
use futures_util::future::join_all;
use std::time::Duration;
use std::time::Instant;

/// How a tier's Redis is, at the moment it was asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// Each master, in no particular order; one if there is one server, or if no node of a cluster is known.
    pub nodes: Vec<NodeHealth>,
}

/// How one master is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeHealth {
    /// How long it took to answer, or to fail.
    pub latency: Duration,
    /// Why it does not answer or takes no writes; its text says so in words, and holds no address, user or password. `None` if all is well.
    pub trouble: Option<Error>,
}

impl Health {
    /// Whether every master answers and takes writes.
    pub fn is_well(&self) -> bool {
        self.well() == self.nodes.len()
    }

    /// How many masters answer and take writes, of [`nodes`](Self::nodes).
    pub fn well(&self) -> usize {
        self.nodes.iter().filter(|node| node.trouble.is_none()).count()
    }

    /// The longest time that a master took to answer or to fail.
    pub fn latency(&self) -> Duration {
        self.nodes.iter().map(|node| node.latency).max().unwrap_or_default()
    }

    /// What is wrong, of the first master of which something is.
    pub fn trouble(&self) -> Option<&Error> {
        self.nodes.iter().find_map(|node| node.trouble.as_ref())
    }
}

impl RedisTier {
    /// Asks every master, all at once and within the timeout, whether it answers and would take a write. Never fails: what is wrong is in
    /// the answer. Writes nothing, needs no key, and costs Redis some 3 µs. Safe to cancel.
    ///
    /// Found so: a server that is down, hangs or loads its data, refused credentials, a replica in its master's place, memory that is used up
    /// under `noeviction`, a disk that Redis cannot save to, too few replicas. Not found: a user who lacks the permission for the cache's keys,
    /// which their first use tells.
    ///
    /// For a service that has a database behind its cache, this belongs on a page and into an alert, rather than into its readiness: Redis away is
    /// a slower service, and to take all of its nodes out at once is none at all.
    ///
    /// ```no_run
    /// # async fn example(tier: cache_redis::RedisTier) {
    /// let health = tier.health().await;
    /// match health.trouble() {
    ///     None => println!("Redis answers within {:?}", health.latency()),
    ///     Some(trouble) => println!("{} of {} masters: {trouble}", health.well(), health.nodes.len()),
    /// }
    /// # }
    /// ```
    pub async fn health(&self) -> Health {
        let (began, deadline) = (Instant::now(), self.deadline());
        let nodes = match self.nodes().masters(deadline).await {
            Ok(masters) => join_all(masters.iter().map(|master| probe(master, deadline))).await,
            Err(err) => vec![NodeHealth { latency: began.elapsed(), trouble: Some(err) }],
        };
        Health { nodes }
    }
}

async fn probe(node: &Node, deadline: Instant) -> NodeHealth {
    let began = Instant::now();
    let trouble = ask(node, deadline).await.inspect_err(|err| failed("health", err)).err();
    NodeHealth { latency: began.elapsed(), trouble }
}

async fn ask(node: &Node, deadline: Instant) -> Result<()> {
    let call = SCRIPTS.writable.call(0);
    let mut called = node.send(deadline, Request::Run(&call)).await?;
    if called.reply.as_ref().is_err_and(is_no_script) {
        node.send(deadline, Request::Run(&SCRIPTS.writable.load())).await?;
        called = node.send(deadline, Request::Run(&call)).await?;
    }
    read::<i64>(called.reply).map(drop)
}
