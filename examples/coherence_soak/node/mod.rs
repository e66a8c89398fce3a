//! A node: a process that reads, perhaps writes, and logs both. It does what its standard input says and ends with it, whatever became of its parent.

mod by_hand;
mod cache;
mod counts;
mod desk;
mod pace;
mod reads;
mod stack;
mod sweep;
mod writes;

use crate::database::Database;
use crate::orders::{Answer, Order, Settings};
use cache::Cache;
use cachestack::BoxError;
use desk::Desk;
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader, Stdin};

pub(crate) fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(BoxError::from).and_then(|runtime| {
        let outcome = runtime.block_on(serve());
        // Reads under way, and the thread that waits for input, end with the process.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("a node of the soak could not go on: {err}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), BoxError> {
    let mut orders = BufReader::new(tokio::io::stdin());
    let Some(first) = line(&mut orders).await? else { return Ok(()) };
    let settings: Settings = serde_json::from_str(&first)?;
    let database = Database::open(&settings.folder).await?;
    let cache = Cache::connect(&settings, &database).await?;
    // Once, so that phases compare.
    cache.read_all(settings.keys, |_, version| version.map(drop)).await?;
    let desk = Arc::new(Desk::open(&settings, cache.counts())?);
    let relay = cache.relay(&database, &desk)?;
    let mut load = tokio::task::JoinSet::new();
    reads::start(&mut load, &settings, &cache, &desk);
    writes::start(&mut load, &settings, &cache, &desk, &database, relay.clone());
    answer(&Answer::Ready)?;
    loop {
        tokio::select! {
            order = line(&mut orders) => match order? {
                None => return Ok(()),
                Some(order) => match serde_json::from_str(&order)? {
                    Order::Phase(phase) => answer(&Answer::Done(desk.turn(phase, cache.counts())?))?,
                    Order::Write(writing) => {
                        desk.set_writing(writing).await;
                        answer(&Answer::Writing)?;
                    }
                    Order::Sweep => answer(&Answer::Swept(sweep::sweep(&cache, &database, &desk, settings.keys).await?))?,
                },
            },
            Some(ended) = load.join_next() => ended??,
        }
    }
}

/// Without its end; `None` when the input has ended. Not cancelled in the midst of a line: orders come whole, one at a time.
async fn line(orders: &mut BufReader<Stdin>) -> Result<Option<String>, BoxError> {
    let mut line = String::new();
    Ok((orders.read_line(&mut line).await? > 0).then_some(line))
}

fn answer(answer: &impl Serialize) -> Result<(), BoxError> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, answer)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}
