//! One subject through one fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout_at};

use crate::args::Args;
use crate::error::Error;
use crate::remote::{Failure, Verb};
use crate::resident::{forget_peak, peak_bytes, resident_bytes};

use super::bed::{Bed, Broken};
use super::fault::Fault;

pub(crate) const TASKS: usize = 8;
/// A task calls again so long after its last call ended.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// A call that has not ended so long after the end of the trial hangs.
const GRACE: Duration = Duration::from_secs(1);

/// How long the parts of a trial take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Before the fault.
    calm: Duration,
    broken: Duration,
    /// After it.
    after: Duration,
}

impl Span {
    pub(crate) fn of(args: &Args) -> Self {
        let seconds = |seconds| Duration::from_secs(seconds) / if args.quick { 4 } else { 1 };
        Self { calm: seconds(1), broken: seconds(3), after: seconds(2) }
    }
}

/// Which keys a task reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keys {
    All,
    /// Those of the master that dies.
    Victims,
    /// Those of the others.
    Others,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the key's own value, or with none; of a write: whatever was done.
    Answered,
    /// By the origin behind a whole cache: as good for the caller, but Redis has not shown that it is back.
    Loaded,
    Failed,
    /// With another key's value.
    Wrong,
}

impl Outcome {
    /// Of a write.
    pub(crate) fn of(written: &Result<(), Failure>) -> Self {
        if written.is_ok() { Self::Answered } else { Self::Failed }
    }
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) keys: Keys,
    pub(crate) verb: Verb,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// All calls of one subject through one fault.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) calls: Vec<Call>,
    /// The keys of each call that never ended.
    pub(crate) hung: Vec<Keys>,
    pub(crate) broken: Broken,
    /// The most that the process grew by, from just before the fault to the end. None where the system does not tell.
    pub(crate) growth: Option<u64>,
}

/// Where the calls of a trial are noted, and whether it is over.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    log: Sender<Call>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    pub(crate) fn new() -> (Self, Receiver<Call>) {
        let (log, calls) = channel();
        (Self { log, stop: Arc::default() }, calls)
    }

    pub(crate) fn saw(&self, call: Call) {
        let _ = self.log.send(call);
    }

    pub(crate) fn is_over(&self) -> bool {
        // Ordering: relaxed, as in `end`.
        self.stop.load(Ordering::Relaxed)
    }

    fn end(&self) {
        // Ordering: relaxed; a call more or less.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What is done to a subject.
pub(crate) struct Course {
    pub(crate) bed: Bed,
    pub(crate) fault: Fault,
    pub(crate) span: Span,
}

impl Course {
    /// Breaks and heals under these tasks, which end when the watch does. A flood begins with the fault, and gives its calls that have not ended.
    pub(crate) async fn run(
        self,
        tasks: Vec<(Keys, JoinHandle<()>)>,
        flood: impl FnOnce() -> Option<JoinHandle<JoinSet<()>>>,
        watch: Watch,
        calls: Receiver<Call>,
    ) -> Result<Trial, Failure> {
        let Self { mut bed, fault, span } = self;
        sleep(span.calm).await;
        let before = forget_peak().and_then(|()| resident_bytes());
        let flood = flood();
        let (bed, broken) = tokio::task::spawn_blocking(move || {
            let broken = bed.break_and_heal(fault, span.broken);
            (bed, broken)
        })
        .await?;
        let broken = broken?;
        sleep(span.after).await;
        let growth = before.zip(peak_bytes()).map(|(before, peak)| peak.saturating_sub(before));
        watch.end();
        let grace = Instant::now() + GRACE;
        let mut hung = Vec::new();
        for (keys, mut task) in tasks {
            if timeout_at(grace.into(), &mut task).await.is_err() {
                hung.push(keys);
                task.abort();
            }
        }
        if let Some(flood) = flood {
            let mut calls = flood.await?;
            while let Ok(Some(_)) = timeout_at(grace.into(), calls.join_next()).await {}
            hung.resize(hung.len() + calls.len(), Keys::All);
        }
        drop(bed);
        Ok(Trial { calls: calls.try_iter().collect(), hung, broken, growth })
    }
}

/// A bed for this fault, and a runtime for the subject and its callers.
pub(crate) fn prepare(fault: Fault) -> Result<(Bed, tokio::runtime::Runtime), Error> {
    let bed = Bed::make(fault)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
    Ok((bed, runtime))
}
