//! A cluster as the tier sees it: its slot map, a node for each member, and the task that keeps both true.

use super::redirect::Redirect;
use super::refusals::{Refusals, is_of_node};
use super::slots::{Endpoint, SlotMap, slot_of};
use crate::config::{Address, Config};
use crate::error::{from_driver, is_no_script};
use crate::first::first;
use crate::multiplexer::{Request, Underway};
use crate::node::{Called, Node};
use crate::replicas::{Replica, pick};
use arc_swap::ArcSwap;
use cache_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{Pipeline, RedisError, RedisResult, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

/// A command follows so many redirects: in a resharding there are two, MOVED and then ASK.
const MOST_HOPS: usize = 5;
/// How long a command that spans a slot on the move waits before it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// The map is asked for this often without a reason, so that it is not far wrong when it is needed.
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// And no more often than this with one, whatever redirects a resharding sends.
const REFRESH_SPACING: Duration = Duration::from_millis(100);

/// A Redis Cluster.
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    refresher: Mutex<Refresher>,
}

enum Refresher {
    /// Not needed so far.
    None,
    Running(JoinHandle<()>),
    Closed,
}

pub(super) struct Shared {
    config: Arc<Config>,
    seeds: Vec<Address>,
    /// Whether replicas are read from.
    wants_replicas: bool,
    view: ArcSwap<View>,
    /// Held while nodes are added, so that none is when it is closed.
    is_closed: Mutex<bool>,
    refusals: Refusals,
    /// A map is wanted before its time.
    doubt: Notify,
    /// How the first attempt at a map ended.
    first: watch::Sender<Option<Result<()>>>,
    /// Told of each change of the map.
    changed: watch::Sender<()>,
}

/// The map, and the nodes in it.
#[derive(Default)]
struct View {
    map: SlotMap,
    nodes: HashMap<Endpoint, Arc<Node>>,
    /// Those that are read from.
    replicas: HashMap<Endpoint, Arc<Replica>>,
}

impl View {
    fn owner(&self, slot: u16) -> Option<(Endpoint, Arc<Node>)> {
        let at = self.map.master(slot)?;
        Some((at.clone(), self.nodes.get(at)?.clone()))
    }

    /// Whether half of the other masters, at least, are well.
    fn are_others_well(&self, at: &Endpoint, refusals: &Refusals) -> bool {
        let (mut all, mut well, now) = (0, 0, Instant::now());
        for other in self.map.masters().filter(|master| *master != at) {
            all += 1;
            well += usize::from(self.nodes.get(other).is_some_and(|node| node.is_well()) && !refusals.has(other, now));
        }
        all > 0 && well * 2 >= all
    }
}

impl Cluster {
    pub(crate) fn new(config: Arc<Config>, seeds: Vec<Address>, wants_replicas: bool) -> Self {
        let (view, doubt) = (ArcSwap::default(), Notify::new());
        let (first, changed) = (watch::Sender::new(None), watch::Sender::new(()));
        let (is_closed, refusals) = (Mutex::new(false), Refusals::default());
        let shared = Shared { config, seeds, wants_replicas, view, is_closed, refusals, doubt, first, changed };
        Self { shared: Arc::new(shared), refresher: Mutex::new(Refresher::None) }
    }

    /// Whether there is a connection to every master.
    pub(crate) fn is_connected(&self) -> bool {
        let view = self.shared.view.load();
        let mut masters = view.map.masters().peekable();
        masters.peek().is_some() && masters.all(|master| view.nodes.get(master).is_some_and(|node| node.is_connected()))
    }

    /// Waits for the first map, and for a connection to each master in it. Only what a person must mend is an error.
    pub(crate) async fn first_dial(&self) -> Result<()> {
        self.start()?;
        let mut first = self.shared.first.subscribe();
        let ended = first.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        match ended {
            Some(Err(err)) if matches!(err.kind(), ErrorKind::Config | ErrorKind::Credentials) => return Err(err),
            _ => {}
        }
        for node in self.known_masters() {
            node.first_dial().await?;
        }
        for replica in self.shared.view.load_full().replicas.values() {
            replica.node().first_dial().await?;
        }
        Ok(())
    }

    /// A replica of the key's slot, if any is of use.
    pub(crate) fn replica(&self, key: &[u8], ticket: usize, now: Instant) -> Option<Arc<Replica>> {
        let view = self.shared.view.load();
        pick(view.map.replicas(slot_of(key)).iter().filter_map(|at| view.replicas.get(at)), ticket, now)
    }

