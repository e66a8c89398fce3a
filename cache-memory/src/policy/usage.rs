//! What the marks of the adaptive policy say.

/// For [`Usage::age`]: older is not told apart. As many pulses are 256 generations.
pub(super) const TIMES: u32 = 1 << 14;

/// The most uses that are counted.
const MOST_USES: u16 = 3;

/// A mark: in the low two bits the uses, above them the pulse of the last one or of the insert.
///
/// Uses within a pulse count as one. They say little about the next one, as in the correlated references of LRU-K (O'Neil et al., SIGMOD
/// 1993), and so a hot key's mark is written once a pulse and not by every hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage(u16);

impl Usage {
    /// The bits of the time.
    pub(super) const WHEN: u16 = !MOST_USES;

    pub(super) const fn of(mark: u16) -> Self {
        Self(mark)
    }

    /// Unused so far.
    pub(super) const fn new(pulse: u32) -> Self {
        Self(((pulse % TIMES) << 2) as u16)
    }

    pub(super) const fn mark(self) -> u16 {
        self.0
    }

    /// The mark after a hit, unless it is the same.
    #[inline]
    pub(super) fn touched(self, pulse: u32) -> Option<Self> {
        let now = Self::new(pulse).0;
        (self.0 & !MOST_USES != now).then(|| Self(now | (self.uses() + 1).min(MOST_USES)))
    }

    pub(super) const fn uses(self) -> u16 {
        self.0 & MOST_USES
    }

    /// The last use stays when it was.
    pub(super) const fn with_uses(self, uses: u16) -> Self {
        Self(self.0 & !MOST_USES | uses)
    }

    /// When it was used last, wrapped.
    pub(super) const fn last(self) -> u32 {
        (self.0 >> 2) as u32
    }

    /// Pulses since the last use.
    pub(super) const fn age(self, pulse: u32) -> u32 {
        pulse.wrapping_sub(self.last()) % TIMES
    }

    /// The same, no older than half of what can be told, so that age never wraps round to youth.
    pub(super) fn kept_old(self, pulse: u32) -> Option<Self> {
        let oldest = TIMES / 2;
        (self.age(pulse) > oldest).then(|| Self(Self::new(pulse.wrapping_sub(oldest)).0 | self.uses()))
    }
}
