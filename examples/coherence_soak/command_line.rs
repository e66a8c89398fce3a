//! The command line.

use crate::fault::Fault;
use lexopt::prelude::{Long, Short, ValueExt};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Writer and reader processes over a SQL database and a Redis of their own, through one fault after another, and a check of every read.

usage: cargo run --release --example coherence_soak -- [options]

  --nodes N         processes, 2 to 64; half of them write as well as read (default 4)
  --seconds S       how long each fault lasts (default 60); the time in which all heals comes on top
  --cluster         a Redis Cluster of six nodes instead of one Redis
  --fault NAMES     which faults, separated by commas, or all (default all)
  --guards on|off   off: plain pub/sub and plain SET and DEL in place of the library; violations are then expected (default on)
  --json FILE       writes the results there as well
  --bound MS        after how many milliseconds an older value is a violation, 300 to 60000 (default 3000)
  --grace SECONDS   how much longer a node that does not reach Redis may go on with marked values, 0 to 3600 (default 5; the library's is 30)
  --reads N         reads a second of each node (default 3000)
  --writes N        writes a second of all nodes together (default 200)
  --keys N          keys, read and written by Zipf's law (default 1000)
  --help            this text

exit code: 0 if there was no violation, L1 hit at least 0.9 times as often as without coherence, each fault had an effect and each phase verified reads, 1 if not,
2 for a wrong option; with --guards off 0 if there was a violation and each fault had an effect, 1 if not.

faults:
";

pub(crate) enum Command {
    Help,
    Run(Options),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) nodes: u32,
    pub(crate) phase: Duration,
    pub(crate) is_cluster: bool,
    /// Ordinary running first.
    pub(crate) faults: Vec<Fault>,
    pub(crate) guards: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) bound: Duration,
    pub(crate) grace: Duration,
    pub(crate) reads_per_second: f64,
    pub(crate) writes_per_second: f64,
    pub(crate) keys: u64,
}

pub(crate) fn help() -> String {
    let mut text = HELP.to_owned();
    for fault in Fault::ALL {
        let _ = writeln!(text, "  {:<15} {}", fault.name(), fault.about());
    }
    text
}

impl Command {
    pub(crate) fn from_env() -> Result<Self, lexopt::Error> {
        Self::parse(lexopt::Parser::from_env())
    }

    fn parse(mut arguments: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let (mut nodes, mut seconds, mut bound, mut grace) = (4, 60, 3_000, 5);
        let (mut reads, mut writes, mut keys) = (3_000, 200, 1_000);
        let (mut is_cluster, mut names, mut guards, mut json) = (false, "all".to_owned(), true, None);
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("help") | Short('h') => return Ok(Self::Help),
                Long("nodes") => nodes = number(&mut arguments, 2, 64)?,
                Long("seconds") => seconds = number(&mut arguments, 1, 86_400)?,
                Long("bound") => bound = number(&mut arguments, 300, 60_000)?,
                Long("grace") => grace = number(&mut arguments, 0, 3_600)?,
                Long("reads") => reads = number(&mut arguments, 1, 100_000)?,
                Long("writes") => writes = number(&mut arguments, 1, 10_000)?,
                Long("keys") => keys = number(&mut arguments, 1, 1_000_000)?,
                Long("cluster") => is_cluster = true,
                Long("fault") => names = arguments.value()?.string()?,
                Long("guards") => guards = arguments.value()?.parse_with(on_or_off)?,
                Long("json") => json = Some(PathBuf::from(arguments.value()?)),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Self::Run(Options {
            nodes: nodes as u32,
            phase: Duration::from_secs(seconds),
            is_cluster,
            faults: faults(&names, is_cluster)?,
            guards,
            json,
            bound: Duration::from_millis(bound),
            grace: Duration::from_secs(grace),
            reads_per_second: reads as f64,
            writes_per_second: writes as f64,
            keys,
        }))
    }
}

fn faults(names: &str, is_cluster: bool) -> Result<Vec<Fault>, String> {
    if names == "all" {
        return Ok(Fault::ALL.into_iter().filter(|fault| fault.is_possible(is_cluster)).collect());
    }
    let mut faults = vec![Fault::None];
    for name in names.split(',') {
        let fault = Fault::by_name(name).ok_or_else(|| format!("there is no fault \"{name}\""))?;
        if !fault.is_possible(is_cluster) {
            let where_it_is = if is_cluster { "for one Redis: leave --cluster out" } else { "for a cluster: add --cluster" };
            return Err(format!("the fault {name} is {where_it_is}"));
        }
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    Ok(faults)
}

fn number(arguments: &mut lexopt::Parser, least: u64, most: u64) -> Result<u64, lexopt::Error> {
    arguments.value()?.parse_with(|text| whole(text, least, most))
}

fn whole(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("not a whole number from {least} to {most}"))
}

fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("neither on nor off"),
    }
}
