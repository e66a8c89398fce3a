//! What the clients of a trial do: they read and write at random, and tell the judge.

use super::database::Row;
use super::judge::{Instant, Judge, Read, Written};
use super::world::Node;
use crate::answer::Cached;
use crate::coherence::Deployments;
use crate::error::{Error, ErrorKind, Result};
use crate::local::LocalTier;
use crate::remote::RemoteTier;
use crate::stack::{Coherence, TieredCache};
use crate::ttl::Ttl;
use crate::written::WriteToken;
use fastrand::Rng;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Clients of a node.
const CLIENTS: u64 = 4;
/// So long after a failed load its lease must be gone, where calls do not fail.
const RELEASED_IN: Duration = Duration::from_millis(100);

/// What clients share.
pub(super) struct Scene {
    pub(super) judge: Arc<Judge>,
    pub(super) seed: u64,
    /// Tokens of writes, and of which.
    tokens: Mutex<Vec<(usize, WriteToken, Written)>>,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) loads: AtomicU64,
    pub(super) errors: AtomicU64,
}

fn count(of: &AtomicU64) {
    // Ordering: relaxed, for a simulation has one thread.
    of.fetch_add(1, Ordering::Relaxed);
}

impl Scene {
    pub(super) fn new(judge: Arc<Judge>, seed: u64) -> Arc<Self> {
        Arc::new(Self { judge, seed, tokens: Mutex::default(), counts: Counts::default() })
    }

    /// A node for as long as the trial lasts: one process after the other.
    pub(super) async fn live<L: LocalTier<u64, Row>>(self: Arc<Self>, mut node: Node, l1: Arc<dyn Fn() -> L>) {
        loop {
            self.judge.begins(node.process().id());
            let origin = Arc::new(Origin::new(self.clone(), node.clone()));
            let cache = self.cache(&node, l1(), &origin);
            let mut clients = Vec::new();
            for number in 0..CLIENTS {
                let client = Client {
                    scene: self.clone(),
                    cache: cache.clone(),
                    origin: origin.clone(),
                    node: node.clone(),
                    dice: Rng::with_seed(self.seed ^ (node.process().id() as u64 * CLIENTS + number + 1).rotate_left(32)),
                };
                clients.push(tokio::spawn(node.run(client.calls())));
            }
            drop(cache);
            node.died().await;
            self.judge.note(None, || format!("process {} of node{} has died", node.process().id(), node.index()));
            clients.iter().for_each(tokio::task::JoinHandle::abort);
            node = node.again();
        }
    }

    fn cache<L: LocalTier<u64, Row>>(&self, node: &Node, l1: L, origin: &Arc<Origin>) -> TieredCache<u64, Row, L> {
        let plan = &self.judge.plan;
        let origin = origin.clone();
        let builder = TieredCache::<u64, Row>::builder(super::plan::NAME).prefix(super::plan::PREFIX).l2(node.tier()).l1(l1);
        let builder = builder
            .clock(node.clock())
            .ttl(Ttl::new(plan.soft).stale_for(plan.stale_for).stale_if_error(plan.stale_for.max(Duration::from_secs(1))))
            .load_timeout(plan.load_timeout)
            .lease(plan.lease)
            .coherence(Coherence::new().bound(plan.bound).grace(plan.grace))
            .origin(move |key| {
                let origin = origin.clone();
                async move { origin.load(key).await }
            });
        let builder = if plan.versioned { builder.versioned(|row| row.version) } else { builder };
        let builder = if plan.strict { builder.strict() } else { builder };
        builder.build().expect("the plan is a configuration that works")
    }
}

/// What a program does that knows nothing of caches, if there is one.
pub(super) async fn foreign(judge: Arc<Judge>, seed: u64) {
    let Some(pace) = judge.plan.foreign else { return };
    let mut dice = Rng::with_seed(seed ^ 0x0070_726f_6772_616d);
    loop {
        sleep(pace.mul_f64(2.0 * dice.f64())).await;
        judge.foreign(dice.usize(..judge.plan.keys.len()));
    }
}

