//! The main job: a product service behind memory, Redis and four database shards serves the recorded page views of a shop.
//!
//! `service.rs` is the cache as a service describes it, `ways.rs` how it is asked; the rest drives and measures.

mod chaos;
mod command_line;
mod compare;
mod database;
mod product;
mod repeat;
mod replay;
mod report;
mod run;
mod second_level;
mod service;
mod stop;
mod trace;
mod ways;

use std::process::ExitCode;

use cachestack::BoxError;

use command_line::{Command, HELP};
use run::Run;

#[tokio::main]
async fn main() -> ExitCode {
    let command = match Command::from_env() {
        Ok(command) => command,
        Err(err) => {
            eprintln!("{err}; --help tells what there is");
            return ExitCode::from(2);
        }
    };
    match execute(command).await {
        Ok(code) => code,
        Err(err) => {
            eprintln!("the quickstart could not go on: {}", replay::with_causes(&*err));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<ExitCode, BoxError> {
    if let Command::Help = command {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let run = Run::prepare().await?;
    run.describe();
    let failed = match command {
        Command::Loop { limit, chaos } => repeat::repeat(&run, limit, chaos).await?,
        _ => compare::compare(&run).await?,
    };
    let unfinished = run.stop.is_requested() && matches!(command, Command::Compare);
    run.close().await;
    Ok(match failed {
        0 if unfinished => ExitCode::from(stop::INTERRUPTED),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