    /// The time of the master of a key, 0 if it is not connected.
    pub(crate) fn latest_ms(&self, key: &[u8], when: Instant) -> u64 {
        let view = self.shared.view.load();
        let master = view.map.master(slot_of(key)).and_then(|master| view.nodes.get(master));
        master.map_or(0, |master| master.latest_ms(when))
    }

    /// Has the map asked for before its time.
    pub(crate) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }

    /// The nodes that have all slots between them, once there is a map.
    pub(crate) async fn masters(&self, deadline: Instant) -> Result<Vec<Arc<Node>>> {
        // A slot that nobody has is an error: what is in it may come back.
        let gap = self.shared.view.load().map.gap().unwrap_or(0);
        self.owner(deadline, gap).await?;
        match self.shared.view.load().map.gap() {
            Some(_) => Err(Error::new(ErrorKind::Unavailable, "no node of the Redis cluster has some of the slots")),
            None => Ok(self.known_masters()),
        }
    }

    /// The node of a slot, once there is a map.
    pub(crate) async fn node_of(&self, deadline: Instant, slot: u16) -> Result<Arc<Node>> {
        self.owner(deadline, slot).await.map(|(_, node)| node)
    }

    /// Told whenever the map changes. Has it read, if that has not begun.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        // Refused only once it is closed.
        let _ = self.start();
        self.shared.changes()
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Where the masters of these slots are, as far as is known.
    pub(crate) fn masters_of(&self, slots: impl Iterator<Item = u16>) -> Vec<Option<Endpoint>> {
        let view = self.shared.view.load();
        slots.map(|slot| view.map.master(slot).cloned()).collect()
    }

    fn known_masters(&self) -> Vec<Arc<Node>> {
        let view = self.shared.view.load();
        view.map.masters().filter_map(|master| view.nodes.get(master).cloned()).collect()
    }

    /// Sends a command to the node that has the key's slot, if there is a connection. Never waits.
    pub(crate) fn begin(&self, deadline: Instant, key: &[u8], request: Request<'_>) -> Option<Result<Underway>> {
        self.begin_in_lane(deadline, key, request).1
    }

    /// The same, and a number that all calls to one node share: 0 for those that are to none.
    pub(crate) fn begin_in_lane(&self, deadline: Instant, key: &[u8], request: Request<'_>) -> (u16, Option<Result<Underway>>) {
        let (view, slot) = (self.shared.view.load(), slot_of(key));
        let begun = view.map.master(slot).and_then(|master| view.nodes.get(master)?.begin(deadline, request));
        (if begun.is_some() { view.map.number(slot) } else { 0 }, begun)
    }

    /// Sends a command to the node that has the key's slot, and to where that one points. An error that the server answered with is a reply. `first` is
    /// how it went when it was [begun](Self::begin) before.
    pub(crate) async fn send(
        &self,
        deadline: Instant,
        key: &[u8],
        request: Request<'_>,
        mut first: Option<Result<Called<RedisResult<Value>>>>,
    ) -> Result<Called<RedisResult<Value>>> {
        let slot = slot_of(key);
        let mut asking: Option<Endpoint> = None;
        for _ in 0..MOST_HOPS {
            let (at, called) = if let Some(at) = asking.take() {
                let node = self.shared.node(&at)?;
                (at, ask(&node, deadline, request).await?)
            } else {
                let (at, node) = self.owner(deadline, slot).await?;
                let called = match first.take() {
                    Some(called) => called.inspect_err(|_| node.revive()),
                    None => node.send(deadline, request).await,
                };
                let called = called.map_err(|err| {
                    // A node that is away may have been replaced. One that is asked for too much has not.
                    if err.kind() != ErrorKind::Overloaded {
                        self.shared.doubt.notify_one();
                    }
                    self.shared.failure(&at, err)
                })?;
                (at, called)
            };
            let Err(err) = &called.reply else { return Ok(called) };
            match Redirect::parse(err, &at) {
                Some(Redirect::Moved { slot, to }) => {
                    self.shared.moved(slot, &to)?;
                    continue;
                }
                Some(Redirect::Ask { to }) => {
                    asking = Some(to);
                    continue;
                }
                // It can be done in two steps, and a slot is on the move for longer than anybody waits.
                Some(Redirect::TryAgain) if request.needs_history() => return Ok(called),
                Some(Redirect::TryAgain) => {
                    let wait = sleep(TRY_AGAIN);
                    timeout_at(deadline.into(), wait).await.map_err(|_| moving())?;
                    continue;
                }
                Some(Redirect::Down) => self.shared.doubt.notify_one(),
                None => {}
            }
            return if is_of_node(err) { Err(self.shared.refused(&at, err)) } else { Ok(called) };
        }
        Err(moving())
    }

    /// The node of a slot, once there is a map.
    async fn owner(&self, deadline: Instant, slot: u16) -> Result<(Endpoint, Arc<Node>)> {
        if let Some(owner) = self.shared.view.load().owner(slot) {
            return Ok(owner);
        }
        self.start()?;
        let mut first = self.shared.first.subscribe();
        let ended = timeout_at(deadline.into(), first.wait_for(Option::is_some)).await;
        let ended = ended.map_err(|_| Error::new(ErrorKind::Timeout, "no node of the Redis cluster answered in time"))?;
        if let Some(owner) = self.shared.view.load().owner(slot) {
            return Ok(owner);
        }
        self.shared.doubt.notify_one();
        match ended.ok().and_then(|ended| ended.clone()) {
            Some(Err(err)) => Err(err),
            _ => Err(Error::new(ErrorKind::Unavailable, "no node of the Redis cluster has the key's slot")),
        }
    }

    /// Starts the refresher if none runs: at first use, and after the runtime it ran on has ended.
    fn start(&self) -> Result<()> {
        let mut refresher = self.refresher.lock();
        match &*refresher {
            Refresher::Running(task) if !task.is_finished() => return Ok(()),
            Refresher::Closed => return Err(closed()),
            _ => {}
        }
        let runtime = Handle::try_current();
        let runtime =
            runtime.map_err(|_| crate::error::config_error("the Redis tier must be used from within a tokio runtime"))?;
        *refresher = Refresher::Running(runtime.spawn(refresh(self.shared.clone())));
        Ok(())
    }

    /// Ends the refresher and all nodes. Calls under way still end by themselves; later ones fail.
    pub(crate) async fn stop(&self) {
        let refresher = std::mem::replace(&mut *self.refresher.lock(), Refresher::Closed);
        if let Refresher::Running(task) = refresher {
            task.abort();
            let _ = task.await;
        }
        let view = self.shared.close();
        for node in view.nodes.values() {
            node.stop().await;
        }
        for replica in view.replicas.values() {
            replica.node().stop().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Refresher::Running(task) = self.refresher.get_mut() {
            task.abort();
        }
    }
}

