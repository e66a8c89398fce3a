//! A process of its own that ends a server and removes its directory when we are gone.
//!
//! `Drop` is no answer to `kill -9`, and a parent-death signal is Linux only and fires on the death of a thread. A pipe answers
//! both: the kernel closes our end however we end, and whoever reads the other end knows.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::StartError;

const SCRIPT: &str = include_str!("watchdog.sh");

/// Writes its own pid where the watchdog looks, then becomes the server. By absolute path: once the watchdog has renamed the
/// directory, the rename below fails and no server starts behind its back.
const LAUNCH: &str = r#"echo $$ >"$0/pid.new" && mv "$0/pid.new" "$0/pid" && exec "$@""#;

/// As much of a log as a person reads in a failed test.
const LOG_TAIL: u64 = 2_000;

/// User and group to run under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    directory: PathBuf,
    account: Option<Account>,
}

impl Watchdog {
    /// Makes a directory that only `account` (ourselves if none) can enter. `signal` is the name of the one that ends the server.
    pub(crate) fn start(signal: &str, account: Option<Account>) -> Result<Self, StartError> {
        let mut command = detached("sh", account);
        command.args(["-c", SCRIPT, "watchdog", signal]).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().map_err(StartError::io("start sh"))?;
        let mut line = String::new();
        let answer = shell.stdout.take().map(BufReader::new).map(|mut output| output.read_line(&mut line));
        answer.transpose().map_err(StartError::io("hear from the watchdog"))?;
        let directory = PathBuf::from(line.trim_end());
        if !directory.is_dir() {
            return Err(StartError::Io { doing: "make a directory under TMPDIR", source: std::io::ErrorKind::NotFound.into() });
        }
        Ok(Self { shell, directory, account })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts a program, its output appended to the log. One at a time: the watchdog knows the latest only.
    pub(crate) fn spawn<A: AsRef<std::ffi::OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Child, StartError> {
        let log =
            OpenOptions::new().create(true).append(true).open(self.log()).map_err(StartError::io("open the server's log"))?;
        let errors = log.try_clone().map_err(StartError::io("open the server's log"))?;
        let mut command = detached("sh", self.account);
        command.args(["-c", LAUNCH]).arg(&self.directory).arg(program).args(arguments);
        // Error texts are read by `is_port_taken`.
        command.env("LC_ALL", "C").current_dir(&self.directory).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.spawn().map_err(StartError::io("start sh"))
    }

    /// Waits for a program that has ended or been killed. The watchdog forgets its pid before it is free for another process.
    pub(crate) fn reap(&self, child: &mut Child) {
        let _ = fs::remove_file(self.directory.join("pid"));
        let _ = child.wait();
    }

    pub(crate) fn log_tail(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(self.log()) {
            let length = log.metadata().map_or(0, |file| file.len());
            let _ = log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)));
            let _ = log.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// In a process group of its own, so that the terminal's Ctrl-C reaches us alone, and silent, so that nothing that waits for the
/// end of our output waits for it.
fn detached(program: &str, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    command.process_group(0).stderr(Stdio::null());
    if let Some(Account { user, group }) = account {
        command.uid(user).gid(group);
    }
    command
}
