//! L1 and the backplane: the protocol holds in every scope, and each naive variant breaks.

use spec::check::{breaks, holds};
use spec::l1::{L1, Mutant};

/// Writes to key A by the reading node, to key A by another, and to key B by another.
const OWN: (usize, bool) = (0, true);
const OTHER: (usize, bool) = (1, true);
const KEY_B: (usize, bool) = (1, false);

#[test]
fn messages_lost_doubled_and_late() {
    holds("l1 one write", &L1 { lose: true, double: true, refresh: true, stop: true, ..L1::new(&[OTHER]) });
    holds("l1 two keys", &L1 { lose: true, ..L1::new(&[OTHER, KEY_B]) });
    // A message that never comes is as good as lost, and saves states.
    holds("l1 two writes", &L1::new(&[OTHER, OTHER]));
}

#[test]
fn own_writes_and_others() {
    holds("l1 own", &L1 { lose: true, ..L1::new(&[OWN, OTHER]) });
    holds("l1 own, not blocked", &L1 { block: false, ..L1::new(&[OWN, OTHER]) });
    holds("l1 own, answers lost", &L1 { unanswered: true, ..L1::new(&[OWN]) });
}

#[test]
fn two_readers() {
    holds("l1 two readers, no lease", &L1 { readers: [true; 2], lease: false, breaks: 1, ..L1::new(&[OWN]) });
}

#[test]
fn meta_keys_evicted_and_memory_wanting() {
    holds("l1 meta evicted", &L1 { lose: true, evict: 2, ..L1::new(&[OTHER]) });
    holds("l1 want of memory", &L1 { oom: true, evict: 1, ..L1::new(&[OTHER]) });
}

#[test]
fn subscriptions_that_break_and_slots_that_move() {
    holds("l1 breaks", &L1 { breaks: 2, ..L1::new(&[OTHER]) });
    holds("l1 cold", &L1 { breaks: 1, cold: true, ..L1::new(&[OTHER]) });
    holds("l1 moving", &L1 { lose: true, moving: true, ..L1::new(&[OTHER]) });
}

#[test]
fn with_the_lease_the_order_of_subscribe_and_poll_decides_only_how_soon() {
    holds("l1 trust early", &L1 { breaks: 1, mutant: Some(Mutant::TrustBeforeSubscribed), ..L1::new(&[OTHER]) });
}

#[test]
fn without_the_lease_a_bus_that_loses_nothing() {
    holds("l1 no lease", &L1 { breaks: 2, lease: false, cold: true, ..L1::new(&[OTHER, OTHER]) });
}

#[test]
fn no_contact_to_redis() {
    holds("l1 cut", &L1 { cut: true, ..L1::new(&[OTHER]) });
}

#[test]
fn tracking_of_foreign_writers() {
    holds("l1 tracking", &L1 { lose: true, foreign: 1, ..L1::new(&[OTHER]) });
}

/// One test a mutant: the scope in which it breaks, what it breaks, and in how many steps.
macro_rules! mutants {
    ($($name:ident: $mutant:ident, $writers:expr, { $($field:ident: $value:expr),* }, $broken:literal, $steps:literal;)*) => {$(
        #[test]
        fn $name() {
            let scope = L1::new(&$writers);
            breaks(stringify!($mutant), &L1 { mutant: Some(Mutant::$mutant), $($field: $value,)* ..scope }, $broken, $steps);
        }
    )*};
}

mutants! {
    own_l1_removed_only_before: OwnRemovedOnlyBefore, [OWN], {}, "I2:", 6;
    ok_though_the_invalidation_failed: OkThoughFailed, [OWN], {}, "I2:", 5;
    no_poison: NoPoison, [OTHER], {}, "I2:", 6;
    a_ticket_after_the_reply: TicketAfterReply, [OTHER], {}, "I2:", 6;
    l1_filled_from_a_redis_replica: RedisReplica, [OTHER], {}, "I2:", 6;
    gaps_by_the_highest_sequence: GapByMax, [OTHER, KEY_B], { lose: true }, "I3:", 14;
    gaps_by_the_highest_sequence_and_tokens: GapByMax, [OTHER, KEY_B], { lose: true }, "I12:", 9;
    suspicion_without_poison: SuspicionWithoutPoison, [OTHER], { lose: true }, "I3:", 10;
    missed_sequences_without_suspicion: AdoptWithoutSuspicion, [OTHER], { lose: true }, "I3:", 10;
    trust_before_subscribed: TrustBeforeSubscribed, [OTHER], { lease: false, cold: true }, "I2: whoever", 10;
    a_poll_of_an_old_subscription: PollOfOldSubscription, [OTHER], { lease: false, breaks: 1 }, "I2: whoever", 11;
    no_incarnation: NoIncarnation, [KEY_B, OTHER], { lose: true, evict: 1 }, "I3:", 11;
    absent_is_unchanged: AbsentIsUnchanged, [OTHER], { lose: true, evict: 1 }, "I3:", 11;
    a_poisoned_flight_joined: JoinPoisoned, [OTHER], {}, "I2:", 6;
    a_flight_joined_unverified: JoinUnverified, [OTHER], { lose: true }, "I3:", 7;
    a_stopped_clock: StoppedClock, [OTHER], { stop: true }, "I3:", 12;
    a_lease_from_the_reply: LeaseFromReply, [OTHER], {}, "I3:", 10;
    revalidation_without_a_ticket: RevalidateWithoutTicket, [OTHER], { lose: true, evict: 1 }, "I3:", 16;
    published_before_the_tombstone: PublishBeforeTombstone, [OTHER], { moving: true }, "I2:", 6;
    want_of_memory_keeps_the_meta_key: OomKeepsMeta, [OTHER], { oom: true }, "I3:", 10;
    an_invalidation_that_finds_the_new_value_and_is_silent: CurrentIsSilent, [OTHER], { evict: 1 }, "I3:", 12;
    a_push_misses_flights: PushMissesFlights, [], { foreign: 1 }, "I2 of tracking", 4;
    a_replica_read_without_a_lease: UnleasedReplicaRead, [OTHER], {}, "I2:", 6;
    grace_for_suspects: GraceForSuspects, [OTHER], { cut: true, lose: true }, "I3: what is given in the time", 13;
    no_polls: NoPolls, [OTHER], { lose: true }, "I3:", 10;
}
