//! `compare l1`: the time of hits and of mixed loads in process, every subject in the same run.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;

use crate::args::Args;
use crate::error::Error;
use crate::machine::Machine;
use crate::report::{self, Line, Row, Table};
use crate::rounds::{Figure, alternate};
use crate::subject::{Key, Value};

use self::roster::Roster;
use self::script::Script;
use self::tally::Tally;
use self::work::{Types, WORKS, Work};

mod contender;
mod roster;
mod script;
mod tally;
mod work;

/// The subject that ratios are to, when it takes part; else the first that stores anything.
const OURS: &str = "cachestack";
const BARE_LOOP: &str = "noop";

/// Measures what was asked for, prints a table a work, and writes the rows if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let names: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
    args.check_names(&names, &subject_names())?;
    if let Some(path) = &args.json {
        // Now and not after minutes of measuring, if the path is wrong.
        report::write_json::<Row>(path, &[])?;
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

    let mut rows = Vec::new();
    for work in WORKS.iter().filter(|work| args.wants_work(work.name)) {
        rows.extend(match work.types {
            Types::Words => measure(args, work, Roster::words(work))?,
            Types::Strings => measure(args, work, Roster::strings())?,
            Types::Tiered => measure(args, work, Roster::tiered())?,
        });
        if let Some(path) = &args.json {
            report::write_json(path, &rows)?;
        }
    }
    Ok(())
}

fn subject_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for work in &WORKS {
        let of_work = match work.types {
            Types::Words => Roster::words(work).names(),
            Types::Strings => Roster::strings().names(),
            Types::Tiered => Roster::tiered().names(),
        };
        for name in of_work {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

fn measure<K: Key, V: Value>(args: &Args, work: &Work, roster: Roster<K, V>) -> Result<Vec<Row>, Error> {
    let most_threads = args.threads.iter().copied().max().unwrap_or(1);
    progress(&format!("{}: filling", work.name));
    let script = Arc::new(Script::<K>::of(work, most_threads));
    let mut contenders = roster.build(&script, |name| args.wants_subject(name))?;
    if contenders.is_empty() {
        progress("");
        return Ok(Vec::new());
    }

    let mut figures = vec![Vec::new(); contenders.len()];
    let mut tallies = vec![Tally::default(); contenders.len()];
    for &threads in &args.threads {
        let mut turn = 0;
        let turns = args.rounds * contenders.len();
        let samples = alternate(&mut contenders, args.rounds, |contender| {
            turn += 1;
            progress(&format!("{}, {threads} threads: {turn} of {turns}", work.name));
            contender.sample(threads, args.window)
        })?;
        for (index, samples) in samples.iter().enumerate() {
            figures[index].push(Figure::of(samples.iter().map(Tally::ns_per_op)));
            tallies[index] += samples.iter().copied().sum();
        }
    }
    progress("");

    let mut lines = Vec::with_capacity(contenders.len());
    for ((contender, figures), tally) in contenders.iter().zip(figures).zip(tallies) {
        let (subject, hit_ratio, least) = (contender.name(), tally.hit_ratio(), work.least_hits);
        if hit_ratio < least {
            return Err(Error::TooManyMisses { work: work.name, subject, hit_ratio, least });
        }
        lines.push(Line { subject, note: contender.note(), figures, hit_ratio });
    }
    let reference = reference(&lines);
    println!("\n{}: {}; ratios to {}", work.name, work.about, reference.map_or("nothing", |line| line.subject));
    print!("{}", Table { threads: &args.threads, lines: &lines, reference });
    Ok(rows(work, &args.threads, &lines))
}

fn reference(lines: &[Line]) -> Option<&Line> {
    let ours = lines.iter().find(|line| line.subject == OURS);
    ours.or_else(|| lines.iter().find(|line| line.subject != BARE_LOOP))
}

fn rows(work: &Work, threads: &[usize], lines: &[Line]) -> Vec<Row> {
    let of = |line: &Line| {
        let pairs = threads.iter().zip(&line.figures);
        pairs.map(|(threads, figure)| Row::new(work.name, *threads, line.subject, *figure)).collect::<Vec<_>>()
    };
    lines.iter().flat_map(of).collect()
}

/// Overwrites one line of the terminal; nothing where there is none.
fn progress(text: &str) {
    let mut terminal = stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K{text}");
        let _ = terminal.flush();
    }
}
