//! One reader whose every call is timed, while one writer inserts. The loops below are all that is timed.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::pinned::together;
use crate::subject::{Key, Subject, Value};
use crate::ticks;

use super::script::{Lane, Step};

/// Calls between two looks at the clock that ends the sample.
const BATCH: usize = 1_024;

/// How fast the writer inserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At most so often. What it could not do in time it does not make up for: a burst would be a load that nobody asked for.
    Every(Duration),
    Nonstop,
}

/// What both threads saw in one sample.
#[derive(Debug)]
pub(crate) struct UnderWriter {
    /// Of each read, in ticks.
    pub(crate) reads: Histogram,
    pub(crate) misses: u64,
    pub(crate) calls: u64,
    /// Time between two inserts; what one took, where the writer never waits.
    pub(crate) ns_per_insert: f64,
}

impl UnderWriter {
    pub(crate) fn percentile_ns(&self, quantile: f64) -> f64 {
        self.reads.percentile(quantile) as f64 * ticks::nanos_per_tick()
    }

    pub(crate) fn max_ns(&self) -> f64 {
        self.reads.max() as f64 * ticks::nanos_per_tick()
    }
}

/// One of the two threads.
enum Role<'a, K> {
    Reader(&'a [K], &'a mut usize),
    Writer(&'a [Step<K>], &'a mut usize),
}

/// Runs both for about `window` and a quarter of it untimed before. The lanes are those of a script written for it: reads, then inserts.
pub(crate) fn run<S: Subject<K, V>, K: Key, V: Value>(
    subject: &S,
    lanes: &[Lane<K>],
    cursors: &mut [usize],
    pace: Pace,
    window: Duration,
) -> UnderWriter {
    let ([Lane::Reads(keys), Lane::Mixed(steps)], [reader, writer]) = (lanes, cursors) else {
        unreachable!("a script for a reader under a writer has one lane of each");
    };
    // Found before, and not while a sample's threads wait.
    ticks::nanos_per_tick();
    let done = AtomicBool::new(false);
    let mut outcome = UnderWriter { reads: Histogram::new(), misses: 0, calls: 0, ns_per_insert: 0.0 };
    let halves = together([Role::Reader(keys, reader), Role::Writer(steps, writer)], |role, barrier: &Barrier| {
        barrier.wait();
        match role {
            Role::Reader(keys, cursor) => {
                read(subject, keys, cursor, window / 4);
                let read = read(subject, keys, cursor, window);
                done.store(true, Ordering::Relaxed);
                (Some(read), None)
            }
            Role::Writer(steps, cursor) => (None, Some(insert(subject, steps, cursor, pace, &done))),
        }
    });
    for (read, ns_per_insert) in halves {
        if let Some((reads, misses, calls)) = read {
            (outcome.reads, outcome.misses, outcome.calls) = (reads, misses, calls);
        }
        outcome.ns_per_insert += ns_per_insert.unwrap_or(0.0);
    }
    outcome
}

/// Returns the time of each call, the misses and the calls.
#[inline(never)]
fn read<S: Subject<K, V>, K: Key, V: Value>(
    subject: &S,
    keys: &[K],
    cursor: &mut usize,
    window: Duration,
) -> (Histogram, u64, u64) {
    let (mut times, mut misses, mut calls) = (Histogram::new(), 0, 0);
    let start = Instant::now();
    while start.elapsed() < window {
        for key in &keys[*cursor..*cursor + BATCH] {
            let before = ticks::now();
            let found = black_box(subject.get(black_box(key)));
            times.record(ticks::now().saturating_sub(before));
            misses += u64::from(found.is_none());
        }
        calls += BATCH as u64;
        *cursor = (*cursor + BATCH) % (keys.len() - BATCH + 1);
    }
    (times, misses, calls)
}

/// Returns the nanoseconds from one insert to the next, on average.
#[inline(never)]
fn insert<S: Subject<K, V>, K: Key, V: Value>(
    subject: &S,
    steps: &[Step<K>],
    cursor: &mut usize,
    pace: Pace,
    done: &AtomicBool,
) -> f64 {
    let period = match pace {
        Pace::Every(period) => (period.as_nanos() as f64 / ticks::nanos_per_tick()) as u64,
        Pace::Nonstop => 0,
    };
    let start = Instant::now();
    let mut due = ticks::now();
    let mut inserts = 0_u64;
    while !done.load(Ordering::Relaxed) {
        if period > 0 {
            let now = ticks::now();
            if now < due {
                spin_loop();
                continue;
            }
            due = now.max(due + period);
        }
        let step = black_box(&steps[*cursor]);
        subject.insert(step.key.clone(), V::of(step.id));
        *cursor = (*cursor + 1) % steps.len();
        inserts += 1;
    }
    start.elapsed().as_nanos() as f64 / inserts.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l1::script::Script;
    use crate::l1::work::WORKS;
    use crate::peers::{Noop, SccHashCache};

    fn run_once<S: Subject<u64, u64>>(pace: Pace) -> UnderWriter {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let work = WORKS.iter().find(|work| work.name == "u64-latency").expect("there is such a work");
        let script = Script::<u64>::of(work, 1);
        run(&S::new(script.capacity, script.ttl), &script.lanes, &mut [0, 0], pace, Duration::from_millis(10))
    }

    #[test]
    fn a_paced_writer_keeps_below_its_pace() {
        let outcome = run_once::<Noop>(Pace::Every(Duration::from_micros(2)));
        assert!(outcome.ns_per_insert >= 1_990.0, "{} ns", outcome.ns_per_insert);
    }

    #[test]
    fn every_read_is_timed_and_percentiles_do_not_fall() {
        let outcome = run_once::<SccHashCache<u64, u64>>(Pace::Nonstop);
        assert!(outcome.calls > 0 && outcome.calls.is_multiple_of(BATCH as u64));
        let times = [0.5, 0.99, 0.999].map(|quantile| outcome.percentile_ns(quantile));
        assert!(times[0] > 0.0 && times.is_sorted() && times[2] <= outcome.max_ns(), "{times:?}");
    }

    #[test]
    fn the_writer_makes_reads_hit() {
        let outcome = run_once::<SccHashCache<u64, u64>>(Pace::Nonstop);
        assert!(outcome.misses < outcome.calls);
    }
}
