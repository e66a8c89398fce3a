//! When entries that nobody has used for long make room for newcomers that nobody knows.

use super::Slot;

/// Generations without a use after which an entry is stale.
const STALE: u32 = 4;

/// The duels that are remembered.
const DUELS: usize = 128;

/// Duels begun in a generation, at most: each is remembered for about 16.
const DUELS_BEGUN: u32 = 8;

/// At least so many evictions lie between two duels, so that small caches lose little to them.
const LEAST_PAUSE: u32 = 64;

/// How many lost duels are remembered: as many have to be won before renewal goes on.
const MOST_LOST: i64 = 8;

/// A newcomer in the place of a stale entry: whose key is asked for first?
#[derive(Debug, Clone, Copy)]
struct Duel {
    newcomer: Slot,
    stale: u32,
}

/// Decides whether newcomers may have the places of stale entries.
///
/// What ghosts tell ends where they do. After a change of phase the main queue may be full of keys that never come back, while the new ones
/// come back later than any ghost remembers, as in a long loop. So now and then a newcomer gets a stale entry's place on trial, and the
/// hash of the stale key is kept. If the newcomer is used first, more stale entries have to go; if the stale key returns first, fewer.
#[derive(Debug)]
pub(super) struct Renewal {
    /// By the stale key's hash; without memory until the first.
    duels: Vec<Option<Duel>>,
    /// Evictions since the last duel.
    pause: u32,
    /// Stale entries that may be replaced; below zero, what is missing until one may.
    budget: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Replace,
    /// Replace it on trial.
    Try,
}

impl Renewal {
    pub(super) const fn new() -> Self {
        Self { duels: Vec::new(), pause: 0, budget: 0 }
    }

    /// Whether an entry of this age is stale, if so many pulses are a generation.
    pub(super) fn is_stale(age: u32, generation: u32) -> bool {
        age > STALE * generation
    }

    /// What to do with a stale entry, among so many.
    pub(super) fn judge(&mut self, entries: u32) -> Verdict {
        self.pause += 1;
        if self.pause >= pause(entries) {
            self.pause = 0;
            return Verdict::Try;
        }
        if self.budget > 0 {
            self.budget -= 1;
            return Verdict::Replace;
        }
        Verdict::Keep
    }

    /// Begins a duel.
    pub(super) fn begin(&mut self, newcomer: Slot, stale: u32) {
        if self.duels.is_empty() {
            self.duels = vec![None; DUELS];
        }
        self.duels[stale as usize % DUELS] = Some(Duel { newcomer, stale });
    }

    /// The newcomer in the duel that waits for this hash; the duel is over.
    pub(super) fn end(&mut self, hash: u32) -> Option<Slot> {
        let place = self.duels.get_mut(hash as usize % DUELS)?;
        let duel = place.take_if(|duel| duel.stale == hash)?;
        Some(duel.newcomer)
    }

    /// A newcomer was used. Not if its duel has been forgotten.
    pub(super) fn won(&mut self, newcomer: Slot, entries: u32) {
        let found = self.duels.iter_mut().find(|duel| duel.is_some_and(|duel| duel.newcomer == newcomer));
        if found.and_then(Option::take).is_some() {
            self.budget = (self.budget + reward(entries)).min(entries.into());
        }
    }

    /// A stale key came back before its newcomer was used.
    pub(super) fn lost(&mut self, entries: u32) {
        self.budget = (self.budget - reward(entries)).max(-MOST_LOST * reward(entries));
    }
}

/// Evictions from one duel to the next.
fn pause(entries: u32) -> u32 {
    (entries / DUELS_BEGUN).max(LEAST_PAUSE)
}

/// So that a cache whose newcomers always win is renewed in few generations.
fn reward(entries: u32) -> i64 {
    i64::from(pause(entries) / 2)
}
