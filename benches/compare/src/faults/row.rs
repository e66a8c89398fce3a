//! What the trials of one client tell.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::report::rounded;

use super::fault::Fault;
use super::trial::{Call, Keys, Outcome, Trial};

/// One client through one fault, all rounds together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) keys: Keys,
    /// Calls that began during the fault, and how they ended. The sum of the rounds, as all numbers of calls here.
    pub(crate) ok: usize,
    pub(crate) failed: usize,
    /// From the fault on, to the trial's end. The worst of the rounds, as all times here.
    pub(crate) slowest_ms: f64,
    /// From the heal, or from the fault where nothing heals it, to the end of the first good call that began after it. None where there was
    /// no such call in one of the rounds.
    pub(crate) recovery_ms: Option<f64>,
    /// From the same moment to the end of the last failed call; zero where none failed.
    pub(crate) last_failure_ms: f64,
    /// Answered with another key's value, at any time.
    pub(crate) wrong: usize,
    /// Calls that never ended.
    pub(crate) hung: usize,
}

impl Row {
    /// A row for each kind of keys that the trials' calls had.
    pub(crate) fn all(fault: Fault, subject: &'static str, trials: &[Trial]) -> Vec<Self> {
        let kinds: &[Keys] = if fault.is_of_cluster() { &[Keys::Victims, Keys::Others] } else { &[Keys::All] };
        kinds.iter().map(|keys| Self::of(fault, subject, *keys, trials)).collect()
    }

    fn of(fault: Fault, subject: &'static str, keys: Keys, trials: &[Trial]) -> Self {
        let none = Self {
            fault: fault.name(),
            subject,
            keys,
            ok: 0,
            failed: 0,
            slowest_ms: 0.0,
            recovery_ms: Some(0.0),
            last_failure_ms: 0.0,
            wrong: 0,
            hung: 0,
        };
        trials.iter().fold(none, |row, trial| row.with(trial, fault.is_for_ever()))
    }

    fn with(self, trial: &Trial, for_ever: bool) -> Self {
        let calls: Vec<&Call> = trial.calls.iter().filter(|call| call.keys == self.keys).collect();
        let count = |is: &dyn Fn(&Call) -> bool| calls.iter().filter(|call| is(call)).count();
        let (from, to) = (trial.broken.from, trial.broken.to);
        let during = |call: &Call, outcome| call.outcome == outcome && from <= call.began && call.began < to;
        let since = if for_ever { from } else { to };
        let after = |outcome| calls.iter().filter(move |call| call.outcome == outcome && call.ended >= since);
        let first_good = after(Outcome::Answered).filter(|call| call.began >= since).map(|call| call.ended).min();
        let last_bad = after(Outcome::Failed).map(|call| call.ended).max();
        let slowest = calls.iter().filter(|call| call.ended >= from).map(|call| call.ended - call.began).max();
        let millis = |until: Instant| in_ms(until.saturating_duration_since(since));
        Self {
            ok: self.ok + count(&|call| during(call, Outcome::Answered)),
            failed: self.failed + count(&|call| during(call, Outcome::Failed)),
            slowest_ms: self.slowest_ms.max(slowest.map_or(0.0, in_ms)),
            recovery_ms: self.recovery_ms.zip(first_good).map(|(worst, first)| worst.max(millis(first))),
            last_failure_ms: self.last_failure_ms.max(last_bad.map_or(0.0, millis)),
            wrong: self.wrong + count(&|call| call.outcome == Outcome::Wrong),
            hung: self.hung + trial.hung.iter().filter(|keys| **keys == self.keys).count(),
            ..self
        }
    }
}

fn in_ms(duration: Duration) -> f64 {
    rounded(1_000.0 * duration.as_secs_f64(), 1)
}

/// The table of one fault.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "  {:<12}{:<9}{:>8}{:>8}{:>12}{:>13}{:>17}{:>7}{:>6}",
        "subject", "keys", "ok", "failed", "slowest ms", "recovery ms", "last failure ms", "wrong", "hung"
    );
    for row in rows {
        let keys = format!("{:?}", row.keys).to_lowercase();
        let recovery = row.recovery_ms.map_or_else(|| "never".into(), |recovery| format!("{recovery:.1}"));
        print!("  {:<12}{keys:<9}{:>8}{:>8}{:>12.1}", row.subject, row.ok, row.failed, row.slowest_ms);
        println!("{recovery:>13}{:>17.1}{:>7}{:>6}", row.last_failure_ms, row.wrong, row.hung);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::bed::Broken;

    /// A trial that broke at 100 ms and healed at 200 ms, of calls by their begin, end and outcome.
    fn trial(calls: &[(u64, u64, Outcome)]) -> Trial {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let call = |(began, ended, outcome): &(u64, u64, Outcome)| Call {
            keys: Keys::All,
            began: at(*began),
            ended: at(*ended),
            outcome: *outcome,
        };
        Trial { calls: calls.iter().map(call).collect(), hung: Vec::new(), broken: Broken { from: at(100), to: at(200) } }
    }

    fn row(fault: Fault, trials: &[Trial]) -> Row {
        Row::all(fault, "x", trials).remove(0)
    }

    #[test]
    fn calls_are_of_the_fault_they_began_in_and_recovery_is_of_calls_that_began_after_it() {
        use Outcome::{Answered, Failed};
        let trial =
            trial(&[(10, 99, Answered), (90, 150, Failed), (110, 160, Failed), (150, 210, Answered), (205, 230, Answered)]);
        let row = row(Fault::Stopped, &[trial]);
        assert_eq!((row.ok, row.failed, row.recovery_ms, row.last_failure_ms), (1, 1, Some(30.0), 0.0));
        // What ended before the fault is not its doing.
        assert!((row.slowest_ms - 60.0).abs() < 1e-9);
    }

    #[test]
    fn what_never_heals_is_measured_from_the_fault_on() {
        use Outcome::{Answered, Failed};
        let calls = [(99, 101, Answered), (110, 160, Failed), (161, 162, Answered)];
        let row = row(Fault::Dead, &[trial(&calls)]);
        assert_eq!((row.recovery_ms, row.last_failure_ms), (Some(62.0), 60.0));
    }

    #[test]
    fn numbers_add_up_over_the_rounds_and_the_worst_time_stays() {
        use Outcome::{Answered, Wrong};
        let mut second = trial(&[(150, 151, Answered), (200, 290, Answered), (300, 301, Wrong)]);
        second.hung = vec![Keys::All, Keys::Others];
        let row = row(Fault::Killed, &[trial(&[(150, 151, Answered), (200, 203, Answered)]), second]);
        assert_eq!((row.ok, row.wrong, row.hung, row.recovery_ms), (2, 1, 1, Some(90.0)));
    }

    #[test]
    fn one_round_without_a_recovery_is_none() {
        let (well, ill) = (trial(&[(200, 203, Outcome::Answered)]), trial(&[(200, 203, Outcome::Failed)]));
        assert_eq!(row(Fault::Stalled, &[well, ill]).recovery_ms, None);
    }
}
