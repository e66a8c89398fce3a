//! Signals to a server and, for PostgreSQL, to the processes it forked.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Sends `signal` to a process that we have not reaped yet, so its number cannot have passed to another. One that has ended is no
/// error.
pub(crate) fn send(process: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(process as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Stops the processes and returns once they have stopped: the kernel delivers the signal at the target's next turn, which under
/// load can come after one more reply.
pub(crate) fn pause(processes: &[u32]) {
    for &process in processes {
        send(process, Signal::STOP);
    }
    await_standstill(processes);
}

/// Waits until none of the processes runs: stopped counts, as does a zombie.
pub(crate) fn await_standstill(processes: &[u32]) {
    while processes.iter().any(|&process| is_running(process)) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// The children of a process, PostgreSQL's backends and workers. They are in sessions of their own, so no group signal reaches
/// them.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    if !Path::new("/proc/self/stat").exists() {
        let listing =
            Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().map(|output| output.stdout).unwrap_or_default();
        return String::from_utf8_lossy(&listing)
            .lines()
            .filter_map(|line| line.trim().split_once(char::is_whitespace))
            .filter(|(_, found)| found.trim().parse() == Ok(parent))
            .filter_map(|(process, _)| process.parse().ok())
            .collect();
    }
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&process| stat(process).is_some_and(|(_, found)| found == parent))
        .collect()
}

fn is_running(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| !matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// State and parent from `/proc/<pid>/stat`: `pid (name) state parent …`, where the name may itself hold spaces and brackets.
fn stat(process: u32) -> Option<(char, u32)> {
    let line = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
