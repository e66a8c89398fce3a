//! Runs the checker: all states of a sound model, or the shortest way to break an unsound one.

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// What a model must be for the checker.
pub trait Checkable: Model<State: Hash + Clone + PartialEq + Debug + Send + Sync, Action: Clone + PartialEq + Debug> {}

impl<M: Model<State: Hash + Clone + PartialEq + Debug + Send + Sync, Action: Clone + PartialEq + Debug>> Checkable for M {}

/// Visits every state; returns how many there are.
///
/// # Panics
/// If a property that must always hold does not (with the shortest way there), or if one that must hold sometimes never does.
pub fn holds<M: Checkable + Clone + Send + Sync + 'static>(name: &str, model: &M) -> usize {
    let began = Instant::now();
    let checker = model.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let found = checker.discoveries();
    for property in model.properties() {
        match property.expectation {
            Expectation::Sometimes => assert!(found.contains_key(property.name), "{name}: never: {}", property.name),
            _ if found.contains_key(property.name) => {
                panic!("{name}: broken: {}\n{}", property.name, listed(&shortest(model, property.name).unwrap_or_default()));
            }
            _ => {}
        }
    }
    let (states, seconds) = (checker.unique_state_count(), began.elapsed().as_secs_f32());
    println!("{name}: {states} states, none breaks a property ({seconds:.1} s)");
    states
}

/// Asserts that the property whose name begins so breaks, and that the shortest way to break it has so many steps; prints it.
/// The length is asserted because a counter-example that grows or shrinks means that the model has changed its meaning.
///
/// # Panics
/// If nothing breaks the property, or in more or fewer steps.
pub fn breaks<M: Checkable + Clone + Send + Sync + 'static>(name: &str, model: &M, broken: &str, steps: usize) {
    let property = model.properties().into_iter().map(|property| property.name).find(|name| name.starts_with(broken));
    let property = property.unwrap_or_else(|| panic!("{name}: no property {broken}"));
    let Some(trace) = shortest(model, property) else { panic!("{name}: nothing breaks \"{property}\"") };
    println!("{name}: {} steps break \"{property}\"\n{}", trace.len(), listed(&trace));
    assert_eq!(trace.len(), steps, "{name}: the length of the counter-example has changed");
}

/// The shortest way to break a property.
fn shortest<M: Checkable + Clone + Send + Sync + 'static>(model: &M, property: &'static str) -> Option<Vec<M::Action>> {
    let mut best: Option<Vec<M::Action>> = None;
    loop {
        // One thread goes by depth; but it looks for discoveries only once in 1,500 states, and a later one replaces the first. So
        // ask again for a shorter one until there is none. A path of n actions is at depth n + 1, and the limit itself is left out.
        let until = HasDiscoveries::AnyOf([property].into());
        let mut checker = model.clone().checker().finish_when(until);
        if let Some(trace) = &best {
            checker = checker.target_max_depth(trace.len() + 1);
        }
        match checker.spawn_bfs().join().discoveries().remove(property) {
            Some(shorter) => best = Some(shorter.into_actions()),
            None => return best,
        }
    }
}

fn listed<A: Debug>(trace: &[A]) -> String {
    let line = |(at, action): (usize, &A)| format!("  {:2} {action:?}", at + 1);
    trace.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}