/// The database as a process reaches it.
struct Origin {
    scene: Arc<Scene>,
    node: Node,
    dice: Mutex<Rng>,
}

/// A load that runs, of a key.
struct Running<'a>(&'a Origin, usize, Duration);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Self(origin, key, began) = *self;
        origin.scene.judge.load_ends(origin.node.process().id(), key, began);
    }
}

impl Origin {
    fn new(scene: Arc<Scene>, node: Node) -> Self {
        let dice = Mutex::new(Rng::with_seed(scene.seed ^ ((node.process().id() as u64 + 1) << 16)));
        Self { scene, node, dice }
    }

    /// How long the database takes before it does something, and after, and whether it fails.
    fn draw(&self) -> (Duration, Duration, bool) {
        let plan = &self.scene.judge.plan;
        let mut dice = self.dice.lock();
        let longest = if dice.u8(..100) < plan.slow { plan.load_timeout.as_millis() as u64 } else { 10 };
        let time = dice.u64(0..=longest);
        let before = dice.u64(0..=time);
        (Duration::from_millis(before), Duration::from_millis(time - before), dice.u8(..100) < 4)
    }

    async fn load(&self, row: u64) -> io::Result<Row> {
        let judge = &self.scene.judge;
        let key = judge.plan.keys.iter().position(|key| *key == row).unwrap_or(0);
        count(&self.scene.counts.loads);
        let (before, after, fails) = self.draw();
        let process = self.node.process().id();
        let suspicions = self.node.tier().deployments().map_or(0, Deployments::suspicions);
        let running = Running(self, key, judge.load_begins(process, key, suspicions));
        sleep(before).await;
        let now = self.node.world().now();
        let version = match judge.plan.lag {
            Some(lag) => {
                let behind = lag.mul_f64(self.dice.lock().f64());
                judge.database.version_at(key, now.saturating_sub(behind))
            }
            None => judge.database.version(key),
        };
        judge.note(Some(key), || format!("node{} (process {process}) loads version {version}", self.node.index()));
        sleep(after).await;
        drop(running);
        if fails {
            self.fails(key, now);
            return Err(io::Error::other("the database has failed"));
        }
        Ok(Row { key: row, version })
    }

    /// A load that fails gives its lease back, where nothing keeps it from that.
    fn fails(&self, key: usize, since: Duration) {
        let (judge, node) = (self.scene.judge.clone(), self.node.clone());
        let Some(lease) = judge.idle_lease(node.process().id(), key) else { return };
        tokio::spawn(async move {
            sleep(RELEASED_IN).await;
            let (process, now) = (node.process(), node.world().now());
            let well =
                !process.is_dead() && !judge.plan.disturbed(node.index(), since.saturating_sub(Duration::from_secs(2)), now);
            if well && judge.idle_lease(process.id(), key) == Some(lease) {
                judge.violated("I14", key, since, format!("node{} has failed to load, and its lease still stands", node.index()));
            }
        });
    }

    /// Commits, and says which version.
    async fn commit(&self, key: usize, last: &AtomicU64) -> io::Result<Row> {
        let judge = &self.scene.judge;
        let (before, after, fails) = self.draw();
        sleep(before).await;
        let version = judge.database.commit(key, self.node.world().now());
        last.store(version, Ordering::Relaxed);
        judge.note(Some(key), || format!("node{} commits version {version}", self.node.index()));
        judge.committed(self.node.process().id(), key, version);
        sleep(after).await;
        if fails { Err(io::Error::other("the database has failed")) } else { Ok(Row { key: judge.plan.keys[key], version }) }
    }
}

/// One of a process.
struct Client<L> {
    scene: Arc<Scene>,
    cache: TieredCache<u64, Row, L>,
    origin: Arc<Origin>,
    node: Node,
    dice: Rng,
}

