//! Finding the master by Redis Sentinel.

use crate::builder::{Login, Sentinels};
use crate::dial::{ask as send, reach, wrong_password};
use crate::error::from_driver;
use crate::live::Wire;
use crate::multiplexer::Guard;
use crate::tls::Tls;
use cache_core::{Error, ErrorKind};
use redis::{Value, from_redis_value};
use std::time::Duration;
use tokio::time::timeout;

/// What one Sentinel gets. They are asked one after the other, and a dead one must not take the whole time of a dial.
const PATIENCE: Duration = Duration::from_millis(150);

/// Asks the Sentinels where the master is, in an order of chance, until one knows.
pub(crate) async fn master(tls: Option<&Tls>, sentinels: &Sentinels) -> Result<(String, u16), Error> {
    let mut hosts: Vec<_> = sentinels.hosts.iter().collect();
    fastrand::shuffle(&mut hosts);
    let mut last = Error::new(ErrorKind::Unavailable, "no Redis Sentinel answered");
    for (host, port) in hosts {
        match timeout(PATIENCE, ask(tls, sentinels, host, *port)).await {
            Ok(Ok(master)) => return Ok(master),
            // What a person must mend outweighs weather.
            Ok(Err(err)) if last.kind() == ErrorKind::Unavailable => last = err,
            _ => {}
        }
    }
    Err(last)
}

async fn ask(tls: Option<&Tls>, sentinels: &Sentinels, host: &str, port: u16) -> Result<(String, u16), Error> {
    let (wire, task) = reach(tls, host, port, 0).await?;
    let _guard = Guard(task.abort_handle());
    let mut pipeline = redis::pipe();
    if let Some(Login { username, password }) = &sentinels.login {
        pipeline.cmd("AUTH").arg(username).arg(password);
    }
    pipeline.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&sentinels.master);
    let mut replies = send(&wire, &pipeline).await?.replies.into_iter();
    if sentinels.login.is_some() {
        replies.next().unwrap_or(Ok(Value::Nil)).map_err(|err| wrong_password(&err))?;
    }
    let known = replies.next().unwrap_or(Ok(Value::Nil)).and_then(|reply| Ok(from_redis_value::<Option<(String, u16)>>(reply)?));
    let unknown = || Error::new(ErrorKind::Unavailable, "a Redis Sentinel does not know a master of this name");
    known.map_err(|err| from_driver(&err))?.ok_or_else(unknown)
}

/// Makes sure that the server is a master: after a failover a Sentinel may still name the old one.
pub(crate) async fn check_role(wire: &Wire) -> Result<(), Error> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("ROLE");
    let role = send(wire, &pipeline).await?.replies.pop().unwrap_or(Ok(Value::Nil));
    let role = role.and_then(|role| Ok(from_redis_value::<Vec<Value>>(role)?)).map_err(|err| from_driver(&err))?;
    match role.into_iter().next().and_then(|role| from_redis_value::<String>(role).ok()).as_deref() {
        Some("master") => Ok(()),
        _ => Err(Error::new(ErrorKind::Unavailable, "the server that a Redis Sentinel named is no master")),
    }
}
