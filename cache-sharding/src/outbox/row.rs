//! What a transaction leaves in the outbox.

use std::fmt;

use super::error::Error;

/// The longest topic, in bytes.
pub const MAX_TOPIC: usize = 128;
/// The longest key, in bytes: 64 KiB.
pub const MAX_KEY: usize = 64 * 1024;

/// A message of a transaction: something of `topic` changed under `key`, and its version is now `version`.
///
/// Topic and key are bytes, any bytes. For a cache, the topic is the cache's name and the key the encoded key. `Debug` shows
/// the topic and the key's length, never the key.
///
/// ```
/// use cache_sharding::outbox::Row;
///
/// let row = Row::new("product", 17_u64.to_be_bytes())?.with_version(3);
/// assert_eq!((row.topic(), row.key().len()), (&b"product"[..], 8));
///
/// assert!(Row::new("product", vec![0; 65_537]).is_err());
/// # Ok::<_, cache_sharding::outbox::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    topic: Box<[u8]>,
    key: Box<[u8]>,
    version: Option<u64>,
}

impl Row {
    /// A row without a version. Copies both.
    ///
    /// # Errors
    /// [`Error::TopicTooLong`] above [`MAX_TOPIC`], [`Error::KeyTooLong`] above [`MAX_KEY`].
    pub fn new(topic: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, Error> {
        let (topic, key) = (topic.as_ref(), key.as_ref());
        if topic.len() > MAX_TOPIC {
            return Err(Error::TopicTooLong { bytes: topic.len() });
        }
        if key.len() > MAX_KEY {
            return Err(Error::KeyTooLong { bytes: key.len() });
        }
        Ok(Self { topic: topic.into(), key: key.into(), version: None })
    }

    /// The version that the transaction commits. All 64 bits survive.
    pub fn with_version(mut self, version: impl Into<Option<u64>>) -> Self {
        self.version = version.into();
        self
    }

    /// What was given as the topic.
    pub fn topic(&self) -> &[u8] {
        &self.topic
    }

    /// What was given as the key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The version, if one was given.
    pub fn version(&self) -> Option<u64> {
        self.version
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = String::from_utf8_lossy(&self.topic);
        f.debug_struct("Row").field("topic", &topic).field("key_bytes", &self.key.len()).field("version", &self.version).finish()
    }
}

/// How a row stands in a table. SQL has no unsigned integers: the version is the same 64 bits, read as signed.
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
impl Row {
    /// What stands there has passed the table's checks; were it refused here, it would hold up all others.
    pub(super) fn stored(topic: Vec<u8>, key: Vec<u8>, version: Option<i64>) -> Self {
        Self { topic: topic.into(), key: key.into(), version: version.map(i64::cast_unsigned) }
    }

    pub(super) fn signed_version(&self) -> Option<i64> {
        self.version.map(u64::cast_signed)
    }
}

/// Splits rows into runs for one statement each: at most `rows` of them, and 1 MiB of keys where there are several.
#[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
pub(super) fn runs(mut all: &[Row], rows: usize) -> impl Iterator<Item = &[Row]> {
    const BYTES: usize = 1024 * 1024;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = all.iter().take(rows).take_while(|row| {
            bytes += row.key.len();
            bytes <= BYTES
        });
        // A key is shorter than a statement, so one row always fits.
        let (run, rest) = all.split_at(fits.count());
        all = rest;
        (!run.is_empty()).then_some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_KEY, MAX_TOPIC, Row};
    use crate::outbox::Error;

    #[test]
    fn what_is_too_long_is_refused_and_what_is_not_is_taken() {
        let row = Row::new([0xFF; MAX_TOPIC], vec![0; MAX_KEY]).unwrap();
        assert_eq!((row.topic().len(), row.key().len()), (MAX_TOPIC, MAX_KEY));
        assert!(matches!(Row::new([0; MAX_TOPIC + 1], []), Err(Error::TopicTooLong { bytes: 129 })));
        assert!(matches!(Row::new([], vec![0; MAX_KEY + 1]), Err(Error::KeyTooLong { bytes: 65_537 })));
    }

    #[test]
    fn neither_a_row_nor_an_error_prints_a_key() {
        let row = Row::new("account", b"secret").unwrap();
        assert_eq!(format!("{row:?}"), r#"Row { topic: "account", key_bytes: 6, version: None }"#);
        let error = Row::new(b"secret".repeat(22), []).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[cfg(any(feature = "outbox-sqlite", feature = "outbox-postgres"))]
    #[test]
    fn rows_are_split_by_number_and_by_bytes_and_none_is_lost() {
        let lengths = |rows: &[Row], most| super::runs(rows, most).map(<[Row]>::len).collect::<Vec<_>>();
        let small = vec![Row::new("t", "k").unwrap(); 25];
        assert_eq!(lengths(&small, 10), [10, 10, 5]);
        let large = vec![Row::new("t", vec![0; MAX_KEY]).unwrap(); 33];
        assert_eq!(lengths(&large, 1000), [16, 16, 1]);
        assert!(lengths(&[], 10).is_empty());
    }
}
