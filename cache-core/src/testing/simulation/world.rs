//! A simulation and its world: the server, the nodes, and what is done to them.

use super::fault::{Event, Fault, Script};
use super::line::Line;
use super::process::Process;
use super::tier::SimulatedTier;
use super::trace::Trace;
use super::way::{Way, arrivals, faults_of, way};
use crate::clock::Clock;
use crate::embedded::EmbeddedTier;
use crate::key::RemoteKey;
use crate::partition::Partition;
use crate::remote::{Invalidation, Receipt};
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// After this long at most a node notices that its connection for messages has ended with the server.
const NOTICED_MS: u64 = 2_000;

/// A run to be, told by its seed and its script.
///
/// | option | default | meaning |
/// |---|---|---|
/// | [`script`](Self::script) | no fault | what goes wrong |
/// | [`request_timeout`](Self::request_timeout) | 1 s | how long a node waits for a reply |
/// | [`tracking`](Self::tracking) | no | whether the server tells its listeners of each change of a record |
/// | [`replica_reads`](Self::replica_reads) | none | how many reads a replica answers, and how far it lags |
/// | [`traced`](Self::traced) | no | whether the trace is kept as text |
#[derive(Debug, Clone)]
#[must_use]
pub struct Simulation {
    seed: u64,
    script: Script,
    patience: Duration,
    replica: Option<(u8, Duration)>,
    tracks: bool,
    is_traced: bool,
}

/// What a simulation came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ran<T> {
    /// What the scenario gave back.
    pub outcome: T,
    /// Of everything that was sent and came, and when. The same for the same seed, script and scenario.
    pub digest: u64,
    /// That as text, if the simulation was [traced](Simulation::traced).
    pub trace: Vec<String>,
    /// How long it took in simulated time.
    pub simulated: Duration,
}

impl Simulation {
    /// Without faults. The seed decides how long requests and messages take, which of them a fault takes, and what the library does by chance.
    pub fn new(seed: u64) -> Self {
        Self { seed, script: Script::new(), patience: Duration::from_secs(1), replica: None, tracks: false, is_traced: false }
    }

    /// What goes wrong.
    pub fn script(self, script: Script) -> Self {
        Self { script, ..self }
    }

    /// How long a node waits for a reply before the call fails with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). What it has sent may come all the same.
    pub fn request_timeout(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// So many of 100 reads are answered by a replica of the server, which is up to `lag` behind.
    pub fn replica_reads(self, share: u8, lag: Duration) -> Self {
        Self { replica: Some((share, lag)), ..self }
    }

    /// The server tells its listeners of each change of a record, whoever made it, as Redis does where it tracks writes: see `RedisTierBuilder::tracking`.
    /// What changes under [`World::server`]'s hands is told, too.
    pub fn tracking(self) -> Self {
        Self { tracks: true, ..self }
    }

    /// Keeps the trace as text.
    pub fn traced(self) -> Self {
        Self { is_traced: true, ..self }
    }

    /// Runs a scenario in a runtime of its own, in this thread, whose time goes on whenever nothing is left to do.
    ///
    /// Chance is `fastrand`'s of this thread, seeded. A scenario that wants its runs repeated bit for bit uses no other, no other clock, and no thread.
    ///
    /// # Panics
    /// With the scenario, within a runtime, and if the script is about a node that was not made.
    pub fn run<T, F: Future<Output = T>>(self, scenario: impl FnOnce(World) -> F) -> Ran<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let theirs = fastrand::u64(..);
        fastrand::seed(self.seed);
        let ran = runtime.block_on(async {
            let world = World::new(&self);
            let outcome = scenario(world.clone()).await;
            let net = &world.0;
            let nodes = net.nodes.lock().len();
            for event in net.script.lock().iter() {
                assert!((0..nodes).any(|node| event.is_about(node)), "'{event}' is about a node that there was not");
            }
            Ran { outcome, digest: net.trace.digest(), trace: net.trace.take(), simulated: world.now() }
        });
        drop(runtime);
        fastrand::seed(theirs);
        ran
    }
}

/// What a checker of ours wants to hear.
pub(super) trait Watch: Send + Sync {
    /// The server has done something.
    fn executed(&self, call: &Executed<'_>);
    /// A process is about to hear a message.
    fn heard(&self, process: usize, partition: Partition, message: &[u8]);
    /// A process has heard that a key has changed.
    fn changed(&self, process: usize, change: &Change);
    /// Which version of a row a change of its key goes by that happens now.
    fn change(&self, key: &[u8]) -> Option<Change>;
    /// A process sends a poll: what is to be given back with its answer.
    fn asks(&self, process: usize) -> Asked;
    /// It was answered.
    fn learns(&self, process: usize, asked: Asked);
    /// A process listens from now on, or does not.
    fn listens(&self, process: usize, listens: bool);
    /// A replica has all there is now, and will be promoted.
    fn replicated(&self, promotion: Duration);
    /// It was promoted.
    fn promoted(&self, promotion: Duration);
}

/// A change of a key by a foreign program: what is older than this version has no place in L1 any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) key: usize,
    pub(super) version: u64,
}

