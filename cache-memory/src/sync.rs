//! The primitives that the tier is made of: the standard library's, or loom's or shuttle's where those explore it.
//!
//! `--cfg loom` and `--cfg shuttle` choose. loom tries every order of a few steps, stale reads included, on what is made by hand here: grace
//! periods, the index, the count of writes, and a tier of a few entries. shuttle tries thousands of random orders on the whole tier. miri looks for
//! undefined behaviour in the unit tests. `scripts/verify` runs the three in about half an hour, `scripts/verify --long` all of what they can; or one alone:
//!
//! ```sh
//! RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom cargo test --release -p cache-memory --lib models::
//! RUSTFLAGS='--cfg shuttle' CARGO_TARGET_DIR=target/shuttle cargo test --release -p cache-memory --lib models::
//! CARGO_TARGET_DIR=target/miri cargo +nightly miri test -p cache-memory --lib -- memory:: cache:: grace::
//! ```
//!
//! None of them has `membarrier(2)`, so all three explore the portable fences; [`crate::grace`] says what the other kind rests on. Nor do they run the SSE2
//! look at tags: they look word by word.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, fence},
};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, fence},
};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, fence},
};

pub(crate) use std::sync::atomic::Ordering;

/// A static, of which each execution that is explored has one of its own.
macro_rules! global {
    (static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(not(any(loom, shuttle)))]
        static $name: $type = $value;
        #[cfg(loom)]
        loom::lazy_static! { static ref $name: $type = $value; }
        #[cfg(shuttle)]
        shuttle::lazy_static! { static ref $name: $type = $value; }
    };
}

/// A thread-local.
macro_rules! local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(not(any(loom, shuttle)))]
        std::thread_local! { $(#[$attribute])* static $name: $type = const { $value }; }
        #[cfg(loom)]
        loom::thread_local! { $(#[$attribute])* static $name: $type = $value; }
        #[cfg(shuttle)]
        shuttle::thread_local! { $(#[$attribute])* static $name: $type = $value; }
    };
}

pub(crate) use {global, local};

/// Locks. No code of a user runs under a lock but an admission, before anything is changed. A panic of the tier's own would be a fault of it: the
/// write it ends may be half done, so that an entry or its place is lost. Reads rely on nothing that may be, and it is counted as a write, so that no
/// search from before it is trusted. So poison says nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a model in every order in which its threads may run. With a bound: in those in which they are interrupted no more often; nearly all
/// faults show with two or three. `LOOM_MAX_PREEMPTIONS` is a bound for all models in its place.
#[cfg(all(test, loom))]
pub(crate) fn explore(interruptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(interruptions);
    builder.max_branches = 10_000;
    builder.check(model);
}
