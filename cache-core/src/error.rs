//! The one error of the crate: small, cloneable, typed, and free of keys, values and secrets.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// An error that a loader, writer or codec of the user returns.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, coarse enough to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The builder was given a configuration that cannot work. Never transient.
    Config,
    /// L2 refused the user name or password. Never transient.
    Credentials,
    /// L2 could not be reached, or answered with an error.
    Unavailable,
    /// A tier, or the origin, did not answer within its time.
    Timeout,
    /// A limit on the calls of L2 refused this one: it was not sent; see [`layers`](crate::layers). Or one on [loads](crate::Builder::loads_at_once): the origin was not asked.
    Overloaded,
    /// L2 refused a write, because the key was invalidated or written by somebody else meanwhile.
    Refused,
    /// What stands under the key in L2 was not written by this library; it was left as it is.
    Foreign,
    /// The origin's loader or writer returned an error; it is the [`source`](StdError::source).
    Origin,
    /// The origin's loader or writer panicked.
    Panicked,
    /// A loader asked for the key that it is loading, directly or through another key.
    Recursive,
    /// The load's task was dropped, which happens when the runtime shuts down.
    Cancelled,
    /// The cache has been closed.
    Closed,
    /// `load` or `write` was called on a cache built without an origin or a writer.
    NoOrigin,
    /// A value could not be encoded.
    Codec,
    /// An encoded value is larger than the cache was told to store in L2.
    TooLarge,
    /// A strict write could not be announced, and was not begun: nothing was committed. The cause, if there is one, is the
    /// [`source`](StdError::source). See [`Builder::strict`](crate::Builder::strict).
    Unannounced,
}

/// Why a call failed. Cloning copies a pointer: one failed load is shared by all who wait for it.
///
/// The text is short and holds no key, value, address or password. The cause, where there is one, is the
/// [`source`](StdError::source); [`Error::find`] finds a cause of a given type.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    is_partial: bool,
    text: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What most calls of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind, with a text of its own. For tiers and codecs.
    pub fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, is_partial: false, text: text.into(), source: None }
    }

    /// The same error with its cause attached.
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The same error as that of a part: one node of several failed, which says nothing about the keys of the others. For tiers.
    ///
    /// ```
    /// # use cache_core::{Error, ErrorKind};
    /// let err = Error::new(ErrorKind::Unavailable, "one of the shards is away").partial();
    /// assert!(err.is_partial());
    /// ```
    pub fn partial(self) -> Self {
        Self { is_partial: true, ..self }
    }

    /// Whether only a part of the tier failed, and the rest of it is well. A [`Breaker`](crate::layers::Breaker) does not count it.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed a moment later without anybody changing anything. An origin's own error is not:
    /// only the caller knows whether "no such row" is one.
    pub fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded | ErrorKind::Refused | ErrorKind::Cancelled => {
                true
            }
            ErrorKind::Unannounced => self.find::<Self>().is_none_or(Self::is_transient),
            _ => false,
        }
    }

    /// The first cause of type `E`, the loader's own error for instance.
    ///
    /// ```
    /// # use cache_core::{Error, ErrorKind};
    /// let io = std::io::Error::other("disk");
    /// let err = Error::new(ErrorKind::Origin, "the load failed").with_source(io);
    /// assert!(err.find::<std::io::Error>().is_some());
    /// ```
    pub fn find<E: StdError + 'static>(&self) -> Option<&E> {
        let mut cause: Option<&(dyn StdError + 'static)> = self.source();
        while let Some(err) = cause {
            if let Some(found) = err.downcast_ref::<E>() {
                return Some(found);
            }
            cause = err.source();
        }
        None
    }

    pub(crate) fn config(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, text)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the cache is closed")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind).field("text", &self.text);
        if self.is_partial {
            out.field("partial", &true);
        }
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
