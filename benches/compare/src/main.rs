//! Measures cachestack and its peers side by side, in one run on one machine. The README of this folder says how to run it and how to
//! read the figures.

use std::process::ExitCode;

use crate::args::{Args, Command, USAGE};
use crate::error::Error;

mod args;
mod bound;
mod chart;
mod coarse;
mod coherence;
mod error;
mod faults;
mod histogram;
mod hit_ratio;
mod l1;
mod l2;
mod machine;
mod ours;
mod peers;
mod pinned;
mod progress;
mod ratio;
mod ready;
mod remote;
mod report;
mod resident;
mod rounds;
mod series;
mod subject;
mod ticks;
mod zipf;

fn main() -> ExitCode {
    match Args::parse(std::env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ Error::Usage(_)) => {
            eprintln!("compare: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    // The asynchronous caches spawn and keep time on it; one worker is enough, since the measured hits never leave their own thread.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().map_err(Error::Runtime)?;
    let _inside = runtime.enter();
    match args.command {
        Command::Help => {
            println!("{USAGE}");
            Ok(())
        }
        Command::L1 => l1::run(args),
        Command::L2 => l2::run(args),
        Command::Faults => faults::run(args),
        Command::Coherence => coherence::run(args),
        Command::HitRatio => hit_ratio::run(args),
        Command::Weigh => l1::weigh(args),
        Command::Undergo => faults::undergo(args),
    }
}
