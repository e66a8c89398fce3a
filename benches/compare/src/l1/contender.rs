//! One subject at one work. The loops below are all that is timed.

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::pinned::together;
use crate::subject::{Key, Subject, Value};

use super::script::{Lane, Script, Step};
use super::tally::Tally;
use super::under_writer::{self, Pace, UnderWriter};

/// Operations between two looks at the clock: 20 ns in 2,048 operations do not show.
const BATCH: usize = 2_048;
/// Entries older than this are inserted anew before a sample, so that none expires during one.
const REFILL_AFTER: Duration = Duration::from_secs(30);

/// A subject with its types erased: between samples a call through it costs nothing, and inside a sample there is none.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;
    fn note(&self) -> &'static str;

    /// Runs the first `threads` lanes at once for about `window`.
    fn sample(&mut self, threads: usize, window: Duration) -> Result<Tally, Error>;

    /// Times every read for about `window` while another thread inserts.
    fn under_writer(&mut self, pace: Pace, window: Duration) -> Result<UnderWriter, Error>;
}

/// A subject, the script it follows and where each lane stands in it.
#[derive(Debug)]
pub(crate) struct Entrant<S, K, V> {
    name: &'static str,
    note: &'static str,
    subject: S,
    script: Arc<Script<K>>,
    cursors: Vec<usize>,
    filled: Instant,
    value: PhantomData<V>,
}

impl<S: Subject<K, V>, K: Key, V: Value> Entrant<S, K, V> {
    /// Fills the cache and checks that it answers, and rightly.
    pub(crate) fn enter(name: &'static str, note: &'static str, script: Arc<Script<K>>) -> Result<Self, Error> {
        let subject = S::new(script.capacity, script.ttl);
        let cursors = vec![0; script.lanes.len()];
        let mut entrant = Self { name, note, subject, script, cursors, filled: Instant::now(), value: PhantomData };
        entrant.fill();
        entrant.check()?;
        Ok(entrant)
    }

    fn fill(&mut self) {
        for id in &self.script.fill {
            self.subject.insert(K::of(*id), V::of(*id));
        }
        self.subject.settle();
        self.filled = Instant::now();
    }

    fn keep_fresh(&mut self) -> Result<(), Error> {
        if self.script.ttl.is_some() && self.filled.elapsed() > REFILL_AFTER {
            self.fill();
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if !S::STORES {
            return Ok(());
        }
        let mut tally = Tally { reads: self.script.fill.len() as u64, ..Tally::default() };
        for id in &self.script.fill {
            match self.subject.get(&K::of(*id)) {
                None => tally.misses += 1,
                Some(found) if found == V::of(*id).touch() => {}
                Some(_) => return Err(Error::WrongValue { work: self.script.work, subject: self.name }),
            }
        }
        let (hit_ratio, least) = (tally.hit_ratio(), self.script.least_hits);
        if hit_ratio < least {
            return Err(Error::TooManyMisses { work: self.script.work, subject: self.name, hit_ratio, least });
        }
        Ok(())
    }
}

impl<S: Subject<K, V>, K: Key, V: Value> Contender for Entrant<S, K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn note(&self) -> &'static str {
        self.note
    }

    fn sample(&mut self, threads: usize, window: Duration) -> Result<Tally, Error> {
        self.keep_fresh()?;
        let subject = &self.subject;
        let lanes = self.script.lanes.iter().zip(&mut self.cursors).take(threads);
        let tallies = together(lanes, |(lane, cursor), barrier| {
            let mut run = |window| match lane {
                Lane::Reads(keys) => read(subject, keys, cursor, window),
                Lane::Mixed(steps) => read_and_insert(subject, steps, cursor, window),
            };
            // What the subjects before this one have driven out of the CPU's caches is fetched outside of the measurement.
            barrier.wait();
            run(window / 4);
            barrier.wait();
            run(window)
        });
        // Work that a subject has put off, or left to a thread of its own, must not fall into the next one's sample.
        subject.settle();
        Ok(tallies.into_iter().sum())
    }

    fn under_writer(&mut self, pace: Pace, window: Duration) -> Result<UnderWriter, Error> {
        self.keep_fresh()?;
        let outcome = under_writer::run(&self.subject, &self.script.lanes, &mut self.cursors, pace, window);
        self.subject.settle();
        Ok(outcome)
    }
}

