//! `compare faults`: what callers of the Redis tier and of the drivers see while their server, or the way to it, is broken.

use crate::args::Args;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress;
use crate::report;
use crate::rounds::alternate;

use self::fault::FAULTS;
use self::row::Row;
use self::trial::{Span, Trial};

mod bars;
mod bed;
mod breaker;
mod fault;
mod roster;
mod row;
mod trial;

const OURS: &str = "cachestack";

/// Breaks what was asked for, prints a table a fault, and writes the rows if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let names: Vec<_> = FAULTS.iter().map(|fault| fault.name()).chain([breaker::NAME]).collect();
    args.check_names(&names, &roster::NAMES)?;
    if let Some(path) = &args.json {
        report::write_json::<Row>(path, &[])?;
    }
    let machine = Machine::here();
    println!("compare faults: {machine}");
    println!(
        "{} alternated rounds, of which the worst; {} tasks, a call every {} ms each, timeout {} ms",
        args.rounds,
        trial::TASKS,
        trial::PACE.as_millis(),
        roster::TIMEOUT.as_millis()
    );
    if machine.is_busy() {
        println!("something else is running on this machine: measure again when it is quiet");
    }

    let span = Span::of(args);
    let mut rows = Vec::new();
    for fault in FAULTS.into_iter().filter(|fault| args.wants_work(fault.name())) {
        let mut names = roster::NAMES.to_vec();
        names.retain(|name| args.wants_subject(name));
        let (mut turn, turns) = (0, args.rounds * names.len());
        let trials: Vec<Vec<Trial>> = alternate(&mut names, args.rounds, |name| {
            turn += 1;
            progress::show(&format!("{}: {turn} of {turns}", fault.name()));
            roster::undergo(name, fault, span)
        })?;
        progress::show("");
        let of_fault: Vec<Row> = names.iter().zip(&trials).flat_map(|(name, trials)| Row::all(fault, name, trials)).collect();
        println!("\n{}: {}", fault.name(), fault.about());
        row::print(&of_fault);
        rows.extend(of_fault);
        if let Some(path) = &args.json {
            report::write_json(path, &rows)?;
        }
    }
    if args.wants_work(breaker::NAME) && args.wants_subject(OURS) {
        let row = breaker::measure()?;
        println!("\n{}: {}", breaker::NAME, breaker::ABOUT);
        row::print(std::slice::from_ref(&row));
        rows.push(row);
        if let Some(path) = &args.json {
            report::write_json(path, &rows)?;
        }
    }
    println!("\nbars of {OURS}: the worst of the rounds");
    for line in bars::judge(&rows) {
        println!("  {line}");
    }
    Ok(())
}
