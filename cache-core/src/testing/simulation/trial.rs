//! A trial: everything drawn from a seed, run, and judged.

use super::clients::Scene;
use super::database::Row;
use super::fault::Script;
use super::judge::{Judge, Violation};
use super::plan::Plan;
use super::world::{Simulation, Watch};
use crate::local::LocalTier;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A test of the promise: nodes, keys, a configuration, a workload and faults, all drawn from one seed, and a checker of what clients saw.
///
/// Two to four nodes read and write two to six keys over a simulated database for some seconds of simulated time, while up to six faults come and go. Of every call it is checked what DESIGN.md's
/// invariants say: the age of what is read (I2, I3, I12), what L2 holds (I1, I11), deadlines (I7), single-flight (I8), leases (I14), keys (I13), and that `Ok` is said of what was done.
///
/// ```
/// # fn my_l1() -> cache_core::NoLocal { cache_core::NoLocal }
/// use cache_core::testing::simulation::Trial;
///
/// let outcome = Trial::new(7).run(my_l1);
/// assert!(outcome.violations.is_empty(), "{}", Trial::new(7).explained(my_l1));
/// assert_eq!(outcome.digest, Trial::new(7).run(my_l1).digest, "a seed is a run");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Trial {
    seed: u64,
    script: Option<Script>,
    is_traced: bool,
}

/// What a trial came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome {
    /// What must not have happened; none, if all is well.
    pub violations: Vec<Violation>,
    /// The faults.
    pub script: Script,
    /// As of [`Ran::digest`](super::Ran::digest).
    pub digest: u64,
    /// What was sent and came, if the trial was [traced](Trial::traced).
    pub trace: Vec<String>,
    /// Calls that read.
    pub reads: u64,
    /// Answers that were marked as unverified; they are held to the bound and the grace.
    pub unverified: u64,
    /// Calls that write or invalidate.
    pub writes: u64,
    /// Loads from the database.
    pub loads: u64,
    /// Calls that failed.
    pub errors: u64,
    /// In simulated time.
    pub took: Duration,
    /// What happened to the key of the first violation; if the trial was traced.
    pub history: Vec<String>,
}

impl Trial {
    /// All from this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, script: None, is_traced: false }
    }

    /// These faults in place of the seed's, but for those that the promise excepts for the seed's configuration: what loses records, where the cache is strict or loads read a
    /// replica that lags, and a failover where a foreign program writes.
    pub fn script(self, script: Script) -> Self {
        Self { script: Some(script), ..self }
    }

    /// Keeps the trace, and the history of the key that is wrong.
    pub fn traced(self) -> Self {
        Self { is_traced: true, ..self }
    }

    /// Runs it, with L1s as this makes them: each needs room for six entries. Some ten milliseconds.
    pub fn run<L: LocalTier<u64, Row>>(&self, l1: impl Fn() -> L + 'static) -> Outcome {
        self.run_shared(Arc::new(l1))
    }

    fn run_shared<L: LocalTier<u64, Row>>(&self, l1: Arc<dyn Fn() -> L>) -> Outcome {
        let mut plan = Plan::draw(self.seed);
        if let Some(script) = &self.script {
            plan.take(script);
        }
        let script = plan.script.clone();
        let mut simulation = Simulation::new(self.seed).script(script.clone()).request_timeout(plan.request_timeout);
        if let Some((share, lag)) = plan.replicas {
            simulation = simulation.replica_reads(share, lag);
        }
        if plan.foreign.is_some() {
            simulation = simulation.tracking();
        }
        if self.is_traced {
            simulation = simulation.traced();
        }
        let (seed, is_traced) = (self.seed, self.is_traced);
        let ran = simulation.run(|world| async move {
            let (nodes, length) = (plan.nodes, plan.length);
            let judge = Arc::new(Judge::new(plan, world.clone(), is_traced));
            let watch: Arc<dyn Watch> = judge.clone();
            let _ = world.0.watch.set(Arc::downgrade(&watch));
            let scene = Scene::new(judge.clone(), seed);
            let _foreign = tokio::spawn(super::clients::foreign(judge.clone(), seed));
            let lives: Vec<_> = (0..nodes).map(|_| scene.clone().live(world.node(), l1.clone())).collect();
            let _ = tokio::time::timeout(length, futures_util::future::join_all(lives)).await;
            let (violations, unverified) = judge.verdict();
            let history = violations.first().map(|first| judge.history(first)).unwrap_or_default();
            let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
            let counts = &scene.counts;
            let (reads, writes) = (count(&counts.reads), count(&counts.writes));
            let (loads, errors) = (count(&counts.loads), count(&counts.errors));
            (violations, unverified, history, reads, writes, loads, errors)
        });
        let (violations, unverified, history, reads, writes, loads, errors) = ran.outcome;
        let (digest, trace, took) = (ran.digest, ran.trace, ran.simulated);
        Outcome { violations, script, digest, trace, reads, unverified, writes, loads, errors, took, history }
    }

    /// The outcome in words: with fewer faults, if it stays wrong without some of them, and what happened to the key. Runs the trial some times.
    pub fn explained<L: LocalTier<u64, Row>>(&self, l1: impl Fn() -> L + 'static) -> String {
        let l1: Arc<dyn Fn() -> L> = Arc::new(l1);
        let mut least = self.clone();
        let mut outcome = least.run_shared(l1.clone());
        let mut at = 0;
        while at < outcome.script.0.len() && !outcome.violations.is_empty() {
            let mut fewer = outcome.script.clone();
            fewer.0.remove(at);
            let without = least.clone().script(fewer);
            let then = without.run_shared(l1.clone());
            if then.violations.is_empty() {
                at += 1;
            } else {
                (least, outcome) = (without, then);
            }
        }
        let outcome = least.traced().run_shared(l1);
        Explained { seed: self.seed, outcome: &outcome }.to_string()
    }
}

struct Explained<'a> {
    seed: u64,
    outcome: &'a Outcome,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { violations, script, history, .. } = self.outcome;
        writeln!(f, "seed {}: {:#?}", self.seed, Plan { script: Script::new(), ..Plan::draw(self.seed) })?;
        writeln!(f, "faults that it needs:\n{script}")?;
        let Some(first) = violations.first() else { return f.write_str("nothing is wrong") };
        writeln!(f, "{first}\n")?;
        history.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
