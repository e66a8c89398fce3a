//! The barrier on real cores. What loom cannot know is whether the kernel's call does what it promises, and whether it is made at all.

use super::barrier;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// On lines of its own, so that a store waits in its core's buffer for as long as it may.
#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Waits until `is_there` of it. Not in a spin for ever: where threads outnumber cores the other one needs this core.
    fn wait(&self, is_there: impl Fn(u64) -> bool) -> u64 {
        for spins in 1_u64.. {
            let value = self.load();
            if is_there(value) {
                return value;
            }
            if spins % 2_000 == 0 {
                std::thread::yield_now();
            }
        }
        unreachable!("it spins until it is there")
    }
}

const ROUNDS: u64 = 200_000;

/// Where others have the cores, rounds take long.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Has this thread run on the core of this number, of those that it may run on.
fn stay_on(number: usize) {
    if let Ok(mine) = sched_getaffinity(None)
        && let Some(core) = (0..CpuSet::MAX_CPU).filter(|core| mine.is_set(*core)).nth(number)
    {
        let mut one = CpuSet::new();
        one.set(core);
        _ = sched_setaffinity(None, &one);
    }
}

/// "Store buffering": reader and writer store, and then load what the other one stores. Whether neither saw the other in a round, and its number. A
/// reader in a region that a writer does not see, though it does not see either what that writer has unlinked, is such a one.
fn blind_round(light: fn()) -> (bool, u64) {
    let [x, y, turn, answer] = [const { Line::new() }; 4];
    let reader = || {
        stay_on(0);
        for round in 1.. {
            if turn.wait(|turn| turn >= round) == u64::MAX {
                return;
            }
            x.store(round);
            light();
            let saw = y.load() == round;
            answer.store(round << 1 | u64::from(saw));
        }
    };
    let writer = || {
        stay_on(1);
        let end = Instant::now() + LONGEST;
        let mut round = 0;
        let blind = loop {
            round += 1;
            turn.store(round);
            // The reader is on its way: meet it here and there.
            (0..round % 64).for_each(|_| _ = black_box(round));
            y.store(round);
            assert!(barrier::heavy());
            let saw = x.load() == round;
            let other_saw = answer.wait(|answer| answer >> 1 == round) & 1 == 1;
            if !saw && !other_saw {
                break true;
            }
            if round == ROUNDS || round % 64 == 0 && Instant::now() > end {
                break false;
            }
        };
        turn.store(u64::MAX);
        (blind, round)
    };
    std::thread::scope(|scope| {
        scope.spawn(reader);
        scope.spawn(writer).join().expect("the barrier is had")
    })
}

#[test]
fn of_a_reader_and_a_writer_one_sees_the_other() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("not run: on one core every store is seen");
        return;
    }
    barrier::settle();
    let light = if barrier::is_asymmetric() {
        barrier::light
    } else {
        eprintln!("without membarrier, which this kernel does not have: of the portable fences only");
        barrier::light_fenced
    };
    let (blind, round) = blind_round(light);
    assert!(!blind, "neither saw the other in round {round}");
}
