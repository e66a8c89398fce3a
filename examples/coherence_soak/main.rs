//! The promise under fire: processes that write and processes that read, over a real SQL database and a real Redis that is hurt in every way on the list,
//! and a check of every read against every write. docs/soak.md has the drawing and the results of a long run.
//!
//! `cargo run --release --example coherence_soak -- --nodes 4 --seconds 60` (`--help` has the rest)
//!
//! The parent (`run.rs`) starts the servers and the nodes and injects the faults (`inject.rs`); a node (`node/`) is this program again, a process of its own that
//! reads and perhaps writes, and logs what it did; `check.rs` decides what was a violation.

#[cfg(unix)]
mod boot_clock;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod command_line;
#[cfg(unix)]
mod crew;
#[cfg(unix)]
mod database;
#[cfg(unix)]
mod events;
#[cfg(unix)]
mod fault;
#[cfg(unix)]
mod inject;
#[cfg(unix)]
mod item;
#[cfg(unix)]
mod node;
#[cfg(unix)]
mod orders;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod proxy;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod resp;
#[cfg(unix)]
mod run;
#[cfg(unix)]
mod servers;

#[cfg(not(unix))]
fn main() {
    eprintln!("the soak stops and kills processes by signals, which it can on Unix only");
}

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    if std::env::args().nth(1).as_deref() == Some(process::NODE) {
        return node::main();
    }
    match command_line::Command::from_env() {
        Ok(command_line::Command::Help) => {
            print!("{}", command_line::help());
            ExitCode::SUCCESS
        }
        Ok(command_line::Command::Run(options)) => run::main(&options),
        Err(err) => {
            eprintln!("{err}; --help tells what there is");
            ExitCode::from(2)
        }
    }
}
