//! What each thread tells of itself: in which epoch it entered a region.

use super::{Grace, OUTSIDE, OUTSIDE_FENCED, OUTSIDE_FREE, barrier};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering, local};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;

/// A thread's record, on lines of its own: two, since CPUs prefetch in pairs. Records are never freed, and pass to another thread when theirs
/// ends.
#[repr(align(128))]
pub(crate) struct Record {
    /// The epoch of the outermost region its thread is in, or [`OUTSIDE`], [`OUTSIDE_FENCED`] or [`OUTSIDE_FREE`].
    state: AtomicU64,
    taken: AtomicBool,
    /// Its place in the list; see [`Region::thread`].
    index: usize,
    next: *const Record,
}

// SAFETY: `next` is written once, before the record is published, and points to a record, which lives for ever.
unsafe impl Send for Record {}
// SAFETY: as above; the rest is atomic.
unsafe impl Sync for Record {}

impl Record {
    #[inline]
    fn enter(&self, grace: &Grace) {
        // Ordering: acquire pairs with the raising in `advance`: who enters under a later epoch sees what was unlinked before.
        let epoch = grace.epoch.0.load(Ordering::Acquire);
        // Ordering: release, like the leaving: a writer that sees this store instead of that one must see as much.
        self.state.store(epoch, Ordering::Release);
    }

    /// Whether no thread has it, most likely.
    fn is_free(&self) -> bool {
        !self.taken.load(Ordering::Relaxed) || self.state.load(Ordering::Relaxed) == OUTSIDE_FREE
    }

    /// The epoch in which its thread entered the region that it is in, if it is in one.
    pub(super) fn entered(&self) -> Option<u64> {
        // Ordering: acquire pairs with the release of the leaving, and of the next entering, after which the thread touches nothing of before.
        let state = self.state.load(Ordering::Acquire);
        (state < OUTSIDE).then_some(state)
    }
}

/// All records, newest first.
pub(super) struct Records(pub(super) AtomicPtr<Record>);

impl Records {
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Record> {
        // Ordering: acquire pairs with the release in `take`. A record that is pushed later belongs to a thread whose barrier comes later.
        let mut next: *const Record = self.0.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: null, or a record that was published and lives for ever.
            let record = unsafe { next.as_ref() }?;
            next = record.next;
            Some(record)
        })
    }

    /// A record that no other thread has: of those that there are the oldest, so that numbers stay as small as the threads are few.
    pub(super) fn take(&self) -> &'static Record {
        let outside = if barrier::is_asymmetric() { OUTSIDE } else { OUTSIDE_FENCED };
        // Ordering: relaxed, for it only guesses. One that is not free after all is not met again: the exchange has seen the latest.
        while let Some(record) = self.iter().filter(|record| record.is_free()).last() {
            // Ordering: acquire pairs with the release in `give_back`, or in the drop of a region: what its last thread did in regions is done.
            if record.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
                || record.state.compare_exchange(OUTSIDE_FREE, outside, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return record;
            }
        }
        let mut head = self.0.load(Ordering::Acquire);
        let record = Box::into_raw(Box::new(Record {
            state: AtomicU64::new(outside),
            taken: AtomicBool::new(true),
            index: 0,
            next: ptr::null(),
        }));
        loop {
            // SAFETY: this thread's alone until it is published below. `head` is null, or a record that was published and lives for ever.
            unsafe {
                (*record).next = head;
                (*record).index = head.as_ref().map_or(0, |older| older.index + 1);
            }
            // Ordering: release pairs with the acquire in `iter`.
            match self.0.compare_exchange_weak(head, record, Ordering::AcqRel, Ordering::Acquire) {
                // SAFETY: it is never freed, and from here on nobody writes it but through its atomics.
                Ok(_) => return unsafe { &*record },
                Err(newer) => head = newer,
            }
        }
    }

    pub(super) fn give_back(record: &Record) {
        record.taken.store(false, Ordering::Release);
    }
}

