//! The kernel's coarse monotonic clock: as good as its tick (1 to 10 ms), and a quarter of the price of [`std::time::Instant`].

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment before the process began. About 4 ns, read by vDSO.
#[inline]
pub(crate) fn nanos() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
