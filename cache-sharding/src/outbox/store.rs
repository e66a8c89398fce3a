//! What a relay needs of a database.

use std::future::Future;
use std::time::Duration;

use super::error::Error;
use super::row::Row;

/// A row that a relay has claimed, as it is handed to the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Names the row. Never given to another, not even after it is deleted.
    pub id: i64,
    /// How often it has been claimed, this time included: 1 for most. A relay that died with the row has counted, too.
    pub attempt: u32,
    /// What the transaction left.
    pub row: Row,
}

/// A row that is to be claimed again, but not at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Postponed {
    /// Names the row.
    pub id: i64,
    /// The attempt it was claimed as. The row stays as it is if it has been claimed again since.
    pub attempt: u32,
    /// How long it rests from now on, by the database's clock; zero: it may be claimed at once.
    pub delay: Duration,
}

/// How much there is to relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Backlog {
    /// Rows in the table: new, claimed and postponed ones. Counted up to [`Backlog::COUNTED`].
    pub pending: u64,
    /// The age of the row with the lowest number, by the database's clock. None: there are no rows.
    pub oldest: Option<Duration>,
}

impl Backlog {
    /// A larger backlog is counted as this one, so that the question stays cheap.
    pub const COUNTED: u64 = 100_000;

    /// What a [`Store`] answers.
    pub fn new(pending: u64, oldest: Option<Duration>) -> Self {
        Self { pending, oldest }
    }

    /// As the statements answer: rows, and milliseconds, which a clock that was set back makes negative.
    #[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
    pub(super) fn counted(pending: i64, oldest: Option<i64>) -> Self {
        Self::new(pending.cast_unsigned(), oldest.map(|age| Duration::from_millis(age.max(0).cast_unsigned())))
    }
}

/// The table as a [`Relay`](super::Relay) uses it. Implement it for a driver that is not among the features;
/// [`Statements`](super::Statements) has the SQL.
///
/// A call that returns an error may have happened or not: the relay repeats `delete` and `postpone`, which may both happen
/// twice. A call whose future is dropped is the same: what it claimed comes back when the claims end.
pub trait Store: Send + Sync + 'static {
    /// Claims up to `most` of the rows that are due, in no particular order, and returns them. A claimed row is not due for
    /// `lease`, counted by the *database's* clock from no earlier than this call, and due again afterwards: a claim outlives its claimer
    /// by no more. Two calls at once never claim the same row. `attempt` rises by one.
    fn claim(&self, most: u32, lease: Duration) -> impl Future<Output = Result<Vec<Claimed>, Error>> + Send;

    /// Deletes exactly these rows, whoever has claimed them. Rows that are gone are no error.
    fn delete(&self, ids: &[i64]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends the claims of these rows and makes each due after its delay, except where the attempt is no longer the row's.
    fn postpone(&self, rows: &[Postponed]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Counts what is there.
    fn backlog(&self) -> impl Future<Output = Result<Backlog, Error>> + Send;
}
