//! The record in L2: the protocol holds in every scope, and each naive variant breaks.

use spec::check::{breaks, holds};
use spec::l2::{L2, Mutant, Op};

#[test]
fn unversioned_with_evictions_repeats_and_want_of_memory() {
    let scope = L2::new(&[Op::Invalidate, Op::Invalidate], 3);
    holds("l2 unversioned", &L2 { evict: true, oom: true, repeat: true, fail: true, ..scope });
}

#[test]
fn versioned_with_a_replica_that_lags() {
    let scope = L2::new(&[Op::Invalidate, Op::Invalidate, Op::Invalidate], 2);
    holds("l2 versioned, replica", &L2 { versioned: true, replica: true, repeat: true, fail: true, ..scope });
    let scope = L2::new(&[Op::Invalidate, Op::Invalidate], 3);
    holds("l2 versioned, replica, three loads", &L2 { versioned: true, replica: true, repeat: true, fail: true, ..scope });
}

#[test]
fn versioned_with_a_replica_that_lags_and_time() {
    let scope = L2::new(&[Op::Invalidate, Op::Invalidate], 2);
    holds("l2 versioned, replica, time", &L2 { versioned: true, replica: true, time: true, repeat: true, fail: true, ..scope });
}

#[test]
fn unversioned_with_time() {
    let scope = L2::new(&[Op::Invalidate, Op::Invalidate], 3);
    holds("l2 unversioned, time", &L2 { time: true, evict: true, fail: true, ..scope });
}

#[test]
fn puts_beside_invalidations_and_evictions() {
    let scope = L2::new(&[Op::Put, Op::Put, Op::Invalidate], 2);
    holds("l2 put", &L2 { versioned: true, evict: true, oom: true, repeat: true, fail: true, ..scope });
    let scope = L2::new(&[Op::Put, Op::Put], 2);
    holds("l2 put, time", &L2 { versioned: true, time: true, evict: true, fail: true, ..scope });
}

#[test]
fn strict_writers() {
    for versioned in [false, true] {
        let scope = L2::new(&[Op::Strict, Op::Strict], 2);
        holds("l2 strict", &L2 { versioned, time: true, repeat: true, fail: true, ..scope });
    }
    let scope = L2::new(&[Op::Strict, Op::Strict, Op::Strict], 2);
    holds("l2 strict, three", &L2 { time: true, ..scope });
}

/// One test a mutant: the scope in which it breaks, what it breaks, and in how many steps.
macro_rules! mutants {
    ($($name:ident: $mutant:ident, $writers:expr, $loads:literal, { $($field:ident),* }, $broken:literal, $steps:literal;)*) => {$(
        #[test]
        fn $name() {
            let scope = L2::new(&$writers, $loads);
            breaks(stringify!($mutant), &L2 { mutant: Some(Mutant::$mutant), $($field: true,)* ..scope }, $broken, $steps);
        }
    )*};
}

use Op::{Invalidate, Put, Strict};

mutants! {
    set_and_del: SetAndDel, [Invalidate, Invalidate], 3, {}, "I1:", 5;
    set_nx: SetNx, [Invalidate, Invalidate], 3, {}, "I1:", 5;
    a_token_per_client: TokenPerClient, [Invalidate, Invalidate], 3, {}, "I1:", 6;
    a_lagging_replica_without_floors: NoFloor, [Invalidate, Invalidate], 2, { versioned, replica }, "I1:", 5;
    a_floor_overwritten: FloorOverwritten, [Invalidate, Invalidate], 2, { versioned, replica }, "I1:", 8;
    a_lease_that_forgets_the_floor: LeaseForgetsFloor, [Invalidate, Invalidate], 2, { versioned, replica, time }, "I1:", 7;
    a_tombstone_shorter_than_the_lag: TombstoneTooShort, [Invalidate], 2, { versioned, replica, time }, "I1:", 6;
    no_release: NoRelease, [Invalidate], 2, { fail }, "I14:", 2;
    an_acquire_that_is_repeated: AcquireRepeated, [Invalidate], 2, {}, "I1:", 6;
    a_put_on_a_key_without_a_value: PutAnywhere, [Put, Put], 2, { versioned, evict }, "I1:", 5;
    commits_without_marks: NoMarks, [Strict], 2, {}, "I11:", 4;
    marks_that_are_counted: MarksCounted, [Strict, Strict], 2, { time }, "I11:", 10;
    an_unmark_that_is_repeated: UnmarkRepeated, [Strict, Strict], 2, {}, "I11:", 9;
    an_unmark_that_only_unmarks: UnmarkOnlyUnmarks, [Strict], 2, { versioned, replica, time }, "I1:", 8;
    a_commit_after_the_mark: CommitAfterMark, [Strict], 2, { time }, "I11:", 7;
    exception_an_evicted_floor: FloorEvicted, [Invalidate], 2, { versioned, replica }, "I1:", 6;
    exception_strict_loads_from_a_replica: StrictReplica, [Strict], 2, { versioned, replica, time }, "I11:", 7;
    exception_an_evicted_mark: MarkEvicted, [Strict], 2, { time }, "I11:", 6;
    exception_an_unlinked_floor: FloorUnlinked, [Invalidate], 2, { versioned, replica }, "I1:", 5;
}
