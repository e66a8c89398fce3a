//! Time as a policy counts it: by what came or went.

/// A clock that runs at the pace of the shard: so many pulses pass while as many events happen as there are entries.
#[derive(Debug)]
pub(super) struct Pulse<const A_GENERATION: u32> {
    now: u32,
    /// Events since it changed.
    events: u32,
}

impl<const A_GENERATION: u32> Pulse<A_GENERATION> {
    pub(super) const fn new() -> Self {
        Self { now: 0, events: 0 }
    }

    /// Not wrapped to what marks and traces keep of it.
    pub(super) fn now(&self) -> u32 {
        self.now
    }

    /// Counts an event among so many entries. Whether the pulse has changed.
    pub(super) fn count(&mut self, entries: u32) -> bool {
        self.events += 1;
        let passes = self.events >= entries / A_GENERATION;
        if passes {
            self.events = 0;
            self.now = self.now.wrapping_add(1);
        }
        passes
    }
}
