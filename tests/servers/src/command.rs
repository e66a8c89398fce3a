//! Commands that set a Redis server up.

use std::time::Duration;

use redis::{Cmd, Connection, ConnectionInfo, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisError};

use crate::error::StartError;
use crate::redis::Redis;

/// More than MIGRATE takes to give up on a silent target.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A plain connection to one server.
pub(crate) struct Client(Connection);

impl Client {
    pub(crate) fn connect(server: &Redis) -> Result<Self, StartError> {
        let refused = |err: RedisError| StartError::Refused { command: "a connection".into(), answer: err.to_string() };
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = server.password() {
            settings = settings.set_password(password);
        }
        let address: ConnectionInfo = server.url().into_connection_info().map_err(refused)?.set_redis_settings(settings);
        let client = redis::Client::open(address).map_err(refused)?;
        let connection = client.get_connection_with_timeout(ANSWER_LIMIT).map_err(refused)?;
        connection.set_read_timeout(Some(ANSWER_LIMIT)).map_err(refused)?;
        Ok(Self(connection))
    }

    /// Sends a command that is written as one would type it: words apart by spaces.
    pub(crate) fn ask<T: FromRedisValue>(&mut self, command: &str) -> Result<T, StartError> {
        let mut words = Cmd::new();
        for word in command.split_ascii_whitespace() {
            words.arg(word);
        }
        words.query(&mut self.0).map_err(|err| StartError::Refused { command: command.to_owned(), answer: err.to_string() })
    }

    /// Sends a command whose arguments may be any bytes.
    pub(crate) fn run<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, StartError> {
        command.query(&mut self.0).map_err(|err| {
            let name = command.args_iter().find_map(|arg| match arg {
                redis::Arg::Simple(name) => Some(String::from_utf8_lossy(name).into_owned()),
                _ => None,
            });
            StartError::Refused { command: name.unwrap_or_default(), answer: err.to_string() }
        })
    }
}
