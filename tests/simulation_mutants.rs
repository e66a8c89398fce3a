//! Every naive variant of the protocol is caught by the seeds of one run of the simulation: each is a switch in the real code (`cache_core`'s feature `mutants`), and this
//! runs the seeds with it, in a process of its own. `mutants.rs` has a test for each that was written for it; here nothing was.
#![cfg(feature = "mutants")]

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "simulation.rs"]
mod simulation;

const MUTANTS: &[&str] = &[
    "FillWithoutLease",
    "SetNx",
    "TokenPerProcess",
    "NoFloor",
    "FloorOverwritten",
    "NoReplay",
    "RemovedOnce",
    "NoPoison",
    "TicketAfterReply",
    "KeptFromReplica",
    "GapByMax",
    "SuspicionWithoutPoison",
    "TrustBeforeSubscribed",
    "NoIncarnation",
    "AbsentIsUnchanged",
    "DuplicatesIgnored",
    "JoinPoisoned",
    "StoppedClock",
    "SleepUnseen",
    "NoRelease",
    "LeaseFromReply",
    "AdoptWithoutSuspicion",
    "ChangeMissesFlights",
    "JoinUnverified",
    "NotOwed",
    "GraceForSuspects",
    "GraceForMissed",
    "RefusedIsAway",
    "NoPolls",
    "NoMark",
    "UnmarkTakesAll",
    "CommitAfterMark",
    "KeptBesideMark",
];

#[test]
fn each_naive_variant_is_caught_within_the_seeds_of_one_run() {
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Each of them uses all cores; two at a time, so that none waits for another's last seed.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(mutant) = MUTANTS.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let found = what_is_found(mutant);
                    println!("{mutant}: {}", found.as_deref().unwrap_or("nothing"));
                    if found.is_none() {
                        survivors.lock().unwrap().push(*mutant);
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "no seed has caught {survivors:?}");
}

/// The first violation with this variant switched on.
fn what_is_found(mutant: &str) -> Option<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "simulation::no_seed_finds_what_the_promise_does_not_allow", "--nocapture"]);
    let output = command.env("CACHESTACK_MUTANT", mutant).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("running 1 test"), "there is no such test");
    let line = text.lines().find(|line| line.starts_with("seed ")).map(str::to_owned);
    assert!(output.status.success() || line.is_some(), "{text}");
    line
}
