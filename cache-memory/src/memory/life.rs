//! The first 16 bytes of a node: when it was made, how long it may serve, and what its readers tell the policy.

use super::mark::Mark;
use cache_core::{Moment, Stamp};

/// Moments count in ticks of about a millisecond.
const TICK_BITS: u32 = 20;

/// Ticks take 39 bits, half of them before the clocks' origin: 9 years back and forth.
const FIRST: u64 = Moment::ORIGIN.as_nanos() - (1 << (38 + TICK_BITS));
const MOST_TICKS: u64 = (1 << 39) - 1;

/// In the place of the 40th bit of the ticks: the entry never ends, and the ticks are of when it was made.
const ENDLESS: u64 = 1 << 39;

fn ticks(moment: Moment) -> u64 {
    (moment.as_nanos().saturating_sub(FIRST) >> TICK_BITS).min(MOST_TICKS)
}

#[inline]
fn moment(ticks: u64) -> Moment {
    Moment::from_nanos(FIRST + (ticks << TICK_BITS))
}

/// A [`Stamp`], packed. Its ends are never late: `last` is up to 1.05 ms early, `soft` and `hard` up to 1/2048 of the time from `created` to them
/// plus 1.2 ms. `created` is up to 2.1 ms early, plus 4 millionths of the whole life.
///
/// Forty bytes of moments would be more than a key and a value of 8 bytes each with all that the tier needs beside them. `last` is what each hit
/// looks at, so that one is not put together first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Life {
    /// From the top: 40 bits of `last` in ticks, 8 of the high bits of `age`, the partition, the partition's epoch when the entry was stored.
    word: u64,
    /// How long before `last` it was made, the low bits.
    age: u16,
    soft: Span,
    hard: Span,
    /// What readers tell the policy.
    pub(super) mark: Mark,
}

impl Life {
    pub(super) fn new(stamp: &Stamp, partition: u8, epoch: u8) -> Self {
        let (base, age) = if stamp.last == Moment::NEVER {
            (ENDLESS | ticks(stamp.created), 0)
        } else {
            let last = ticks(stamp.last);
            (last, Age::before(last, stamp.created))
        };
        let created = moment((base & MOST_TICKS).saturating_sub(Age::ticks(age)));
        let soft = Span::until(created, stamp.soft);
        // Alike but where stale values are served.
        let hard = if stamp.hard == stamp.soft { soft } else { Span::until(created, stamp.hard) };
        let word = base << 24 | (age >> 16) << 16 | u64::from(partition) << 8 | u64::from(epoch);
        Self { word, age: age as u16, soft, hard, mark: Mark::new() }
    }

    /// Whether `last` is still to come.
    #[inline]
    pub(super) fn is_alive(&self, now: Moment) -> bool {
        // In ticks, and with the bit of an endless one years ahead, so that this says it of nearly all that are alive. Before `FIRST` it wraps round to far ahead.
        self.word >> 24 > now.as_nanos().wrapping_sub(FIRST) >> TICK_BITS || self.is_alive_after_all(now)
    }

    #[cold]
    fn is_alive_after_all(&self, now: Moment) -> bool {
        now < moment(self.word >> 24) || self.word >> 24 & ENDLESS != 0
    }

    pub(super) fn partition(&self) -> u8 {
        (self.word >> 8) as u8
    }

    pub(super) fn epoch(&self) -> u8 {
        self.word as u8
    }

    /// For an entry that no reader has seen.
    pub(super) fn set_epoch(&mut self, epoch: u8) {
        self.word = self.word & !0xFF | u64::from(epoch);
    }

    #[inline]
    fn created(&self) -> Moment {
        let base = self.word >> 24;
        let age = Age::ticks((self.word >> 16 & 0xFF) << 16 | u64::from(self.age));
        moment((base & MOST_TICKS).saturating_sub(age))
    }

    #[inline]
    pub(super) fn stamp(&self) -> Stamp {
        let created = self.created();
        let base = self.word >> 24;
        let last = if base & ENDLESS == 0 { moment(base) } else { Moment::NEVER };
        Stamp { created, soft: self.soft.after(created), hard: self.hard.after(created), last }
    }
}

/// Divides by a power of two, rounding up.
fn up(number: u64, bits: u32) -> u64 {
    (number >> bits) + u64::from(number & ((1 << bits) - 1) != 0)
}

/// How long before its end an entry was made: a number of ticks as a float, 19 bits of it and 5 that tell where they stand, rounded up.
struct Age;

impl Age {
    const DIGITS: u32 = 19;

    fn before(last: u64, created: Moment) -> u64 {
        // Up to the next tick: early rather than late.
        let age = up((FIRST + (last << TICK_BITS)).saturating_sub(created.as_nanos().max(FIRST)), TICK_BITS).min(last);
        if age < 1 << Self::DIGITS {
            return age;
        }
        let shift = age.ilog2() - Self::DIGITS;
        // The carry of rounding up goes into the exponent, as it should.
        (u64::from(shift + 1) << Self::DIGITS) + (up(age, shift) - (1 << Self::DIGITS))
    }

