//! What tests ask of the grace periods.

use super::Grace;
use std::cell::Cell;

thread_local! {
    static ADVANCES: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn count_advance() {
    ADVANCES.set(ADVANCES.get() + 1);
}

/// How often this thread has tried to end a grace period.
pub(crate) fn advances() -> u64 {
    ADVANCES.get()
}

/// How many records there are, taken or not.
pub(crate) fn records() -> usize {
    Grace::global().records.iter().count()
}
