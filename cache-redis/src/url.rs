//! What a URL says.

use crate::config::{Address, Config, Login};
use crate::error::config_error;
use cache_core::{Error, Result};
use redis::{ConnectionAddr, IntoConnectionInfo};
use std::time::Duration;

/// Time for one call unless told.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);
/// Less than the second after which TCP repeats a lost SYN: a fresh dial is the quicker retry.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// 8 MiB.
const DEFAULT_MAX_RECORD_BYTES: usize = 8 << 20;

/// What a URL says.
pub(crate) struct Parsed {
    pub(crate) address: Address,
    pub(crate) config: Config,
    pub(crate) is_tls: bool,
}

/// Reads several URLs. Login and database are the first one's, and the others say the same or nothing; TLS is for all or none, and so is RESP3.
pub(crate) fn parse_all<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<(Vec<Address>, Config, bool)> {
    let mut all = Vec::new();
    let mut first = None;
    for url in urls {
        let Parsed { address, config, is_tls } = parse(url.as_ref())?;
        all.push(address);
        let Some((first, first_is_tls)) = &first else {
            first = Some((config, is_tls));
            continue;
        };
        if *first_is_tls != is_tls {
            return Err(config_error("some of the Redis URLs ask for TLS and some do not"));
        }
        if config.login.is_some() && config.login != first.login {
            return Err(config_error("the Redis URLs have different logins: all nodes get that of the first URL"));
        }
        if config.resp3 != first.resp3 {
            return Err(config_error("some of the Redis URLs ask for RESP3 and some do not"));
        }
        if config.database != 0 && config.database != first.database {
            return Err(config_error("the Redis URLs have different databases: all nodes get that of the first URL"));
        }
    }
    first.map(|(config, is_tls)| (all, config, is_tls)).ok_or_else(|| config_error("no Redis URL is given"))
}

/// Reads a URL. No error quotes any part of it.
pub(crate) fn parse(url: &str) -> Result<Parsed> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(config_error("not a Redis URL: write redis://[user:password@]host[:port][/database]"));
    };
    let is_tls = match scheme {
        "redis" | "valkey" => false,
        "unix" | "redis+unix" | "valkey+unix" if cfg!(unix) => false,
        "rediss" | "valkeys" => true,
        _ => return Err(config_error("the scheme of a Redis URL must be redis, rediss, valkey, valkeys or unix")),
    };
    if is_tls && rest.contains('#') {
        // Other clients take `#insecure` for leave to trust anybody.
        return Err(config_error("certificates are always verified: remove `#` and what follows from the Redis URL"));
    }
    // TLS is ours. The driver, which has none here, reads the rest.
    let plain = if is_tls { format!("redis://{rest}") } else { url.to_owned() };
    let info = plain.into_connection_info().map_err(|err| wrong_url(&err))?;
    let settings = info.redis_settings();
    let address = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
        _ => return Err(config_error("this kind of Redis address is not supported")),
    };
    let username = settings.username().map(ToOwned::to_owned);
    // A user without a password is asked for nonetheless: Redis has `nopass` users, and a forgotten password must not pass.
    let password = settings.password().map(ToOwned::to_owned).or_else(|| username.as_ref().map(|_| String::new()));
    if settings.db() < 0 {
        return Err(config_error("the database number of the Redis URL is negative"));
    }
    let config = Config {
        login: password.map(|password| Login { username, password }),
        resp3: settings.protocol() == redis::ProtocolVersion::RESP3,
        database: settings.db(),
        timeout: DEFAULT_TIMEOUT,
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        max_record_bytes: DEFAULT_MAX_RECORD_BYTES,
        gathers: true,
        tracks: false,
        tls: None,
        #[cfg(feature = "fred")]
        driver: crate::config::Driver::Own,
    };
    Ok(Parsed { address, config, is_tls })
}

/// The driver's fixed text says what is wrong; its detail may quote the URL.
fn wrong_url(err: &redis::RedisError) -> Error {
    let text = err.to_string();
    let text = text.split(" - ").next().filter(|_| err.kind() == redis::ErrorKind::InvalidClientConfig);
    match text {
        Some(text) => config_error(format!("the Redis URL is wrong: {text}")),
        None => config_error("the Redis URL is wrong: write redis://[user:password@]host[:port][/database]"),
    }
}
