//! The faults there are.

/// What is done to the servers, the network and the nodes in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    LostMessages,
    HalfOpen,
    StoppedRedis,
    KilledRedis,
    KilledMaster,
    KilledWriter,
    FlushAll,
    ClientKill,
    SlotMigration,
    OutOfMemory,
    StoppedReader,
    CutOff,
}

impl Fault {
    pub(crate) const ALL: [Self; 13] = [
        Self::None,
        Self::LostMessages,
        Self::HalfOpen,
        Self::StoppedRedis,
        Self::KilledRedis,
        Self::KilledMaster,
        Self::KilledWriter,
        Self::FlushAll,
        Self::ClientKill,
        Self::SlotMigration,
        Self::OutOfMemory,
        Self::StoppedReader,
        Self::CutOff,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::LostMessages => "lost-messages",
            Self::HalfOpen => "half-open",
            Self::StoppedRedis => "stopped-redis",
            Self::KilledRedis => "killed-redis",
            Self::KilledMaster => "killed-master",
            Self::KilledWriter => "killed-writer",
            Self::FlushAll => "flushall",
            Self::ClientKill => "client-kill",
            Self::SlotMigration => "slot-migration",
            Self::OutOfMemory => "oom",
            Self::StoppedReader => "stopped-reader",
            Self::CutOff => "cut-off",
        }
    }

    /// For the help.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::None => "ordinary running; always part of a run",
            Self::LostMessages => "readers hear no message, and their connections are whole",
            Self::HalfOpen => "the readers' subscriptions carry nothing more and stay open",
            Self::StoppedRedis => "SIGSTOP and SIGCONT of Redis, or of a master after another",
            Self::KilledRedis => "kill -9 of Redis, which comes back empty; not in a cluster",
            Self::KilledMaster => "kill -9 of a master after another, each replaced by its replica; in a cluster only",
            Self::KilledWriter => "kill -9 of a writer after another; all writers leave invalidations to an outbox",
            Self::FlushAll => "FLUSHALL, twice a second",
            Self::ClientKill => "CLIENT KILL of every connection, twice a second",
            Self::SlotMigration => "slots change their masters, and stand half moved for a while; in a cluster only",
            Self::OutOfMemory => "Redis is over its maxmemory, under noeviction",
            Self::StoppedReader => "SIGSTOP of a reader for 2 s longer than the bound, and SIGCONT",
            Self::CutOff => "a network that swallows all between a reader and Redis, for longer than bound and grace",
        }
    }

    /// What its effect is a number of.
    pub(crate) fn effect(self) -> &'static str {
        match self {
            Self::None => "",
            Self::LostMessages => "messages lost",
            Self::HalfOpen => "connections half-open",
            Self::StoppedRedis => "ms without an answer",
            Self::KilledRedis => "new run ids",
            Self::KilledMaster => "masters replaced",
            Self::KilledWriter => "writers ended by SIGKILL",
            Self::FlushAll => "keys forgotten",
            Self::ClientKill => "connections closed",
            Self::SlotMigration => "slots moved",
            Self::OutOfMemory => "commands refused",
            Self::StoppedReader => "ms stopped",
            Self::CutOff => "transfers held back",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    pub(crate) fn is_possible(self, is_cluster: bool) -> bool {
        match self {
            Self::KilledRedis => !is_cluster,
            Self::KilledMaster | Self::SlotMigration => is_cluster,
            _ => true,
        }
    }
}
