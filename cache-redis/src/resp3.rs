//! RESP3, for who asks for it: how a connection begins with it, and its replies as RESP2 would have them.
//!
//! None of the tier's commands has more to say in RESP3. What is wanted of it is that it can be had: a proxy or a user's rules may ask for `HELLO`.

use crate::config::Login;
use crate::dial::wrong_password;
use crate::error::config_error;
use cache_core::Error;
use redis::{Cmd, RedisError, Value};

/// The first command of a connection: protocol, user and password in one.
pub(crate) fn hello(login: Option<&Login>) -> Cmd {
    let mut cmd = redis::cmd("HELLO");
    cmd.arg(3);
    if let Some(Login { username, password }) = login {
        cmd.arg("AUTH").arg(username.as_deref().unwrap_or("default")).arg(password);
    }
    cmd
}

/// Why `HELLO` was refused. A server that knows no such command, or no such protocol, has not looked at the password.
pub(crate) fn refused(err: &RedisError) -> Error {
    let knows_it_not = err.code() == Some("NOPROTO") || err.detail().is_some_and(|detail| detail.contains("unknown command"));
    if knows_it_not {
        return config_error("this Redis does not speak RESP3: remove `protocol` from the Redis URL");
    }
    wrong_password(err)
}

/// A reply without RESP3's types, so that nobody behind this has to know of them. Its parser bounds how deep they are nested.
pub(crate) fn plain(reply: Value) -> Value {
    match reply {
        Value::Array(parts) | Value::Set(parts) => Value::Array(parts.into_iter().map(plain).collect()),
        Value::Map(pairs) => Value::Array(pairs.into_iter().flat_map(|(name, value)| [plain(name), plain(value)]).collect()),
        Value::VerbatimString { text, .. } => Value::BulkString(text.into_bytes()),
        Value::Double(number) => Value::BulkString(number.to_string().into_bytes()),
        Value::Boolean(is) => Value::Int(is.into()),
        Value::Attribute { data, .. } => plain(*data),
        Value::Push { kind, data } => Value::Push { kind, data: data.into_iter().map(plain).collect() },
        reply => reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::parse_redis_value;

    #[test]
    fn what_resp3_says_is_what_resp2_would_have_said() {
        for (three, two) in [
            (&b"_\r\n"[..], &b"$-1\r\n"[..]),
            (b"=8\r\ntxt:text\r\n", b"$4\r\ntext\r\n"),
            (b"%1\r\n$2\r\nip\r\n*1\r\n#t\r\n", b"*2\r\n$2\r\nip\r\n*1\r\n:1\r\n"),
            (b"~2\r\n:1\r\n,1.5\r\n", b"*2\r\n:1\r\n$3\r\n1.5\r\n"),
            (b"|1\r\n+a\r\n+b\r\n:7\r\n", b":7\r\n"),
            (b"*2\r\n$1\r\nx\r\n_\r\n", b"*2\r\n$1\r\nx\r\n$-1\r\n"),
            (b"+OK\r\n", b"+OK\r\n"),
        ] {
            let [three, two] = [three, two].map(|wire| parse_redis_value(wire).expect("a reply"));
            assert_eq!(plain(three), two);
        }
    }

    #[test]
    fn a_login_without_a_user_is_the_default_user_s() {
        let words =
            |login: Option<Login>| String::from_utf8_lossy(&hello(login.as_ref()).get_packed_command()).replace("\r\n", " ");
        let login = |username: Option<&str>| Some(Login { username: username.map(Into::into), password: "p".into() });
        assert!(words(None).ends_with("$5 HELLO $1 3 "));
        assert!(words(login(None)).ends_with("$4 AUTH $7 default $1 p "));
        assert!(words(login(Some("u"))).ends_with("$4 AUTH $1 u $1 p "));
    }
}
