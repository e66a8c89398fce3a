//! Starts a server, prints its URL, and holds it until this process ends, however it ends: `cargo run -p test-servers -- redis`.
#![forbid(unsafe_code)]

use std::any::Any;
use std::error::Error;
use std::process::ExitCode;
use std::thread;

use test_servers::{Postgres, Redis, StartError};

fn main() -> ExitCode {
    let started = match std::env::args().nth(1).as_deref() {
        Some("redis") => redis(),
        Some("postgres") => postgres(),
        _ => {
            eprintln!("which server: redis or postgres?");
            return ExitCode::FAILURE;
        }
    };
    match started {
        Ok((url, _server)) => {
            println!("{url}");
            loop {
                thread::park();
            }
        }
        Err(error) => {
            eprintln!("{error}");
            if let Some(cause) = error.source() {
                eprintln!("{cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn redis() -> Result<(String, Box<dyn Any>), StartError> {
    let redis = Redis::try_start()?;
    Ok((redis.url(), Box::new(redis)))
}

fn postgres() -> Result<(String, Box<dyn Any>), StartError> {
    let postgres = Postgres::try_start()?;
    Ok((postgres.url("postgres"), Box::new(postgres)))
}
