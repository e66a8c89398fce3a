//! Every naive variant of the protocol makes a test fail: each is a switch in the real code (`cache_core`'s feature `mutants`), and this runs the test that
//! guards against it, in a process of its own, once without the switch and once with it.
#![cfg(feature = "mutants")]
#![allow(clippy::duplicate_mod, reason = "the test programs are modules here, each with what it needs")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "coherence/main.rs"]
mod coherence;
#[path = "l1_l2/main.rs"]
mod l1_l2;
#[path = "replicas.rs"]
mod replicas;
#[path = "stampede.rs"]
mod stampede;
mod strict;

/// The variant, and the test that it must not pass.
const MUTANTS: &[(&str, &str)] = &[
    ("FillWithoutLease", "l1_l2::overtaken::a_load_on_one_node_that_began_before_an_invalidation_on_another_is_kept_by_no_tier"),
    ("SetNx", "l1_l2::overtaken::a_load_on_one_node_that_began_before_an_invalidation_on_another_is_kept_by_no_tier"),
    ("TokenPerProcess", "coherence::records::a_value_that_was_leased_again_is_filled_by_its_own_load_alone"),
    ("NoFloor", "l1_l2::versions::a_lagging_replica_cannot_bring_an_older_row_back"),
    ("FloorOverwritten", "coherence::records::an_older_invalidation_that_comes_late_does_not_lower_the_floor"),
    ("NoReplay", "coherence::outages::c6_what_a_failover_has_lost_is_told_again"),
    ("RemovedOnce", "l1_l2::overtaken::what_is_read_from_l2_while_an_invalidation_is_on_its_way_is_gone_when_it_is_done"),
    ("NoPoison", "l1_l2::overtaken::an_answer_of_l2_that_an_invalidation_has_overtaken_is_given_and_not_kept"),
    ("TicketAfterReply", "l1_l2::overtaken::an_answer_of_l2_that_an_invalidation_has_overtaken_is_given_and_not_kept"),
    ("KeptFromReplica", "replicas::c10_a_value_of_a_replica_is_marked_counted_and_never_kept_in_l1"),
    ("GapByMax", "coherence::bound::one_message_lost_and_the_next_one_heard_is_a_message_lost"),
    ("SuspicionWithoutPoison", "coherence::bound::a_load_that_began_before_a_lost_message_is_not_kept_once_the_loss_is_known"),
    ("TrustBeforeSubscribed", "coherence::bound::before_the_store_has_confirmed_that_it_listens_nothing_is_verified"),
    ("NoIncarnation", "coherence::bound::a_store_that_has_forgotten_its_sequences_is_asked_again_about_everything"),
    ("AbsentIsUnchanged", "coherence::bound::a_store_that_has_forgotten_its_sequences_is_asked_again_about_everything"),
    ("DuplicatesIgnored", "coherence::bound::a_message_counts_under_a_new_incarnation_though_its_sequence_is_an_old_one"),
    ("JoinPoisoned", "coherence::messages::who_comes_after_a_message_does_not_wait_for_a_load_from_before_it"),
    ("StoppedClock", "coherence::bound::a_process_that_was_stopped_asks_before_it_serves"),
    ("SleepUnseen", "coherence::bound::f1_a_machine_that_was_suspended_asks_before_it_serves"),
    ("NoRelease", "stampede::a_failed_load_gives_its_lease_back"),
    ("LeaseFromReply", "coherence::bound::the_lease_counts_from_when_the_poll_was_sent_however_long_its_answer_takes"),
    ("AdoptWithoutSuspicion", "coherence::bound::d1_with_every_message_lost_no_hit_is_older_than_the_bound"),
    ("ChangeMissesFlights", "coherence::tracking::what_a_foreign_program_writes_while_a_value_is_read_is_not_kept_in_l1"),
    ("JoinUnverified", "coherence::bound::a_flight_of_long_ago_is_joined_by_nobody_while_nothing_is_verified"),
    ("NotOwed", "coherence::outages::what_could_not_be_told_is_blocked_and_told_later"),
    ("GraceForSuspects", "coherence::outages::a_suspect_entry_has_no_grace"),
    ("GraceForMissed", "coherence::outages::what_a_poll_has_shown_to_be_missed_has_no_grace_and_what_was_loaded_since_has"),
    ("RefusedIsAway", "coherence::outages::c4_a_store_that_answers_and_refuses_polls_is_asked_for_values_and_leaves_no_grace"),
    ("NoPolls", "coherence::bound::d1_with_every_message_lost_no_hit_is_older_than_the_bound"),
    ("NoMark", "strict::i11_from_the_commit_on_no_node_finds_an_older_value_in_l2_however_late_the_unmark_is"),
    ("UnmarkTakesAll", "strict::an_unmark_leaves_the_protection_of_other_writers"),
    ("CommitAfterMark", "strict::a_write_that_outlives_its_mark_is_given_up_invalidated_and_an_error"),
    ("KeptBesideMark", "strict::between_mark_and_unmark_no_node_has_an_l2_hit_and_loads_are_kept_by_nobody"),
];

/// Longer than any of the tests waits in vain.
const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn each_naive_variant_fails_the_test_that_guards_against_it() {
    let mut wrong = Vec::new();
    for (mutant, test) in MUTANTS {
        if !passes(test, "") {
            wrong.push(format!("{test} fails without any variant"));
        } else if passes(test, mutant) {
            wrong.push(format!("{mutant} passes {test}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A test that does not end is one that fails.
fn passes(test: &str, mutant: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env("CACHESTACK_MUTANT", mutant).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran || !output.status.success(), "there is no test {test}");
    ran && output.status.success()
}
