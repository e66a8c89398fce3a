//! How soon another node's L1 lets go of what one node invalidates.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::args::Args;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::remote::Failure;

use super::bed::{self, Node};
use super::row::Row;

pub(crate) const NAME: &str = "arrival";
const BAR_US: f64 = 1_000.0;
/// Between two invalidations.
const PACE: Duration = Duration::from_millis(1);
const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 128;
/// After so long it is not late but lost.
const LOST: Duration = Duration::from_secs(5);

pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Error> {
    let keys = if args.quick { KEYS / 10 } else { KEYS };
    bed::with_server(NAME, |redis, runtime| {
        let (from, to) = runtime.block_on(async {
            let (from, to) = (bed::node(redis).await?, bed::node(redis).await?);
            bed::store(&from, 0..keys, VALUE_BYTES).await?;
            for id in 0..keys {
                to.get(&id).await.ok_or("a key was not found")?;
            }
            Ok::<_, Failure>((from, to))
        })?;
        let before = to.stats().coherence;
        let begun = Instant::now();
        let times = invalidate_all(keys, &from, &to, runtime)?;
        let rate = keys as f64 / begun.elapsed().as_secs_f64();
        // An entry that is suspected is not served either: it would look as if a message had come.
        if to.stats().coherence.suspicions > before.suspicions {
            return Err("something was missed meanwhile".into());
        }
        let micros = |nanos: u64| [nanos as f64 / 1_000.0];
        Ok(vec![
            Row::of(NAME, "invalidations", "a second", &[rate]),
            Row::of(NAME, "p50", "us", &micros(times.percentile(0.5))),
            Row::of(NAME, "p99", "us", &micros(times.percentile(0.99))).at_most(BAR_US),
            Row::of(NAME, "longest", "us", &micros(times.max())),
        ])
    })
}

/// One key after the other, each at its time whether or not the one before is done. From just before the call on one node until the other has let go.
fn invalidate_all(keys: u64, from: &Node, to: &Node, runtime: &Runtime) -> Result<Histogram, Failure> {
    let (tell, told) = channel();
    let watcher = {
        let (to, handle) = (to.clone(), runtime.handle().clone());
        thread::spawn(move || {
            let _inside = handle.enter();
            watch(&to, &told)
        })
    };
    let start = Instant::now();
    let mut calls = Vec::with_capacity(keys as usize);
    for id in 0..keys {
        thread::sleep((start + PACE * id as u32).saturating_duration_since(Instant::now()));
        let (from, to, tell) = (from.clone(), to.clone(), tell.clone());
        calls.push(runtime.spawn(async move {
            let is_held = to.get_local(&id).is_some();
            tell.send(id)?;
            let called = Instant::now();
            from.invalidate(&id).await?;
            if is_held { Ok(called) } else { Err(Failure::from("the other node had lost it before")) }
        }));
    }
    drop(tell);
    let mut called = Vec::with_capacity(calls.len());
    for call in calls {
        called.push(runtime.block_on(call)??);
    }
    let mut times = Histogram::new();
    for (id, gone) in watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
        times.record(gone.saturating_duration_since(called[id as usize]).as_nanos() as u64);
    }
    Ok(times)
}

/// When each key that is told of was gone. A thread of its own: it sleeps between invalidations and looks all the time while one is on its way.
fn watch(node: &Node, told: &Receiver<u64>) -> Result<Vec<(u64, Instant)>, Failure> {
    let mut gone = Vec::new();
    while let Ok(id) = told.recv() {
        let since = Instant::now();
        while node.get_local(&id).is_some() {
            if since.elapsed() > LOST {
                return Err("an invalidation did not arrive".into());
            }
            thread::yield_now();
        }
        gone.push((id, Instant::now()));
    }
    Ok(gone)
}
