//! A work written out before the clock starts: every key that is inserted and every step that is timed.

use std::time::Duration;

use fastrand::Rng;

use crate::subject::Key;
use crate::zipf::Zipf;

use super::work::{Load, Work};

/// Steps of a lane; it is run round and round.
const STEPS: usize = 1 << 20;
/// Copies of a hot key in its lane: enough to loop over, few enough for the first-level cache.
const HOT_STEPS: usize = 64;
/// Inserts that bring a mixed load's cache near its steady state: they hold more distinct keys than fit.
const MIXED_FILL: usize = 400_000;
const EXPONENT: f64 = 0.99;

/// What every subject of a work is put through.
#[derive(Debug)]
pub(crate) struct Script<K> {
    pub(crate) work: &'static str,
    pub(crate) capacity: usize,
    pub(crate) ttl: Option<Duration>,
    pub(crate) least_hits: f64,
    /// Inserted before the first sample, in this order. Holds the ids of keys.
    pub(crate) fill: Vec<u32>,
    /// One a thread.
    pub(crate) lanes: Vec<Lane<K>>,
}

/// What one thread does.
#[derive(Debug)]
pub(crate) enum Lane<K> {
    Reads(Box<[K]>),
    Mixed(Box<[Step<K>]>),
}

/// One operation of a mixed load.
#[derive(Debug)]
pub(crate) struct Step<K> {
    pub(crate) key: K,
    pub(crate) id: u32,
    pub(crate) insert: bool,
}

impl<K: Key> Script<K> {
    /// The same for the same work, whenever it is written.
    pub(crate) fn of(work: &Work, lanes: usize) -> Self {
        let (fill, lanes) = match work.load {
            Load::Reads { keys } => {
                let zipf = Zipf::new(keys, EXPONENT);
                ((0..keys).collect(), seeded(lanes, |rng| reads(&zipf, rng)))
            }
            Load::Hot { keys } => {
                let hot = keys / 2;
                ((0..keys).collect(), seeded(lanes, |_| Lane::Reads(vec![K::of(hot); HOT_STEPS].into())))
            }
            Load::Mixed { keys, inserts_percent } => {
                let zipf = Zipf::new(keys, EXPONENT);
                (overflow(&zipf), seeded(lanes, |rng| mixed(&zipf, inserts_percent, rng)))
            }
            Load::UnderWriter { keys } => {
                let zipf = Zipf::new(keys, EXPONENT);
                (overflow(&zipf), vec![reads(&zipf, &mut Rng::with_seed(0)), mixed(&zipf, 100, &mut Rng::with_seed(1))])
            }
            Load::Resident { .. } => (Vec::new(), Vec::new()),
        };
        let (capacity, least_hits) = (work.load.capacity(), work.least_hits);
        Self { work: work.name, capacity, ttl: work.ttl, least_hits, fill, lanes }
    }
}

fn reads<K: Key>(zipf: &Zipf, rng: &mut Rng) -> Lane<K> {
    Lane::Reads((0..STEPS).map(|_| K::of(zipf.draw(rng))).collect())
}

fn mixed<K: Key>(zipf: &Zipf, inserts_percent: u8, rng: &mut Rng) -> Lane<K> {
    let step = |rng: &mut Rng| {
        let id = zipf.draw(rng);
        Step { key: K::of(id), id, insert: rng.u8(..100) < inserts_percent }
    };
    Lane::Mixed((0..STEPS).map(|_| step(rng)).collect())
}

/// The fill of a cache that does not hold all keys.
fn overflow(zipf: &Zipf) -> Vec<u32> {
    let mut rng = Rng::with_seed(0xF111);
    (0..MIXED_FILL).map(|_| zipf.draw(&mut rng)).collect()
}

fn seeded<K>(lanes: usize, lane: impl Fn(&mut Rng) -> Lane<K>) -> Vec<Lane<K>> {
    (0..lanes as u64).map(|seed| lane(&mut Rng::with_seed(seed))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l1::work::WORKS;

    fn script(name: &str) -> Script<u64> {
        let work = WORKS.iter().find(|work| work.name == name).expect("a work has this name");
        Script::of(work, 2)
    }

    #[test]
    fn threads_ask_for_different_keys_and_runs_for_the_same() {
        let (first, second) = (script("u64-zipf"), script("u64-zipf"));
        let keys = |script: &Script<u64>, lane: usize| match &script.lanes[lane] {
            Lane::Reads(keys) => keys.clone(),
            Lane::Mixed(_) => unreachable!("this work only reads"),
        };
        assert_ne!(keys(&first, 0), keys(&first, 1));
        assert_eq!(keys(&first, 0), keys(&second, 0));
    }

    #[test]
    fn a_mixed_load_inserts_as_often_as_its_name_says() {
        let script = script("u64-95-5-ttl");
        let Lane::Mixed(steps) = &script.lanes[0] else { panic!("this work inserts") };
        let share = steps.iter().filter(|step| step.insert).count() as f64 / steps.len() as f64;
        assert!((share - 0.05).abs() < 0.002, "{share}");
    }

    #[test]
    fn the_writer_beside_a_timed_reader_only_inserts() {
        let script = script("u64-latency");
        let [Lane::Reads(_), Lane::Mixed(steps)] = &script.lanes[..] else { panic!("one reader and one writer") };
        assert!(steps.iter().all(|step| step.insert));
    }

    #[test]
    fn the_fill_of_a_mixed_load_overflows_the_capacity() {
        let mut script = script("u64-50-50-ttl");
        script.fill.sort_unstable();
        script.fill.dedup();
        assert!(script.fill.len() > script.capacity * 11 / 10, "{}", script.fill.len());
    }
}
