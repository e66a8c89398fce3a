//! A run: the servers, the baseline, and one phase after another.

use crate::boot_clock;
use crate::check::{Findings, Ledger, Limits};
use crate::command_line::Options;
use crate::crew::Crew;
use crate::database::Database;
use crate::events::{take_observed, told_since};
use crate::fault::Fault;
use crate::inject::{Injected, inject};
use crate::orders::{Settings, Swept, Way, Writing};
use crate::report::{self, Row};
use crate::servers::Servers;
use cachestack::BoxError;
use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The load runs for so long before anything is measured.
const START: Duration = Duration::from_secs(1);
/// Behind the bound, for what heals late.
const HEALING: Duration = Duration::from_millis(500);
/// Above the bound, how long it may take until all invalidations that failed are told, and every node reads what is in the database.
const RECOVERY: Duration = Duration::from_secs(10);
/// Between two looks for that.
const LOOKS: Duration = Duration::from_millis(100);
/// How long an outbox may take to be empty once nobody adds to it.
const EMPTYING: Duration = Duration::from_secs(20);
/// What was told longer ago is forgotten but for the newest, in nanoseconds.
const REMEMBERED: u64 = 600 * 1_000_000_000;
/// What a shell reports for a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

pub(crate) fn main(options: &Options) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(err) => {
            eprintln!("the soak could not begin: {err}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        tokio::select! {
            outcome = soak(options) => match outcome {
                Ok(rows) => rows,
                Err(err) => {
                    eprintln!("the soak could not go on: {err}");
                    ExitCode::FAILURE
                }
            },
            // Dropping the run ends what it has started.
            _ = tokio::signal::ctrl_c() => ExitCode::from(INTERRUPTED),
        }
    });
    // A thread may be waiting for a server; what it holds ends with the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

async fn soak(options: &Options) -> Result<ExitCode, BoxError> {
    report::head(options);
    let servers = Servers::start(options.is_cluster).await?;
    let without = if options.guards { Some(baseline(options, &servers).await?) } else { None };
    servers.flush().await?;

    let folder = tempfile::Builder::new().prefix("coherence-soak-").tempdir()?;
    let mut run = Run::begin(options, &servers, &folder).await?;
    report::table_head();
    let mut rows = vec![run.first().await?];
    report::row(options, &rows[0]);
    for &fault in &options.faults {
        let row = run.phase(fault).await?;
        report::row(options, &row);
        rows.push(row);
    }
    report::end(options, &rows, without)
}

/// The share of lookups that L1 answers under the same load without coherence between nodes.
async fn baseline(options: &Options, servers: &Servers) -> Result<f64, BoxError> {
    let folder = tempfile::Builder::new().prefix("coherence-soak-").tempdir()?;
    let _database = Database::create(folder.path(), options.keys).await?;
    let mut crew =
        Crew::start(settings(options, servers, folder.path(), Way::Incoherent), options.nodes, &servers.ports()).await?;
    sleep(START).await;
    crew.begin(1).await?;
    sleep(options.phase).await;
    Ok(crew.begin(2).await?.l1_hit_rate())
}

fn settings(options: &Options, servers: &Servers, folder: &Path, way: Way) -> Settings {
    Settings {
        node: 0,
        phase: 0,
        way,
        writes: false,
        urls: servers.urls(),
        is_cluster: options.is_cluster,
        folder: folder.to_owned(),
        keys: options.keys,
        reads_per_second: options.reads_per_second,
        writes_per_second: options.writes_per_second,
        bound_ms: options.bound.as_millis() as u64,
        grace_ms: options.grace.as_millis() as u64,
    }
}

struct Run<'a> {
    options: &'a Options,
    servers: &'a Servers,
    folder: &'a Path,
    database: Database,
    crew: Crew,
    ledger: Ledger,
    /// How far each node's log of what it told has been read.
    told: HashMap<u32, u64>,
    phase: u32,
    since: Instant,
}

impl<'a> Run<'a> {
    async fn begin(options: &'a Options, servers: &'a Servers, folder: &'a TempDir) -> Result<Self, BoxError> {
        let folder = folder.path();
        let database = Database::create(folder, options.keys).await?;
        let way = if options.guards { Way::Coherent } else { Way::ByHand };
        let crew = Crew::start(settings(options, servers, folder, way), options.nodes, &servers.ports()).await?;
        let ledger = Ledger::of(options.keys);
        Ok(Self { options, servers, folder, database, crew, ledger, told: HashMap::new(), phase: 0, since: Instant::now() })
    }

    /// The load alone, until it is under way.
    async fn first(&mut self) -> Result<Row, BoxError> {
        sleep(START).await;
        self.end(None, Injected { rounds: 0, effect: 0 }, Findings::new()).await
    }

