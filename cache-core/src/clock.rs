//! Time, injected: a coarse kernel clock in production, a clock moved by hand in tests.

#[cfg(any(test, feature = "testing"))]
use crate::testing::simulation::Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point on a [`Clock`], in nanoseconds. Moments of different clocks do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// Later than any moment a clock gives.
    pub const NEVER: Self = Self(u64::MAX);

    /// Where clocks begin: 73 years after the first expressible moment, so that a value older than this machine's uptime
    /// has a moment. A [`ManualClock`] stands here until it is moved; a tier may store times by their distance from it.
    pub const ORIGIN: Self = Self(1 << 61);

    /// A moment from its nanoseconds, as a tier stored them.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Its nanoseconds: [`Moment::ORIGIN`] has 2⁶¹.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This much later; stops at [`Moment::NEVER`], so a life of a thousand years is simply long.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This much earlier; stops at the first expressible moment.
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this moment, zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where a cache reads the time. Cloning shares the clock.
///
/// The default reads the kernel's coarse monotonic clock through the vDSO: about 4 ns a read and a resolution of one
/// tick (1 to 10 ms), which is fine for lives of seconds and is not a ticker thread's copy that stops with the process.
/// Outside Linux it is [`std::time::Instant`].
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    Kernel,
    Manual(Arc<Hands>),
    #[cfg(any(test, feature = "testing"))]
    Simulated(Arc<Process>),
}

/// The end of something that began when this was made, whichever of two clocks says so first: the one stands still while the machine is suspended, and the other may be
/// set back.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    clock: Clock,
    at: Moment,
    wall: u64,
    lasts: Duration,
}

impl Deadline {
    pub(crate) fn over(&self) -> bool {
        self.left().is_zero()
    }

    /// How long it is until then.
    pub(crate) fn left(&self) -> Duration {
        let gone = self.clock.wall().wrapping_sub(self.wall).cast_signed();
        let by_wall = self.lasts.saturating_sub(Duration::from_nanos(gone.max(0).unsigned_abs()));
        self.at.since(self.clock.now()).min(by_wall)
    }
}

#[derive(Debug)]
struct Hands {
    nanos: AtomicU64,
    /// For how long the machine was suspended.
    slept: AtomicU64,
}

const ORIGIN: u64 = Moment::ORIGIN.as_nanos();

/// 14 November 2023, so that a manual clock's wall time looks like one.
const MANUAL_EPOCH_MS: u64 = 1_700_000_000_000;

impl Clock {
    /// The time now.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::Kernel => Moment(kernel_nanos()),
            Source::Manual(hands) => Moment(hands.nanos.load(Ordering::Acquire)),
            #[cfg(any(test, feature = "testing"))]
            Source::Simulated(process) => Moment(ORIGIN + process.nanos()),
        }
    }

    /// Whether it is the same clock as another one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Kernel, Source::Kernel) => true,
            (Source::Manual(one), Source::Manual(other)) => Arc::ptr_eq(one, other),
            #[cfg(any(test, feature = "testing"))]
            (Source::Simulated(one), Source::Simulated(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Wall time in milliseconds since 1970, for stamps that other processes read.
    pub fn unix_ms(&self) -> u64 {
        match &self.0 {
            Source::Kernel => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
            Source::Manual(hands) => hands.wall() / 1_000_000,
            #[cfg(any(test, feature = "testing"))]
            Source::Simulated(process) => MANUAL_EPOCH_MS + process.wall_nanos() / 1_000_000,
        }
    }

    /// Wall time in nanoseconds since 1970, as coarse and as cheap as [`now`](Self::now). It may be set; but it goes on while the machine is suspended.
    #[inline]
    pub(crate) fn wall(&self) -> u64 {
        match &self.0 {
            Source::Kernel => wall_nanos(),
            Source::Manual(hands) => hands.wall(),
            #[cfg(any(test, feature = "testing"))]
            Source::Simulated(process) => MANUAL_EPOCH_MS * 1_000_000 + process.wall_nanos(),
        }
    }

    /// So long from now.
    pub(crate) fn deadline(&self, lasts: Duration) -> Deadline {
        Deadline { clock: self.clone(), at: self.now().after(lasts), wall: self.wall(), lasts }
    }

    /// The clock of a simulated process.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of_process(process: Arc<Process>) -> Self {
        Self(Source::Simulated(process))
    }

    /// The same future. In a simulation it stands still while its process does, as a task of a stopped process does.
    #[cfg(not(any(test, feature = "testing")))]
    #[allow(clippy::unused_self, reason = "its twin for simulations asks the clock")]
    pub(crate) fn held<F: Future>(&self, future: F) -> F {
        future
    }

    /// The same future. In a simulation it stands still while its process does, as a task of a stopped process does.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let process = match &self.0 {
            Source::Simulated(process) => Some(process.clone()),
            _ => None,
        };
        async move {
            match process {
                Some(process) => process.hold(future).await,
                None => future.await,
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn kernel_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    ORIGIN + (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(target_os = "linux")]
#[inline]
fn wall_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(not(target_os = "linux"))]
fn wall_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(not(target_os = "linux"))]
fn kernel_nanos() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    ORIGIN + u64::try_from(START.get_or_init(std::time::Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX / 2)
}

impl Hands {
    fn wall(&self) -> u64 {
        let gone = self.nanos.load(Ordering::Acquire) - ORIGIN + self.slept.load(Ordering::Acquire);
        MANUAL_EPOCH_MS * 1_000_000 + gone
    }
}

/// A clock that stands still until a test moves it.
///
/// ```
/// use cache_core::ManualClock;
/// use std::time::Duration;
///
/// let hands = ManualClock::new();
/// let clock = hands.clock();
/// let start = clock.now();
/// hands.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(start), Duration::from_secs(5));
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hands>);

impl ManualClock {
    /// A clock that stands at its origin.
    pub fn new() -> Self {
        Self(Arc::new(Hands { nanos: AtomicU64::new(ORIGIN), slept: AtomicU64::new(0) }))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(0), Ordering::AcqRel);
    }

    /// Suspends the machine for so long: the clock stands still, as the kernel's does, and wall time goes on.
    pub fn suspend(&self, by: Duration) {
        self.0.slept.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(0), Ordering::AcqRel);
    }

    /// The clock to hand to a cache or a tier.
    pub fn clock(&self) -> Clock {
        Clock(Source::Manual(self.0.clone()))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_clock_goes_forward() {
        let clock = Clock::default();
        let start = clock.now();
        while clock.now() == start {
            std::hint::spin_loop();
        }
        assert!(clock.now() > start);
    }

    #[test]
    fn kernel_clock_and_wall_time_go_alike() {
        let clock = Clock::default();
        let ahead = || clock.wall().wrapping_sub(clock.now().as_nanos());
        let (start, before) = (clock.now(), ahead());
        while clock.now().since(start) < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(ahead().wrapping_sub(before).cast_signed().abs() < 40_000_000, "or the wall clock was set just now");
        let unix = Duration::from_nanos(clock.wall()).as_millis().abs_diff(u128::from(clock.unix_ms()));
        assert!(unix < 1_000, "{unix} ms");
    }

    #[test]
    fn a_thousand_years_saturate_instead_of_wrapping() {
        let year = Duration::from_secs(365 * 86_400);
        assert_eq!(Moment::from_nanos(5).after(year * 1_000), Moment::NEVER);
        assert_eq!(Moment::from_nanos(5).before(year * 1_000), Moment::from_nanos(0));
    }
}
