//! What can go wrong with an outbox.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::row::{MAX_KEY, MAX_TOPIC};
use super::statements::MAX_TABLE;

/// Why a row could not be made, added or relayed. No text of it holds a topic or a key; the driver's own error is the
/// [`source`](StdError::source), and drivers may quote values in theirs.
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// A topic is longer than [`MAX_TOPIC`] bytes. Nothing was sent.
    TopicTooLong {
        /// How long it is, in bytes.
        bytes: usize,
    },
    /// A key is longer than [`MAX_KEY`] bytes. Nothing was sent.
    KeyTooLong {
        /// How long it is, in bytes.
        bytes: usize,
    },
    /// A table's name is empty, too long or has other characters than ASCII letters, digits and `_`, or begins with a digit.
    TableName,
    /// A relay was given a setting that cannot work.
    Setting {
        /// Which one.
        name: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The database or its driver refused. Whether what was asked for has happened is not known.
    Store(Arc<dyn StdError + Send + Sync>),
    /// The database did not answer within a relay's lease. Whether what was asked for has happened is not known.
    StoreTimeout,
    /// An implementation of [`Store`](super::Store) panicked.
    StorePanicked,
}

impl Error {
    /// Wraps a driver's error; for those who implement [`Store`](super::Store).
    pub fn store(source: impl StdError + Send + Sync + 'static) -> Self {
        Self::Store(Arc::new(source))
    }

    /// Whether the same call may succeed later: true for what came from the database.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(_) | Self::StoreTimeout)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TopicTooLong { bytes } => write!(f, "a topic of {bytes} bytes: at most {MAX_TOPIC} are allowed"),
            Self::KeyTooLong { bytes } => write!(f, "a key of {bytes} bytes: at most {MAX_KEY} are allowed"),
            Self::TableName => write!(f, "a table is named with 1 to {MAX_TABLE} ASCII letters, digits and _, no digit first"),
            Self::Setting { name, allowed } => write!(f, "the relay's {name} must be {allowed}"),
            Self::Store(_) => f.write_str("the outbox's database refused"),
            Self::StoreTimeout => f.write_str("the outbox's database did not answer in time"),
            Self::StorePanicked => f.write_str("the outbox's store panicked"),
        }
    }
}

/// The text of [`Display`](fmt::Display) and that of the source: a driver's `Debug` may print the row.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(source) => write!(f, "{self}: {source}"),
            _ => write!(f, "{self}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Store(source) => Some(&**source),
            _ => None,
        }
    }
}
