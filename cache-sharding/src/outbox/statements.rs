//! The SQL, for any driver.

use std::sync::Arc;

use super::error::Error;
use super::store::Backlog;

/// The table's name unless another is given.
pub const DEFAULT_TABLE: &str = "cachestack_outbox";
/// The longest name of a table. PostgreSQL cuts names after 63 bytes, and the index adds some to the table's.
pub(super) const MAX_TABLE: usize = 48;

/// The statements of an outbox, for migrations and for drivers other than sqlx.
///
/// `due_at` says when a row may be claimed. A new row has the lowest time there is: it is due before all others and whatever
/// the clock says. A claim moves it to the claim's end, a failure to the end of the delay; so a claimer that dies leaves
/// nothing to clean up. A number is never given twice (`AUTOINCREMENT`, an identity), or a late delete could hit a row that is
/// new. A version is the `u64`'s 64 bits read as signed.
///
/// ```
/// use cache_sharding::outbox::Statements;
///
/// let sql = Statements::postgres("cachestack_outbox")?;
/// assert!(sql.create.starts_with(r#"CREATE TABLE IF NOT EXISTS "cachestack_outbox""#));
///
/// assert!(Statements::sqlite("product; DROP TABLE product").is_err());
/// # Ok::<_, cache_sharding::outbox::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statements {
    /// Creates the table and its index where there are none: two statements, no parameters.
    pub create: Arc<str>,
    /// Adds a row: topic, key, version or null. More lists of three may follow its `VALUES`.
    pub add: Arc<str>,
    /// Adds many rows. PostgreSQL only: `bytea[]`, `bytea[]`, `bigint[]` with nulls.
    pub add_many: Option<Arc<str>>,
    /// Whether there is anything to claim, one boolean. SQLite only, where a claim takes the lock of writers even if it finds
    /// nothing.
    pub is_due: Option<Arc<str>>,
    /// Claims rows: most, lease. Returns id, topic, key, version, attempts. The lease is in seconds, a `double precision`
    /// (PostgreSQL), or in milliseconds (SQLite).
    pub claim: Arc<str>,
    /// Deletes rows: their ids as `bigint[]` (PostgreSQL) or as the JSON text `[1,2]` (SQLite).
    pub delete: Arc<str>,
    /// Postpones rows. PostgreSQL: ids `bigint[]`, attempts `integer[]`, seconds `double precision[]`. SQLite: the JSON text
    /// `[[id,attempt,milliseconds],…]`.
    pub postpone: Arc<str>,
    /// Counts: rows, at most [`Backlog::COUNTED`], and the age in milliseconds of the oldest, or null.
    pub backlog: Arc<str>,
}

/// Milliseconds since 1970, by the database's clock; in any SQLite, where `unixepoch('subsec')` needs 3.42.
const SQLITE_NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";