/// While it lives, nothing that this thread can reach is used again. Regions nest; only the outermost counts.
pub(crate) struct Region {
    record: &'static Record,
    /// The record's state before, which comes back after: so the regions of a thread end last in, first out. They do, since none leaves the
    /// function that entered it but by its end; an outer one that ended first would have the inner one leave the record in a region for ever.
    /// Stackful coroutines that switch inside of `with` would break that: `MemoryTier` forbids it.
    before: u64,
    /// The record is the thread's.
    not_send: PhantomData<*const ()>,
}

impl Region {
    /// Enters with a record that this thread has.
    #[inline]
    fn with(grace: &Grace, record: &'static Record) -> Self {
        // Ordering: relaxed; only this thread writes it while it has the record.
        let before = record.state.load(Ordering::Relaxed);
        // No comparison with one number: the compiler would put that in the place of `before`, and need an instruction for it.
        if before >= OUTSIDE {
            record.enter(grace);
            if before & (OUTSIDE_FENCED - OUTSIDE) == 0 { barrier::light() } else { barrier::light_fenced() }
        }
        Self { record, before, not_send: PhantomData }
    }

    /// A small number that no other live thread has at the same time. Numbers are used again.
    #[inline]
    pub(crate) fn thread(&self) -> usize {
        self.record.index
    }
}

impl Drop for Region {
    #[inline]
    fn drop(&mut self) {
        // Ordering: release pairs with the acquire in `entered`: what was done in the region is done. Of an inner one it stores what is there.
        self.record.state.store(self.before, Ordering::Release);
    }
}

local! {
    /// Without a destructor, so that looking at it is one instruction.
    static RECORD: Cell<*const Record> = Cell::new(ptr::null());
}

local! {
    static RETURN: Return = Return(Cell::new(ptr::null()));
}

/// Gives the thread's record back when the thread ends.
struct Return(Cell<*const Record>);

impl Drop for Return {
    fn drop(&mut self) {
        // Destructors of other thread-locals may still use a tier: they take a record for each region.
        let _ = RECORD.try_with(|record| record.set(ptr::null()));
        // SAFETY: null, or the record this thread took.
        if let Some(record) = unsafe { self.0.get().as_ref() } {
            Records::give_back(record);
        }
    }
}

impl Grace {
    /// Enters a region.
    #[inline]
    pub(crate) fn enter(&'static self) -> Region {
        let record = RECORD.with(Cell::get);
        // SAFETY: null, or the record this thread took; records live for ever.
        match unsafe { record.as_ref() } {
            Some(record) => Region::with(self, record),
            None => self.enter_anew(),
        }
    }

    #[cold]
    fn enter_anew(&self) -> Region {
        let record = self.records.take();
        // Registers the destructor.
        if RETURN.try_with(|mine| mine.0.set(record)).is_ok() {
            RECORD.with(|mine| mine.set(record));
            return Region::with(self, record);
        }
        self.enter_once(record)
    }

    /// Enters with a record that this thread has for this region. It is past its destructors, so nothing would give it back later: the region's end does.
    fn enter_once(&self, record: &'static Record) -> Region {
        record.enter(self);
        barrier::light_fenced();
        Region { record, before: OUTSIDE_FREE, not_send: PhantomData }
    }

    /// As a thread past its destructors enters, for models.
    #[cfg(all(test, loom))]
    pub(crate) fn borrow(&self) -> Region {
        self.enter_once(self.records.take())
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Counts go by these numbers: the highest ones would share cells though few threads are left of a crowd.
    #[test]
    fn the_lowest_number_that_is_free_is_given_out() {
        static RECORDS: Records = Records(AtomicPtr::new(ptr::null_mut()));
        let crowd: Vec<_> = (0..5).map(|_| RECORDS.take()).collect();
        assert_eq!(crowd.iter().map(|record| record.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        Records::give_back(crowd[3]);
        crowd[1].state.store(OUTSIDE_FREE, Ordering::Release);
        Records::give_back(crowd[4]);
        let again: Vec<_> = (0..4).map(|_| RECORDS.take().index).collect();
        assert_eq!(again, [1, 3, 4, 5]);
        assert_ne!(crowd[1].state.load(Ordering::Relaxed), OUTSIDE_FREE, "lent twice");
    }
}
