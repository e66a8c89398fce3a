//! Finding the master, and its replicas, by Redis Sentinel.

use crate::config::{Login, Sentinels};
use crate::dial::{ask as send, reach, wrong_password};
use crate::error::from_driver;
use crate::first::first;
use crate::live::Wire;
use crate::multiplexer::Guard;
use crate::tls::Tls;
use cache_core::{Error, ErrorKind};
use redis::{RedisError, Value, from_redis_value};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::timeout;

/// What one Sentinel gets: a dead one must not take the whole time of a dial, or nobody hears what the others said.
const PATIENCE: Duration = Duration::from_millis(150);
/// As many replicas are worth knowing.
const MOST_REPLICAS: usize = 16;

/// Asks the Sentinels where the master is.
pub(crate) async fn master(tls: Option<&Tls>, sentinels: &Sentinels) -> Result<(String, u16), Error> {
    let unknown = || Error::new(ErrorKind::Unavailable, "a Redis Sentinel does not know a master of this name");
    ask_all(tls, sentinels, "GET-MASTER-ADDR-BY-NAME", |reply| {
        let known = from_redis_value::<Option<(String, u16)>>(reply).map_err(RedisError::from);
        known.map_err(|err| from_driver(&err))?.ok_or_else(unknown)
    })
    .await
}

/// Asks the Sentinels for the replicas of the master, those that are up. One whose link to its master is down is left out, unless that is so of all:
/// then it is the master that is away.
pub(crate) async fn replicas(tls: Option<&Tls>, sentinels: &Sentinels) -> Result<Vec<(String, u16)>, Error> {
    let replicas = ask_all(tls, sentinels, "REPLICAS", |reply| {
        from_redis_value::<Vec<_>>(reply).map_err(|err| from_driver(&RedisError::from(err)))
    });
    Ok(fit(&replicas.await?))
}

/// Those of the replicas that may be read from.
fn fit(replicas: &[HashMap<String, String>]) -> Vec<(String, u16)> {
    let is = |replica: &HashMap<String, String>, field: &str, wanted: &dyn Fn(&str) -> bool| {
        replica.get(field).is_some_and(|value| wanted(value))
    };
    let up = |replica: &&HashMap<String, String>| {
        is(replica, "flags", &|flags| flags.split(',').all(|flag| !matches!(flag, "s_down" | "o_down" | "disconnected")))
    };
    let linked = |replica: &&HashMap<String, String>| is(replica, "master-link-status", &|status| status == "ok");
    let at = |replica: &HashMap<String, String>| Some((replica.get("ip")?.clone(), replica.get("port")?.parse().ok()?));
    let up: Vec<_> = replicas.iter().filter(up).collect();
    let linked = if up.iter().any(linked) { up.into_iter().filter(linked).collect() } else { up };
    linked.into_iter().filter_map(at).take(MOST_REPLICAS).collect()
}

/// Asks the Sentinels about the master, in an order of chance, until one knows: the next after 50 ms, for dead ones do not say that they are.
async fn ask_all<T>(
    tls: Option<&Tls>,
    sentinels: &Sentinels,
    what: &str,
    read: impl Fn(Value) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut hosts = sentinels.hosts.clone();
    fastrand::shuffle(&mut hosts);
    let silent = || Error::new(ErrorKind::Unavailable, "no Redis Sentinel answered");
    let read = &read;
    let asked = hosts.into_iter().map(|(host, port)| async move {
        let reply = timeout(PATIENCE, ask(tls, sentinels, what, &host, port)).await;
        reply.unwrap_or_else(|_| Err(silent())).and_then(read)
    });
    first(asked, silent()).await
}

async fn ask(tls: Option<&Tls>, sentinels: &Sentinels, what: &str, host: &str, port: u16) -> Result<Value, Error> {
    let (wire, task) = reach(tls, host, port, 0, false).await?;
    let _guard = Guard(task.abort_handle());
    let mut pipeline = redis::pipe();
    if let Some(Login { username, password }) = &sentinels.login {
        pipeline.cmd("AUTH").arg(username).arg(password);
    }
    pipeline.cmd("SENTINEL").arg(what).arg(&sentinels.master);
    let mut replies = send(&wire, &pipeline).await?.replies.into_iter();
    if sentinels.login.is_some() {
        replies.next().unwrap_or(Ok(Value::Nil)).map_err(|err| wrong_password(&err))?;
    }
    replies.next().unwrap_or(Ok(Value::Nil)).map_err(|err| from_driver(&err))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(port: &str, flags: &str, link: &str) -> HashMap<String, String> {
        let fields = [("ip", "10.0.0.1"), ("port", port), ("flags", flags), ("master-link-status", link)];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn ports(replicas: &[HashMap<String, String>]) -> Vec<u16> {
        fit(replicas).into_iter().map(|(_, port)| port).collect()
    }

    #[test]
    fn replicas_that_are_down_or_cut_off_are_left_out_but_for_when_all_are_cut_off() {
        let down = ["slave,s_down", "slave,o_down", "s_down,slave,disconnected"].map(|flags| replica("1", flags, "ok"));
        assert_eq!(ports(&down), [] as [u16; 0]);
        assert_eq!(ports(&[replica("1", "slave", "ok"), replica("2", "slave", "err"), replica("3", "slave", "ok")]), [1, 3]);
        assert_eq!(ports(&[replica("1", "slave", "err"), replica("2", "slave", "err")]), [1, 2], "the master is away");
        assert_eq!(ports(&[replica("1", "slave,s_down", "ok"), replica("2", "slave", "err")]), [2]);
        assert_eq!(ports(&[replica("none", "slave", "ok"), HashMap::new()]), [] as [u16; 0]);
        assert_eq!(ports(&vec![replica("1", "slave", "ok"); 100]).len(), MOST_REPLICAS);
    }
}
