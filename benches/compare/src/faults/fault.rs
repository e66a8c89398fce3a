//! What breaks.

/// A way to break, and what counts as its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Stopped,
    Flooded,
    Killed,
    Stalled,
    Dead,
    Slow,
    DeadMaster,
}

pub(crate) const FAULTS: [Fault; 7] =
    [Fault::Stopped, Fault::Flooded, Fault::Killed, Fault::Stalled, Fault::Dead, Fault::Slow, Fault::DeadMaster];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Flooded => "flooded",
            Self::Killed => "killed",
            Self::Stalled => "stalled",
            Self::Dead => "dead-connection",
            Self::Slow => "slow-with-resets",
            Self::DeadMaster => "dead-master",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Stopped => "SIGSTOP, then SIGCONT",
            Self::Flooded => "SIGSTOP, then SIGCONT, from then on a write of 64 KiB begins each ms, however many have not ended",
            Self::Killed => "kill -9, then a restart on the same port",
            Self::Stalled => "the network carries nothing and closes nothing, then carries all again",
            Self::Dead => "open connections carry nothing for ever, new ones work; recovery is from the fault on",
            Self::Slow => "replies take 10 ms instead of 1 ms and connections are reset twice a second, then 1 ms again",
            Self::DeadMaster => "kill -9 of one of three masters; recovery is from its replica's promotion on",
        }
    }

    pub(crate) fn is_of_cluster(self) -> bool {
        self == Self::DeadMaster
    }

    /// Nothing heals it: a client gets well by itself, from the fault on.
    pub(crate) fn is_for_ever(self) -> bool {
        self == Self::Dead
    }
}
