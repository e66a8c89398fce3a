//! The circuit against a plain model of it.

use crate::clock::{Clock, ManualClock, Moment};
use crate::layers::circuit::{BreakerRules, BreakerState, Circuit, Permit, Verdict};
use proptest::prelude::*;
use std::time::Duration;

const WINDOW: usize = 6;
const FAILURES: usize = 4;
const IN_A_ROW: usize = 3;
const PROBES: usize = 2;
const OPEN_FOR: Duration = Duration::from_millis(100);

fn rules() -> BreakerRules {
    BreakerRules::default().failures(FAILURES, WINDOW).in_a_row(IN_A_ROW as u32).open_for(OPEN_FOR).probes(PROBES as u32)
}

fn circuit(clock: Clock) -> Circuit {
    Circuit::new(rules(), clock, ("tier", "reads"))
}

/// What the documentation says, with lists instead of counts.
struct Model {
    state: BreakerState,
    era: usize,
    /// Of a closed circuit since it closed: `true` for a failure.
    history: Vec<bool>,
    until: Moment,
    /// Of a half-open circuit.
    probing: usize,
    succeeded: usize,
}

impl Model {
    fn new() -> Self {
        Self { state: BreakerState::Closed, era: 0, history: Vec::new(), until: Moment::default(), probing: 0, succeeded: 0 }
    }

    fn turn(&mut self, state: BreakerState) {
        *self = Self { state, era: self.era + 1, until: self.until, ..Self::new() };
    }

    fn admit(&mut self, now: Moment) -> Option<usize> {
        if self.state == BreakerState::Open && now >= self.until {
            self.turn(BreakerState::HalfOpen);
        }
        let admitted = match self.state {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => self.probing + self.succeeded < PROBES,
        };
        self.probing += usize::from(admitted);
        admitted.then_some(self.era)
    }

