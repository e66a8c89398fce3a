//! The soak in short: `examples/coherence_soak` with processes that are really killed, for a few seconds a fault; and what decides in it, the check and the logs.
#![cfg(all(unix, feature = "redis", feature = "sharding"))]

#[path = "../examples/coherence_soak/check.rs"]
#[expect(dead_code, reason = "the rest is the example's")]
mod check;
#[path = "../examples/coherence_soak/events.rs"]
mod events;
#[path = "../examples/coherence_soak/resp.rs"]
mod resp;

use check::{Findings, Ledger, Limits};
use events::{Mark, Observed, ReadLog, Told, ToldLog, take_observed, told_since};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000_000_000;
const LIMITS: Limits = Limits { bound: 3 * SECOND, grace: 5 * SECOND };

/// Version 2 at 10 s, by node 1; version 3 at 20 s, by node 2.
fn ledger() -> Ledger {
    let mut ledger = Ledger::of(1);
    ledger.add(Told { at: 20 * SECOND, version: 3, key: 0, node: 2 });
    ledger.add(Told { at: 10 * SECOND, version: 2, key: 0, node: 1 });
    ledger
}

fn looked_at(node: u32, read: Observed) -> Findings {
    let mut findings = Findings::new();
    findings.look_at(&mut ledger(), LIMITS, node, read);
    findings
}

fn read(began: u64, version: u64) -> Observed {
    Observed { began, version, key: 0, mark: Mark::Verified }
}

#[test]
fn a_read_is_late_if_it_began_more_than_the_bound_after_the_ok_of_a_newer_version() {
    let late = |read| looked_at(3, read).late;
    assert_eq!(late(read(13 * SECOND, 1)), 0, "at the bound");
    assert_eq!(late(read(13 * SECOND + 1, 1)), 1);
    assert_eq!(late(read(100 * SECOND, 3)), 0);
    assert_eq!(late(read(23 * SECOND, 2)), 0);
    assert_eq!(late(read(24 * SECOND, 2)), 1);
    assert_eq!(late(read(9 * SECOND, 1)), 0, "before anything was told");
}

#[test]
fn staleness_counts_from_the_ok_of_the_oldest_newer_version() {
    let stalest = |read| looked_at(3, read).stalest_ms();
    let about = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.01, "{found}, not {expected}");
    about(stalest(read(21 * SECOND, 1)), 11_000.0);
    about(stalest(read(21 * SECOND, 2)), 1_000.0);
    assert!(stalest(read(21 * SECOND, 3)).abs() < f64::EPSILON);
}

#[test]
fn a_newer_version_that_was_told_earlier_convicts_the_older_ones_too() {
    let mut ledger = ledger();
    // Told before version 2 was.
    ledger.add(Told { at: 5 * SECOND, version: 4, key: 0, node: 4 });
    let mut findings = Findings::new();
    findings.look_at(&mut ledger, LIMITS, 3, read(9 * SECOND, 1));
    findings.look_at(&mut ledger, LIMITS, 3, read(9 * SECOND, 3));
    findings.look_at(&mut ledger, LIMITS, 3, read(9 * SECOND, 4));
    assert_eq!((findings.late, findings.verified), (2, 3));
}

#[test]
fn what_is_marked_is_counted_apart_but_a_nodes_own_invalidation_binds_it_at_once() {
    let marked = Observed { mark: Mark::Marked, ..read(17 * SECOND, 1) };
    let findings = looked_at(3, marked);
    assert_eq!((findings.violations(), findings.marked, findings.verified), (0, 1, 0));
    assert_eq!(looked_at(1, marked).own, 1);
    assert_eq!(looked_at(1, read(10 * SECOND, 1)).own, 1, "no bound");
    assert_eq!(looked_at(1, read(10 * SECOND - 1, 1)).own, 0);
    assert_eq!(looked_at(1, read(11 * SECOND, 2)).own, 0);
}

#[test]
fn what_is_marked_has_bound_and_grace_and_no_longer() {
    let beyond = |began, version| {
        let findings = looked_at(3, Observed { mark: Mark::Marked, ..read(began, version) });
        assert_eq!((findings.marked, findings.late, findings.violations()), (1, 0, findings.beyond));
        findings.beyond
    };
    assert_eq!(beyond(18 * SECOND, 1), 0, "at their end");
    assert_eq!(beyond(18 * SECOND + 1, 1), 1);
    assert_eq!(beyond(28 * SECOND, 2), 0);
    assert_eq!(beyond(28 * SECOND + 1, 2), 1);
    assert_eq!(beyond(100 * SECOND, 3), 0);
    let stalest = looked_at(3, Observed { mark: Mark::Marked, ..read(12 * SECOND, 1) }).marked_stalest_ms();
    assert!((stalest - 2_000.0).abs() < f64::EPSILON, "{stalest}");
}