impl Statements {
    /// For PostgreSQL 12 and later. The table is looked for in the connection's `search_path`.
    ///
    /// # Errors
    /// [`Error::TableName`] unless the name has 1 to 48 ASCII letters, digits and `_`, no digit first. It is quoted, so upper
    /// and lower case differ and reserved words are allowed.
    pub fn postgres(table: &str) -> Result<Self, Error> {
        check(table)?;
        let counted = Backlog::COUNTED;
        Ok(Self {
            create: format!(
                r#"CREATE TABLE IF NOT EXISTS "{table}" (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic BYTEA NOT NULL CHECK (octet_length(topic) <= 128),
    key BYTEA NOT NULL CHECK (octet_length(key) <= 65536),
    version BIGINT,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at TIMESTAMPTZ NOT NULL DEFAULT '-infinity',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS "{table}_due" ON "{table}" (due_at, id);"#
            )
            .into(),
            add: format!(r#"INSERT INTO "{table}" (topic, key, version) VALUES ($1, $2, $3)"#).into(),
            add_many: Some(
                format!(
                    r#"INSERT INTO "{table}" (topic, key, version) SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[])"#
                )
                .into(),
            ),
            is_due: None,
            // Materialized, so that it runs once: a subquery in IN may run again and lock more than its limit.
            claim: format!(
                r#"WITH due AS MATERIALIZED (SELECT id FROM "{table}" WHERE due_at <= now() ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE "{table}" AS o SET attempts = o.attempts + 1, due_at = clock_timestamp() + make_interval(secs => $2) FROM due WHERE o.id = due.id
RETURNING o.id, o.topic, o.key, o.version, o.attempts"#
            )
            .into(),
            delete: format!(r#"DELETE FROM "{table}" WHERE id = ANY($1)"#).into(),
            postpone: format!(
                r#"UPDATE "{table}" AS o SET due_at = clock_timestamp() + make_interval(secs => r.delay)
FROM unnest($1::bigint[], $2::integer[], $3::double precision[]) AS r(id, attempt, delay) WHERE o.id = r.id AND o.attempts = r.attempt"#
            )
            .into(),
            backlog: format!(
                r#"SELECT (SELECT count(*) FROM (SELECT 1 FROM "{table}" LIMIT {counted}) AS counted),
(SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint FROM "{table}" ORDER BY id LIMIT 1)"#
            )
            .into(),
        })
    }

    /// For SQLite 3.38 and later, of which 3.37 brought `STRICT` tables and 3.38 the functions for JSON.
    ///
    /// # Errors
    /// As for [`postgres`](Self::postgres).
    pub fn sqlite(table: &str) -> Result<Self, Error> {
        check(table)?;
        let (now, counted) = (SQLITE_NOW, Backlog::COUNTED);
        Ok(Self {
            // Strict, so that no row can be written that cannot be read.
            create: format!(
                r#"CREATE TABLE IF NOT EXISTS "{table}" (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic BLOB NOT NULL CHECK (length(topic) <= 128),
    key BLOB NOT NULL CHECK (length(key) <= 65536),
    version INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL DEFAULT ({now})
) STRICT;
CREATE INDEX IF NOT EXISTS "{table}_due" ON "{table}" (due_at, id);"#
            )
            .into(),
            add: format!(r#"INSERT INTO "{table}" (topic, key, version) VALUES (?, ?, ?)"#).into(),
            add_many: None,
            is_due: Some(format!(r#"SELECT EXISTS (SELECT 1 FROM "{table}" WHERE due_at <= {now})"#).into()),
            claim: format!(
                r#"UPDATE "{table}" SET attempts = attempts + 1, due_at = {now} + ?2
WHERE id IN (SELECT id FROM "{table}" WHERE due_at <= {now} ORDER BY due_at, id LIMIT ?1) RETURNING id, topic, key, version, attempts"#
            )
            .into(),
            delete: format!(r#"DELETE FROM "{table}" WHERE id IN (SELECT value FROM json_each(?))"#).into(),
            postpone: format!(
                r#"UPDATE "{table}" AS o SET due_at = {now} + r.delay
FROM (SELECT value ->> 0 AS id, value ->> 1 AS attempt, value ->> 2 AS delay FROM json_each(?)) AS r WHERE o.id = r.id AND o.attempts = r.attempt"#
            )
            .into(),
            backlog: format!(
                r#"SELECT (SELECT count(*) FROM (SELECT 1 FROM "{table}" LIMIT {counted})),
(SELECT {now} - created_at FROM "{table}" ORDER BY id LIMIT 1)"#
            )
            .into(),
        })
    }
}

fn check(table: &str) -> Result<(), Error> {
    let plain = table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let led = table.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if plain && led && table.len() <= MAX_TABLE { Ok(()) } else { Err(Error::TableName) }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_TABLE, MAX_TABLE, Statements};
    use crate::outbox::{Error, MAX_KEY, MAX_TOPIC};

    #[test]
    fn a_table_is_named_with_letters_digits_and_underscores_only() {
        for good in [DEFAULT_TABLE, "a", "_", "Outbox2", "select", &"a".repeat(MAX_TABLE)] {
            assert!(Statements::postgres(good).is_ok() && Statements::sqlite(good).is_ok(), "{good}");
        }
        for bad in ["", "2a", "a;b", "a\"b", "a'b", "a b", "a.b", "a-b", "a\0", "ä", "a\n", "a/*", &"a".repeat(MAX_TABLE + 1)] {
            assert!(matches!(Statements::postgres(bad), Err(Error::TableName)), "{bad:?}");
            assert!(matches!(Statements::sqlite(bad), Err(Error::TableName)), "{bad:?}");
        }
    }

    #[test]
    fn the_tables_check_the_lengths_that_rows_have() {
        for sql in [Statements::postgres(DEFAULT_TABLE).unwrap(), Statements::sqlite(DEFAULT_TABLE).unwrap()] {
            for (column, most) in [("topic", MAX_TOPIC), ("key", MAX_KEY)] {
                assert!(sql.create.contains(&format!("length({column}) <= {most})")), "{}", sql.create);
            }
        }
    }
}
