//! `compare l2`: the Redis tier and the drivers over the wire, every subject in the same run.

use crate::args::Args;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress;
use crate::report;
use crate::rounds::alternate;

use self::cell::{Cell, Row};
use self::sample::{Plan, Sample};
use self::servers::Servers;
use self::stage::Stage;
use self::work::{Load, Topology, WORKS, Work, tasks_in_words};

mod bars;
mod cell;
mod contender;
mod roster;
mod sample;
mod servers;
mod stage;
mod work;

const OURS: &str = "cachestack";
/// The untimed part of a sample is its window divided by this.
const WARM_UP: u32 = 4;

/// Measures what was asked for, prints a table a work and number of tasks, and writes the rows if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    args.check_names(&WORKS.map(|work| work.name), &subject_names())?;
    // Now and not after minutes of measuring, if a path is wrong.
    for path in [&args.json, &args.ratios].into_iter().flatten() {
        report::write_json::<Row>(path, &[])?;
    }
    let machine = Machine::here();
    println!("compare l2: {machine}");
    println!(
        "{} alternated rounds of {} ms; medians; ± is half of (max - min) / median of ops/s; ratios of ops/s to {OURS}",
        args.rounds,
        args.window.as_millis()
    );
    if machine.is_busy() {
        println!("something else is running on this machine: measure again when it is quiet");
    }

    let mut cells = Vec::new();
    for topology in [Topology::OneNode, Topology::Cluster] {
        let works = WORKS.iter().filter(|work| work.topology == topology && args.wants_work(work.name));
        let cases: Vec<(&Work, usize)> = works.flat_map(|work| work.tasks.iter().map(move |tasks| (work, *tasks))).collect();
        let mut cases = cases.into_iter().filter(|(_, tasks)| args.wants_tasks(*tasks)).peekable();
        if cases.peek().is_none() {
            continue;
        }
        let servers = Servers::start(topology)?;
        for (work, tasks) in cases {
            cells.extend(measure(args, work, tasks, &servers)?);
            if let Some(path) = &args.json {
                let rows: Vec<Row> = cells.iter().map(Row::of).collect();
                report::write_json(path, &rows)?;
            }
        }
    }
    conclude(args, &cells)
}

/// One work at one number of tasks.
fn measure(args: &Args, work: &Work, tasks: usize, servers: &Servers) -> Result<Vec<Cell>, Error> {
    progress::show(&format!("{}, {tasks} tasks: storing the keys", work.name));
    servers.flush()?;
    let stage = Stage::new(tasks, servers)?;
    let mut contenders = Vec::new();
    for name in roster::names(work).into_iter().filter(|name| args.wants_subject(name)) {
        contenders.push(stage.run(roster::enter(name, work, servers))?);
    }
    let plan =
        Plan { load: work.load, value_bytes: work.value_bytes, tasks, warm_up: args.window / WARM_UP, window: args.window };
    let (mut turn, turns) = (0, args.rounds * contenders.len());
    let samples: Vec<Vec<Sample>> = alternate(&mut contenders, args.rounds, |contender| {
        turn += 1;
        progress::show(&format!("{}, {tasks} tasks: {turn} of {turns}", work.name));
        if work.load == Load::Fill {
            // Every sample begins with the same keys vacant, and the server's memory stays bounded.
            servers.flush()?;
        }
        contender.sample(&stage, plan)
    })?;
    progress::show("");
    let cells: Vec<Cell> = contenders
        .iter()
        .zip(samples)
        .map(|(contender, samples)| {
            let (topology, subject, note) = (work.topology.name(), contender.name(), contender.note());
            Cell { work: work.name, topology, tasks, subject, note, samples }
        })
        .collect();
    println!("\n{}: {}, {}, {}", work.name, work.about, work.topology.name(), tasks_in_words(tasks));
    cell::print(&cells);
    Ok(cells)
}

fn conclude(args: &Args, cells: &[Cell]) -> Result<(), Error> {
    let verdicts = bars::judge(cells);
    if !verdicts.is_empty() {
        println!("\nbars: median of the rounds' ratios of {OURS} (its interval at 95 %)");
        for verdict in &verdicts {
            println!("  {verdict}");
        }
    }
    args.ratios.as_ref().map_or(Ok(()), |path| report::write_json(path, &verdicts))
}

fn subject_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = WORKS.iter().flat_map(roster::names).collect();
    names.sort_unstable();
    names.dedup();
    names
}
