//! Failover: the protocol holds in every scope, and each naive variant breaks.

use spec::check::{breaks, holds};
use spec::failover::{Failover, Mutant};

#[test]
fn l2_over_two_promotions() {
    for versioned in [false, true] {
        holds("failover l2", &Failover { versioned, promotions: 2, ..Failover::new(2, 2) });
    }
    holds("failover l2, forgotten keys", &Failover { promotions: 2, forget: true, evict: 1, ..Failover::new(2, 1) });
}

#[test]
fn l1_over_a_promotion() {
    holds("failover l1", &Failover { reader: true, ..Failover::new(1, 1) });
    holds("failover l1, twice", &Failover { reader: true, ahead: true, promotions: 2, ..Failover::new(1, 0) });
    holds("failover l1, forgotten keys", &Failover { reader: true, lose: true, forget: true, ..Failover::new(1, 0) });
}

#[test]
fn l1_with_forgotten_keys_and_evicted_meta_keys() {
    let scope = Failover { reader: true, promotions: 0, forget: true, evict: 1, ..Failover::new(1, 1) };
    holds("generations", &scope);
}

/// One test a mutant: the scope in which it breaks, what it breaks, and in how many steps.
macro_rules! mutants {
    ($($name:ident: $mutant:ident, $writes:literal, $loads:literal, { $($field:ident: $value:expr),* }, $broken:literal, $steps:literal;)*) => {$(
        #[test]
        fn $name() {
            let scope = Failover::new($writes, $loads);
            breaks(stringify!($mutant), &Failover { mutant: Some(Mutant::$mutant), $($field: $value,)* ..scope }, $broken, $steps);
        }
    )*};
}

mutants! {
    no_replay: NoReplay, 1, 1, {}, "I1 for good", 3;
    no_history: NoHistory, 1, 0, { reader: true, lose: true }, "I3: what", 13;
    duplicates_ignored: DuplicatesIgnored, 1, 0, { reader: true }, "I2:", 8;
    a_history_in_polls_only: HistoryInPollsOnly, 1, 0, { reader: true, lose: true }, "I3: what", 16;
    a_history_that_returns: HistoryReturns, 1, 0, { reader: true, ahead: true, promotions: 2 }, "I3: what", 12;
    overflow_to_an_incarnation: OverflowToIncarnation, 1, 0, { promotions: 0, forget: true }, "I1:", 2;
    generations_from_zero: GenerationFromZero, 1, 0, { promotions: 0, forget: true, evict: 1 }, "I1:", 3;
    a_generation_that_is_not_verified: GenerationUnverified, 1, 0, { promotions: 0, forget: true, reader: true }, "I1 within B", 4;
    a_value_of_a_polled_generation_good_from_its_ticket: GoodFromTicket, 1, 0, { promotions: 0, forget: true, reader: true }, "I3: what", 10;
}
