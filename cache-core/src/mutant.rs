//! The naive variants of the protocol, as switches: with one of them on, a test must fail (`tests/mutants.rs`). Without the feature `mutants`, which
//! is for those tests alone, every switch is a constant `false` and nothing of this is compiled.

/// A naive variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), allow(dead_code))]
pub(crate) enum Mutant {
    /// A fill is taken without asking whose lease it is: SET on fill, DEL after commit.
    FillWithoutLease,
    /// A fill is taken wherever there is no value: SET NX on fill, DEL after commit.
    SetNx,
    /// All loads of a process have the same token.
    TokenPerProcess,
    /// A fill older than the floor is taken.
    NoFloor,
    /// An invalidation overwrites the floor, and does not raise it.
    FloorOverwritten,
    /// After a failover nothing is told again.
    NoReplay,
    /// An invalidation removes from its own L1 only before it tells L2, and blocks nothing.
    RemovedOnce,
    /// Invalidations poison no ticket.
    NoPoison,
    /// A read of L2 takes its ticket when the answer has come.
    TicketAfterReply,
    /// What a replica says is kept in L1.
    KeptFromReplica,
    /// Sequences are applied up to the highest that was heard.
    GapByMax,
    /// Suspicion poisons no ticket.
    SuspicionWithoutPoison,
    /// Polls count before the subscription is confirmed.
    TrustBeforeSubscribed,
    /// Incarnations are not looked at.
    NoIncarnation,
    /// A poll leaves sequences that are not there as they are, and takes that for no change.
    AbsentIsUnchanged,
    /// A sequence that was applied is not applied again, whatever history it is of.
    DuplicatesIgnored,
    /// A poisoned flight stays in the table.
    JoinPoisoned,
    /// A hit reads the time that the last poll read.
    StoppedClock,
    /// A machine's suspension goes unseen.
    SleepUnseen,
    /// A failed load gives no lease back.
    NoRelease,
    /// The lease of a partition counts from the answer.
    LeaseFromReply,
    /// What was missed is passed over without suspicion.
    AdoptWithoutSuspicion,
    /// That L2 has changed a key says nothing of what is being loaded.
    ChangeMissesFlights,
    /// Flights are joined however old they are.
    JoinUnverified,
    /// An invalidation that L2 was not told of is forgotten.
    NotOwed,
    /// What is suspect is served while L2 is away.
    GraceForSuspects,
    /// What a poll has shown to be missed is served while L2 is away.
    GraceForMissed,
    /// A store that refuses polls counts as away.
    RefusedIsAway,
    /// L1 is served whatever polls say.
    NoPolls,
    /// A strict write does not announce itself.
    NoMark,
    /// An unmark ends the marks of all writers.
    UnmarkTakesAll,
    /// A strict write commits though its mark may have ended.
    CommitAfterMark,
    /// What is loaded beside an announced write is kept in L1.
    KeptBesideMark,
}

#[cfg(not(feature = "mutants"))]
#[inline]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Whether the environment variable `CACHESTACK_MUTANT` names it.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("CACHESTACK_MUTANT").ok());
    named.as_ref().is_some_and(|named| *named == format!("{mutant:?}"))
}
