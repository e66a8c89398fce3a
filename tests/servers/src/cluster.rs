//! A Redis Cluster.

mod migration;
mod view;

use std::ffi::OsString;
use std::thread;
use std::time::Duration;

use crate::certificate::ServerCertificate;
use crate::cluster::view::View;
use crate::command::Client;
use crate::error::{StartError, or_panic};
use crate::redis::{Redis, RedisBuilder};
use crate::wait::until;

const GROUP: &str = "Redis Cluster";
const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
const SLOTS: u16 = 16_384;

/// A Redis Cluster of six nodes on loopback: nodes 0, 1 and 2 start as masters of a third of the slots each, and 3, 4 and 5 as
/// the replicas of 0, 1 and 2. About 2.5 s to start, most of it the time for which Redis keeps a new master shut.
///
/// A node keeps its place in the cluster through [`Redis::kill`] and [`Redis::restart`], and loses its data, as a server without
/// persistence does. Every node is gone when this value is dropped, or the process is, however it ends.
///
/// ```
/// use test_servers::RedisCluster;
///
/// let mut cluster = RedisCluster::start();
/// let old = cluster.master_of(0); // 0
/// cluster.node_mut(old).kill();
/// let new = cluster.await_failover(old); // 3
/// cluster.node_mut(old).restart();
/// cluster.await_settled(); // 0 is a replica of 3
/// assert_eq!(cluster.master_of(0), new);
/// ```
///
/// # Panics
/// Every method that asks or changes the cluster panics, with what was missing, when a node refuses a command or the cluster does
/// not come to the end of a change within 30 s. Nodes that are killed or [paused](Redis::pause) are left out of the asking.
#[derive(Debug)]
pub struct RedisCluster {
    /// What a node starts with.
    node: RedisBuilder,
    nodes: Vec<Redis>,
    ids: Vec<String>,
    is_tls: bool,
}

/// What a [`RedisCluster`] starts with. From [`RedisCluster::builder`].
#[derive(Clone, Debug)]
pub struct RedisClusterBuilder {
    node: RedisBuilder,
    node_timeout: Duration,
    partial_coverage: bool,
    is_tls: bool,
}

impl RedisClusterBuilder {
    /// After this long without an answer a node is suspected, and after about another second replaced; default 1 s, at least one
    /// millisecond. A short one replaces nodes that were merely slow.
    pub fn node_timeout(mut self, timeout: Duration) -> Self {
        self.node_timeout = timeout;
        self
    }

    /// The nodes go on with the slots that have a master while others have none. Default is Redis' own: all refuse.
    pub fn partial_coverage(mut self) -> Self {
        self.partial_coverage = true;
        self
    }

    /// Clients must send this password, to every node; default none.
    pub fn password(mut self, password: &str) -> Self {
        self.node = self.node.password(password).password_to_master();
        self
    }

    /// Every node listens with TLS too, and tells clients that came over TLS the others' TLS ports. The nodes use TLS between
    /// themselves.
    pub fn tls(mut self, certificate: &ServerCertificate) -> Self {
        self.node = self.node.tls(certificate);
        self.is_tls = true;
        self
    }

    /// Nodes give themselves this name instead of the address 127.0.0.1 (`cluster-preferred-endpoint-type hostname`).
    pub fn hostname(self, name: &str) -> Self {
        self.arg("--cluster-announce-hostname").arg(name).arg("--cluster-preferred-endpoint-type").arg("hostname")
    }

    /// One more argument for each `redis-server`; see [`RedisBuilder::arg`].
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.node = self.node.arg(argument);
        self
    }

    /// Starts the cluster and returns when every node answers for all slots and every replica follows its master.
    ///
    /// # Panics
    /// With the text of the [`StartError`] that [`try_start`](Self::try_start) would return.
    #[track_caller]
    pub fn start(self) -> RedisCluster {
        or_panic(self.try_start())
    }

    /// Starts the cluster and returns when every node answers for all slots and every replica follows its master, or after 30 s.
    ///
    /// # Errors
    /// `redis-server` is not installed, does not take the arguments, or the nodes do not find each other.
    ///
    /// # Panics
    /// Never by itself: only with a thread that starts a node.
    pub fn try_start(self) -> Result<RedisCluster, StartError> {
        let timeout = self.node_timeout.as_millis().to_string();
        let coverage = if self.partial_coverage { "no" } else { "yes" };
        let tls = if self.is_tls { "yes" } else { "no" };
        let mut node = Redis::builder();
        for (directive, value) in [
            ("--cluster-enabled", "yes"),
            ("--cluster-node-timeout", &timeout),
            ("--cluster-require-full-coverage", coverage),
            // Who is whose replica changes by failover only, and a replica is never too stale for it.
            ("--cluster-allow-replica-migration", "no"),
            ("--cluster-replica-validity-factor", "0"),
            // A replica is announced to clients once it has received anything.
            ("--repl-ping-replica-period", "1"),
            ("--repl-diskless-sync-delay", "0"),
            ("--cluster-announce-ip", "127.0.0.1"),
            ("--tls-cluster", tls),
            ("--tls-replication", tls),
        ] {
            node = node.arg(directive).arg(value);
        }
        let node = node.followed_by(self.node);
        let nodes = thread::scope(|scope| {
            let starts: Vec<_> = (0..NODES).map(|_| scope.spawn(|| node.clone().try_start())).collect();
            starts.into_iter().map(|start| start.join().expect("starting does not panic")).collect::<Result<Vec<_>, _>>()
        })?;
        let mut cluster = RedisCluster { node, nodes, ids: Vec::new(), is_tls: self.is_tls };
        cluster.form()?;
        Ok(cluster)
    }
}

