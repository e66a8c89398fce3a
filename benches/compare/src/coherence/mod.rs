//! `compare coherence`: what it costs that nodes follow each other's writes, and how soon they do.

use crate::args::Args;
use crate::error::Error;
use crate::machine::Machine;
use crate::progress;
use crate::report;

use self::row::Row;

mod account;
mod arrival;
mod bed;
mod hit;
mod invalidate;
mod one_get;
mod polls;
mod row;
mod script;
mod tracking;

const OURS: &str = "cachestack";

/// What is measured by itself.
struct Work {
    name: &'static str,
    about: &'static str,
    measure: fn(&Args) -> Result<Vec<Row>, Error>,
}

const WORKS: [Work; 7] = [
    Work {
        name: hit::NAME,
        about: "load of 1,000 u64 keys that L1 has, by one thread: with coherence to without it",
        measure: hit::measure,
    },
    Work {
        name: one_get::NAME,
        about: "10,000 hits in L2 of a cache without L1: what the server counted",
        measure: one_get::measure,
    },
    Work {
        name: invalidate::NAME,
        about: "invalidate at 128 tasks, 128 B: to the raw driver's DEL, then PUBLISH",
        measure: invalidate::measure,
    },
    Work { name: script::NAME, about: "server time of the invalidation's script, values present", measure: script::measure },
    Work {
        name: arrival::NAME,
        about: "from the call of invalidate on one node until another node's L1 lets go, 1,000 a second",
        measure: arrival::measure,
    },
    Work {
        name: tracking::NAME,
        about: "400,000 reads of 1,000 zipf keys by two nodes that begin empty: L1's hit rate with RESP3 tracking and without",
        measure: tracking::measure,
    },
    Work { name: polls::NAME, about: "50 nodes that do nothing but poll: processor time of the server", measure: polls::measure },
];

/// Measures what was asked for, prints the figures of each work, and writes them if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    args.check_names(&WORKS.map(|work| work.name), &[])?;
    // Now and not after minutes of measuring, if a path is wrong.
    if let Some(path) = &args.json {
        report::write_json::<Row>(path, &[])?;
    }
    let machine = Machine::here();
    println!("compare coherence: {machine}");
    println!("medians, of ratios those of {} alternated rounds (their interval at 95 %)", args.rounds);
    if machine.is_busy() {
        println!("something else is running on this machine: measure again when it is quiet");
    }

    let mut rows = Vec::new();
    for work in WORKS.iter().filter(|work| args.wants_work(work.name)) {
        progress::show(work.name);
        let of_work = (work.measure)(args)?;
        progress::show("");
        println!("\n{}: {}", work.name, work.about);
        for row in &of_work {
            println!("  {row}");
        }
        rows.extend(of_work);
        if let Some(path) = &args.json {
            report::write_json(path, &rows)?;
        }
    }
    Ok(())
}
