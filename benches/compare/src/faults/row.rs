//! What the trials of one subject tell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::remote::Verb;
use crate::report::rounded;

use super::fault::Fault;
use super::trial::{Call, Keys, Outcome, Trial};

/// One subject through one fault, once or in all rounds together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) subject: String,
    pub(crate) keys: Keys,
    /// Calls that began during the fault, and how they ended. The sum of the rounds, as all numbers of calls here.
    pub(crate) ok: usize,
    pub(crate) failed: usize,
    /// Of each verb, from the fault on, to the trial's end. The worst of the rounds, as all times here.
    pub(crate) slowest_ms: BTreeMap<Verb, f64>,
    /// From the heal, or from the fault where nothing heals it, to the end of the first good call that began after it. None where there was
    /// no such call of one of the verbs, in one of the rounds.
    pub(crate) recovery_ms: Option<f64>,
    /// From the same moment to the end of the last failed call; zero where none failed.
    pub(crate) last_failure_ms: f64,
    /// Answered with another key's value, at any time.
    pub(crate) wrong: usize,
    /// Calls that never ended.
    pub(crate) hung: usize,
    /// The most that the process grew by, from the fault on, to the trial's end. The worst of the rounds; None where the system does not tell.
    pub(crate) growth_mib: Option<f64>,
}

impl Row {
    /// A row for each kind of keys that the trial's calls had.
    pub(crate) fn all(fault: Fault, subject: &str, trial: &Trial) -> Vec<Self> {
        let kinds: &[Keys] = if fault.is_of_cluster() { &[Keys::Victims, Keys::Others] } else { &[Keys::All] };
        kinds.iter().map(|keys| Self::of(fault, subject, *keys, trial)).collect()
    }

    fn of(fault: Fault, subject: &str, keys: Keys, trial: &Trial) -> Self {
        let calls: Vec<&Call> = trial.calls.iter().filter(|call| call.keys == keys).collect();
        let count = |is: &dyn Fn(&Call) -> bool| calls.iter().filter(|call| is(call)).count();
        let (from, to) = (trial.broken.from, trial.broken.to);
        let during = |call: &Call, outcome| call.outcome == outcome && from <= call.began && call.began < to;
        let since = if fault.is_for_ever() { from } else { to };
        let millis = |until: Instant| in_ms(until.saturating_duration_since(since));

        let mut slowest_ms = BTreeMap::new();
        let mut first_good: BTreeMap<Verb, Option<Instant>> = BTreeMap::new();
        for call in &calls {
            // What only the origin answers has no bearing on when Redis is back.
            if call.outcome != Outcome::Loaded {
                first_good.entry(call.verb).or_default();
            }
            if call.outcome == Outcome::Answered && call.began >= since {
                let first = first_good.entry(call.verb).or_default();
                *first = Some(first.map_or(call.ended, |first| first.min(call.ended)));
            }
            if call.ended >= from {
                let slowest = slowest_ms.entry(call.verb).or_insert(0.0);
                *slowest = in_ms(call.ended - call.began).max(*slowest);
            }
        }
        let first_good: Option<Vec<Instant>> = first_good.into_values().collect();
        let last_bad = calls.iter().filter(|call| call.outcome == Outcome::Failed).map(|call| call.ended).max();
        Self {
            fault: fault.name().into(),
            subject: subject.into(),
            keys,
            ok: count(&|call| during(call, Outcome::Answered) || during(call, Outcome::Loaded)),
            failed: count(&|call| during(call, Outcome::Failed)),
            slowest_ms,
            recovery_ms: first_good.and_then(|first| first.into_iter().min()).map(millis),
            last_failure_ms: last_bad.map_or(0.0, millis),
            wrong: count(&|call| call.outcome == Outcome::Wrong),
            hung: trial.hung.iter().filter(|hung| **hung == keys).count(),
            growth_mib: trial.growth.map(in_mib),
        }
    }

    /// This and another round together.
    pub(crate) fn with(mut self, other: Self) -> Self {
        for (verb, slowest) in other.slowest_ms {
            let worst = self.slowest_ms.entry(verb).or_insert(0.0);
            *worst = worst.max(slowest);
        }
        let worse = |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one.max(other));
        Self {
            ok: self.ok + other.ok,
            failed: self.failed + other.failed,
            recovery_ms: worse(self.recovery_ms, other.recovery_ms),
            last_failure_ms: self.last_failure_ms.max(other.last_failure_ms),
            wrong: self.wrong + other.wrong,
            hung: self.hung + other.hung,
            growth_mib: worse(self.growth_mib, other.growth_mib),
            ..self
        }
    }

    /// The verb that took longest, and how long.
    fn slowest(&self) -> Option<(Verb, f64)> {
        self.slowest_ms.iter().map(|(verb, slowest)| (*verb, *slowest)).max_by(|one, other| one.1.total_cmp(&other.1))
    }
}

fn in_ms(duration: Duration) -> f64 {
    rounded(1_000.0 * duration.as_secs_f64(), 1)
}

pub(crate) fn in_mib(bytes: u64) -> f64 {
    rounded(bytes as f64 / f64::from(1 << 20), 1)
}