#[expect(clippy::missing_panics_doc, reason = "said once for all methods, on the type")]
impl RedisCluster {
    /// Starts a cluster and returns when every node answers for all slots and every replica follows its master.
    ///
    /// # Panics
    /// With the text of the [`StartError`] that [`RedisClusterBuilder::try_start`] would return.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A cluster with other settings.
    pub fn builder() -> RedisClusterBuilder {
        RedisClusterBuilder {
            node: RedisBuilder::default(),
            node_timeout: Duration::from_secs(1),
            partial_coverage: false,
            is_tls: false,
        }
    }

    /// The nodes, in the order of their numbers, which never changes: six, and those [added](Self::add_master).
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The node with this number, from 0.
    #[track_caller]
    pub fn node(&self, number: usize) -> &Redis {
        &self.nodes[number]
    }

    /// The node with this number, from 0, to kill or restart it.
    #[track_caller]
    pub fn node_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.nodes[number]
    }

    /// The node id (`CLUSTER MYID`).
    #[track_caller]
    pub fn id(&self, number: usize) -> &str {
        &self.ids[number]
    }

    /// Starts one more node, has it join as a master of no slots and without a replica, waits until all know it, and returns its
    /// number: 6, then 7. Slots come to it by [`migrate_slots`](Self::migrate_slots). A second or two.
    ///
    /// ```
    /// # use test_servers::RedisCluster;
    /// # let mut cluster = RedisCluster::start();
    /// let new = cluster.add_master(); // 6
    /// cluster.migrate_slots(0..=9, 0, new);
    /// assert_eq!(cluster.master_of(9), new);
    /// ```
    #[track_caller]
    pub fn add_master(&mut self) -> usize {
        or_panic(self.join());
        self.await_settled();
        self.nodes.len() - 1
    }

    /// The number of the node that serves a slot as its master, by the newest claim of a running node.
    #[track_caller]
    pub fn master_of(&self, slot: u16) -> usize {
        let owner = self.claimant(slot);
        owner.unwrap_or_else(|| panic!("no running node is master of slot {slot}"))
    }

    /// The number of a running replica of this node; none while it is a replica itself or has lost its own.
    #[track_caller]
    pub fn replica_of(&self, master: usize) -> Option<usize> {
        let follows = |view: &View| view.me().is_some_and(|me| me.master.as_ref() == Some(&self.ids[master]));
        or_panic(self.views()).iter().find(|(_, view)| follows(view)).map(|&(number, _)| number)
    }

    /// Has the replica of this master take its place in order (`CLUSTER FAILOVER`: no write is lost), waits until every running
    /// node knows, and returns the replica's number. Under a second.
    #[track_caller]
    pub fn failover(&self, master: usize) -> usize {
        let replica = self.replica_of(master).unwrap_or_else(|| panic!("node {master} has no running replica"));
        or_panic(self.client(replica).and_then(|mut client| client.ask::<()>("CLUSTER FAILOVER")));
        or_panic(until(GROUP, || {
            let views = self.views()?;
            let is_known = views.iter().all(|(_, view)| view.is_master(&self.ids[replica]) && !view.is_master(&self.ids[master]));
            Ok(if is_known { Ok(()) } else { Err(format!("node {replica} is not known to all as a master")) })
        }));
        self.await_settled();
        replica
    }

    /// Waits until another node has taken the place of a master that was killed or paused and every running node knows, and
    /// returns the other's number. The node timeout and about a second more.
    #[track_caller]
    pub fn await_failover(&self, old: usize) -> usize {
        let mut new = None;
        or_panic(until(GROUP, || {
            let views = self.views()?;
            let claims = |view: &View| view.me().is_some_and(|me| me.master.is_none() && !me.slots.is_empty());
            // Master and replica stay a pair, whatever their roles.
            let successor = views
                .iter()
                .find(|(number, view)| *number < NODES && *number % MASTERS == old % MASTERS && *number != old && claims(view));
            new = successor.map(|&(number, _)| number);
            Ok(if new.is_some() { Ok(()) } else { Err(format!("node {old} has no successor")) })
        }));
        self.await_settled();
        new.expect("found above")
    }

    /// Waits until every running node answers for all slots, all have the same view of who serves what, and every replica with a
    /// running master follows it.
    #[track_caller]
    pub fn await_settled(&self) {
        or_panic(until(GROUP, || self.check_settled()));
    }

    fn join(&mut self) -> Result<(), StartError> {
        let node = self.node.clone().try_start()?;
        let mut client = Client::connect(&node)?;
        let id = client.ask("CLUSTER MYID")?;
        for known in self.nodes.iter().filter(|known| known.is_running()) {
            client.ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {}", self.port(known)))?;
        }
        self.ids.push(id);
        self.nodes.push(node);
        Ok(())
    }

    /// The port by which nodes know one another.
    fn port(&self, node: &Redis) -> u16 {
        if self.is_tls { node.tls_port() } else { node.port() }
    }

    fn form(&mut self) -> Result<(), StartError> {
        let mut clients = self.nodes.iter().map(Client::connect).collect::<Result<Vec<_>, _>>()?;
        for (number, client) in clients.iter_mut().enumerate() {
            self.ids.push(client.ask("CLUSTER MYID")?);
            // Masters with one epoch would first have to settle whose is the greater.
            client.ask::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1))?;
            if number < MASTERS {
                let (first, last) = third_of_slots(number);
                client.ask::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))?;
            }
            // Gossip alone would spread the news too, in a second or two.
            for node in &self.nodes[..number] {
                client.ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {}", self.port(node)))?;
            }
        }
        let mut followers = (MASTERS..NODES).collect::<Vec<_>>();
        until(GROUP, || {
            // Refused until the two have met.
            followers.retain(|&number| {
                let follow = format!("CLUSTER REPLICATE {}", self.ids[number - MASTERS]);
                clients[number].ask::<()>(&follow).is_err()
            });
            Ok(if followers.is_empty() { Ok(()) } else { Err(format!("nodes {followers:?} have not met their masters")) })
        })?;
        until(GROUP, || self.check_settled())
    }

    /// What is missing for [`await_settled`](Self::await_settled), if anything.
    fn check_settled(&self) -> Result<Result<(), String>, StartError> {
        let views = self.views()?;
        for (number, view) in &views {
            if view.len() != self.nodes.len() {
                return Ok(Err(format!("node {number} knows {} nodes", view.len())));
            }
            if view.topology() != views[0].1.topology() {
                return Ok(Err(format!("nodes {} and {number} see different masters or slots", views[0].0)));
            }
            let Some(me) = view.me() else { return Ok(Err(format!("node {number} does not know itself"))) };
            let master = me.master.as_ref().and_then(|id| self.ids.iter().position(|known| known == id));
            if let Some(master) = master.filter(|&master| self.nodes[master].is_running()) {
                if view.is_failing(&self.ids[master]) {
                    return Ok(Err(format!("node {number} takes its master {master} for dead")));
                }
                let is_announced = views.iter().all(|(_, other)| other.announces(&me.id));
                if !is_announced {
                    return Ok(Err(format!("node {number} is not known to all as an online replica")));
                }
            }
            if let Some(missing) = view.missing() {
                return Ok(Err(format!("node {number}: {missing}")));
            }
        }
        Ok(Ok(()))
    }

    fn claimant(&self, slot: u16) -> Option<usize> {
        let views = or_panic(self.views());
        let claims = views.iter().filter_map(|(number, view)| Some((view.me()?, *number)));
        let claims = claims.filter(|(me, _)| me.master.is_none() && me.has_slot(slot));
        claims.max_by_key(|(me, _)| me.epoch).map(|(_, number)| number)
    }

    /// How each running node sees the cluster.
    fn views(&self) -> Result<Vec<(usize, View)>, StartError> {
        let running = self.nodes.iter().enumerate().filter(|(_, node)| node.is_running());
        running.map(|(number, node)| Ok((number, View::of(&mut Client::connect(node)?)?))).collect()
    }

    fn client(&self, number: usize) -> Result<Client, StartError> {
        Client::connect(&self.nodes[number])
    }
}

/// First and last.
fn third_of_slots(number: usize) -> (u16, u16) {
    let start = |number: usize| (number * usize::from(SLOTS)).div_ceil(MASTERS) as u16;
    (start(number), start(number + 1) - 1)
}
