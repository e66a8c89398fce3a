//! One trace at one capacity.

use std::sync::Mutex;
use std::thread;

use super::replay::Replay;
use super::trace::Trace;
use super::{LEAST_ENTRIES, LEAST_OPT, OPT};

/// What every subject hit.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) trace: String,
    /// Percent of the distinct keys.
    pub(crate) share: f64,
    pub(crate) capacity: usize,
    /// Percent of the accesses, in the order of the subjects.
    pub(crate) hit_ratios: Vec<(&'static str, f64)>,
}

impl Cell {
    /// Nothing where the cell says too little. `subjects` begin with OPT.
    pub(crate) fn of(trace: &Trace, share: f64, subjects: &[Replay]) -> Option<Self> {
        let capacity = capacity(trace.distinct, share);
        if capacity < LEAST_ENTRIES {
            return None;
        }
        let (opt, others) = subjects.split_first().filter(|(first, _)| first.name == OPT)?;
        let percent = |hits: u64| 100.0 * hits as f64 / trace.keys.len() as f64;
        let best = percent((opt.hits)(trace, capacity));
        if best < LEAST_OPT {
            return None;
        }
        let mut hit_ratios = vec![(opt.name, best)];
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let hits = at_once(cores, others, |subject| (subject.hits)(trace, capacity));
        hit_ratios.extend(others.iter().zip(hits).map(|(subject, hits)| (subject.name, percent(hits))));
        Some(Self { trace: trace.name.clone(), share, capacity, hit_ratios })
    }

    /// Percent; zero of a subject that did not take part.
    pub(crate) fn hit_ratio(&self, subject: &str) -> f64 {
        self.hit_ratios.iter().find(|(name, _)| *name == subject).map_or(0.0, |(_, hit_ratio)| *hit_ratio)
    }
}

/// Rounded down, as the traces' users do.
fn capacity(distinct: usize, share: f64) -> usize {
    // In thousandths, so that a tenth of a percent is one exactly.
    distinct * (10.0 * share).round() as usize / 1_000
}

/// What `of` returns for each item, in their order; by several threads, since nothing is timed. Each item is worked on by one alone.
fn at_once<T: Sync, R: Send>(threads: usize, items: &[T], of: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let waiting = Mutex::new(items.iter().enumerate());
    let next = || waiting.lock().expect("the iterator does not panic").next();
    let work = || {
        let mut done = Vec::new();
        while let Some((place, item)) = next() {
            done.push((place, of(item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::replay::subjects;
    use super::*;

    #[test]
    fn capacities_are_whole_shares_rounded_down() {
        assert_eq!([0.1, 1.0, 10.0].map(|share| capacity(186_880, share)), [186, 1_868, 18_688]);
        assert_eq!(capacity(1_000, 0.1), 1);
    }

    #[test]
    fn results_stand_in_the_order_of_their_items_whichever_thread_was_first() {
        let begun = [const { AtomicBool::new(false) }; 4];
        let wait_for = |item: usize| {
            while !begun[item].load(Ordering::Acquire) {
                thread::yield_now();
            }
        };
        // One thread does 0 and 3, the other 1 and 2.
        let results = at_once(2, &[0, 1, 2, 3], |item| {
            begun[*item].store(true, Ordering::Release);
            match item {
                0 => wait_for(2),
                2 => wait_for(3),
                _ => {}
            }
            10 * item
        });
        assert_eq!(results, [0, 10, 20, 30]);
    }

    #[test]
    fn cells_that_say_too_little_are_left_out() {
        let scan = Trace::of("scan".into(), (0..10_000).collect());
        let pairs = Trace::of("pairs".into(), (0..10_000).map(|place| place / 2).collect());
        assert!(Cell::of(&scan, 1.0, &subjects()).is_none(), "nothing can hit in a scan");
        assert!(Cell::of(&pairs, 0.1, &subjects()).is_none(), "five entries");
        let cell = Cell::of(&pairs, 1.0, &subjects()).expect("half of all accesses hit");
        assert!((cell.hit_ratio(OPT) - 50.0).abs() < 1e-9);
        assert_eq!(cell.hit_ratios.len(), subjects().len());
    }
}
