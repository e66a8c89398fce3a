//! One sample: many tasks that call for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};

use crate::histogram::Histogram;
use crate::remote::{Client, Failure, payload};

use super::work::Load;

/// What to do, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) load: Load,
    pub(crate) value_bytes: usize,
    pub(crate) tasks: usize,
    /// Untimed, before.
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What was counted within the window.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Calls that did what they should; one of many keys is one.
    pub(crate) calls: u64,
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Processor time of this process, in seconds a million calls.
    pub(crate) cpu_s_per_mop: f64,
    pub(crate) faults: Faults,
}

/// What should not be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Values of another key.
    pub(crate) wrong: u64,
    /// Failed calls, and reads that found nothing.
    pub(crate) failed: u64,
    /// The first of them.
    pub(crate) first: Option<String>,
}

/// Takes one sample. To be called within the runtime that the client connected in.
pub(crate) async fn sample<C: Client>(client: &C, keys: &Arc<[C::Key]>, plan: Plan) -> Sample {
    let begin = Instant::now() + plan.warm_up;
    let end = begin + plan.window;
    let tasks: Vec<_> = (0..plan.tasks)
        .map(|number| {
            let caller = Caller { client: client.clone(), keys: keys.clone(), plan, number: number as u64 };
            tokio::spawn(caller.call_until(begin, end))
        })
        .collect();
    tokio::time::sleep_until(begin.into()).await;
    let (from, cpu_before) = (Instant::now(), cpu_time());
    tokio::time::sleep_until(end.into()).await;
    let (cpu, cpu_window) = (cpu_time().saturating_sub(cpu_before), from.elapsed());

    let mut histogram = Histogram::new();
    let (mut calls, mut faults) = (0, Faults::default());
    for task in tasks {
        // A task that panicked has counted nothing; its panic is on the terminal.
        let Ok((times, of_task)) = task.await else { continue };
        calls += times.len() as u64;
        for time in times {
            histogram.record(u64::from(time));
        }
        faults.wrong += of_task.wrong;
        faults.failed += of_task.failed;
        faults.first = faults.first.or(of_task.first);
    }
    let ops_per_s = calls as f64 / plan.window.as_secs_f64();
    Sample {
        calls,
        ops_per_s,
        p50_us: histogram.percentile(0.5) as f64 / 1_000.0,
        p99_us: histogram.percentile(0.99) as f64 / 1_000.0,
        // As a rate by its own window: the sleeps end a little late.
        cpu_s_per_mop: 1e6 * cpu.as_secs_f64() / cpu_window.as_secs_f64() / ops_per_s,
        faults,
    }
}

/// User and system time of all threads of this process. The servers are other processes.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// One task's part.
struct Caller<C: Client> {
    client: C,
    keys: Arc<[C::Key]>,
    plan: Plan,
    number: u64,
}

impl<C: Client> Caller<C> {
    /// Calls until `end`. Gives the nanoseconds of each good call that ended after `begin`.
    async fn call_until(self, begin: Instant, end: Instant) -> (Vec<u32>, Faults) {
        let mut rng = Rng::with_seed(self.number);
        let (mut times, mut faults) = (Vec::new(), Faults::default());
        // No two tasks fill the same key.
        let mut fresh = self.number << 32;
        let mut before = Instant::now();
        loop {
            let outcome = match self.plan.load {
                Load::Get => self.get(&mut rng).await,
                Load::GetMany(count) => self.get_many(&mut rng, count).await,
                Load::Fill => {
                    fresh += 1;
                    self.fill(fresh).await
                }
            };
            // The end of one call is the beginning of the next.
            let now = Instant::now();
            let took = now - before;
            before = now;
            if now >= end {
                return (times, faults);
            }
            match outcome {
                Ok(true) if now >= begin => times.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX)),
                Ok(true) => {}
                Ok(false) => faults.wrong += 1,
                Err(error) => {
                    faults.failed += 1;
                    faults.first.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }

    /// Whether the value was the key's own.
    async fn get(&self, rng: &mut Rng) -> Result<bool, Failure> {
        let id = rng.usize(..self.keys.len());
        is_of(self.client.get(&self.keys[id]).await?, id)
    }

    async fn get_many(&self, rng: &mut Rng, count: usize) -> Result<bool, Failure> {
        let first = rng.usize(..=self.keys.len() - count);
        let found = self.client.get_many(&self.keys[first..first + count]).await?;
        let mut right = found.len() == count;
        for (place, owner) in found.into_iter().enumerate() {
            right &= is_of(owner, first + place)?;
        }
        Ok(right)
    }

    async fn fill(&self, id: u64) -> Result<bool, Failure> {
        self.client.fill(&self.client.key(id), payload(id, self.plan.value_bytes)).await?;
        Ok(true)
    }
}

fn is_of(owner: Option<u64>, id: usize) -> Result<bool, Failure> {
    Ok(owner.ok_or("the key was not found")? == id as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client in memory: the value of every key is its own, but key 7 has another's, and key 8 none.
    #[derive(Clone)]
    struct Memory;

    impl Client for Memory {
        type Key = u64;

        fn key(&self, id: u64) -> u64 {
            id
        }

        fn bytes(_: &u64) -> &[u8] {
            &[]
        }

        async fn get(&self, key: &u64) -> Result<Option<u64>, Failure> {
            tokio::task::yield_now().await;
            Ok(match *key {
                7 => Some(9),
                8 => None,
                own => Some(own),
            })
        }

        async fn get_many(&self, keys: &[u64]) -> Result<Vec<Option<u64>>, Failure> {
            tokio::task::yield_now().await;
            Ok(keys.iter().copied().map(Some).collect())
        }

        async fn fill(&self, _: &u64, _: Vec<u8>) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            Ok(())
        }
    }

    fn take(load: Load, keys: std::ops::Range<u64>) -> Sample {
        let plan = Plan { load, value_bytes: 8, tasks: 3, warm_up: Duration::from_millis(1), window: Duration::from_millis(20) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(sample(&Memory, &keys.collect(), plan))
    }

    #[test]
    fn good_calls_are_counted_by_the_second() {
        for load in [Load::Get, Load::GetMany(5), Load::Fill] {
            let sample = take(load, 0..6);
            assert!(sample.calls > 0 && sample.faults.wrong + sample.faults.failed == 0, "{load:?}: {sample:?}");
            assert!((sample.ops_per_s - 50.0 * sample.calls as f64).abs() < 1e-6);
            assert!(sample.p50_us <= sample.p99_us && sample.cpu_s_per_mop > 0.0);
        }
    }

    #[test]
    fn foreign_and_missing_values_are_seen_and_not_counted_as_calls() {
        let sample = take(Load::Get, 0..9);
        assert!(sample.faults.wrong > 0 && sample.faults.failed > 0);
        assert_eq!(sample.faults.first.as_deref(), Some("the key was not found"));
    }
}
