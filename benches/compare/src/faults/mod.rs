//! `compare faults`: what callers of the Redis tier and of the drivers see while their server, or the way to it, is broken.

use crate::args::Args;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress;
use crate::report;
use crate::rounds::alternate;

use self::breaker::{BREAKERS, Breaker};
use self::fault::FAULTS;
use self::row::Row;

pub(crate) use self::child::undergo;

mod bars;
mod bed;
mod breaker;
mod caller;
mod child;
mod fault;
mod flood;
mod roster;
mod row;
mod stack;
mod trial;

const OURS: &str = "cachestack";

/// Breaks what was asked for, prints a table a fault, and writes the rows if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let names: Vec<_> = FAULTS.iter().map(|fault| fault.name()).chain(BREAKERS.map(Breaker::name)).collect();
    args.check_names(&names, &roster::NAMES)?;
    if let Some(path) = &args.json {
        report::write_json::<Row>(path, &[])?;
    }
    let machine = Machine::here();
    println!("compare faults: {machine}");
    println!(
        "{} alternated rounds, of which the worst; {} tasks, each calls again {} ms after its last call, reads and writes by turns; timeout {} ms",
        args.rounds,
        trial::TASKS,
        trial::PACE.as_millis(),
        roster::TIMEOUT.as_millis()
    );
    if machine.is_busy() {
        println!("something else is running on this machine: measure again when it is quiet");
    }

    let mut rows = Vec::new();
    for fault in FAULTS.into_iter().filter(|fault| args.wants_work(fault.name())) {
        let mut names = roster::NAMES.to_vec();
        names.retain(|name| args.wants_subject(name) && roster::takes_part(name, fault));
        if names.is_empty() {
            continue;
        }
        let (mut turn, turns) = (0, args.rounds * names.len());
        let rounds = alternate(&mut names, args.rounds, |name| {
            turn += 1;
            progress::show(&format!("{}: {turn} of {turns}", fault.name()));
            child::rows(args, fault.name(), name)
        })?;
        progress::show("");
        let of_fault: Vec<Row> = rounds.into_iter().flat_map(together).collect();
        println!("\n{}: {}", fault.name(), fault.about());
        row::print(&of_fault);
        rows.extend(of_fault);
        if let Some(path) = &args.json {
            report::write_json(path, &rows)?;
        }
    }
    for breaker in BREAKERS.into_iter().filter(|breaker| args.wants_work(breaker.name()) && args.wants_subject(OURS)) {
        let of_breaker = child::rows(args, breaker.name(), OURS)?;
        println!("\n{}: {}", breaker.name(), breaker.about());
        row::print(&of_breaker);
        rows.extend(of_breaker);
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

/// The rows of one client, of which each round has the same.
fn together(rounds: Vec<Vec<Row>>) -> Vec<Row> {
    let both = |one: Vec<Row>, other: Vec<Row>| one.into_iter().zip(other).map(|(one, other)| one.with(other)).collect();
    rounds.into_iter().reduce(both).unwrap_or_default()
}
