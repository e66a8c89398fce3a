//! Grace periods: when memory that readers may still look at can be used again.
//!
//! A reader enters a *region* before it follows a pointer and leaves it after: a store each to a line of its own. A writer
//! unlinks, keeps what it unlinked, and asks for the *stamp* of what is unlinked so far. When the grace period of that stamp is
//! over, no reader holds any of it. Readers never free, never help and never wait; a writer does not wait either: what is not
//! over yet is asked for again later.
//!
//! This is epoch-based reclamation (Fraser, "Practical lock-freedom", 2004) with two changes. Nobody has to reach a global
//! consensus step by step: a writer that wants memory raises the epoch and looks once whether some reader is still in a region
//! from before. And the fence that a reader would need between its store and its loads, 5 to 8 ns, is moved to that writer:
//! `membarrier(2)` runs one on every core where a thread of this process runs (as in liburcu's "bulletproof" flavour and folly's
//! `asymmetricThreadFence`). Where the kernel has none, readers pay for the fence.
//!
//! ```text
//! reader   state := epoch (3) │ light barrier │ load pointer … use it … │ state := 0
//! writer   unlink │ stamp = epoch (3) │ … │ epoch := 4 │ heavy barrier │ no state in 1..=3? then safe := 3, and what is stamped 3 is free
//! ```
//!
//! *Why it is sound.* Take a reader whose state the writer did not see, or saw above the stamp. Either its barrier came before the
//! writer's, and then its store was visible: it has left since, or entered under a later epoch. Or its barrier came after, and then its
//! loads see the unlinking. A reader that entered under a later epoch has read that epoch and sees what came before it: what was unlinked under an
//! earlier one, since a writer has a fence of its own between the unlinking and its look at the epoch.
//!
//! That last step is of three threads: what the unlinking thread stored before a fence is seen by whoever reads, through the one that raised the
//! epoch, that it was raised after. It needs stores that all other cores see at once, which x86-64, `AArch64` and RISC-V promise and POWER does not; there
//! the readers' fence makes up for it. So the asymmetric kind is for those three alone.
//!
//! loom tries the portable kind in every order; it knows no `membarrier`. The other kind rests on what the kernel documents: between the call's
//! begin and its end, every thread of the process has run a full barrier. `litmus.rs` tries that on real cores, and fails without the call.

mod barrier;
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod check;
#[cfg(all(test, target_os = "linux", not(any(loom, shuttle, miri))))]
mod litmus;
#[cfg(all(test, loom))]
mod models;
mod record;

use crate::sync::{AtomicPtr, AtomicU64, Mutex, Ordering, global};
pub(crate) use record::Region;
use record::{Record, Records};
use std::ptr;
use std::sync::TryLockError;

/// What readers and writers of all tiers in the process share.
///
/// One for all, since a thread has one record in it: the price is that a region held long in one tier holds up the memory of the others.
pub(crate) struct Grace {
    /// Read by every reader, written by the few writers that advance: once each, since nothing else of theirs is on its lines.
    epoch: Apart,
    /// Stamps up to it are over.
    safe: AtomicU64,
    records: Records,
    advancing: Mutex<()>,
}

/// A number on cache lines of its own: two, since CPUs prefetch in pairs.
#[repr(align(128))]
struct Apart(AtomicU64);

/// The state of a record whose thread is in no region; epochs are below it.
const OUTSIDE: u64 = 1 << 63;

/// The same, where its thread needs a fence to enter one: all threads or none, as the kernel has it.
const OUTSIDE_FENCED: u64 = OUTSIDE | 1;

/// The same, of a record that its thread had for one region only: it is anyone's now.
const OUTSIDE_FREE: u64 = OUTSIDE | 2;

global! {
    static GRACE: Grace = Grace {
        epoch: Apart(AtomicU64::new(1)),
        safe: AtomicU64::new(0),
        records: Records(AtomicPtr::new(ptr::null_mut())),
        advancing: Mutex::new(()),
    };
}

impl Grace {
    /// The process's. To be called before a tier is used: it settles which barrier readers need.
    pub(crate) fn global() -> &'static Self {
        barrier::settle();
        &GRACE
    }

    /// The stamp of everything this thread has unlinked so far.
    pub(crate) fn stamp(&self) -> u64 {
        // Ordering: the fence keeps the unlinking before the load. It pairs with the readers' barrier and the one in `advance`: whoever
        // enters under an epoch later than this stamp sees the unlinking.
        barrier::writer();
        self.epoch.0.load(Ordering::Acquire)
    }

    /// Whether nobody can hold what has this stamp.
    pub(crate) fn is_over(&self, stamp: u64) -> bool {
        // Ordering: acquire pairs with the release in `advance`, which comes after that thread has seen the readers leave.
        stamp <= self.safe.load(Ordering::Acquire)
    }

    /// Tries to end the grace period of all stamps given out so far. Costs a system call, some microseconds while other threads run.
    pub(crate) fn advance(&self) {
        #[cfg(all(test, not(any(loom, shuttle))))]
        check::count_advance();
        // Who is turned away will find it done, or try again with its next batch.
        let _advancing = match self.advancing.try_lock() {
            Ok(advancing) => advancing,
            // There is nothing half done that another one could not do again.
            Err(TryLockError::Poisoned(advancing)) => advancing.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let past = self.epoch.0.fetch_add(1, Ordering::SeqCst);
        // Ordering: pairs with the light barrier of every reader.
        if !barrier::heavy() {
            return;
        }
        // Not all or nothing: where threads outnumber cores some thread always stands still in a region, but seldom the same one for long.
        let safe = self.records.iter().filter_map(Record::entered).map(|oldest| oldest - 1).fold(past, u64::min);
        // A state may be older than its region, by as long as its thread stood between the two; it holds up what comes, and not what is over.
        if safe > self.safe.load(Ordering::Relaxed) {
            // Ordering: release pairs with `is_over`. Only one thread advances at a time, so it only grows.
            self.safe.store(safe, Ordering::Release);
        }
    }
}
