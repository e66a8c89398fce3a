//! A node as the parent sees it: a process, and two pipes.

use crate::orders::{Answer, Order, Settings};
use cachestack::BoxError;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::Serialize;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// The hidden first argument of a node.
pub(crate) const NODE: &str = "node-of-the-soak";

/// For anything that a node is asked: a load and a write that wait for their time to be over are among what it may have to end first.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What is stopped stands still by then.
const STOPPING: Duration = Duration::from_secs(1);
/// What is killed has gone by then.
const DYING: Duration = Duration::from_secs(1);

/// Killed when it is dropped, before its folder goes; and it ends by itself when its input does.
pub(crate) struct Process {
    pub(crate) node: u32,
    child: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < DYING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Process {
    /// Starts this program again.
    pub(crate) async fn start(settings: &Settings) -> Result<Self, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        // A group of its own: the terminal's Ctrl-C is for the parent alone, which puts everything away. And one that is stopped when the parent dies
        // is woken by the kernel (SIGHUP and SIGCONT to a group that is orphaned), and ends. Its complaints are shown.
        command.arg(NODE).process_group(0).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a node has no pipes".into());
        };
        let mut process = Self { node: settings.node, child, input, answers: BufReader::new(output).lines() };
        process.say(settings).await?;
        Ok(process)
    }

    pub(crate) async fn await_ready(&mut self) -> Result<(), BoxError> {
        match self.answer().await? {
            Answer::Ready => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(crate) async fn order(&mut self, order: Order) -> Result<(), BoxError> {
        self.say(&order).await
    }

    async fn say(&mut self, what: &impl Serialize) -> Result<(), BoxError> {
        let line = serde_json::to_string(what)? + "\n";
        match self.input.write_all(line.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.end().await),
        }
    }

    pub(crate) async fn answer(&mut self) -> Result<Answer, BoxError> {
        match timeout(ANSWER_LIMIT, self.answers.next_line()).await {
            Ok(Ok(Some(line))) => Ok(serde_json::from_str(&line)?),
            Ok(_) => Err(self.end().await),
            Err(_) => Err(format!("node {} does not answer", self.node).into()),
        }
    }

    /// None once it has been waited for, so the number is its own.
    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// SIGSTOP. Returns when it stands still, or will not.
    pub(crate) async fn stop(&self) -> Result<(), BoxError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        kill_process(pid, Signal::STOP)?;
        let began = Instant::now();
        while !self.is_stopped()? && began.elapsed() < STOPPING {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Whether the kernel says that it stands still.
    pub(crate) fn is_stopped(&self) -> Result<bool, BoxError> {
        let Some(pid) = self.pid() else { return Ok(false) };
        let status = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)?;
        Ok(status.is_some_and(|status| status.stopped()))
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// `kill -9`. Whether that is what ended it.
    pub(crate) async fn kill(&mut self) -> Result<bool, BoxError> {
        self.child.start_kill()?;
        Ok(self.child.wait().await?.signal() == Some(Signal::KILL.as_raw()))
    }

    /// Why it does not speak.
    async fn end(&mut self) -> BoxError {
        match timeout(Duration::from_secs(1), self.child.wait()).await {
            Ok(Ok(status)) => format!("node {} has ended: {status}", self.node).into(),
            _ => format!("node {} has closed its pipes", self.node).into(),
        }
    }

    pub(crate) fn unexpected(&self, answer: &Answer) -> BoxError {
        format!("node {} answered {answer:?}", self.node).into()
    }
}
