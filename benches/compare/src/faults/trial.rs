//! One client through one fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::Serialize;
use tokio::time::{sleep, timeout_at};

use crate::args::Args;
use crate::error::Error;
use crate::remote::{Client, Failure, payload};

use super::bed::{Bed, Broken, is_victims};
use super::fault::Fault;

pub(crate) const TASKS: usize = 8;
/// A task calls again so long after its last call ended.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// A call that has not ended so long after the end of the trial hangs.
const GRACE: Duration = Duration::from_secs(1);
const KEYS: u64 = 256;
const VALUE_BYTES: usize = 128;

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

/// Which keys a task reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// With the key's own value, or with none.
    Answered,
    Failed,
    /// With another key's value.
    Wrong,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) keys: Keys,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

/// All calls of one client through one fault.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) calls: Vec<Call>,
    /// The keys of each call that never ended.
    pub(crate) hung: Vec<Keys>,
    pub(crate) broken: Broken,
}

/// Takes a client, which is connected to the bed, through a fault of the bed. To be called within the client's runtime.
pub(crate) async fn trial<C: Client>(client: C, mut bed: Bed, fault: Fault, span: Span) -> Result<Trial, Failure> {
    let ids: Arc<[(u64, C::Key)]> = (0..KEYS).map(|id| (id, client.key(id))).collect();
    for (id, key) in &*ids {
        client.fill(key, payload(*id, VALUE_BYTES)).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (log, calls) = channel();
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let keys = if fault.is_of_cluster() { [Keys::Victims, Keys::Others][number % 2] } else { Keys::All };
            let own = |id: &usize| keys == Keys::All || is_victims(slot::<C>(&ids[*id].1)) == (keys == Keys::Victims);
            let places: Vec<usize> = (0..ids.len()).filter(own).collect();
            let rng = Rng::with_seed(number as u64);
            let caller =
                Caller { client: client.clone(), ids: ids.clone(), places, keys, rng, log: log.clone(), stop: stop.clone() };
            (keys, tokio::spawn(caller.call()))
        })
        .collect();

    sleep(span.calm).await;
    let (bed, broken) = tokio::task::spawn_blocking(move || {
        let broken = bed.break_and_heal(fault, span.broken);
        (bed, broken)
    })
    .await?;
    let broken = broken?;
    sleep(span.after).await;
    // Ordering: relaxed; a call more or less.
    stop.store(true, Ordering::Relaxed);
    let grace = Instant::now() + GRACE;
    let mut hung = Vec::new();
    for (keys, mut task) in tasks {
        if timeout_at(grace.into(), &mut task).await.is_err() {
            hung.push(keys);
            task.abort();
        }
    }
    drop(bed);
    Ok(Trial { calls: calls.try_iter().collect(), hung, broken })
}

fn slot<C: Client>(key: &C::Key) -> u16 {
    fred::util::redis_keyslot(C::bytes(key))
}

/// One task.
struct Caller<C: Client> {
    client: C,
    ids: Arc<[(u64, C::Key)]>,
    places: Vec<usize>,
    keys: Keys,
    rng: Rng,
    log: Sender<Call>,
    stop: Arc<AtomicBool>,
}

impl<C: Client> Caller<C> {
    async fn call(mut self) {
        // Ordering: as where it is set.
        while !self.stop.load(Ordering::Relaxed) {
            let place = self.places[self.rng.usize(..self.places.len())];
            let (id, key) = &self.ids[place];
            let began = Instant::now();
            let outcome = match self.client.get(key).await {
                Ok(Some(owner)) if owner != *id => Outcome::Wrong,
                Ok(_) => Outcome::Answered,
                Err(_) => Outcome::Failed,
            };
            let _ = self.log.send(Call { keys: self.keys, began, ended: Instant::now(), outcome });
            sleep(PACE).await;
        }
    }
}

/// A bed for this fault, and a runtime for the client and its callers.
pub(crate) fn prepare(fault: Fault) -> Result<(Bed, tokio::runtime::Runtime), Error> {
    let bed = Bed::make(fault)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
    Ok((bed, runtime))
}