    #[inline]
    fn ticks(age: u64) -> u64 {
        let (shift, digits) = (age >> Self::DIGITS, age & ((1 << Self::DIGITS) - 1));
        if shift == 0 { digits } else { (digits | 1 << Self::DIGITS) << (shift - 1) }
    }
}

/// A duration as a small float, rounded down: 11 bits of it and 5 that tell where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(u16);

impl Span {
    const ENDLESS: Self = Self(u16::MAX);
    const DIGITS: u32 = 11;
    /// The smallest step, 131 µs.
    const UNIT_BITS: u32 = 17;

    fn until(start: Moment, end: Moment) -> Self {
        if end == Moment::NEVER {
            return Self::ENDLESS;
        }
        let units = end.as_nanos().saturating_sub(start.as_nanos()) >> Self::UNIT_BITS;
        if units < 1 << Self::DIGITS {
            return Self(units as u16);
        }
        let shift = units.ilog2() - Self::DIGITS;
        let digits = (units >> shift) - (1 << Self::DIGITS);
        let span = u64::from(shift + 1) << Self::DIGITS | digits;
        Self(span.min(u64::from(u16::MAX) - 1) as u16)
    }

    #[inline]
    fn after(self, start: Moment) -> Moment {
        if self == Self::ENDLESS {
            return Moment::NEVER;
        }
        let (shift, digits) = (self.0 >> Self::DIGITS, u64::from(self.0) & ((1 << Self::DIGITS) - 1));
        let units = if shift == 0 { digits } else { (digits | 1 << Self::DIGITS) << (shift - 1) };
        Moment::from_nanos(start.as_nanos().saturating_add(units << Self::UNIT_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at() -> impl Strategy<Value = Moment> {
        let near = (0..10_000_000_000_u64).prop_map(|nanos| Moment::ORIGIN.after(Duration::from_nanos(nanos)));
        let far = (0..270_000_000_000_000_000_u64).prop_map(|nanos| Moment::ORIGIN.after(Duration::from_nanos(nanos)));
        let past = (0..270_000_000_000_000_000_u64).prop_map(|nanos| Moment::ORIGIN.before(Duration::from_nanos(nanos)));
        let any = any::<u64>().prop_map(Moment::from_nanos);
        prop_oneof![4 => near, 2 => far, 1 => past, 1 => any, 1 => Just(Moment::NEVER)]
    }

    proptest! {
        #[test]
        fn no_end_is_ever_late_and_none_is_early_by_more_than_it_may(created in at(), ends in [at(), at(), at()]) {
            let stamp = Stamp { created, soft: ends[0], hard: ends[1], last: ends[2] };
            let life = Life::new(&stamp, 7, 9);
            let kept = life.stamp();
            prop_assert_eq!((life.partition(), life.epoch()), (7, 9));
            let range = moment(0)..moment(MOST_TICKS);
            let inside = range.contains(&created) && (range.contains(&stamp.last) || stamp.last == Moment::NEVER);
            prop_assert_eq!(kept.last == Moment::NEVER, stamp.last == Moment::NEVER);
            prop_assert!(!range.contains(&stamp.last) || (kept.last <= stamp.last && stamp.last.since(kept.last) < Duration::from_micros(1_050)));
            if inside && created <= stamp.last {
                let slack = stamp.last.since(created).min(Duration::from_secs(1 << 30)) / 250_000 + Duration::from_micros(2_100);
                prop_assert!(kept.created <= created, "{:?} is later than {created:?}", kept.created);
                prop_assert!(stamp.last == Moment::NEVER || created.since(kept.created) <= slack, "{:?} for {created:?}", kept.created);
            }
            for (kept_end, end) in [(kept.soft, stamp.soft), (kept.hard, stamp.hard)] {
                prop_assert!(kept_end <= end || end < kept.created, "{kept_end:?} is later than {end:?}");
                prop_assert_eq!(kept_end == Moment::NEVER, end == Moment::NEVER);
                let life = end.since(kept.created);
                if life < Duration::from_secs(500_000_000) {
                    prop_assert!(end.since(kept_end) <= life / 2048 + Duration::from_micros(140), "{kept_end:?} for {end:?}");
                }
            }
        }

        #[test]
        fn it_is_alive_before_its_last_and_no_longer(created in at(), last in at(), now in at()) {
            let life = Life::new(&Stamp { created, soft: last, hard: last, last }, 0, 0);
            prop_assert!(!life.is_alive(now) || now < last || last == Moment::NEVER);
            prop_assert_eq!(life.is_alive(now), now < life.stamp().last || last == Moment::NEVER);
        }
    }
}
