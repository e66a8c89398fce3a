//! Starts a server, prints its URL, and holds it until this process ends, however it ends: `cargo run -p test-servers -- redis`.
#![forbid(unsafe_code)]

use std::any::Any;
use std::error::Error;
use std::process::ExitCode;
use std::thread;

use test_servers::{Postgres, Redis, RedisCluster, RedisSentinel, StartError};

fn main() -> ExitCode {
    let started = match std::env::args().nth(1).as_deref() {
        Some("redis") => redis(),
        Some("postgres") => postgres(),
        Some("cluster") => cluster(),
        Some("sentinel") => sentinel(),
        _ => {
            eprintln!("which server: redis, cluster, sentinel or postgres?");
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

/// The URL of one node: it names the others.
fn cluster() -> Result<(String, Box<dyn Any>), StartError> {
    let cluster = RedisCluster::builder().try_start()?;
    Ok((cluster.node(0).url(), Box::new(cluster)))
}

/// The URL of one sentinel: it names the others.
fn sentinel() -> Result<(String, Box<dyn Any>), StartError> {
    let group = RedisSentinel::try_start()?;
    Ok((group.sentinels()[0].url(), Box::new(group)))
}

fn postgres() -> Result<(String, Box<dyn Any>), StartError> {
    let postgres = Postgres::try_start()?;
    Ok((postgres.url("postgres"), Box::new(postgres)))
}
