//! The two halves of an asymmetric barrier: light for readers, heavy for the one who waits for them.

use crate::sync::{Ordering, fence};

/// Whether the heavy barrier reaches into the readers' cores. On architectures for which the argument in [`crate::grace`] holds.
#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    not(any(loom, shuttle, miri))
))]
mod kernel {
    use rustix::thread::{MembarrierCommand, membarrier};
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering};

    static SETTLED: Once = Once::new();
    static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

    pub(in crate::grace) fn settle() {
        SETTLED.call_once(|| {
            let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok();
            ASYMMETRIC.store(registered, Ordering::Release);
        });
    }

    #[inline]
    pub(in crate::grace) fn is_asymmetric() -> bool {
        // Ordering: relaxed; it is written once, before the first tier exists, and whoever has a tier got it from there.
        ASYMMETRIC.load(Ordering::Relaxed)
    }

    /// A child of a fork has to register anew.
    pub(super) fn reach_all() -> bool {
        let reach = || membarrier(MembarrierCommand::PrivateExpedited).is_ok();
        reach() || (membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() && reach())
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    not(any(loom, shuttle, miri))
)))]
mod kernel {
    pub(in crate::grace) fn settle() {}

    #[inline]
    pub(in crate::grace) fn is_asymmetric() -> bool {
        false
    }

    pub(super) fn reach_all() -> bool {
        true
    }
}

pub(super) use kernel::{is_asymmetric, settle};

/// Between a reader's store of its state and its first load.
#[inline]
pub(super) fn light() {
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// The same, where the heavy barrier does not reach this thread.
#[inline]
pub(super) fn light_fenced() {
    fence(Ordering::SeqCst);
}

/// Between what a writer has unlinked and its look at the epoch. A whole fence, though `heavy` reaches this thread as well: that comes after the
/// raising of the epoch. A reader that enters in between counts as late, so it must find the unlinking done, and not in this core's store buffer.
pub(super) fn writer() {
    fence(Ordering::SeqCst);
}

/// Between the raising of the epoch and the look at the readers. `false` if it could not be had: then nothing is over.
pub(super) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    !kernel::is_asymmetric() || kernel::reach_all()
}
