//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;

/// Printed by `--help` and below every complaint about the command line.
pub(crate) const USAGE: &str = "\
usage: compare l1 [options]                        time and memory, in process
       compare l2 [options]                        time and processor time over the wire, against real Redis servers
       compare faults [options]                    what callers see while a Redis is broken, against real servers
       compare coherence [options]                 what it costs that nodes follow each other, against a real server
       compare hit-ratio --traces DIR [options]    share of reads that hit, over recorded accesses

options of all
  --json FILE      write the rows there as a JSON array
options of all but coherence
  --subject NAME   only this subject; may be repeated
options of l1 and hit-ratio
  --svg FILE       write a chart there
options of l1 and l2
  --ratios FILE    write the bars and our ratios to the peers there as a JSON array
options of l1, l2, faults and coherence
  --rounds N       samples of each figure, of which the median is taken (default 11, of l2 9; with --quick 3);
                   of faults, times each is done, of which the worst is taken (default 3; with --quick 1)
  --work NAME      only this work, of faults this fault; may be repeated
  --quick          short samples: a check that everything runs, not a measurement
options of l1
  --threads A,B    thread counts to measure (default 1,2)
options of l2
  --tasks A,B      of the works' numbers of tasks only these
options of hit-ratio
  --traces DIR     where NAME.u64.zst lie: zstd of one little-endian u64 key id per access, in order
  --trace NAME     only this trace; may be repeated";

/// As a sign test's interval is computed, more are as good as infinitely many; and no one waits for them.
const MOST_ROUNDS: usize = 999;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    L1,
    L2,
    Faults,
    Coherence,
    HitRatio,
    /// One subject's memory, as a child process of `l1`. Not in the usage.
    Weigh,
    /// One client's way through one fault, as a child process of `faults`. Not in the usage.
    Undergo,
}

/// What to measure, how often, for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) command: Command,
    pub(crate) json: Option<PathBuf>,
    pub(crate) ratios: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) traces: Option<PathBuf>,
    pub(crate) rounds: usize,
    /// Length of one sample of one subject. A quarter of it again is spent untimed before, to bring the subject into the CPU's caches.
    pub(crate) window: Duration,
    pub(crate) threads: Vec<usize>,
    /// Of `l2`; all where none is named.
    tasks: Vec<usize>,
    pub(crate) quick: bool,
    /// For `weigh`: a cache that evicts.
    pub(crate) full: bool,
    works: Vec<String>,
    subjects: Vec<String>,
    trace_names: Vec<String>,
}