    fn settle(&mut self, era: usize, verdict: Verdict) {
        if era != self.era {
            return;
        }
        self.probing -= 1;
        match (self.state, verdict) {
            (_, Verdict::Neither) => {}
            (BreakerState::Closed, _) => {
                self.history.push(verdict == Verdict::Failure);
                let last = |n: usize| self.history.iter().rev().take(n).filter(|failed| **failed).count();
                if last(WINDOW) >= FAILURES || last(IN_A_ROW) >= IN_A_ROW {
                    self.turn(BreakerState::Open);
                }
            }
            (_, Verdict::Failure) => self.turn(BreakerState::Open),
            (_, Verdict::Success) => {
                self.succeeded += 1;
                if self.succeeded == PROBES {
                    self.turn(BreakerState::Closed);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Admit,
    /// Ends one of the calls under way.
    End(usize, Verdict),
    Advance(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![2 => Just(Verdict::Success), 4 => Just(Verdict::Failure), 1 => Just(Verdict::Neither)];
    let step = prop_oneof![
        5 => Just(Step::Admit),
        5 => (any::<usize>(), verdict).prop_map(|(at, verdict)| Step::End(at, verdict)),
        1 => (0_u64..120).prop_map(Step::Advance),
    ];
    proptest::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn a_circuit_does_what_its_model_does(steps in steps()) {
        let hands = ManualClock::new();
        let clock = hands.clock();
        let circuit = circuit(clock.clone());
        let mut model = Model::new();
        let mut under_way: Vec<(Permit<'_>, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Admit => {
                    let (permit, era) = (circuit.admit(), model.admit(clock.now()));
                    prop_assert_eq!(permit.is_some(), era.is_some());
                    under_way.extend(permit.zip(era));
                }
                Step::End(at, verdict) if !under_way.is_empty() => {
                    let (permit, era) = under_way.swap_remove(at % under_way.len());
                    // A call without a verdict is one that was dropped.
                    if verdict == Verdict::Neither { drop(permit) } else { permit.settle(verdict) }
                    model.settle(era, verdict);
                }
                Step::End(..) => {}
                Step::Advance(ms) => hands.advance(Duration::from_millis(ms)),
            }
            prop_assert_eq!(circuit.stats().state, model.state);
            if let Some(until) = circuit.open_until() && until != model.until {
                // How long exactly is random: the model is told, once it has been checked.
                let left = until.since(clock.now());
                prop_assert!(left >= OPEN_FOR / 2 && left <= OPEN_FOR, "{:?}", left);
                model.until = until;
            }
        }
    }
}

fn fail(circuit: &Circuit, times: usize) {
    for _ in 0..times {
        circuit.admit().expect("it is closed").settle(Verdict::Failure);
    }
}

#[test]
fn more_failures_than_the_window_has_calls_are_all_of_them() {
    let rules = BreakerRules::default().failures(200, 100).in_a_row(u32::MAX);
    let circuit = Circuit::new(rules, ManualClock::new().clock(), ("tier", "reads"));
    fail(&circuit, 99);
    assert_eq!(circuit.stats().state, BreakerState::Closed);
    fail(&circuit, 1);
    assert_eq!(circuit.stats().state, BreakerState::Open);
}

#[test]
fn circuits_that_opened_together_do_not_close_together() {
    let clock = ManualClock::new().clock();
    let times: std::collections::HashSet<Moment> = (0..20)
        .map(|_| {
            let circuit = circuit(clock.clone());
            fail(&circuit, IN_A_ROW);
            circuit.open_until().expect("it is open")
        })
        .collect();
    assert!(times.len() > 10);
}

#[test]
fn calls_that_were_sent_before_it_opened_say_nothing_about_the_probes() {
    let hands = ManualClock::new();
    let circuit = circuit(hands.clock());
    let (early, late) = (circuit.admit().unwrap(), circuit.admit().unwrap());
    fail(&circuit, IN_A_ROW);
    early.settle(Verdict::Success);
    hands.advance(OPEN_FOR);
    let probe = circuit.admit().expect("a probe");
    assert_eq!(circuit.stats().state, BreakerState::HalfOpen);
    late.settle(Verdict::Failure);
    assert_eq!(circuit.stats().state, BreakerState::HalfOpen);
    probe.settle(Verdict::Success);
    circuit.admit().expect("another probe").settle(Verdict::Success);
    assert_eq!(circuit.stats().state, BreakerState::Closed);
}

#[test]
fn it_counts_what_it_did() {
    let hands = ManualClock::new();
    let circuit = circuit(hands.clock());
    fail(&circuit, IN_A_ROW - 1);
    assert_eq!((circuit.stats().recent_failures, circuit.stats().opened), (IN_A_ROW - 1, 0));
    fail(&circuit, 1);
    assert!(circuit.admit().is_none() && circuit.admit().is_none());
    assert_eq!((circuit.stats().opened, circuit.stats().refused), (1, 2));
    hands.advance(OPEN_FOR);
    circuit.admit().expect("a probe").settle(Verdict::Failure);
    assert_eq!((circuit.stats().opened, circuit.stats().state), (2, BreakerState::Open));
}

#[test]
fn many_threads_leave_no_probe_behind() {
    let hands = ManualClock::new();
    let circuit = circuit(hands.clock());
    fail(&circuit, IN_A_ROW);
    hands.advance(OPEN_FOR);
    // Whatever they do, only dropped permits and successes: at the end both probes must have been possible.
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let circuit = &circuit;
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for _ in 0..2_000 {
                    if let Some(permit) = circuit.admit()
                        && rng.u8(..) == 0
                    {
                        permit.settle(Verdict::Success);
                    }
                }
            });
        }
    });
    for _ in 0..PROBES {
        if circuit.stats().state == BreakerState::HalfOpen {
            circuit.admit().expect("a place that was given back").settle(Verdict::Success);
        }
    }
    assert_eq!(circuit.stats().state, BreakerState::Closed);
}
