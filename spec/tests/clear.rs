//! A clear as it is built: the protocol holds in every scope, and each naive variant breaks.

use spec::check::{breaks, holds};
use spec::clear::{Clear, Mutant, Reader};

const OWN: Option<Reader> = Some(Reader::Own(0));
const OTHER: Option<Reader> = Some(Reader::Other(0));

#[test]
fn l2_with_loads() {
    holds("clear l2", &Clear { fails: 2, evict: 1, ..Clear::new(&[0, 1]) });
    holds("clear l2, one after the other", &Clear { fails: 1, ..Clear::new(&[0, 0, 1]) });
}

#[test]
fn l2_over_promotions() {
    for key in [0, 1] {
        holds("clear l2, a promotion", &Clear { promotions: 1, pass_by: true, fails: 1, ..Clear::new(&[key]) });
    }
    holds("clear l2, nobody polled", &Clear { promotions: 1, pass_by: true, fails: 1, cold: true, ..Clear::new(&[]) });
    holds("clear l2, two promotions", &Clear { promotions: 2, pass_by: true, fails: 1, forget: true, ..Clear::new(&[]) });
}

#[test]
fn the_node_that_clears() {
    for key in [0, 1] {
        holds("clear own", &Clear { fails: 1, lose: true, reader: Some(Reader::Own(key)), ..Clear::new(&[]) });
    }
    holds("clear own, a promotion and a failure", &Clear { promotions: 1, fails: 1, reader: OWN, ..Clear::new(&[]) });
}

#[test]
fn without_a_failure_the_block_makes_no_difference() {
    holds("clear own, blocked late", &Clear { reader: OWN, mutant: Some(Mutant::BlockAfterRemoval), ..Clear::new(&[]) });
}

#[test]
fn another_node() {
    for key in [0, 1] {
        holds("clear other", &Clear { fails: 1, lose: true, reader: Some(Reader::Other(key)), ..Clear::new(&[]) });
    }
    holds("clear other, a promotion", &Clear { promotions: 1, reader: OTHER, ..Clear::new(&[]) });
}

/// One test a mutant: the scope in which it breaks, what it breaks, and in how many steps.
macro_rules! mutants {
    ($($name:ident: $mutant:ident, $loads:expr, { $($field:ident: $value:expr),* }, $broken:literal, $steps:literal;)*) => {$(
        #[test]
        fn $name() {
            let scope = Clear::new(&$loads);
            breaks(stringify!($mutant), &Clear { mutant: Some(Mutant::$mutant), $($field: $value,)* ..scope }, $broken, $steps);
        }
    )*};
}

mutants! {
    messages_before_the_scan: MessagesFirst, [], { reader: OTHER }, "I3:", 17;
    leases_left_alone: LeasesSpared, [0], {}, "I1:", 12;
    own_l1_removed_only_before: OwnRemovedOnlyBefore, [], { reader: OWN }, "I2:", 10;
    no_messages: NoMessages, [], { reader: OTHER }, "I3:", 14;
    ok_though_a_master_was_not_scanned: OkThoughUnscanned, [], { fails: 1 }, "I1:", 9;
    ok_though_a_partition_was_not_told: OkThoughUntold, [], { fails: 1, reader: OTHER }, "I3:", 16;
    an_error_that_lifts_the_block: ErrorUnblocks, [], { fails: 1, reader: OWN }, "I2:", 9;
    a_block_after_the_second_removal: BlockAfterRemoval, [], { fails: 1, reader: OWN }, "I2:", 9;
    no_replay: NoReplay, [], { promotions: 1 }, "I1 for good", 12;
    a_replay_of_messages_only: ReplayTellsOnly, [], { promotions: 1 }, "I1 for good", 16;
    a_replay_of_the_scan_only: ReplayScansOnly, [], { promotions: 1, reader: OTHER }, "I3:", 18;
    an_owed_clear_of_the_masters_that_failed: RecoveryOfTheRest, [], { promotions: 1, fails: 1 }, "I1 for good", 16;
    a_failover_judged_by_messages: JudgedByReceipts, [], { promotions: 1 }, "I1 for good", 12;
    a_replay_that_is_not_judged: ReplayUnjudged, [], { promotions: 2, forget: true }, "I1 for good", 22;
    a_first_poll_that_tells_of_no_other_server: FirstIsNoOther, [], { promotions: 1, cold: true }, "I1 for good", 20;
}