/// When a poll was sent, by the judge's count of events, and under which of the process's subscriptions; 0 for none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) order: u64,
    pub(super) subscription: u64,
}

/// A call that the server has done.
pub(super) struct Executed<'a> {
    pub(super) verb: &'static str,
    pub(super) process: usize,
    pub(super) node: usize,
    /// On which keys.
    pub(super) keys: &'a [RemoteKey],
    /// What was invalidated.
    pub(super) told: &'a [Invalidation],
    pub(super) receipts: &'a [Receipt],
}

/// Where nodes and their server live. Cloning shares it.
#[derive(Clone)]
pub struct World(pub(super) Arc<Net>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now()).finish_non_exhaustive()
    }
}

pub(super) struct Net {
    start: Instant,
    pub(super) patience: Duration,
    script: Mutex<Vec<Event>>,
    dice: Mutex<fastrand::Rng>,
    pub(super) server: EmbeddedTier,
    pub(super) tracks: bool,
    replica: Option<(u8, EmbeddedTier)>,
    /// Counts the servers: connections are to one of them.
    servers: AtomicU64,
    nodes: Mutex<Vec<watch::Sender<Arc<Process>>>>,
    lines: Mutex<Vec<Weak<Line>>>,
    processes: AtomicU64,
    pub(super) trace: Trace,
    pub(super) watch: OnceLock<Weak<dyn Watch>>,
}

impl Net {
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn server_number(&self) -> u64 {
        self.servers.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now(), what);
    }

    pub(super) fn watching<R>(&self, tell: impl FnOnce(&dyn Watch) -> R) -> Option<R> {
        self.watch.get().and_then(Weak::upgrade).map(|watch| tell(&*watch))
    }

    pub(super) fn way(&self, node: usize) -> Way {
        way(faults_of(&self.script.lock(), node, self.now()), &mut self.dice.lock())
    }

    pub(super) fn arrivals(&self, node: usize) -> Vec<Duration> {
        arrivals(faults_of(&self.script.lock(), node, self.now()), &mut self.dice.lock())
    }

    pub(super) fn suffers(&self, node: usize, fault: Fault) -> bool {
        faults_of(&self.script.lock(), node, self.now()).any(|one| one == fault)
    }

    /// A random time up to this.
    pub(super) fn draw(&self, longest_ms: u64) -> Duration {
        Duration::from_millis(self.dice.lock().u64(0..=longest_ms))
    }

    /// The replica, if it is to answer this read.
    pub(super) fn replica(&self) -> Option<&EmbeddedTier> {
        let (share, replica) = self.replica.as_ref()?;
        (self.dice.lock().u8(0..100) < *share).then_some(replica)
    }

    pub(super) fn connect(&self, line: &Arc<Line>) {
        let mut lines = self.lines.lock();
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(line));
    }

    /// Breaks connections for messages, which their nodes notice a little later.
    fn sever(&self, whose: impl Fn(usize) -> bool, noticed_ms: u64) {
        let lines: Vec<_> = self.lines.lock().iter().filter_map(Weak::upgrade).collect();
        for line in lines.into_iter().filter(|line| whose(line.node())) {
            let noticed = self.draw(noticed_ms);
            line.sever();
            tokio::spawn(async move {
                sleep(noticed).await;
                line.notice();
            });
        }
    }

    fn processes_of(&self, event: &Event) -> Vec<Arc<Process>> {
        let nodes = self.nodes.lock();
        nodes.iter().enumerate().filter(|(node, _)| event.is_about(*node)).map(|(_, process)| process.borrow().clone()).collect()
    }
}

impl World {
    fn new(simulation: &Simulation) -> Self {
        let start = Instant::now();
        // The server's clock is that of a process which always runs.
        let clock = || Clock::of_process(Arc::new(Process::new(0, start)));
        let net = Arc::new(Net {
            start,
            patience: simulation.patience,
            script: Mutex::default(),
            dice: Mutex::new(fastrand::Rng::with_seed(simulation.seed ^ 0x006e_6574)),
            server: if simulation.tracks { EmbeddedTier::new().tracking() } else { EmbeddedTier::new() }.clock(clock()),
            tracks: simulation.tracks,
            replica: simulation.replica.map(|(share, _)| (share, EmbeddedTier::new().clock(clock()))),
            servers: AtomicU64::new(0),
            nodes: Mutex::default(),
            lines: Mutex::default(),
            processes: AtomicU64::new(0),
            trace: Trace::new(simulation.is_traced),
            watch: OnceLock::new(),
        });
        if let (Some((_, replica)), Some((_, lag))) = (net.replica.clone(), simulation.replica) {
            let server = net.server.clone();
            tokio::spawn(async move {
                loop {
                    replica.promote(server.replicate());
                    sleep(lag.max(Duration::from_millis(1))).await;
                }
            });
        }
        let world = Self(net);
        for event in &simulation.script.0 {
            world.inject(*event);
        }
        world
    }