#[test]
fn what_every_node_had_may_not_be_older_again_though_nobody_told_it() {
    let mut ledger = ledger();
    ledger.add_healed(&[5], 30 * SECOND);
    let mut late = |read| {
        let mut findings = Findings::new();
        findings.look_at(&mut ledger, LIMITS, 1, read);
        (findings.late, findings.own)
    };
    assert_eq!(late(read(33 * SECOND, 4)), (0, 0));
    assert_eq!(late(read(33 * SECOND + 1, 4)), (1, 0));
    assert_eq!(late(read(50 * SECOND, 5)), (0, 0));
}

#[test]
fn what_did_not_heal_and_what_nobody_told_are_violations() {
    let mut findings = Findings::new();
    (findings.unhealed, findings.untold) = (2, 3);
    assert_eq!(findings.violations(), 5);
}

#[test]
fn a_value_of_another_key_is_a_violation() {
    assert_eq!(looked_at(3, Observed { mark: Mark::Wrong, ..read(0, 1) }).violations(), 1);
}

#[test]
fn what_is_forgotten_still_convicts() {
    let mut ledger = ledger();
    ledger.forget_before(30 * SECOND);
    let mut findings = Findings::new();
    findings.look_at(&mut ledger, LIMITS, 3, read(40 * SECOND, 1));
    findings.look_at(&mut ledger, LIMITS, 1, read(40 * SECOND, 1));
    assert_eq!((findings.late, findings.own), (2, 1));
}

#[test]
fn logs_bring_back_what_was_logged_and_leave_out_what_was_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let (told, observed) = (Told { at: 1, version: u64::MAX, key: 7, node: 9 }, Observed { mark: Mark::Marked, ..read(5, 6) });
    let log = ToldLog::create(folder.path(), 9).unwrap();
    log.add(told).unwrap();
    let mut reads = ReadLog::create(folder.path(), 9, 2).unwrap();
    // More than are read at a time.
    (0..10_000).for_each(|_| reads.add(observed).unwrap());
    reads.flush().unwrap();
    for file in ["9.told", "9-2.reads"] {
        fs::OpenOptions::new().append(true).open(folder.path().join(file)).unwrap().write_all(&[1; 23]).unwrap();
    }

    let mut from = 0;
    assert_eq!(told_since(folder.path(), 9, &mut from).unwrap(), [told]);
    assert_eq!(told_since(folder.path(), 9, &mut from).unwrap(), []);
    assert_eq!(told_since(folder.path(), 10, &mut 0).unwrap(), [], "a node that told nothing");
    let mut found = 0;
    take_observed(folder.path(), 9, 2, |read| found += usize::from(read == observed)).unwrap();
    take_observed(folder.path(), 9, 2, |_| panic!("taken twice")).unwrap();
    assert_eq!(found, 10_000);
}

#[test]
fn replies_are_known_apart_wherever_they_are_cut() {
    let replies: [&[u8]; 8] = [
        b"+OK\r\n",
        b"-MOVED 1 127.0.0.1:10000\r\n",
        b"$-1\r\n",
        b"$12\r\n*3\r\n$7\r\nmess\r\n",
        b"*0\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n",
        b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
        b"*2\r\n*1\r\n:5\r\n%1\r\n+a\r\n*-1\r\n",
    ];
    for (number, reply) in replies.into_iter().enumerate() {
        for cut in 0..reply.len() {
            assert_eq!(resp::reply_length(&reply[..cut]), None, "{number} cut at {cut}");
        }
        assert_eq!(resp::reply_length(&[reply, b"+more"].concat()), Some(reply.len()), "{number}");
        assert_eq!(resp::is_message(reply), number == 5 || number == 6, "{number}");
    }
    assert!(resp::is_subscription(b"*2\r\n$10\r\nSSUBSCRIBE\r\n$1\r\nc\r\n"));
    assert!(!resp::is_subscription(b"*2\r\n$3\r\nGET\r\n$9\r\nSUBSCRIBE\n\r\n"));
}

/// The example, as Cargo builds it with the tests.
fn soak() -> Command {
    let binary = std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().join("examples/coherence_soak");
    let built = fs::metadata(&binary).and_then(|file| file.modified()).ok();
    let newest = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/coherence_soak"));
    let is_new = built.is_some_and(|built| newest.iter().all(|file| fs::metadata(file).unwrap().modified().unwrap() <= built));
    assert!(is_new, "build it first: cargo build --example coherence_soak (cargo test without --test does so itself)");
    Command::new(binary)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Little load, so that an unoptimised build stands it beside other tests.
const LOAD: [&str; 8] = ["--nodes", "3", "--reads", "400", "--writes", "20", "--keys", "200"];

fn output(soak: &mut Command) -> (Output, String) {
    let output = soak.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    (output, text)
}

/// Runs it for a second a fault: what it wrote. Its exit code must be that of a good run.
fn run(arguments: &[&str]) -> serde_json::Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("soak.json");
    let short = ["--seconds", "1", "--bound", "1000", "--grace", "1", "--json"];
    let (output, _) = output(soak().args(LOAD).args(short).arg(&file).args(arguments));
    assert!(output.status.success());
    serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
}