impl Shared {
    /// The node at an endpoint, which need not be in the map yet.
    pub(super) fn node(&self, at: &Endpoint) -> Result<Arc<Node>> {
        if let Some(node) = self.view.load().nodes.get(at) {
            return Ok(node.clone());
        }
        let is_closed = self.is_closed.lock();
        if *is_closed {
            return Err(closed());
        }
        let fresh = Arc::new(Node::new(self.config.clone(), at.address()));
        let mut node = fresh.clone();
        self.view.rcu(|view| {
            let mut nodes = view.nodes.clone();
            node = nodes.entry(at.clone()).or_insert_with(|| fresh.clone()).clone();
            View { map: view.map.clone(), nodes, replicas: view.replicas.clone() }
        });
        Ok(node)
    }

    /// Takes in what a MOVED says, and asks for the rest: where one slot has moved, others have.
    pub(super) fn moved(&self, slot: u16, to: &Endpoint) -> Result<()> {
        self.doubt.notify_one();
        // Of many calls under way to where a slot was, each comes back with the same.
        if self.view.load().map.master(slot) == Some(to) {
            return Ok(());
        }
        self.node(to)?;
        self.view.rcu(|view| View {
            map: view.map.with_moved(slot, to),
            nodes: view.nodes.clone(),
            replicas: view.replicas.clone(),
        });
        self.changed.send_replace(());
        Ok(())
    }

    /// Told whenever the map changes.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Why a call to a master failed. It is that of a part for as long as the others are well.
    fn failure(&self, at: &Endpoint, err: Error) -> Error {
        if self.view.load().are_others_well(at, &self.refusals) { err.partial() } else { err }
    }

    /// The same for an error that a master answers with whatever it is asked.
    fn refused(&self, at: &Endpoint, err: &RedisError) -> Error {
        self.refusals.note(at, Instant::now());
        self.failure(at, from_driver(err))
    }

    /// Lets go of all nodes, and takes no more.
    fn close(&self) -> Arc<View> {
        let mut is_closed = self.is_closed.lock();
        *is_closed = true;
        self.view.swap(Arc::default())
    }

