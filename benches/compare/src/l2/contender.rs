//! A client that takes part in a work.

use std::sync::Arc;

use crate::error::Error;
use crate::remote::{Client, Failure, payload};

use super::sample::{Plan, Sample, sample};
use super::stage::Stage;
use super::work::Work;

/// Calls at once while the keys are stored.
const STORING: usize = 64;
/// Of the calls, one in so many may fail: a machine that stands still for half a second is no fault of the client's.
const TOLERATED: u64 = 1_000;

pub(crate) trait Contender {
    fn name(&self) -> &'static str;
    fn note(&self) -> &'static str;
    /// One sample; an error where the client did not do what the figure would claim.
    fn sample(&self, stage: &Stage, plan: Plan) -> Result<Sample, Error>;
}

/// A connected client with its keys.
pub(crate) struct Entrant<C: Client> {
    name: &'static str,
    note: &'static str,
    work: &'static str,
    client: C,
    keys: Arc<[C::Key]>,
}

impl<C: Client> Entrant<C> {
    /// Stores what the work reads.
    pub(crate) async fn enter(name: &'static str, note: &'static str, work: &Work, client: C) -> Result<Self, Failure> {
        let keys = (0..work.keys).map(|id| client.key(id)).collect();
        let tasks: Vec<_> = (0..STORING as u64)
            .map(|lane| {
                let (client, ids, bytes) = (client.clone(), (lane..work.keys).step_by(STORING), work.value_bytes);
                tokio::spawn(async move {
                    for id in ids {
                        client.fill(&client.key(id), payload(id, bytes)).await?;
                    }
                    Ok::<_, Failure>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(Self { name, note, work: work.name, client, keys })
    }
}

impl<C: Client> Contender for Entrant<C> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn note(&self) -> &'static str {
        self.note
    }

    fn sample(&self, stage: &Stage, plan: Plan) -> Result<Sample, Error> {
        let sample = stage.run(sample(&self.client, &self.keys, plan));
        let (work, subject, failed, calls) = (self.work, self.name, sample.faults.failed, sample.calls);
        if sample.faults.wrong > 0 {
            return Err(Error::WrongValue { work, subject });
        }
        if calls == 0 || failed > calls / TOLERATED {
            let first = sample.faults.first.unwrap_or_else(|| "nothing came back".into());
            return Err(Error::TooManyFailures { work, subject, failed, calls, first });
        }
        Ok(sample)
    }
}