    async fn phase(&mut self, fault: Fault) -> Result<Row, BoxError> {
        if !self.options.guards {
            self.renew().await?;
        }
        let until = self.since + self.options.phase;
        let before = self.database.versions().await?;
        let limits = (self.options.bound, self.options.grace);
        let injected = inject(fault, self.servers, &mut self.crew, limits, until).await?;
        let mut findings = Findings::new();
        if fault == Fault::KilledWriter && self.crew.way() != Way::ByHand {
            self.settle(&before, &mut findings).await?;
        }
        if fault != Fault::None {
            sleep(self.options.bound + HEALING).await;
        }
        self.heal(&mut findings).await?;
        self.end(Some(fault), injected, findings).await
    }

    /// Other nodes, and nothing in Redis: without guards, what one fault spoilt stays so, and would be held against the next.
    async fn renew(&mut self) -> Result<(), BoxError> {
        self.learn()?;
        let node = self.crew.end();
        self.servers.flush().await?;
        let settings = Settings { node, phase: self.phase, ..settings(self.options, self.servers, self.folder, self.crew.way()) };
        self.crew = Crew::start(settings, self.options.nodes, &self.servers.ports()).await?;
        self.since = Instant::now();
        Ok(())
    }

    /// Waits until the outbox is empty; then every change since `before` must have been told.
    async fn settle(&mut self, before: &[u64], findings: &mut Findings) -> Result<(), BoxError> {
        self.crew.write(Writing::Paused).await?;
        let deadline = Instant::now() + EMPTYING;
        while self.database.backlog().await?.pending > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(100)).await;
        }
        self.learn()?;
        let now = self.database.versions().await?;
        let changed = now.iter().zip(before).enumerate().filter(|(_, (now, before))| now > before);
        let untold = changed.filter(|(key, (now, _))| self.ledger.newest(*key as u64) < **now).count();
        if untold > 0 {
            findings.untold = untold as u64;
            findings.describe(|| format!("changes of {untold} keys were committed with an outbox row, and nobody has told them"));
        }
        self.crew.write(Writing::Plain).await
    }

    /// Nobody writes; what could not be told is told, and then every node has to read every key as its row is, those whose invalidation failed too. An
    /// older value that comes back later is late.
    async fn heal(&mut self, findings: &mut Findings) -> Result<(), BoxError> {
        self.crew.write(Writing::Paused).await?;
        // What people write by hand tells nothing later.
        let limit = if self.options.guards { self.options.bound + RECOVERY } else { Duration::ZERO };
        let deadline = Instant::now() + limit;
        loop {
            let is_last = Instant::now() >= deadline;
            let all = self.crew.sweep().await?;
            findings.unhealed = all.iter().map(|(_, swept)| swept.unhealed()).sum();
            if findings.unhealed == 0 {
                self.ledger.add_healed(&self.database.versions().await?, boot_clock::now());
                break;
            }
            if is_last {
                for (node, Swept { old, owed, example }) in all.iter().filter(|(_, swept)| swept.unhealed() > 0) {
                    let example = example.as_deref().unwrap_or("none");
                    findings
                        .describe(|| format!("node {node} owes {owed} invalidations still, and has {old} old values: {example}"));
                }
                break;
            }
            sleep(LOOKS).await;
        }
        self.crew.write(Writing::Plain).await
    }

    /// Ends the phase, and looks at all its reads.
    async fn end(&mut self, fault: Option<Fault>, injected: Injected, mut findings: Findings) -> Result<Row, BoxError> {
        let seconds = self.since.elapsed().as_secs_f64();
        let (ended, tally) = (self.phase, self.crew.begin(self.phase + 1).await?);
        (self.phase, self.since) = (ended + 1, Instant::now());
        self.learn()?;
        tokio::task::block_in_place(|| self.look_at(ended, &mut findings))?;
        self.ledger.forget_before(boot_clock::now().saturating_sub(REMEMBERED));
        let row = Row { fault, injected, seconds, tally, findings };
        // The time that the looking took is no part of the next phase.
        self.since = Instant::now();
        Ok(row)
    }

    fn look_at(&mut self, phase: u32, findings: &mut Findings) -> Result<(), BoxError> {
        let limits = Limits { bound: self.options.bound.as_nanos() as u64, grace: self.options.grace.as_nanos() as u64 };
        for &node in self.crew.nodes() {
            let each = |read| findings.look_at(&mut self.ledger, limits, node, read);
            take_observed(self.folder, node, phase, each)?;
        }
        Ok(())
    }

    /// Reads what nodes have told.
    fn learn(&mut self) -> Result<(), BoxError> {
        for &node in self.crew.nodes() {
            let from = self.told.entry(node).or_default();
            told_since(self.folder, node, from)?.into_iter().for_each(|told| self.ledger.add(told));
        }
        Ok(())
    }
}