    /// Puts a map in place, and has each node in it connect before it is called. Nodes that it has not are let go: who is calling one still
    /// holds it.
    fn publish(&self, map: &SlotMap) {
        self.view.rcu(|view| {
            let node = |at: &Endpoint| {
                let known = view.nodes.get(at).cloned();
                (at.clone(), known.unwrap_or_else(|| Arc::new(Node::new(self.config.clone(), at.address()))))
            };
            let replica = |at: &Endpoint| {
                let known = view.replicas.get(at).cloned();
                (at.clone(), known.unwrap_or_else(|| Arc::new(Replica::new(self.config.clone(), at.address()))))
            };
            let wanted = map.all_replicas().filter(|_| self.wants_replicas);
            View { nodes: map.masters().map(node).collect(), replicas: wanted.map(replica).collect(), map: map.clone() }
        });
        self.changed.send_replace(());
        for replica in self.view.load().replicas.values() {
            let _ = replica.node().start();
        }
        for node in self.view.load().nodes.values() {
            // Refused only once it is closed.
            let _ = node.start();
        }
    }

    /// Asks the nodes, and then the seeds, for the map, until one gives it.
    async fn ask_all(&self) -> Result<SlotMap> {
        let view = self.view.load_full();
        // Those that are connected first: a dead one holds up the others.
        let mut nodes: Vec<_> = view.nodes.iter().map(|(at, node)| (at.clone(), node.clone())).collect();
        fastrand::shuffle(&mut nodes);
        nodes.sort_by_key(|(_, node)| !node.is_connected());
        let seeds = self.seeds.iter().filter_map(Endpoint::of).map(|at| {
            let known = view.nodes.get(&at).cloned();
            let node = known.unwrap_or_else(|| Arc::new(Node::new(self.config.clone(), at.address())));
            (at, node)
        });
        nodes.extend(seeds);
        let within = self.config.timeout.max(self.config.connect_timeout);
        let asked = nodes.into_iter().map(|(at, node)| async move {
            let map = slots(&node, &at, within).await;
            map.inspect_err(|err| debug!(error = %err, "a node of the Redis cluster did not give its slots"))
        });
        first(asked, Error::new(ErrorKind::Unavailable, "no node of the Redis cluster answered")).await
    }
}

/// Asks one node.
async fn slots(node: &Node, at: &Endpoint, within: Duration) -> Result<SlotMap> {
    let mut commands = Pipeline::with_capacity(1);
    commands.cmd("CLUSTER").arg("SLOTS");
    let reply = node.send_all(Instant::now() + within, &commands).await?.reply.pop().unwrap_or(Ok(Value::Nil));
    let reply = reply.map_err(|err| match err.code() {
        Some("ERR") => crate::error::config_error("this Redis is not a cluster: cluster support is disabled"),
        _ => from_driver(&err),
    })?;
    SlotMap::from_slots(&reply, at)
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, "a Redis cluster's slots were not understood"))
}

/// Sends a command to a node that takes a slot over, and has not all of it yet.
async fn ask(node: &Node, deadline: Instant, request: Request<'_>) -> Result<Called<RedisResult<Value>>> {
    let asking = || redis::cmd("ASKING");
    let called = node.send_behind(deadline, asking(), request).await?;
    // One that no dial loads, and that the slot's own node has: whoever repeats the call would ask that one, and be sent here again.
    let Some(script) = request.script().filter(|_| called.reply.as_ref().is_err_and(is_no_script)) else { return Ok(called) };
    node.send(deadline, Request::Run(&script.load())).await?;
    node.send_behind(deadline, asking(), request).await
}

/// Asks for the map at first, when somebody doubts it, and now and then, until its task is aborted.
async fn refresh(shared: Arc<Shared>) {
    let mut known = true;
    loop {
        let result = shared.ask_all().await;
        match &result {
            Ok(map) => {
                if !std::mem::replace(&mut known, true) {
                    info!("the Redis cluster is back");
                }
                shared.publish(map);
            }
            Err(err) => {
                if std::mem::replace(&mut known, false) {
                    warn!(error = %err, "no node of the Redis cluster answers");
                }
            }
        }
        shared.first.send_replace(Some(result.map(|_| ())));
        // Jittered, so that the processes of a service do not ask together.
        let pause = if known { REFRESH_EVERY.mul_f64(0.5 + fastrand::f64()) } else { REFRESH_SPACING * 2 };
        sleep(REFRESH_SPACING).await;
        let _ = timeout(pause, shared.doubt.notified()).await;
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the Redis tier is closed")
}

fn moving() -> Error {
    Error::new(ErrorKind::Unavailable, "the key's slot of the Redis cluster is on the move")
}
