//! Messages that commit with the change they tell of: a transactional outbox, for PostgreSQL and SQLite.
//!
//! A service that changes a row and then invalidates a cache can die in between, and nobody ever learns of the change. With an outbox it
//! writes a [`Row`] in the *same transaction*: a topic (which cache), a key and perhaps a version. A [`Relay`], on any node, hands the rows to a
//! closure and deletes those that it took. Whoever is killed, and whenever: what was committed is delivered, what was rolled back is not.
//!
//! At least once, in no order: a relay that dies between the delivery and the delete leads to a second one. Invalidations do not mind; let
//! the version say which of two messages is the newer. Relays forget no row and never give up on one: it is for the closure to return `Ok`
//! for a topic that it no longer knows, or after too many [`attempt`](Claimed::attempt)s.
//!
//! # Where it stands
//!
//! In the database of the change, or it would not be in its transaction. With shards: **one outbox table and one relay for each shard**.
//! A relay speaks to the primary, never to a replica.
//!
//! # Features
//!
//! `outbox-postgres` and `outbox-sqlite` bring [`PostgresOutbox`] and [`SqliteOutbox`], by sqlx 0.9, which needs Rust 1.94. Neither is on
//! by default. TLS to PostgreSQL is a feature of sqlx, to be named in the service's own manifest; the SQLite is the one that sqlx builds.
//! The rest is without sqlx: for another driver implement [`Store`], four questions for which [`Statements`] has the SQL.
//!
//! # How a row goes
//!
//! | step | what happens |
//! |---|---|
//! | `add` in the user's transaction | it is due as soon as it commits |
//! | claim, up to 100 at once | `attempts` rises, `due_at` is the claim's end, by the database's clock; PostgreSQL: `FOR UPDATE SKIP LOCKED` |
//! | delivered | it is deleted by its id. Never by a range: ids become visible out of order |
//! | failed, too slow, panicked | `due_at` is the end of its rest: 200 ms, doubling up to 10 s, less up to a half by chance |
//! | the relay died | the claim ends after 30 s, and any relay may claim the row |
//!
//! New rows come first, and then those that failed or whose relay died: while more is written than can be delivered, they wait.
//!
//! # What it costs
//!
//! | | PostgreSQL | SQLite |
//! |---|---|---|
//! | [`add`](SqliteOutbox::add), one row | 60 to 85 µs, a round trip | 10 µs |
//! | [`add_all`](SqliteOutbox::add_all), a row of many | 5 to 7 µs | 1.5 to 2 µs |
//! | relayed by one relay as it is by default | 40,000 rows/s | 50,000 rows/s |
//! | an idle relay | an index look-up each 200 ms | the same, and no lock |
//!
//! 2 vCPUs of an Intel Xeon under KVM, 21 November 2026, not otherwise idle; 20,000 rows with keys of 8 bytes and a delivery that does nothing,
//! on one machine with the server: PostgreSQL 15 without `fsync`, SQLite with a write-ahead log and `synchronous = normal`. A delivery that takes
//! time bounds the rate: 16 of 1 ms each at once are 16,000 a second.
//!
//! A row waits 100 ms on average until it is claimed; [`Relay::wake`] after a commit spares it that on its own node.
//!
//! # What it is not
//!
//! No queue: no order, no consumers' groups, no retention. And no change capture: what other programs change without adding a row is not seen.

mod caught;
mod error;
#[cfg(feature = "outbox-postgres")]
mod postgres;
mod relay;
mod row;
mod settings;
#[cfg(feature = "outbox-sqlite")]
mod sqlite;
mod statements;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod work;

pub use self::error::Error;
#[cfg(feature = "outbox-postgres")]
pub use self::postgres::PostgresOutbox;
pub use self::relay::{Relay, RelayBuilder, RelayClosed};
pub use self::row::{MAX_KEY, MAX_TOPIC, Row};
#[cfg(feature = "outbox-sqlite")]
pub use self::sqlite::SqliteOutbox;
pub use self::statements::{DEFAULT_TABLE, Statements};
pub use self::stats::RelayStats;
pub use self::store::{Backlog, Claimed, Postponed, Store};