/// Each fault of a run did what its name says, and no read told of it.
fn assert_kept(results: &serde_json::Value, faults: &[&str]) {
    assert_eq!((results["violations"].as_u64(), results["unhealed"].as_u64()), (Some(0), Some(0)));
    let phases = results["faults"].as_object().unwrap();
    for (fault, phase) in phases {
        assert!(phase["verified_reads"].as_u64() > Some(100), "{fault}: {phase}");
        assert!(phase["invalidations"].as_u64() > Some(5), "{fault}: {phase}");
        for name in ["staleness_p50_ms", "staleness_p99_ms", "staleness_max_ms", "l1_hit_rate"] {
            assert!(results[name].is_number() && phase[name].is_number(), "{name} of {fault}");
        }
    }
    for &fault in faults {
        assert!(phases[fault]["effect"]["count"].as_u64() > Some(0), "{fault}: {}", phases[fault]);
    }
    assert_eq!(phases.len(), faults.len() + 2, "the start and ordinary running, too");
}

#[test]
fn every_fault_of_one_redis_happens_and_breaks_no_promise() {
    let results = run(&[]);
    assert_kept(
        &results,
        &[
            "lost-messages",
            "half-open",
            "stopped-redis",
            "killed-redis",
            "killed-writer",
            "flushall",
            "client-kill",
            "oom",
            "stopped-reader",
            "cut-off",
        ],
    );
    let of = |fault: &str, name: &str| results["faults"][fault][name].as_f64().unwrap();
    assert!(of("lost-messages", "staleness_max_ms") > 100.0, "a reader knew, and no message told it");
    assert!(of("stopped-redis", "failed_invalidations") > 0.0, "nothing was left to be told later");
    // Longer than the bound, so only the grace can have been at work; and cut off for longer than both.
    assert!(of("cut-off", "marked_staleness_max_ms") > 1_000.0);
}

#[test]
fn the_faults_of_a_cluster_happen_and_break_no_promise() {
    let faults = ["killed-master", "slot-migration"];
    assert_kept(&run(&["--cluster", "--fault", &faults.join(",")]), &faults);
}

#[test]
fn without_guards_lost_messages_leave_old_values_in_a_cluster_as_over_one_redis() {
    for cluster in [None, Some("--cluster")] {
        let mut arguments = vec!["--guards", "off", "--fault", "lost-messages"];
        arguments.extend(cluster);
        let results = run(&arguments);
        let phase = &results["faults"]["lost-messages"];
        for count in [&phase["effect"]["count"], &phase["late"], &phase["unhealed"], &results["unhealed"]] {
            assert!(count.as_u64() > Some(0), "{phase}");
        }
    }
}

#[test]
fn what_it_does_not_know_it_says() {
    for (arguments, word) in [
        (&["--falt", "none"][..], "--falt"),
        (&["--fault", "nine"], "nine"),
        (&["--fault", "killed-master"], "cluster"),
        (&["--cluster", "--fault", "killed-redis"], "cluster"),
        (&["--nodes", "1"], "2 to 64"),
        (&["--seconds", "soon"], "whole number"),
        (&["--guards", "maybe"], "neither"),
        (&["--grace", "3601"], "0 to 3600"),
        (&["--json"], "json"),
    ] {
        let (output, text) = output(soak().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text.contains(word) && text.contains("--help"), "{arguments:?}: {text}");
    }
    let (output, text) = output(soak().arg("--help"));
    assert!(output.status.success() && text.contains("--guards") && text.contains("slot-migration"));
}

/// Processes that were started with this folder for temporary files.
#[cfg(target_os = "linux")]
fn with_folder(folder: &Path) -> Vec<PathBuf> {
    let word = format!("TMPDIR={}", folder.display());
    let has_it = |path: &PathBuf| {
        fs::read(path.join("environ")).is_ok_and(|text| text.split(|&byte| byte == 0).any(|one| one == word.as_bytes()))
    };
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(has_it).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_parent_that_is_killed_leaves_no_process_behind_not_even_a_stopped_one() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--seconds", "1", "--bound", "1000", "--fault", "stopped-reader"];
    let mut parent = soak().args(LOAD).args(arguments).env("TMPDIR", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    // A reader is stopped once ordinary running is over.
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.starts_with("none ")));
    let within = |what: &str, done: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(20), "{what}: {:?}", with_folder(folder.path()));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let is_stopped = |process: &PathBuf| fs::read_to_string(process.join("stat")).is_ok_and(|stat| stat.contains(") T "));
    within("a reader is stopped", &|| with_folder(folder.path()).iter().any(is_stopped));
    assert!(with_folder(folder.path()).len() >= 5, "a parent, three nodes and a Redis");
    parent.kill().unwrap();
    parent.wait().unwrap();
    within("all are gone", &|| with_folder(folder.path()).is_empty());
}
