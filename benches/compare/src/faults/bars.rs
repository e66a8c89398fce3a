//! What callers of the Redis tier, and of a whole cache over it, may see at worst.

use super::OURS;
use super::breaker::Breaker;
use super::fault::Fault;
use super::roster::{STACK, TIMEOUT};
use super::row::Row;
use super::trial::Keys;

/// A call may end so much later than its timeout.
const MARGIN_MS: f64 = 10.0;
/// From the heal to the first good call.
const RECOVERY_MS: f64 = 300.0;
/// From the fault to the first good call, where new connections work all the time.
const REPLACEMENT_MS: f64 = 150.0;
/// What a read may take while the breaker is open.
const OPEN_MS: f64 = 1.0;
/// What the process may grow by: the 64 MiB that may wait for one server's socket, and half as much for what the calls themselves hold, which are
/// those of one timeout, and for buffers that are copied when they grow.
const MOST_MIB: f64 = 96.0;

/// A line for each bar of each fault that we went through.
pub(crate) fn judge(rows: &[Row]) -> Vec<String> {
    rows.iter().filter(|row| [OURS, STACK].contains(&&*row.subject)).flat_map(of_row).collect()
}

fn of_row(row: &Row) -> Vec<String> {
    let worst = row.slowest_ms.values().copied().fold(0.0, f64::max);
    if row.fault == Breaker::Probing.name() {
        return Vec::new();
    }
    if row.fault == Breaker::Open.name() {
        let read = format!("slowest read {worst:.3} ms, under {OPEN_MS:.0}: {}", verdict(worst < OPEN_MS));
        return [read, growth(row)].map(|line| format!("{}: {line}", row.fault)).into();
    }
    let most = TIMEOUT.as_secs_f64() * 1_000.0 + MARGIN_MS;
    let slowest: Vec<_> = row.slowest_ms.iter().map(|(verb, slowest)| format!("{} {slowest:.1}", verb.name())).collect();
    let mut lines = vec![format!("slowest {} ms, each at most {most:.0}: {}", slowest.join(", "), verdict(worst <= most))];
    if row.keys == Keys::Others {
        lines.push(format!("{} calls failed, bar none: {}", row.failed, verdict(row.failed == 0)));
    } else {
        let most = if row.fault == Fault::Dead.name() { REPLACEMENT_MS } else { RECOVERY_MS };
        let took = row.recovery_ms.map_or_else(|| "none".into(), |took| format!("{took:.1} ms"));
        let met = row.recovery_ms.is_some_and(|took| took <= most);
        lines.push(format!("recovery {took}, at most {most:.0}: {}", verdict(met)));
    }
    if row.subject == STACK {
        let met = row.failed == 0 && row.last_failure_ms <= 0.0;
        let when = if row.last_failure_ms > 0.0 { ", some after the fault" } else { "" };
        lines.push(format!("{} loads failed{when}, bar none: {}", row.failed, verdict(met)));
    }
    let (wrong, hung) = (row.wrong, row.hung);
    lines.push(format!("{wrong} wrong values and {hung} calls that hang, bar none: {}", verdict(wrong + hung == 0)));
    lines.push(growth(row));
    let keys = match row.keys {
        Keys::All => "",
        Keys::Victims => ", keys of the dead master",
        Keys::Others => ", keys of the others",
    };
    let whose = if row.subject == STACK { ", the whole cache" } else { "" };
    lines.iter().map(|line| format!("{}{whose}{keys}: {line}", row.fault)).collect()
}

fn growth(row: &Row) -> String {
    row.growth_mib.map_or_else(
        || "memory: this system does not tell".into(),
        |grew| format!("grew by {grew:.1} MiB, at most {MOST_MIB:.0}: {}", verdict(grew <= MOST_MIB)),
    )
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::remote::Verb;

    fn row(fault: Fault, keys: Keys) -> Row {
        Row {
            fault: fault.name().into(),
            subject: OURS.into(),
            keys,
            ok: 1,
            failed: 0,
            slowest_ms: BTreeMap::from([(Verb::Get, 60.0), (Verb::Fill, 59.0)]),
            recovery_ms: Some(150.0),
            last_failure_ms: 0.0,
            wrong: 0,
            hung: 0,
            growth_mib: Some(96.0),
        }
    }

    fn missed(row: Row) -> Vec<String> {
        judge(&[row]).into_iter().filter(|line| line.ends_with("missed")).collect()
    }

    #[test]
    fn what_is_within_all_bars_is_met() {
        assert!(missed(row(Fault::Dead, Keys::All)).is_empty());
        assert!(missed(row(Fault::DeadMaster, Keys::Others)).is_empty());
    }

    #[test]
    fn each_excess_is_missed_by_its_own_line() {
        let dead = |change: fn(&mut Row)| {
            let mut row = row(Fault::Dead, Keys::All);
            change(&mut row);
            missed(row)
        };
        assert_eq!(
            dead(|row| *row.slowest_ms.get_mut(&Verb::Fill).unwrap() = 60.1),
            ["dead-connection: slowest get 60.0, fill 60.1 ms, each at most 60: missed"]
        );
        assert_eq!(dead(|row| row.growth_mib = Some(96.1)), ["dead-connection: grew by 96.1 MiB, at most 96: missed"]);
        assert_eq!(dead(|row| row.recovery_ms = Some(150.1)), ["dead-connection: recovery 150.1 ms, at most 150: missed"]);
        assert_eq!(dead(|row| row.recovery_ms = None), ["dead-connection: recovery none, at most 150: missed"]);
        assert_eq!(dead(|row| row.wrong = 1).len(), 1);
        assert_eq!(dead(|row| row.hung = 1).len(), 1);
        assert!(missed(Row { recovery_ms: Some(299.0), ..row(Fault::Killed, Keys::All) }).is_empty());
    }

    #[test]
    fn keys_of_living_masters_must_not_fail_at_all() {
        let others = Row { failed: 1, recovery_ms: None, ..row(Fault::DeadMaster, Keys::Others) };
        assert_eq!(missed(others), ["dead-master, keys of the others: 1 calls failed, bar none: missed"]);
    }

    #[test]
    fn loads_of_a_whole_cache_must_not_fail_at_any_time() {
        let stack = |failed, last_failure_ms| {
            missed(Row { subject: STACK.into(), failed, last_failure_ms, ..row(Fault::Killed, Keys::All) })
        };
        assert!(stack(0, 0.0).is_empty());
        assert_eq!(stack(1, 0.0), ["killed, the whole cache: 1 loads failed, bar none: missed"]);
        assert_eq!(stack(0, 0.1), ["killed, the whole cache: 0 loads failed, some after the fault, bar none: missed"]);
    }

    #[test]
    fn reads_wait_for_nothing_while_the_breaker_is_open_and_probes_are_only_reported() {
        let slow = |breaker: Breaker| missed(Row { fault: breaker.name().into(), ..row(Fault::Stopped, Keys::All) });
        assert_eq!(slow(Breaker::Open), ["open-breaker: slowest read 60.000 ms, under 1: missed"]);
        assert!(slow(Breaker::Probing).is_empty());
    }

    #[test]
    fn drivers_have_no_bars() {
        assert!(judge(&[Row { subject: "redis".into(), hung: 1, ..row(Fault::Dead, Keys::All) }]).is_empty());
    }
}