impl Args {
    /// Reads the words that follow the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut words = words.into_iter();
        let command = match words.next().as_deref() {
            Some("l1") => Command::L1,
            Some("l2") => Command::L2,
            Some("faults") => Command::Faults,
            Some("coherence") => Command::Coherence,
            Some("hit-ratio") => Command::HitRatio,
            Some("weigh") => Command::Weigh,
            Some("undergo") => Command::Undergo,
            Some("-h" | "--help" | "help") => Command::Help,
            Some(other) => return Err(Error::Usage(format!("unknown command `{other}`"))),
            None => return Err(Error::Usage("which command?".into())),
        };
        let mut args = Self {
            command,
            json: None,
            ratios: None,
            svg: None,
            traces: None,
            rounds: 0,
            window: Duration::from_millis(if command == Command::L2 { 1_000 } else { 100 }),
            threads: vec![1, 2],
            tasks: Vec::new(),
            quick: false,
            full: false,
            works: Vec::new(),
            subjects: Vec::new(),
            trace_names: Vec::new(),
        };
        let mut rounds = None;
        let timed = command != Command::HitRatio;
        let in_process = !matches!(command, Command::L2 | Command::Faults | Command::Undergo | Command::Coherence);
        let numbers = |option: &str, list: &str| list.split(',').map(|number| positive(option, number)).collect::<Result<_, _>>();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| Error::Usage(format!("{word} needs a value")));
            match word.as_str() {
                "--json" => args.json = Some(value()?.into()),
                "--svg" if in_process => args.svg = Some(value()?.into()),
                "--subject" if command != Command::Coherence => args.subjects.push(value()?),
                "--ratios" if matches!(command, Command::L1 | Command::L2) => args.ratios = Some(value()?.into()),
                "--rounds" if timed => rounds = Some(positive("--rounds", &value()?)?.min(MOST_ROUNDS)),
                "--threads" if timed && in_process => args.threads = numbers("--threads", &value()?)?,
                "--tasks" if command == Command::L2 => args.tasks = numbers("--tasks", &value()?)?,
                "--work" if timed => args.works.push(value()?),
                "--quick" if timed => args.quick = true,
                "--full" if command == Command::Weigh => args.full = true,
                "--traces" if !timed => args.traces = Some(value()?.into()),
                "--trace" if !timed => args.trace_names.push(value()?),
                "-h" | "--help" => args.command = Command::Help,
                other => return Err(Error::Usage(format!("unknown option `{other}`"))),
            }
        }
        if args.command == Command::HitRatio && args.traces.is_none() {
            return Err(Error::Usage("hit-ratio needs --traces DIR".into()));
        }
        if args.quick {
            args.window /= 10;
        }
        args.rounds = rounds.unwrap_or(match command {
            Command::Faults if args.quick => 1,
            Command::Faults => 3,
            _ if args.quick => 3,
            Command::L2 => 9,
            _ => 11,
        });
        Ok(args)
    }

    /// Whether this work was asked for.
    pub(crate) fn wants_work(&self, name: &str) -> bool {
        self.works.is_empty() || self.works.iter().any(|wanted| wanted == name)
    }

    /// Whether this number of tasks was asked for.
    pub(crate) fn wants_tasks(&self, tasks: usize) -> bool {
        self.tasks.is_empty() || self.tasks.contains(&tasks)
    }

    /// Whether this subject was asked for.
    pub(crate) fn wants_subject(&self, name: &str) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|wanted| wanted == name)
    }

    /// Whether this trace was asked for.
    pub(crate) fn wants_trace(&self, name: &str) -> bool {
        self.trace_names.is_empty() || self.trace_names.iter().any(|wanted| wanted == name)
    }

    /// The work, if one alone was asked for.
    pub(crate) fn only_work(&self) -> Option<&str> {
        if let [name] = &self.works[..] { Some(name) } else { None }
    }

    /// The subject, if one alone was asked for.
    pub(crate) fn only_subject(&self) -> Option<&str> {
        if let [name] = &self.subjects[..] { Some(name) } else { None }
    }

    /// Refuses a `--trace` that no file answers to.
    pub(crate) fn check_traces(&self, known: &[&str]) -> Result<(), Error> {
        check("--trace", &self.trace_names, known)
    }

    /// Refuses a `--work` or `--subject` that no name answers to: a misspelt filter would measure nothing and look fine.
    pub(crate) fn check_names(&self, works: &[&str], subjects: &[&str]) -> Result<(), Error> {
        check("--work", &self.works, works)?;
        check("--subject", &self.subjects, subjects)
    }
}

fn check(option: &str, wanted: &[String], known: &[&str]) -> Result<(), Error> {
    match wanted.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Error::Usage(format!("{option}: `{name}` is none of {}", known.join(", ")))),
        None => Ok(()),
    }
}

fn positive(option: &str, text: &str) -> Result<usize, Error> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::Usage(format!("{option}: `{text}` is not a positive number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Error> {
        Args::parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_bare_command_takes_at_least_nine_rounds_on_one_and_two_threads() {
        let args = parse("l1").unwrap();
        assert!(args.rounds >= 9);
        assert_eq!(args.threads, [1, 2]);
        assert!(args.wants_work("any") && args.wants_subject("any"));
    }

    #[test]
    fn over_the_wire_samples_are_longer_and_tasks_are_picked() {
        let args = parse("l2 --tasks 1,16").unwrap();
        assert!(args.rounds >= 9 && args.window >= Duration::from_secs(1));
        assert!(args.wants_tasks(16) && !args.wants_tasks(128) && parse("l2").unwrap().wants_tasks(128));
    }

    #[test]
    fn given_rounds_win_over_quick_whatever_the_order() {
        assert_eq!(parse("l1 --rounds 5 --quick").unwrap().rounds, 5);
        assert_eq!(parse("l1 --quick --rounds 5").unwrap().rounds, 5);
    }

    #[test]
    fn filters_add_up() {
        let args = parse("l1 --subject a --subject b").unwrap();
        assert!(args.wants_subject("a") && args.wants_subject("b") && !args.wants_subject("c"));
    }

    #[test]
    fn nonsense_is_refused() {
        let other_commands = [
            "l1 --traces t",
            "hit-ratio --traces t --rounds 3",
            "l1 --full",
            "hit-ratio",
            "l2 --threads 1",
            "l2 --svg f",
            "l1 --tasks 1",
            "faults --ratios f",
            "coherence --ratios f",
            "coherence --svg f",
            "coherence --subject a",
        ];
        let nonsense = ["", "l7", "l1 --rounds 0", "l1 --rounds", "l1 --threads 1,x", "l1 --fast"];
        for line in nonsense.into_iter().chain(other_commands) {
            assert!(matches!(parse(line), Err(Error::Usage(_))), "{line}");
        }
        assert!(parse("l1 --work a").unwrap().check_names(&["b"], &[]).is_err());
    }
}
