//! What a run prints, and its JSON.

use crate::check::Findings;
use crate::command_line::Options;
use crate::fault::Fault;
use crate::inject::Injected;
use crate::orders::Tally;
use cachestack::BoxError;
use serde_json::{Value, json};
use std::process::ExitCode;

/// What L1 has to answer, of what it answers without coherence.
const LEAST_HITS: f64 = 0.9;

/// What became of a phase. No fault: the load's start.
pub(crate) struct Row {
    pub(crate) fault: Option<Fault>,
    pub(crate) injected: Injected,
    pub(crate) seconds: f64,
    pub(crate) tally: Tally,
    pub(crate) findings: Findings,
}

impl Row {
    fn name(&self) -> &'static str {
        self.fault.map_or("start", Fault::name)
    }

    /// What its effect is a number of; none where nothing was brought about.
    fn effect_of(&self) -> Option<&'static str> {
        self.fault.filter(|&fault| fault != Fault::None).map(Fault::effect)
    }

    /// Why it shows nothing.
    fn emptiness(&self) -> Option<String> {
        let name = self.name();
        if let Some(of) = self.effect_of().filter(|_| self.injected.effect == 0) {
            return Some(format!("{name} had no effect: 0 {of}"));
        }
        (self.findings.verified == 0).then(|| format!("{name}: no read was verified"))
    }
}

pub(crate) fn head(options: &Options) {
    let Options { nodes, reads_per_second, writes_per_second, keys, .. } = options;
    let cache = if options.guards { "cachestack" } else { "guards off: plain pub/sub, plain SET and DEL" };
    let redis = if options.is_cluster { "a Redis Cluster of six nodes" } else { "one Redis" };
    println!("cache      {cache}, over {redis}");
    println!("origin     a SQLite file; {keys} keys, by Zipf's law");
    println!("nodes      {nodes} processes, {} of which write: {writes_per_second} writes a second together", nodes / 2);
    println!("           {reads_per_second} reads a second each; those that only read reach Redis through proxies");
    println!("bound      {:?}, and {:?} of grace; each fault lasts {:?}", options.bound, options.grace, options.phase);
}

pub(crate) fn table_head() {
    println!();
    println!(
        "                                     reads             |    hits and loads     |        writes            |         violations         |    staleness, ms"
    );
    println!(
        "fault           times      s  verified  marked  failed | L1 %      L2    loads | commits    told  not told |  late   own  grace unhealed |     p99     max  marked | effect"
    );
}

pub(crate) fn row(options: &Options, row: &Row) {
    let Row { tally, findings, .. } = row;
    println!(
        "{:<15} {:>5} {:>6.1} {:>9} {:>7} {:>7} | {:>4.1} {:>7} {:>8} | {:>7} {:>7} {:>9} | {:>5} {:>5} {:>6} {:>8} | {:>7.1} {:>7.1} {:>7.1} | {}",
        row.name(),
        row.injected.rounds,
        row.seconds,
        findings.verified,
        findings.marked,
        tally.read_errors,
        tally.l1_hit_rate() * 100.0,
        tally.l2_hits,
        tally.loads,
        tally.writes,
        tally.invalidations,
        tally.invalidation_errors,
        findings.late,
        findings.own,
        findings.beyond,
        findings.unhealed,
        findings.staleness_ms(0.99),
        findings.stalest_ms(),
        findings.marked_stalest_ms(),
        row.effect_of().map_or("-".to_owned(), |of| format!("{} {of}", row.injected.effect)),
    );
    // Without guards there are many of each kind.
    for text in findings.described.iter().take(if options.guards { usize::MAX } else { 1 }) {
        println!("                ! {text}");
    }
}

