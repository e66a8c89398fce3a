//! `compare l1`: hits, mixed loads, latency under a writer and memory, in process, every subject in the same run.

use crate::args::Args;
use crate::error::Error;
use crate::machine::Machine;
use crate::report::{self, Row};
use crate::series::Series;

use self::roster::Roster;
use self::work::{Load, Types, WORKS, Work};

mod bars;
mod contender;
mod latency;
mod memory;
mod plot;
mod roster;
mod script;
mod tally;
mod throughput;
mod under_writer;
mod work;

/// The subject that ratios are to, when it takes part; else the first that stores anything.
const OURS: &str = "cachestack";
const BARE_LOOP: &str = "noop";

/// Measures what was asked for, prints a table a work, and writes the rows if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    args.check_names(&work_names(), &subject_names())?;
    // Now and not after minutes of measuring, if a path is wrong.
    for path in [&args.json, &args.ratios].into_iter().flatten() {
        report::write_json::<Row>(path, &[])?;
    }
    if let Some(path) = &args.svg {
        report::write_text(path, "")?;
    }

    let machine = Machine::here();
    println!("compare l1: {machine}");
    println!(
        "{} alternated rounds of {} ms; medians; ± is half of (max - min) / median; ns per operation and thread",
        args.rounds,
        args.window.as_millis()
    );
    if machine.is_busy() {
        println!("something else is running on this machine: measure again when it is quiet");
    }
    if args.threads.iter().any(|threads| *threads > machine.cores()) {
        println!("more threads than cores: they wait for each other");
    }

    let mut series = Vec::new();
    for work in WORKS.iter().filter(|work| args.wants_work(work.name)) {
        series.extend(measure(args, work)?);
        if let Some(path) = &args.json {
            let rows: Vec<Row> = series.iter().map(Row::of).collect();
            report::write_json(path, &rows)?;
        }
    }
    conclude(args, &series)
}

/// A child process weighs one subject: see [`memory`].
pub(crate) fn weigh(args: &Args) -> Result<(), Error> {
    args.check_names(&work_names(), &subject_names())?;
    let mut works = WORKS.iter().filter(|work| args.wants_work(work.name) && matches!(work.load, Load::Resident { .. }));
    works.next().map_or_else(|| Err(Error::Usage("which work?".into())), |work| memory::weigh_one(args, work))
}

fn measure(args: &Args, work: &Work) -> Result<Vec<Series>, Error> {
    match (work.load, work.types) {
        (Load::Resident { .. }, _) => memory::measure(args, work, &subjects(work)),
        (Load::UnderWriter { .. }, _) => latency::measure(args, work, Roster::words(work)),
        (_, Types::Words) => throughput::measure(args, work, Roster::words(work)),
        (_, Types::Strings) => throughput::measure(args, work, Roster::strings()),
        (_, Types::StringsInPlace) => throughput::measure(args, work, Roster::strings_in_place()),
        (_, Types::Tiered) => throughput::measure(args, work, Roster::tiered()),
    }
}

/// The bars and the chart: what the whole run shows.
fn conclude(args: &Args, series: &[Series]) -> Result<(), Error> {
    let verdicts = bars::judge(series);
    if !verdicts.is_empty() {
        println!("\nbars: median of the rounds' ratios of {OURS} (its interval at 95 %), and what it may be at most");
        for verdict in &verdicts {
            println!("  {verdict}");
        }
    }
    if let Some(path) = &args.ratios {
        report::write_json(path, &verdicts)?;
    }
    if let Some(path) = &args.svg {
        report::write_text(path, &plot::hits(series))?;
    }
    Ok(())
}

fn subjects(work: &Work) -> Vec<(&'static str, &'static str)> {
    match work.types {
        Types::Words => Roster::words(work).names_and_notes(),
        Types::Strings => Roster::strings().names_and_notes(),
        Types::StringsInPlace => Roster::strings_in_place().names_and_notes(),
        Types::Tiered => Roster::tiered().names_and_notes(),
    }
}

fn work_names() -> Vec<&'static str> {
    WORKS.iter().map(|work| work.name).collect()
}

fn subject_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in WORKS.iter().flat_map(subjects) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
