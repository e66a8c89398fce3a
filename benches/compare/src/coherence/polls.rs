//! What nodes cost the server that do nothing but ask whether they have missed something.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::error::Error;
use crate::remote::Failure;

use super::account::Account;
use super::bed;
use super::row::Row;

pub(crate) const NAME: &str = "polls";
const BAR_PERCENT: f64 = 3.0;
const NODES: usize = 50;

pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Error> {
    let span = Duration::from_secs(if args.quick { 3 } else { 10 });
    bed::with_server(NAME, |redis, runtime| {
        let mut account = Account::open(redis)?;
        let idle = load(&mut account, span)?;
        let nodes = runtime.block_on(async {
            let mut nodes = Vec::with_capacity(NODES);
            for _ in 0..NODES {
                nodes.push(bed::node(redis).await?);
            }
            Ok::<_, Failure>(nodes)
        })?;
        // What connecting has left behind is not theirs.
        sleep(Duration::from_secs(1));
        account.reset()?;
        let polled = || nodes.iter().map(|node| node.stats().coherence.polls).sum::<u64>();
        let before = polled();
        let busy = load(&mut account, span)?;
        let polls = (polled() - before) as f64 / span.as_secs_f64();
        let micros = account.spent(&["info", "mget"])?.micros as f64 / span.as_secs_f64();
        if nodes.iter().any(|node| node.stats().coherence.poll_errors > 0) {
            return Err("a poll failed".into());
        }
        Ok(vec![
            Row::of(NAME, "polls of all nodes", "a second", &[polls]),
            Row::of(NAME, "server, idle", "% of a core", &[idle]),
            Row::of(NAME, "server, of which in the polls' commands", "% of a core", &[micros / 10_000.0]),
            Row::of(NAME, "server, beyond idle", "% of a core", &[busy - idle]).at_most(BAR_PERCENT),
        ])
    })
}

/// Processor time of the server over a while, in percent of one core.
fn load(account: &mut Account, span: Duration) -> Result<f64, Failure> {
    let (before, begun) = (account.cpu_seconds()?, Instant::now());
    sleep(span);
    Ok(100.0 * (account.cpu_seconds()? - before) / begun.elapsed().as_secs_f64())
}
