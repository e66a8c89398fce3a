//! What a tier is told once and its dials need: where its nodes are, who it is there, how long it waits.

use crate::tls::Tls;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a dial needs to know.
pub(crate) struct Config {
    pub(crate) login: Option<Login>,
    /// Whether connections begin with RESP3. Those to Sentinels do not.
    pub(crate) resp3: bool,
    pub(crate) database: i64,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_record_bytes: usize,
    /// Whether GETs may go as one MGET, and scripts as one call: a node of a cluster takes that for keys of one slot only.
    pub(crate) gathers: bool,
    /// Whether the server says of each write that there was one.
    pub(crate) tracks: bool,
    /// If there is any, every connection by host and port is made by it.
    pub(crate) tls: Option<Tls>,
    #[cfg(feature = "fred")]
    pub(crate) driver: Driver,
}

/// Who carries the commands over a connection. Supervisor, slot map, scripts and verbs are the tier's own with either.
#[cfg(feature = "fred")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// The tier's own multiplexer.
    #[default]
    Own,
    /// A client of [fred](https://docs.rs/fred) for each node. What differs is in the [crate's documentation](crate#fred).
    Fred,
}

/// What AUTH is told.
#[derive(PartialEq)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: String,
}

/// Where a node is found.
#[derive(Clone)]
pub(crate) enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A socket in the file system.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
    /// The master that Sentinels know by a name.
    Sentinel(Arc<Sentinels>),
}

/// Who knows the master.
pub(crate) struct Sentinels {
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) login: Option<Login>,
    pub(crate) master: String,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Address, user and password stay out of logs.
        let Self { timeout, connect_timeout, max_record_bytes, .. } = self;
        f.debug_struct("Config")
            .field("timeout", timeout)
            .field("connect_timeout", connect_timeout)
            .field("max_record_bytes", max_record_bytes)
            .finish_non_exhaustive()
    }
}