    /// A node: a process, and its way to the server. Nodes are counted from 0, for [`Event::on`].
    pub fn node(&self) -> Node {
        let process = self.process();
        let mut nodes = self.0.nodes.lock();
        nodes.push(watch::Sender::new(process.clone()));
        Node::new(self.clone(), nodes.len() - 1, process)
    }

    fn process(&self) -> Arc<Process> {
        let id = self.0.processes.fetch_add(1, Ordering::Relaxed);
        Arc::new(Process::new(id as usize, self.0.start))
    }

    /// The time since the simulation began.
    pub fn now(&self) -> Duration {
        self.0.now()
    }

    /// Lets time pass.
    pub async fn sleep(&self, time: Duration) {
        sleep(time).await;
    }

    /// The server, to look into, or to meddle with past the network. Its own calls take no time and meet no fault.
    pub fn server(&self) -> EmbeddedTier {
        self.0.server.as_another_node()
    }

    /// Adds a line to the trace, and to its digest.
    pub fn note(&self, line: &str) {
        self.0.note(format_args!("{line}"));
    }

    /// A fault more, beside those of the script. Times are counted from when the simulation began; one in the past begins now.
    ///
    /// # Panics
    /// If the fault is one that has to last, and it does not.
    pub fn inject(&self, event: Event) {
        assert!(event.is_something(), "'{event}' does nothing: tell how long it lasts");
        self.0.script.lock().push(event);
        let world = self.clone();
        tokio::spawn(async move { world.carry_out(event).await });
    }

    /// Does what a fault does at a moment; what it does to what is sent is looked up when that is.
    async fn carry_out(&self, event: Event) {
        let net = &self.0;
        let sleep_until = |time: Duration| tokio::time::sleep_until(net.start + time);
        match event.fault {
            Fault::Failover(lag) => {
                sleep_until(event.at.saturating_sub(lag)).await;
                let replica = net.server.replicate();
                net.watching(|watch| watch.replicated(event.at));
                sleep_until(event.at).await;
                net.note(format_args!("{event}"));
                net.servers.fetch_add(1, Ordering::Relaxed);
                net.server.promote(replica);
                net.watching(|watch| watch.promoted(event.at));
                net.sever(|_| true, NOTICED_MS);
                return;
            }
            _ => sleep_until(event.at).await,
        }
        net.note(format_args!("{event}"));
        match event.fault {
            _ if event.fault.stops() => {
                let processes = net.processes_of(&event);
                for process in &processes {
                    process.stand(event.fault == Fault::Suspended);
                }
                sleep_until(event.ends()).await;
                net.note(format_args!("over: {event}"));
                for process in &processes {
                    process.go_on(event.fault == Fault::Suspended);
                }
            }
            Fault::Restarted => {
                let processes = net.processes_of(&event);
                for process in &processes {
                    process.die();
                }
                // Whoever waits for it looks whether the process is dead.
                net.nodes.lock().iter().for_each(|node| node.send_modify(|_| ()));
            }
            Fault::Deaf => net.sever(|node| event.is_about(node), 0),
            Fault::HalfOpen(noticed) => net.sever(|node| event.is_about(node), noticed.as_millis() as u64),
            Fault::Down => net.sever(|node| event.is_about(node), 100),
            Fault::Wiped => {
                net.servers.fetch_add(1, Ordering::Relaxed);
                net.server.promote(EmbeddedTier::new().replicate());
                net.sever(|_| true, NOTICED_MS);
            }
            Fault::SequencesForgotten => net.server.forget_sequences(),
            Fault::Evicted => net.server.evict_all(),
            _ => {}
        }
    }
}

/// A node: its process, and its way to the server. Cloning shares it.
///
/// A cache on it takes [`tier`](Self::tier) for its L2 and [`clock`](Self::clock) for its clock. What the cache does in tasks of its own stands still while the
/// process does; what calls it should, too: see [`run`](Self::run).
#[derive(Clone)]
pub struct Node {
    world: World,
    index: usize,
    process: Arc<Process>,
    tier: SimulatedTier,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Node {
    fn new(world: World, index: usize, process: Arc<Process>) -> Self {
        let tier = SimulatedTier::new(world.0.clone(), index, process.clone());
        Self { world, index, process, tier }
    }

    /// Its number, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// The clock of its process.
    pub fn clock(&self) -> Clock {
        Clock::of_process(self.process.clone())
    }

    /// The server as this node reaches it.
    pub fn tier(&self) -> SimulatedTier {
        self.tier.clone()
    }

    /// The same future as the process runs it: it stands still while the process is [paused](Fault::Paused), and never ends once it is dead.
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let process = self.process.clone();
        async move { process.hold(future).await }
    }

    /// Waits for the end of the process: see [`Fault::Restarted`].
    pub async fn died(&self) {
        let mut changes = self.world.0.nodes.lock()[self.index].subscribe();
        while !self.process.is_dead() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Another process in its place. The cache of the one before is of no use any more: make another.
    pub fn again(&self) -> Self {
        let process = self.world.process();
        self.world.0.nodes.lock()[self.index].send_replace(process.clone());
        Self::new(self.world.clone(), self.index, process)
    }
}
