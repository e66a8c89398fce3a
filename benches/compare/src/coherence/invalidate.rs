//! `invalidate` beside what a service would write by hand: DEL, then PUBLISH.

use std::ops::Range;
use std::time::Instant;

use redis::aio::ConnectionManager;
use redis::{Client, cmd, pipe};

use crate::args::Args;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::remote::{Failure, payload};
use crate::rounds::alternate;

use super::account::Account;
use super::bed::{self, Node};
use super::row::Row;

pub(crate) const NAME: &str = "invalidate";
const BAR: f64 = 2.0;
const TASKS: u64 = 128;
/// Of each task and sample: every call finds a value.
const CALLS: u64 = 100;
const VALUE_BYTES: usize = 128;
/// Values in one pipeline while they are stored.
const STORING: usize = 1_000;

/// What invalidates.
#[derive(Clone)]
enum Subject {
    /// A whole node, which hears its own messages too.
    Ours(Node),
    /// Nobody listens to its channel.
    Driver(ConnectionManager),
}

/// Of one sample, in microseconds.
struct Sample {
    p50: f64,
    p99: f64,
    /// Server time a call.
    server: f64,
}

pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Error> {
    let calls = if args.quick { CALLS / 10 } else { CALLS } * TASKS;
    let samples = bed::with_server(NAME, |redis, runtime| {
        let mut subjects = runtime.block_on(async {
            let driver = Client::open(redis.url())?.get_connection_manager().await?;
            Ok::<_, Failure>([Subject::Ours(bed::node(redis).await?), Subject::Driver(driver)])
        })?;
        let mut account = Account::open(redis)?;
        let mut next = 0;
        alternate(&mut subjects, args.rounds, |subject| {
            let ids = next..next + calls;
            next = ids.end;
            runtime.block_on(subject.store(ids.clone()))?;
            account.reset()?;
            let times = runtime.block_on(sample(subject, ids))?;
            let micros = |quantile| times.percentile(quantile) as f64 / 1_000.0;
            let server = account.spent(&["evalsha", "del", "publish"])?.micros as f64 / calls as f64;
            Ok::<_, Failure>(Sample { p50: micros(0.5), p99: micros(0.99), server })
        })
    })?;
    let [ours, driver] = [&samples[0], &samples[1]];
    let all = |samples: &[Sample], of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
    let [p50, p99, server] = [|sample: &Sample| sample.p50, |sample: &Sample| sample.p99, |sample: &Sample| sample.server];
    Ok(vec![
        Row::of(NAME, "ours, p50", "us", &all(ours, p50)),
        Row::of(NAME, "DEL then PUBLISH, p50", "us", &all(driver, p50)),
        Row::of(NAME, "ours, p99", "us", &all(ours, p99)),
        Row::of(NAME, "DEL then PUBLISH, p99", "us", &all(driver, p99)),
        Row::of(NAME, "ours, server time", "us", &all(ours, server)),
        Row::of(NAME, "DEL then PUBLISH, server time", "us", &all(driver, server)),
        Row::ratio(NAME, "p50 to DEL then PUBLISH", &all(ours, p50), &all(driver, p50)).at_most(BAR),
    ])
}

/// Each task calls once for each of its keys, one call after the other.
async fn sample(subject: &Subject, ids: Range<u64>) -> Result<Histogram, Failure> {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (subject, ids) = (subject.clone(), ids.clone().skip(task as usize).step_by(TASKS as usize));
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(CALLS as usize);
                let mut before = Instant::now();
                for id in ids {
                    subject.invalidate(id).await?;
                    // The end of one call is the beginning of the next.
                    let now = Instant::now();
                    times.push(now - before);
                    before = now;
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    let mut histogram = Histogram::new();
    for task in tasks {
        for time in task.await?? {
            histogram.record(time.as_nanos() as u64);
        }
    }
    Ok(histogram)
}

impl Subject {
    async fn store(&self, ids: Range<u64>) -> Result<(), Failure> {
        match self {
            Self::Ours(node) => bed::store(node, ids, VALUE_BYTES).await,
            Self::Driver(manager) => {
                for ids in ids.collect::<Vec<_>>().chunks(STORING) {
                    let mut commands = pipe();
                    for id in ids {
                        commands.cmd("SET").arg(text_key(*id)).arg(payload(*id, VALUE_BYTES)).arg("EX").arg(3_600).ignore();
                    }
                    commands.query_async::<()>(&mut manager.clone()).await?;
                }
                Ok(())
            }
        }
    }

    async fn invalidate(&self, id: u64) -> Result<(), Failure> {
        match self {
            Self::Ours(node) => drop(node.invalidate(&id).await?),
            Self::Driver(manager) => {
                let (mut manager, key) = (manager.clone(), text_key(id));
                let removed: u64 = cmd("DEL").arg(&key).query_async(&mut manager).await?;
                if removed != 1 {
                    return Err("there was no value".into());
                }
                cmd("PUBLISH").arg("invalidations").arg(&key).query_async::<u64>(&mut manager).await?;
            }
        }
        Ok(())
    }
}

fn text_key(id: u64) -> String {
    format!("user:{id:019}")
}
