//! One client through one fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout_at};

use crate::args::Args;
use crate::error::Error;
use crate::remote::{Failure, Verb, Writer, payload};
use crate::resident::{forget_peak, peak_bytes, resident_bytes};

use super::bed::{Bed, Broken, is_victims};
use super::fault::Fault;
use super::flood::flood;

pub(crate) const TASKS: usize = 8;
/// A task calls again so long after its last call ended.
pub(crate) const PACE: Duration = Duration::from_millis(10);
/// A call that has not ended so long after the end of the trial hangs.
const GRACE: Duration = Duration::from_secs(1);
/// That are there from the start and stay, and behind them those that the tasks write; tasks read all.
const KEPT: u64 = 256;
const WRITTEN: u64 = 256;
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

/// All calls of one client through one fault.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) calls: Vec<Call>,
    /// The keys of each call that never ended.
    pub(crate) hung: Vec<Keys>,
    pub(crate) broken: Broken,
    /// The most that the process grew by, from just before the fault to the end. None where the system does not tell.
    pub(crate) growth: Option<u64>,
}

/// Takes a client, which is connected to the bed, through a fault of the bed. To be called within the client's runtime.
pub(crate) async fn trial<C: Writer>(client: C, mut bed: Bed, fault: Fault, span: Span) -> Result<Trial, Failure> {
    let ids: Arc<[(u64, C::Key)]> = (0..KEPT + WRITTEN).map(|id| (id, client.key(id))).collect();
    for (id, key) in &ids[..KEPT as usize] {
        client.fill(key, payload(*id, VALUE_BYTES)).await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (log, calls) = channel();
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let keys = if fault.is_of_cluster() { [Keys::Victims, Keys::Others][number % 2] } else { Keys::All };
            let is_of = |id: &usize| keys == Keys::All || is_victims(slot::<C>(&ids[*id].1)) == (keys == Keys::Victims);
            let places: Vec<usize> = (0..ids.len()).filter(is_of).collect();
            let own = places.iter().copied().filter(|id| *id >= KEPT as usize && id % TASKS == number).collect();
            let rng = Rng::with_seed(number as u64);
            let (client, ids, log, stop) = (client.clone(), ids.clone(), log.clone(), stop.clone());
            let caller = Caller { client, ids, places, own, keys, rng, log, stop, hand: C::Hand::default() };
            (keys, tokio::spawn(caller.call(number)))
        })
        .collect();

    sleep(span.calm).await;
    let before = forget_peak().and_then(|()| resident_bytes());
    let flood = (fault == Fault::Flooded).then(|| tokio::spawn(flood(client, KEPT + WRITTEN, log, stop.clone())));
    let (bed, broken) = tokio::task::spawn_blocking(move || {
        let broken = bed.break_and_heal(fault, span.broken);
        (bed, broken)
    })
    .await?;
    let broken = broken?;
    sleep(span.after).await;
    let growth = before.zip(peak_bytes()).map(|(before, peak)| peak.saturating_sub(before));
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
    if let Some(flood) = flood {
        let mut calls = flood.await?;
        while let Ok(Some(_)) = timeout_at(grace.into(), calls.join_next()).await {}
        hung.resize(hung.len() + calls.len(), Keys::All);
    }
    drop(bed);
    Ok(Trial { calls: calls.try_iter().collect(), hung, broken, growth })
}

fn slot<C: Writer>(key: &C::Key) -> u16 {
    fred::util::redis_keyslot(C::bytes(key))
}

/// One task.
struct Caller<C: Writer> {
    client: C,
    ids: Arc<[(u64, C::Key)]>,
    /// Of the keys that it reads, and of those that it alone writes.
    places: Vec<usize>,
    own: Vec<usize>,
    keys: Keys,
    rng: Rng,
    log: Sender<Call>,
    stop: Arc<AtomicBool>,
    hand: C::Hand,
}

impl<C: Writer> Caller<C> {
    /// Reads and writes by turns, from this turn on: tasks that begin at several do not all do the same at a time.
    async fn call(mut self, first: usize) {
        let writes = C::WRITES.len();
        let mut turn = first;
        // Ordering: as where it is set.
        while !self.stop.load(Ordering::Relaxed) {
            let (verb, began, outcome) = if turn.is_multiple_of(2) {
                let place = self.places[self.rng.usize(..self.places.len())];
                self.read(place).await
            } else {
                let written = turn / 2;
                let place = self.own[written / writes % self.own.len()];
                self.write(C::WRITES[written % writes], place).await
            };
            let _ = self.log.send(Call { keys: self.keys, verb, began, ended: Instant::now(), outcome });
            turn += 1;
            sleep(PACE).await;
        }
    }

    async fn read(&self, place: usize) -> (Verb, Instant, Outcome) {
        let (id, key) = &self.ids[place];
        let began = Instant::now();
        let outcome = match self.client.get(key).await {
            Ok(Some(owner)) if owner != *id => Outcome::Wrong,
            Ok(_) => Outcome::Answered,
            Err(_) => Outcome::Failed,
        };
        (Verb::Get, began, outcome)
    }

    async fn write(&mut self, verb: Verb, place: usize) -> (Verb, Instant, Outcome) {
        let (id, key) = &self.ids[place];
        let value = payload(*id, VALUE_BYTES);
        let began = Instant::now();
        let outcome = Outcome::of(&self.client.write(verb, key, value, &mut self.hand).await);
        (verb, began, outcome)
    }
}

/// A bed for this fault, and a runtime for the client and its callers.
pub(crate) fn prepare(fault: Fault) -> Result<(Bed, tokio::runtime::Runtime), Error> {
    let bed = Bed::make(fault)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(Error::Runtime)?;
    Ok((bed, runtime))
}