/// Not inlined, so that the loop of one subject is compiled alike whatever stands around it.
#[inline(never)]
fn read<S: Subject<K, V>, K: Key, V: Value>(subject: &S, keys: &[K], cursor: &mut usize, window: Duration) -> Tally {
    let batch = keys.len().min(BATCH);
    let passes = BATCH / batch;
    let mut tally = Tally::default();
    let mut sum = 0_u64;
    let start = Instant::now();
    while tally.elapsed < window {
        for _ in 0..passes {
            for key in &keys[*cursor..*cursor + batch] {
                match subject.get(black_box(key)) {
                    Some(value) => sum = sum.wrapping_add(value),
                    None => tally.misses += 1,
                }
            }
        }
        *cursor = next(*cursor + batch, batch, keys.len());
        tally.reads += (batch * passes) as u64;
        tally.elapsed = start.elapsed();
    }
    black_box(sum);
    tally.operations = tally.reads;
    tally
}

#[inline(never)]
fn read_and_insert<S: Subject<K, V>, K: Key, V: Value>(
    subject: &S,
    steps: &[Step<K>],
    cursor: &mut usize,
    window: Duration,
) -> Tally {
    let batch = steps.len().min(BATCH);
    let mut tally = Tally::default();
    let mut sum = 0_u64;
    let start = Instant::now();
    while tally.elapsed < window {
        for step in &steps[*cursor..*cursor + batch] {
            let key = black_box(&step.key);
            if step.insert {
                subject.insert(key.clone(), V::of(step.id));
                continue;
            }
            tally.reads += 1;
            match subject.get(key) {
                Some(value) => sum = sum.wrapping_add(value),
                None => tally.misses += 1,
            }
        }
        *cursor = next(*cursor + batch, batch, steps.len());
        tally.operations += batch as u64;
        tally.elapsed = start.elapsed();
    }
    black_box(sum);
    tally
}

/// The lane's next batch; the first again where less than a whole one is left.
fn next(cursor: usize, batch: usize, len: usize) -> usize {
    if cursor + batch <= len { cursor } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::l1::work::WORKS;
    use crate::peers::{Noop, SeqlockTable};

    /// Loses every `N`th insert.
    struct Lossy<const N: u64>(Mutex<HashMap<u64, u64>>);

    impl<const N: u64> Subject<u64, u64> for Lossy<N> {
        fn new(_capacity: usize, _ttl: Option<Duration>) -> Self {
            Self(Mutex::default())
        }

        fn get(&self, key: &u64) -> Option<u64> {
            self.0.lock().unwrap().get(key).copied()
        }

        fn insert(&self, key: u64, value: u64) {
            if !key.is_multiple_of(N) {
                self.0.lock().unwrap().insert(key, value);
            }
        }
    }

    /// Answers every key with the same value.
    struct Confused;

    impl Subject<u64, u64> for Confused {
        fn new(_capacity: usize, _ttl: Option<Duration>) -> Self {
            Self
        }

        fn get(&self, _key: &u64) -> Option<u64> {
            Some(7)
        }

        fn insert(&self, _key: u64, _value: u64) {}
    }

    fn script(name: &str) -> Arc<Script<u64>> {
        Arc::new(Script::of(WORKS.iter().find(|work| work.name == name).expect("a work has this name"), 2))
    }

    #[test]
    fn a_subject_that_misses_is_not_measured() {
        let entered = Entrant::<Lossy<10>, u64, u64>::enter("lossy", "", script("u64-hot-ttl"));
        assert!(matches!(entered, Err(Error::TooManyMisses { subject: "lossy", .. })));
        assert!(Entrant::<Lossy<1_000>, u64, u64>::enter("lossy", "", script("u64-hot-ttl")).is_ok());
    }

    #[test]
    fn a_subject_that_answers_wrongly_is_not_measured() {
        let entered = Entrant::<Confused, u64, u64>::enter("confused", "", script("u64-hot-ttl"));
        assert!(matches!(entered, Err(Error::WrongValue { subject: "confused", .. })));
    }

    #[test]
    fn both_lanes_run_and_are_counted() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let mut floor = Entrant::<SeqlockTable, u64, u64>::enter("floor", "", script("u64-hot-ttl")).unwrap();
        let window = Duration::from_millis(2);
        let tally = floor.sample(2, window).unwrap();
        assert!(tally.elapsed >= 2 * window && tally.reads == tally.operations);
        assert_eq!(tally.misses, 0);
    }

    #[test]
    fn a_mixed_load_counts_its_reads_apart() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let mut noop = Entrant::<Noop, u64, u64>::enter("noop", "", script("u64-50-50-ttl")).unwrap();
        let tally = noop.sample(1, Duration::from_millis(2)).unwrap();
        let share = tally.reads as f64 / tally.operations as f64;
        assert!((0.4..0.6).contains(&share), "{share}");
    }

    #[test]
    fn a_lane_begins_anew_before_it_ends() {
        assert_eq!([next(2, 2, 5), next(4, 2, 5), next(4, 2, 6)], [2, 0, 4]);
    }
}