impl<L: LocalTier<u64, Row>> Client<L> {
    /// Calls for ever.
    async fn calls(mut self) {
        loop {
            let longest = self.scene.judge.plan.pace.as_millis() as u64 * 2;
            sleep(Duration::from_millis(self.dice.u64(0..=longest))).await;
            let key = self.dice.usize(..self.scene.judge.plan.keys.len());
            let (call, writes, began) = (self.dice.u8(..100), self.dice.u8(..100), self.scene.judge.instant());
            let open = self.scene.judge.opens(&self.node, key);
            let plan = &self.scene.judge.plan;
            if writes >= plan.writes || self.node.world().now() >= plan.calm_from {
                count(&self.scene.counts.reads);
                self.reads(call, key, began).await;
            } else {
                count(&self.scene.counts.writes);
                self.writes(call, key, began).await;
            }
            self.scene.judge.closes(open);
        }
    }

    fn row(&self, key: usize) -> u64 {
        self.scene.judge.plan.keys[key]
    }

    async fn reads(&mut self, call: u8, key: usize, began: Instant) {
        let row = self.row(key);
        match call {
            0..=55 => {
                let read = self.cache.load_cached(&row).await;
                self.has_read(key, began, read.map(Some), None);
            }
            56..=75 => {
                let read = self.cache.get_cached(&row).await;
                self.has_read(key, began, read, None);
            }
            76..=84 => {
                let values = self.cache.get_many(&self.scene.judge.plan.keys).await;
                for (key, value) in values.into_iter().enumerate() {
                    if let Some(row) = value {
                        self.tell(key, began, row, None, None);
                    }
                }
            }
            _ => {
                let written = self.scene.tokens.lock().iter().rev().find(|(of, ..)| *of == key).copied();
                let Some((_, token, written)) = written else { return };
                self.scene.judge.touches(self.node.process().id(), &[key], Duration::ZERO);
                let read = self.cache.load_after(&row, &token).await;
                self.has_read(key, began, read.map(Some), Some(written));
            }
        }
    }

    fn has_read(&self, key: usize, began: Instant, read: Result<Option<Cached<Row>>>, after: Option<Written>) {
        match read {
            Ok(Some(read)) => self.tell(key, began, read.value, Some((read.tier, read.freshness, read.age)), after),
            Ok(None) => {}
            Err(err) => self.failed(key, &err),
        }
    }

    fn tell(&self, key: usize, began: Instant, row: Row, marks: Option<Marks>, after: Option<Written>) {
        let (judge, node, process) = (&self.scene.judge, self.node.index(), self.node.process().id());
        judge.note(Some(key), || {
            format!("node{node} (process {process}) has read {} {marks:?}, begun {:?}", row.version, began.time)
        });
        // Beside what is sent: two runs of a seed have read the same.
        self.node.world().note(&format!("node{node} reads {} {marks:?}", row.version));
        judge.read(Read { process, node, key, began, ended: judge.instant(), row, marks, after });
    }

    fn failed(&self, key: usize, err: &Error) {
        count(&self.scene.counts.errors);
        self.scene.judge.note(Some(key), || format!("node{}: {:?}", self.node.index(), err.kind()));
    }

