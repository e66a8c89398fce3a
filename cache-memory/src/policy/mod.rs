//! Which entry goes when room is needed: plain, single-threaded code over slots and hashes.
//!
//! A policy orders the slots that the storage uses and knows nothing of keys, values, time or threads. Of hits it learns only what they leave
//! in the marks: the storage calls [`Policy::touched`] without a lock and with nothing but the mark and the pulse.

mod adaptive;
mod boundary;
mod coldest;
mod held;
mod history;
mod lists;
mod lru;
mod pulse;
mod renewal;
#[cfg(test)]
mod tests;
mod usage;

use adaptive::Adaptive;
use held::Held;
use lru::Lru;
use usage::Usage;

/// A place of the storage, dense from 0 and below 2^26.
pub(crate) type Slot = u32;

/// What hits leave in the slots. The storage keeps them, beside what its readers look at anyway.
pub(crate) trait Marks {
    fn mark(&self, slot: Slot) -> u16;
    fn set_mark(&self, slot: Slot, mark: u16);

    /// Says that the mark will soon be asked for. A hint.
    fn fetch(&self, _slot: Slot) {}
}

/// Which entry goes when the tier is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Kind {
    /// Adapts to the work: close to LRU where recent keys come back, to S3-FIFO where frequent keys do, to LIRS in loops and scans. It costs
    /// 12 bytes an entry, and 6.4 more from the first eviction on.
    ///
    /// It is S3-FIFO (Yang et al., SOSP 2023) with a boundary between its queues that moves as in ARC (Megiddo and Modha, FAST 2003), and with
    /// the comparison of reuse distances of LIRS (Jiang and Zhang, SIGMETRICS 2002).
    #[default]
    Adaptive,
    /// The least recently used entry goes: for those who need that order. A scan or a loop longer than the capacity leaves no hits. The order of
    /// uses between which few entries came in, one in 4096 of those held, is not kept. It costs 12 bytes an entry.
    Lru,
}

/// Orders slots, in the one way or the other.
#[derive(Debug)]
pub(crate) enum Policy {
    Adaptive(Adaptive),
    Lru(Lru),
}

/// Which marks a hit leaves as they are: those that agree with the lower half in the bits of the upper one. So the usual hit needs not know the kind
/// of the policy, and stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled(pub(crate) u64);

impl Settled {
    /// In both halves, where marks have no bit.
    const NEVER: u64 = 1 << 63 | 1 << 31;

    #[inline]
    pub(crate) fn is(self, mark: u16) -> bool {
        (u64::from(mark) ^ self.0) & (self.0 >> 32) == 0
    }

    /// The same pulse, with no mark settled.
    pub(crate) fn never(self) -> Self {
        Self(self.0 | Self::NEVER)
    }

    pub(crate) fn is_never(self) -> bool {
        self.0 & Self::NEVER == Self::NEVER
    }

    /// As much of the pulse as marks keep.
    pub(crate) fn pulse(self) -> u32 {
        (self.0 as u32 & 0xFFFF) >> (self.0 >> 32).trailing_zeros()
    }
}

macro_rules! each {
    ($self:expr, $policy:ident => $body:expr) => {
        match $self {
            Policy::Adaptive($policy) => $body,
            Policy::Lru($policy) => $body,
        }
    };
}

impl Policy {
    /// A policy for so much weight. It takes memory as slots are used.
    pub(crate) fn new(kind: Kind, capacity: u64) -> Self {
        match kind {
            Kind::Adaptive => Self::Adaptive(Adaptive::new(capacity)),
            Kind::Lru => Self::Lru(Lru::new(capacity)),
        }
    }

    /// What a hit stores, if anything, in place of this mark.
    #[inline]
    pub(crate) fn touched(kind: Kind, mark: u16, pulse: u32) -> Option<u16> {
        match kind {
            Kind::Adaptive => Adaptive::touched(mark, pulse),
            Kind::Lru => Lru::touched(mark, pulse),
        }
    }

    pub(crate) fn pulse(&self) -> u32 {
        each!(self, policy => policy.pulse())
    }

    /// What hits are told; the storage publishes it when it has changed.
    pub(crate) fn settled(&self) -> Settled {
        let mask = match self {
            Self::Adaptive(_) => Usage::WHEN,
            Self::Lru(_) => u16::MAX,
        };
        let now = (self.pulse() << mask.trailing_zeros()) as u16;
        Settled(u64::from(mask) << 32 | u64::from(now))
    }

    /// Takes in a slot of a new key. A weight of 0 pins it. Whether the pulse has changed, and with it what is [settled](Self::settled).
    pub(crate) fn insert(&mut self, slot: Slot, hash: u32, weight: u32, marks: &impl Marks) -> bool {
        each!(self, policy => policy.insert(slot, hash, weight, marks))
    }

    /// Puts another slot, with a new value of the same key, in place of `old`; it counts as a use. Whether the pulse has changed.
    pub(crate) fn replace(&mut self, old: Slot, new: Slot, weight: u32, marks: &impl Marks) -> bool {
        each!(self, policy => policy.replace(old, new, weight, marks))
    }

    /// Takes out a slot for another reason than room.
    pub(crate) fn remove(&mut self, slot: Slot) {
        each!(self, policy => policy.remove(slot));
    }

    /// Takes out the slot that is worth least; `None` if only pinned ones are left. Called before the insert that needs the room.
    pub(crate) fn evict(&mut self, marks: &impl Marks) -> Option<Slot> {
        each!(self, policy => policy.evict(marks))
    }

    /// Takes the memory for so many slots, which would otherwise grow step by step.
    pub(crate) fn reserve(&mut self, slots: usize) {
        each!(self, policy => policy.reserve(slots));
    }

    /// Says that a free slot will soon be taken in. A hint.
    pub(crate) fn fetch(&self, slot: Slot) {
        each!(self, policy => policy.fetch(slot));
    }

    /// Says that a slot in use will soon be replaced or removed. A hint.
    pub(crate) fn fetch_around(&self, slot: Slot) {
        each!(self, policy => policy.fetch_around(slot));
    }

    /// Says that a slot of a new key with this hash will soon be taken in. A hint.
    pub(crate) fn fetch_trace(&self, hash: u32) {
        if let Self::Adaptive(policy) = self {
            policy.fetch_trace(hash);
        }
    }

    /// The hash that a slot was given for, until it is used again.
    pub(crate) fn hash(&self, slot: Slot) -> u32 {
        each!(self, policy => policy.hash(slot))
    }

    /// Of a slot in use.
    pub(crate) fn weight_of(&self, slot: Slot) -> u64 {
        self.held().weight_of(slot)
    }

    /// Of all slots in use.
    pub(crate) fn weight(&self) -> u64 {
        self.held().weight()
    }

    /// Slots in use, the pinned ones among them.
    pub(crate) fn len(&self) -> u32 {
        self.held().len()
    }

    fn held(&self) -> &Held {
        each!(self, policy => policy.held())
    }

    pub(crate) fn capacity(&self) -> u64 {
        each!(self, policy => policy.capacity())
    }

    /// Changes the capacity. It evicts nothing itself.
    pub(crate) fn resize(&mut self, capacity: u64) {
        each!(self, policy => policy.resize(capacity));
    }

    /// Panics where the policy contradicts itself.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        each!(self, policy => policy.check());
    }
}