/// The table of one fault.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "  {:<18}{:<9}{:>6}{:>8}{:>12}  {:<10}{:>13}{:>17}{:>7}{:>6}{:>8}",
        "subject", "keys", "ok", "failed", "slowest ms", "of", "recovery ms", "last failure ms", "wrong", "hung", "+MiB"
    );
    for row in rows {
        let keys = format!("{:?}", row.keys).to_lowercase();
        let tenths = |figure: f64| format!("{figure:.1}");
        let recovery = row.recovery_ms.map_or_else(|| "never".into(), tenths);
        let growth = row.growth_mib.map_or_else(|| "-".into(), tenths);
        let (verb, slowest) = row.slowest().map_or(("", 0.0), |(verb, slowest)| (verb.name(), slowest));
        print!("  {:<18}{keys:<9}{:>6}{:>8}{slowest:>12.1}  {verb:<10}{recovery:>13}", row.subject, row.ok, row.failed);
        println!("{:>17.1}{:>7}{:>6}{growth:>8}", row.last_failure_ms, row.wrong, row.hung);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::bed::Broken;
    use crate::remote::Verb::{Fill, Get};

    /// A trial that broke at 100 ms and healed at 200 ms, of calls by their verb, begin, end and outcome.
    fn trial(calls: &[(Verb, u64, u64, Outcome)]) -> Trial {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let call = |(verb, began, ended, outcome): &(Verb, u64, u64, Outcome)| Call {
            keys: Keys::All,
            verb: *verb,
            began: at(*began),
            ended: at(*ended),
            outcome: *outcome,
        };
        let broken = Broken { from: at(100), to: at(200) };
        Trial { calls: calls.iter().map(call).collect(), hung: Vec::new(), broken, growth: Some(3 << 20) }
    }

    fn row(fault: Fault, trial: &Trial) -> Row {
        Row::all(fault, "x", trial).remove(0)
    }

    #[test]
    fn calls_are_of_the_fault_they_began_in_and_recovery_is_of_calls_that_began_after_it() {
        use Outcome::{Answered, Failed};
        let calls = [(10, 99, Answered), (90, 150, Failed), (110, 160, Failed), (150, 210, Answered), (205, 230, Answered)];
        let row = row(Fault::Stopped, &trial(&calls.map(|(began, ended, outcome)| (Get, began, ended, outcome))));
        assert_eq!((row.ok, row.failed, row.recovery_ms, row.last_failure_ms), (1, 1, Some(30.0), 0.0));
        // What ended before the fault is not its doing.
        assert_eq!(row.slowest_ms, BTreeMap::from([(Get, 60.0)]));
    }

    #[test]
    fn what_never_heals_is_measured_from_the_fault_on() {
        use Outcome::{Answered, Failed};
        let calls = [(Get, 99, 101, Answered), (Get, 110, 160, Failed), (Get, 161, 162, Answered)];
        let row = row(Fault::Dead, &trial(&calls));
        assert_eq!((row.recovery_ms, row.last_failure_ms), (Some(62.0), 60.0));
    }

    #[test]
    fn each_verb_has_a_slowest_call_and_has_to_come_back() {
        use Outcome::{Answered, Failed};
        let calls = [(Get, 110, 160, Failed), (Fill, 120, 175, Failed), (Get, 205, 206, Answered), (Fill, 210, 215, Answered)];
        let well = row(Fault::Stopped, &trial(&calls));
        assert_eq!((well.slowest_ms, well.recovery_ms), (BTreeMap::from([(Get, 50.0), (Fill, 55.0)]), Some(6.0)));
        assert_eq!(row(Fault::Stopped, &trial(&calls[..3])).recovery_ms, None);
    }

    #[test]
    fn an_answer_of_the_origin_is_good_but_no_recovery() {
        use Outcome::{Answered, Loaded};
        let calls = [(Get, 90, 95, Answered), (Fill, 90, 99, Loaded), (Get, 110, 160, Loaded), (Get, 205, 206, Loaded)];
        let back = [calls.as_slice(), &[(Get, 215, 220, Answered)]].concat();
        let [away, back] = [calls.as_slice(), &back].map(|calls| row(Fault::Stopped, &trial(calls)));
        assert_eq!((away.ok, away.failed, away.recovery_ms), (1, 0, None));
        assert_eq!(back.recovery_ms, Some(20.0));
    }

    #[test]
    fn numbers_add_up_over_the_rounds_and_the_worst_stays() {
        use Outcome::{Answered, Wrong};
        let mut second = trial(&[(Get, 150, 151, Answered), (Get, 200, 290, Answered), (Get, 300, 301, Wrong)]);
        second.hung = vec![Keys::All, Keys::Others];
        second.growth = Some(7 << 20);
        let [first, second] = [&trial(&[(Get, 200, 203, Answered)]), &second].map(|trial| row(Fault::Killed, trial));
        let row = first.with(second);
        assert_eq!((row.ok, row.wrong, row.hung, row.recovery_ms), (1, 1, 1, Some(90.0)));
        assert_eq!((row.slowest_ms, row.growth_mib), (BTreeMap::from([(Get, 90.0)]), Some(7.0)));
    }

    #[test]
    fn one_round_without_a_recovery_is_none() {
        let [well, ill] =
            [Outcome::Answered, Outcome::Failed].map(|outcome| row(Fault::Stalled, &trial(&[(Get, 200, 203, outcome)])));
        assert_eq!(well.with(ill).recovery_ms, None);
    }

    #[test]
    fn a_row_comes_out_of_a_child_as_it_went_in() {
        let row = row(Fault::Stalled, &trial(&[(Fill, 200, 203, Outcome::Answered)]));
        assert_eq!(serde_json::from_str::<Row>(&serde_json::to_string(&row).unwrap()).unwrap(), row);
    }
}
