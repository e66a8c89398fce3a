//! Why a run stopped.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::remote::Failure;

/// A failed run. Nothing is recovered from: a figure that cannot be trusted is not printed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line makes no sense; the text says what would.
    Usage(String),
    /// The report could not be written.
    Write { path: PathBuf, source: io::Error },
    /// The asynchronous runtime could not be started.
    Runtime(io::Error),
    /// A trace could not be read.
    Read { path: PathBuf, source: io::Error },
    /// A process that weighs a subject, or takes it through a fault, failed; the text says how.
    Child(String),
    /// A subject answered with another key's value.
    WrongValue { work: &'static str, subject: &'static str },
    /// A subject missed more often than the work allows, so its time is not that of a hit.
    TooManyMisses { work: &'static str, subject: &'static str, hit_ratio: f64, least: f64 },
    /// A server could not be started or asked; the text says which.
    Server(String),
    /// A client could not connect, or failed where nothing was wrong with its server.
    Client { work: &'static str, subject: &'static str, source: Failure },
    /// More calls failed or missed than a hiccup of the machine explains.
    TooManyFailures { work: &'static str, subject: &'static str, failed: u64, calls: u64, first: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Server(text) => f.write_str(text),
            Self::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Child(text) => write!(f, "the child process failed: {text}"),
            Self::Runtime(source) => write!(f, "cannot start the runtime: {source}"),
            Self::Client { work, subject, source } => write!(f, "{work}: {subject}: {source}"),
            Self::TooManyFailures { work, subject, failed, calls, first } => {
                write!(f, "{work}: {subject} failed {failed} of {calls} calls, at first: {first}")
            }
            Self::WrongValue { work, subject } => write!(f, "{work}: {subject} returned another key's value"),
            Self::TooManyMisses { work, subject, hit_ratio, least } => {
                write!(f, "{work}: {subject} hit {:.1} % of its reads, {:.1} % expected", 100.0 * hit_ratio, 100.0 * least)
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Write { source, .. } | Self::Read { source, .. } | Self::Runtime(source) => Some(source),
            Self::Client { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
