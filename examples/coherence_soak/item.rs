//! What is cached: a row of the database.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Its own, so that a value under a wrong key is seen.
    pub(crate) key: u64,
    /// Raised by one in the transaction of each write.
    pub(crate) version: u64,
    pub(crate) text: String,
}
