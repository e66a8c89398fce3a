//! Why a server did not start.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a server did not start. The text says what to do about it, with the end of the server's own log where there is one.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The program is not on this machine.
    NotInstalled {
        /// The program that was looked for.
        program: &'static str,
        /// Where to get it.
        install: &'static str,
    },
    /// The program ended by itself before it answered.
    Exited {
        /// The program that ended.
        program: &'static str,
        /// The end of its log.
        log: String,
    },
    /// The program runs and does not answer.
    NoAnswer {
        /// The program that stayed silent.
        program: &'static str,
        /// How long it was given.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// A server that runs refused a command of its setting up, or lost the connection.
    Refused {
        /// The command, without its arguments.
        command: String,
        /// Its answer.
        answer: String,
    },
    /// The servers run and do not become one group.
    NotFormed {
        /// What they should have become.
        group: &'static str,
        /// How long they were given.
        waited: Duration,
        /// What was still missing.
        missing: String,
    },
    /// PostgreSQL refuses to run as root, and there is no other account to run it under.
    NoAccount,
    /// The operating system refused something on the way.
    Io {
        /// What was being done.
        doing: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Another process took the port between our choosing it and the server's binding it.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Exited { log, .. } if log.contains("Address already in use"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { program, install } => {
                write!(f, "{program} is not installed: run scripts/test, which installs it on Debian and Ubuntu, or {install}")
            }
            Self::Exited { program, log } => write!(f, "{program} ended before it answered; its log says:\n{log}"),
            Self::NoAnswer { program, waited, log } => {
                write!(f, "{program} did not answer within {waited:?}; its log says:\n{log}")
            }
            Self::Refused { command, answer } => write!(f, "the server answered {command} with: {answer}"),
            Self::NotFormed { group, waited, missing } => {
                write!(f, "the servers did not become one {group} within {waited:?}: {missing}")
            }
            Self::NoAccount => f.write_str(
                "PostgreSQL refuses to run as root, and /etc/passwd has neither `postgres` nor `nobody`: run the tests as another user",
            ),
            Self::Io { doing, .. } => write!(f, "could not {doing}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An error with its cause, for a panic.
pub(crate) struct Report<'a>(pub(crate) &'a StartError);

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        std::error::Error::source(self.0).map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

/// For calls that a test makes, which has no use for an error but to fail.
#[track_caller]
pub(crate) fn or_panic<T>(outcome: Result<T, StartError>) -> T {
    outcome.unwrap_or_else(|error| panic!("{}", Report(&error)))
}
