//! From the driver's errors to ours, without whatever the server or the URL put into their text.

use cache_core::{Error, ErrorKind};
use redis::{RedisError, ServerErrorKind};

/// An error code as servers write them. Anything else in its place is text of unknown content.
fn code(err: &RedisError) -> Option<&str> {
    err.code().filter(|code| code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// What a failed call returns. Details of the driver's error are dropped: they can quote a key, a user name or an address.
pub(crate) fn from_driver(err: &RedisError) -> Error {
    if is_refusal(err) {
        return Error::new(ErrorKind::Credentials, "Redis refused the credentials, or a permission that the tier needs");
    }
    if err.is_timeout() {
        return Error::new(ErrorKind::Timeout, "Redis did not answer in time");
    }
    if err.is_connection_dropped() {
        return Error::new(ErrorKind::Unavailable, "the connection to Redis was lost");
    }
    match code(err) {
        Some("OOM") => Error::new(ErrorKind::Unavailable, "Redis is out of memory and refuses writes (OOM)"),
        Some("READONLY") => Error::new(ErrorKind::Unavailable, "Redis is a replica and refuses writes (READONLY)"),
        Some(code) => Error::new(ErrorKind::Unavailable, format!("Redis answered with an error ({code})")),
        None => Error::new(ErrorKind::Unavailable, "Redis gave a reply that was not understood"),
    }
}

/// Whether the server refused who we are or what we may do.
pub(crate) fn is_refusal(err: &RedisError) -> bool {
    matches!(err.kind(), redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::Server(ServerErrorKind::NoPerm))
        || matches!(err.code(), Some("NOAUTH" | "WRONGPASS"))
}

pub(crate) fn is_no_script(err: &RedisError) -> bool {
    err.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

/// `maxmemory` is reached, and the server may not evict.
pub(crate) fn is_out_of_memory(err: &RedisError) -> bool {
    err.code() == Some("OOM")
}

/// The keys of a command are on both sides of a slot on the move.
pub(crate) fn is_moving(err: &RedisError) -> bool {
    err.code() == Some("TRYAGAIN")
}

pub(crate) fn is_read_only(err: &RedisError) -> bool {
    err.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// The value is of another Redis type than a string.
pub(crate) fn is_wrong_type(err: &RedisError) -> bool {
    err.code() == Some("WRONGTYPE")
}

pub(crate) fn config_error(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::make_extension_error;

    fn mapped(code: &str) -> ErrorKind {
        from_driver(&make_extension_error(code.to_owned(), None)).kind()
    }

    #[test]
    fn refusals_are_told_from_weather() {
        assert_eq!(mapped("WRONGPASS"), ErrorKind::Credentials);
        assert_eq!(mapped("NOAUTH"), ErrorKind::Credentials);
        assert_eq!(mapped("OOM"), ErrorKind::Unavailable);
        assert_eq!(mapped("MISCONF"), ErrorKind::Unavailable);
    }

    #[test]
    fn no_text_of_the_server_gets_into_ours() {
        for (code, detail) in [("ERR", "canary"), ("canary@example.org", "canary"), ("WRONGPASS", "user canary")] {
            let err = from_driver(&make_extension_error(code.to_owned(), Some(detail.to_owned())));
            assert!(!format!("{err} {err:?}").contains("canary"), "{err:?}");
        }
    }
}