/// The end of the table, the JSON, and the exit code.
pub(crate) fn end(options: &Options, rows: &[Row], without_coherence: Option<f64>) -> Result<ExitCode, BoxError> {
    let violations: u64 = rows.iter().map(|row| row.findings.violations()).sum();
    let tally = rows.iter().fold(Tally::default(), |sum, row| sum.plus(row.tally));
    println!();
    println!("reads         {}", tally.reads);
    println!("hits          {} of L1, {} of L2", tally.l1_hits, tally.l2_hits);
    println!("loads         {}", tally.loads);
    println!("writes        {}", tally.writes);
    println!("invalidations {}, and {} that were refused or not answered", tally.invalidations, tally.invalidation_errors);
    println!("violations    {violations}, {} of them keys that did not heal", unhealed(rows));
    let ordinary = rows.iter().find(|row| row.fault == Some(Fault::None));
    let hits = ordinary.map_or(0.0, |row| row.tally.l1_hit_rate());
    if let Some(row) = ordinary {
        let findings = &row.findings;
        let (median, most, stalest) = (findings.staleness_ms(0.5), findings.staleness_ms(0.99), findings.stalest_ms());
        println!(
            "ordinary running: staleness {median:.1} ms p50, {most:.1} ms p99, {stalest:.1} ms at most; L1 hits {:.2} %",
            hits * 100.0
        );
    }
    let ratio = without_coherence.map(|without| hits / without.max(f64::MIN_POSITIVE));
    if let (Some(without), Some(ratio)) = (without_coherence, ratio) {
        println!("without coherence L1 hits {:.2} % under the same load: {ratio:.3} of that are left", without * 100.0);
    }
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&as_json(options, rows, violations, hits, without_coherence))? + "\n")?;
    }
    let empty: Vec<_> = rows.iter().filter_map(Row::emptiness).collect();
    for text in &empty {
        eprintln!("{text}");
    }
    if !options.guards {
        if violations == 0 {
            eprintln!("without guards there should have been violations: the soak has shown nothing");
        }
        return Ok(code(violations > 0 && empty.is_empty()));
    }
    if violations > 0 {
        eprintln!("the promise was broken");
    }
    let is_of_use = ratio.is_none_or(|ratio| ratio >= LEAST_HITS);
    if !is_of_use {
        eprintln!("L1 hits too seldom: a cache that bypasses itself proves nothing");
    }
    Ok(code(violations == 0 && is_of_use && empty.is_empty()))
}

fn unhealed(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.findings.unhealed).sum()
}

fn code(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn as_json(options: &Options, rows: &[Row], violations: u64, hits: f64, without: Option<f64>) -> Value {
    let ordinary = rows.iter().find(|row| row.fault == Some(Fault::None));
    let staleness = |share| ordinary.map_or(0.0, |row| row.findings.staleness_ms(share));
    json!({
        "guards": options.guards,
        "cluster": options.is_cluster,
        "nodes": options.nodes,
        "seconds": options.phase.as_secs(),
        "bound_ms": options.bound.as_millis() as u64,
        "grace_ms": options.grace.as_millis() as u64,
        "violations": violations,
        "unhealed": unhealed(rows),
        "staleness_p50_ms": staleness(0.5),
        "staleness_p99_ms": staleness(0.99),
        "staleness_max_ms": ordinary.map_or(0.0, |row| row.findings.stalest_ms()),
        "l1_hit_rate": hits,
        "l1_hit_rate_without_coherence": without,
        "faults": rows.iter().map(|row| (row.name().to_owned(), phase_as_json(row))).collect::<serde_json::Map<_, _>>(),
    })
}

fn phase_as_json(row: &Row) -> Value {
    let Row { injected, seconds, tally, findings, .. } = row;
    json!({
        "times": injected.rounds,
        "effect": row.effect_of().map(|of| json!({ "count": injected.effect, "of": of })),
        "seconds": seconds,
        "violations": findings.violations(),
        "late": findings.late,
        "older_than_own": findings.own,
        "beyond_grace": findings.beyond,
        "unhealed": findings.unhealed,
        "wrong_values": findings.wrong,
        "untold_commits": findings.untold,
        "staleness_p50_ms": findings.staleness_ms(0.5),
        "staleness_p99_ms": findings.staleness_ms(0.99),
        "staleness_max_ms": findings.stalest_ms(),
        "marked_staleness_max_ms": findings.marked_stalest_ms(),
        "l1_hit_rate": tally.l1_hit_rate(),
        "reads": tally.reads,
        "verified_reads": findings.verified,
        "marked_reads": findings.marked,
        "failed_reads": tally.read_errors,
        "l1_hits": tally.l1_hits,
        "l2_hits": tally.l2_hits,
        "loads": tally.loads,
        "writes": tally.writes,
        "invalidations": tally.invalidations,
        "failed_invalidations": tally.invalidation_errors,
    })
}
