//! Deterministic simulation: thousands of seeds, each a configuration, a workload and faults, on the real code; see `cachestack::testing::simulation`.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `CACHESTACK_SEEDS` | how many seeds; 2,000 if not told |
//! | `CACHESTACK_FIRST_SEED` | from which on; 0 |
//! | `CACHESTACK_SEED` | this one alone, explained whatever it comes to |
//!
//! A seed that fails is printed with its faults, what happened to the key, and how to run it again. Once it is understood, it is kept in `simulation_seeds.txt`.

use cachestack::MemoryTier;
use cachestack::testing::simulation::{Row, Trial};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Seeds that once failed, with what they found.
const KEPT: &str = include_str!("simulation_seeds.txt");

fn l1() -> MemoryTier<u64, Row> {
    MemoryTier::new(100)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

fn kept() -> impl Iterator<Item = u64> {
    let lines = KEPT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split_whitespace().next().unwrap().parse().expect("a seed, and what it found"))
}

/// The first of these seeds that fails, and what all of them did: reads, unverified ones, writes, loads.
fn first_failure(seeds: &[u64]) -> (Option<u64>, [u64; 4]) {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let counts: [AtomicU64; 4] = Default::default();
    let failed = std::sync::Mutex::new(None::<u64>);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) else { return };
                    let outcome = Trial::new(*seed).run(l1);
                    let counted = [outcome.reads, outcome.unverified, outcome.writes, outcome.loads];
                    counts.iter().zip(counted).for_each(|(count, more)| {
                        count.fetch_add(more, Ordering::SeqCst);
                    });
                    if !outcome.violations.is_empty() {
                        stop.store(true, Ordering::SeqCst);
                        println!("seed {seed}: {}", outcome.violations[0]);
                        failed.lock().unwrap().get_or_insert(*seed);
                    }
                }
            });
        }
    });
    (failed.into_inner().unwrap(), counts.map(AtomicU64::into_inner))
}

#[test]
fn no_seed_finds_what_the_promise_does_not_allow() {
    // As a part of simulation_mutants.rs it is for the variants, each in a process of its own.
    if module_path!().starts_with("simulation_mutants") && std::env::var_os("CACHESTACK_MUTANT").is_none() {
        return;
    }
    if let Some(seed) = number("CACHESTACK_SEED") {
        println!("{}", Trial::new(seed).explained(l1));
        assert!(Trial::new(seed).run(l1).violations.is_empty());
        return;
    }
    let first = number("CACHESTACK_FIRST_SEED").unwrap_or(0);
    let seeds: Vec<_> = kept().chain(first..first + number("CACHESTACK_SEEDS").unwrap_or(2_000)).collect();
    let began = std::time::Instant::now();
    let (failed, [reads, unverified, writes, loads]) = first_failure(&seeds);
    if let Some(seed) = failed {
        // Nobody wants to read what a naive variant has broken.
        assert!(std::env::var_os("CACHESTACK_MUTANT").is_none(), "seed {seed}");
        panic!(
            "{}\nto run it again: CACHESTACK_SEED={seed} cargo test --features testing --test simulation -- no_seed --nocapture",
            Trial::new(seed).explained(l1)
        );
    }
    println!(
        "{} seeds in {:?}: {reads} reads, {unverified} of them unverified, {writes} writes, {loads} loads",
        seeds.len(),
        began.elapsed()
    );
}

#[test]
fn a_seed_is_the_same_run_bit_for_bit() {
    for seed in 0..20 {
        let (one, other) = (Trial::new(seed).run(l1), Trial::new(seed).run(l1));
        assert_eq!(one.digest, other.digest, "seed {seed}");
    }
    let digests: std::collections::HashSet<_> = (0..20).map(|seed| Trial::new(seed).run(l1).digest).collect();
    assert_eq!(digests.len(), 20, "and another seed another");
}
