//! Which keys only the master may answer for, and for how long.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// 256 KiB.
const PLACES: usize = 1 << 16;

/// The keys that only the master may answer for: what this process has written, a replica may not have heard of yet.
///
/// A table of times, a place for each hash of a key. Keys that share a place share the later time: a replica is read less often then, and never
/// too early. So it needs no more memory however much is written.
pub(super) struct Written {
    origin: Instant,
    hasher: RandomState,
    /// In seconds since the origin, the first one that is over.
    until: Box<[AtomicU32]>,
    all_until: AtomicU32,
}

impl Written {
    pub(super) fn new(origin: Instant) -> Self {
        let until = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        Self { origin, hasher: RandomState::new(), until, all_until: AtomicU32::new(0) }
    }

    pub(super) fn note(&self, key: &[u8], now: Instant, retain: Duration) {
        // Ordering: relaxed. A read that begins after the write has returned is ordered after it by whatever told the reader.
        self.place(key).fetch_max(self.end(now, retain), Ordering::Relaxed);
    }

    pub(super) fn note_all(&self, now: Instant, retain: Duration) {
        self.all_until.fetch_max(self.end(now, retain), Ordering::Relaxed);
    }

    pub(super) fn holds(&self, key: &[u8], now: Instant) -> bool {
        let now = u32::try_from(now.saturating_duration_since(self.origin).as_secs()).unwrap_or(u32::MAX);
        now < self.all_until.load(Ordering::Relaxed) || now < self.place(key).load(Ordering::Relaxed)
    }

    fn place(&self, key: &[u8]) -> &AtomicU32 {
        &self.until[self.hasher.hash_one(key) as usize % PLACES]
    }

    /// Rounded up.
    fn end(&self, now: Instant, retain: Duration) -> u32 {
        let end = now.saturating_duration_since(self.origin).saturating_add(retain).as_secs();
        u32::try_from(end.saturating_add(1)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_written_is_the_masters_for_as_long_as_told_and_not_for_ever() {
        let start = Instant::now();
        let written = Written::new(start);
        let at = |seconds: u64| start + Duration::from_millis(seconds * 1_000);
        assert!(!written.holds(b"k", at(0)));
        written.note(b"k", at(5), MINUTE);
        written.note(b"k", at(6), Duration::from_secs(1));
        assert!(written.holds(b"k", at(5)) && written.holds(b"k", at(65)), "a shorter time takes nothing away");
        assert!(!written.holds(b"k", at(66)));
        written.note_all(at(100), MINUTE);
        assert!(written.holds(b"another", at(160)) && !written.holds(b"another", at(161)));
    }

    #[test]
    fn a_time_without_end_and_a_process_of_a_century_do_not_overflow() {
        let start = Instant::now();
        let written = Written::new(start);
        written.note(b"k", start, Duration::MAX);
        assert!(written.holds(b"k", start + Duration::from_secs(100 * 365 * 86_400)));
    }

    #[test]
    fn many_writes_need_no_more_memory_and_are_never_forgotten() {
        let start = Instant::now();
        let written = Written::new(start);
        let keys = || (0..200_000_u32).map(u32::to_le_bytes);
        keys().for_each(|key| written.note(&key, start, MINUTE));
        assert_eq!(written.until.len(), PLACES);
        assert!(keys().all(|key| written.holds(&key, start + MINUTE)));
    }

    proptest! {
        #[test]
        fn no_key_is_let_go_before_its_time(notes in prop::collection::vec((0_u8..20, 0_u64..200_000, 0_u64..90_000), 1..50), then in 0_u64..300_000) {
            let start = Instant::now();
            let written = Written::new(start);
            let then = start + Duration::from_millis(then);
            for (key, at, retain) in notes {
                let (at, retain) = (start + Duration::from_millis(at), Duration::from_millis(retain));
                written.note(&[key], at, retain);
                prop_assert!(written.holds(&[key], then) || then >= at + retain);
            }
        }
    }
}
