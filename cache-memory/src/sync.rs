//! The primitives that the tier is made of: the standard library's, or loom's or shuttle's where those explore it.
//!
//! `RUSTFLAGS="--cfg loom"` and `RUSTFLAGS="--cfg shuttle"` choose; DESIGN.md has the commands.

#[cfg(loom)]
pub(crate) use loom::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence},
    },
};

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence},
    },
};

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, fence},
    },
};

pub(crate) use std::sync::atomic::Ordering;

/// Locks. A panic of the tier's own under a lock would be a fault of it and leaves nothing half done that reads rely on, and no
/// code of a user runs under one, so poison says nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