    async fn writes(&mut self, call: u8, key: usize, began: Instant) {
        let (judge, row) = (self.scene.judge.clone(), self.row(key));
        let plan = &judge.plan;
        let (process, node) = (self.node.process().id(), self.node.index());
        match call {
            _ if plan.strict => self.write(key, began).await,
            0..=29 => self.write(key, began).await,
            30..=69 => {
                let version = judge.database.commit(key, self.node.world().now());
                judge.note(Some(key), || format!("node{node} commits version {version} and invalidates"));
                judge.touches(process, &[key], Duration::ZERO);
                let told = if plan.versioned && (plan.lag.is_some() || self.dice.bool()) {
                    self.cache.invalidate_older(&row, version).await
                } else {
                    self.cache.invalidate(&row).await
                };
                self.told(&[(key, version)], began, &told);
                self.keep(&[(key, version)], began, &told);
            }
            // Seldom a clear: it tells 256 partitions.
            98..=99 => {
                let now = self.node.world().now();
                let versions: Vec<_> = (0..plan.keys.len()).map(|key| (key, judge.database.commit(key, now))).collect();
                judge.note(None, || format!("node{node} commits {versions:?} and clears"));
                judge.touches(process, &(0..plan.keys.len()).collect::<Vec<_>>(), Duration::ZERO);
                let told = self.cache.clear().await;
                self.told(&versions, began, &told);
                // What is told without a version leaves no floor for what a lagging replica may still give.
                if plan.lag.is_none() {
                    self.keep(&versions, began, &told);
                }
            }
            _ => {
                let (count, now) = (self.dice.usize(1..=plan.keys.len()), self.node.world().now());
                let versions: Vec<_> = (0..count).map(|key| (key, judge.database.commit(key, now))).collect();
                judge.note(None, || format!("node{node} commits {versions:?} and invalidates"));
                judge.touches(process, &(0..count).collect::<Vec<_>>(), Duration::ZERO);
                let told = self.cache.invalidate_many(&plan.keys[..count]).await;
                for (of, told) in versions.into_iter().zip(told) {
                    self.told(&[of], began, &told);
                    if plan.lag.is_none() {
                        self.keep(&[of], began, &told);
                    }
                }
            }
        }
    }

    async fn write(&self, key: usize, began: Instant) {
        let (row, process) = (self.row(key), self.node.process().id());
        let last = Arc::new(AtomicU64::new(0));
        let (origin, committed) = (self.origin.clone(), last.clone());
        self.scene.judge.touches(process, &[key], Duration::ZERO);
        let written = self.cache.write_with(&row, move || async move { origin.commit(key, &committed).await }).await;
        // A write that was not begun has nothing to tell.
        match last.load(Ordering::Relaxed) {
            0 => {}
            version => {
                let told = written.map(|(_, token)| token);
                self.told(&[(key, version)], began, &told);
                self.keep(&[(key, version)], began, &told);
            }
        }
    }

    /// For reads of later on, by whatever node.
    fn keep(&self, keys: &[(usize, u64)], began: Instant, told: &Result<WriteToken>) {
        let Ok(token) = *told else { return };
        let (process, node) = (self.node.process().id(), self.node.index());
        let written = |version| Written { version, process, node, since: began };
        self.scene.tokens.lock().extend(keys.iter().map(|(key, version)| (*key, token, written(*version))));
    }

    fn told(&self, keys: &[(usize, u64)], began: Instant, told: &Result<WriteToken>) {
        let (judge, node, process) = (&self.scene.judge, self.node.index(), self.node.process().id());
        let of: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
        judge.touches(process, &of, Duration::ZERO);
        // What is told without a version says nothing of what a lagging replica may still give.
        let is_ok = told.is_ok();
        for (key, version) in keys {
            judge.note(Some(*key), || {
                format!("node{node} (process {process}) has told {version}: {:?}", told.as_ref().err().map(Error::kind))
            });
        }
        if let Err(err) = told {
            count(&self.scene.counts.errors);
            // The database's own error: the invalidation behind it may have worked.
            if matches!(err.kind(), ErrorKind::Foreign | ErrorKind::Closed) {
                return;
            }
        }
        let keys: Vec<_> =
            keys.iter().map(|(key, version)| (*key, if judge.plan.lag.is_some() { 0 } else { *version })).collect();
        judge.told(process, node, &keys, began, is_ok);
    }
}

type Marks = (crate::answer::Tier, crate::answer::Freshness, Duration);
