//! The finest clock there is, for samples of single calls.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The CPU's time stamp counter, fenced: what stands before is done and what stands after has not begun. About 15 ns a pair.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn now() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // Without the fences a hit's loads, which nothing waits for, would overlap with the look at the counter and go unmeasured.
    // SAFETY: every x86-64 CPU has both instructions, and no operating system in use forbids reading the counter.
    unsafe {
        _mm_lfence();
        let ticks = _rdtsc();
        _mm_lfence();
        ticks
    }
}

/// Nanoseconds by [`Instant`]: about 20 ns dearer than the counter, and as coarse as the system makes it.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Length of a tick, found once by comparing with [`Instant`] for 20 ms.
pub(crate) fn nanos_per_tick() -> f64 {
    static LENGTH: OnceLock<f64> = OnceLock::new();
    *LENGTH.get_or_init(|| {
        let (start, first) = (Instant::now(), now());
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let ticks = now() - first;
        start.elapsed().as_nanos() as f64 / ticks as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_as_long_as_is_said() {
        let length = nanos_per_tick();
        let (start, first) = (Instant::now(), now());
        while start.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let by_ticks = (now() - first) as f64 * length;
        let by_instant = start.elapsed().as_nanos() as f64;
        // Wide: the thread may lose its core between the two looks.
        assert!((by_ticks / by_instant - 1.0).abs() < 0.2, "{by_ticks} ns by ticks, {by_instant} by the clock");
    }
}
