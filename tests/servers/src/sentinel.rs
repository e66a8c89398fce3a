//! Redis under Sentinel.

use std::thread;
use std::time::Duration;

use crate::command::Client;
use crate::error::{StartError, or_panic};
use crate::redis::{Redis, RedisBuilder};
use crate::wait::until;

const GROUP: &str = "Sentinel group";
const SENTINELS: usize = 3;
const QUORUM: usize = 2;
const DOWN_AFTER: Duration = Duration::from_millis(800);
/// A vote without a winner is held again after twice this.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Sentinel's own intervals in milliseconds, which have seconds to minutes by default. TILT, a pause after a jump of its clock,
/// would cost 30 s when a busy machine or a paused sentinel has slept.
///
/// While a master is down its replicas are asked for INFO once a second, whatever INFO-PERIOD says. So PUBLISH-PERIOD times four,
/// after which the other sentinels undo a promotion that they were not told of, must be longer than that, and so must PING-PERIOD
/// times five, the age to which a replica's INFO is good for its promotion. A server that is new to a sentinel has its first PING
/// after one PING-PERIOD, and is down without an answer by `DOWN_AFTER`.
const HASTE: &str = "INFO-PERIOD 100 PING-PERIOD 300 ASK-PERIOD 100 PUBLISH-PERIOD 500 MIN-LINK-RECONNECT-PERIOD 500 \
                     SLAVE-RECONF-TIMEOUT 1000 TILT-PERIOD 500";

/// A master, a replica, and three sentinels that watch them with a quorum of two. About a second to start.
///
/// A master without an answer for 800 ms is replaced, some one to three seconds after it fell silent; a vote without a winner
/// costs four more. One that comes back becomes the replica. All five processes are gone when this value is dropped, or the
/// process is, however it ends.
///
/// ```
/// use test_servers::RedisSentinel;
///
/// let mut group = RedisSentinel::start();
/// let old = group.master(); // 0
/// group.server_mut(old).kill();
/// let new = group.await_failover(old); // 1
/// assert_eq!(group.master(), new);
/// ```
///
/// # Panics
/// Every method that asks or changes the group panics, with what was missing, when a server refuses a command or the group does
/// not come to the end of a change within 30 s.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

#[expect(clippy::missing_panics_doc, reason = "said once for all methods, on the type")]
impl RedisSentinel {
    /// The name under which the sentinels know the master.
    pub const SERVICE: &str = "cache";

    /// Starts the five and returns when all know each other and the replica follows.
    ///
    /// # Panics
    /// With the text of the [`StartError`] that [`try_start`](Self::try_start) would return.
    #[track_caller]
    pub fn start() -> Self {
        or_panic(Self::try_start())
    }

    /// Starts the five and returns when all know each other and the replica follows, or after 30 s.
    ///
    /// # Errors
    /// `redis-server` is not installed, or the servers do not find each other.
    pub fn try_start() -> Result<Self, StartError> {
        Self::try_start_with(Redis::builder())
    }

    /// Starts the five, master and replica with further arguments and, where it has one, the password; the sentinels have none.
    ///
    /// # Panics
    /// With the text of the [`StartError`] of what failed.
    #[track_caller]
    pub fn start_with(server: RedisBuilder) -> Self {
        or_panic(Self::try_start_with(server))
    }

    fn try_start_with(server: RedisBuilder) -> Result<Self, StartError> {
        let quick = Redis::builder().arg("--repl-ping-replica-period").arg("1").arg("--repl-diskless-sync-delay").arg("0");
        let server = quick.followed_by(server).password_to_master();
        let (servers, sentinels) = thread::scope(|scope| {
            let start = |builder: &RedisBuilder, count| {
                let builders = vec![builder.clone(); count].into_iter();
                builders.map(|builder| scope.spawn(|| builder.try_start())).collect::<Vec<_>>()
            };
            let (servers, sentinels) = (start(&server, 2), start(&Redis::builder().sentinel(), SENTINELS));
            let all = |starts: Vec<thread::ScopedJoinHandle<'_, _>>| {
                starts.into_iter().map(|start| start.join().expect("starting does not panic")).collect::<Result<Vec<_>, _>>()
            };
            (all(servers), all(sentinels))
        });
        let group = Self { servers: servers?, sentinels: sentinels? };
        group.form()?;
        Ok(group)
    }

    /// Master and replica, 0 and 1 at the start. The numbers stay when the roles change.
    #[track_caller]
    pub fn server(&self, number: usize) -> &Redis {
        &self.servers[number]
    }

    /// Master or replica, to kill or restart it.
    #[track_caller]
    pub fn server_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.servers[number]
    }

    /// The three sentinels.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// Kills a sentinel, 0 to 2.
    #[track_caller]
    pub fn kill_sentinel(&mut self, number: usize) {
        self.sentinels[number].kill();
    }

    /// Starts a sentinel that was killed, with what it knew.
    #[track_caller]
    pub fn restart_sentinel(&mut self, number: usize) {
        let sentinel = &mut self.sentinels[number];
        sentinel.restart();
        or_panic(hasten(sentinel).map(|_| ()));
    }

    /// The number of the server that the running sentinels name as the master.
    #[track_caller]
    pub fn master(&self) -> usize {
        let mut master = 0;
        or_panic(until(GROUP, || {
            let named = self.running_sentinels().map(|sentinel| self.named_by(sentinel)).collect::<Result<Vec<_>, _>>()?;
            let agreed = named.first().copied().flatten().filter(|&first| named.iter().all(|&other| other == Some(first)));
            master = agreed.unwrap_or(master);
            Ok(agreed.map(|_| ()).ok_or_else(|| format!("the sentinels name {named:?}")))
        }));
        master
    }

    /// Has the sentinels put the replica in the master's place though that is well (`SENTINEL FAILOVER`), and waits like
    /// [`await_failover`](Self::await_failover).
    #[track_caller]
    pub fn failover(&self) -> usize {
        let old = self.master();
        let sentinel = self.running_sentinels().next().expect("a running sentinel");
        or_panic(
            Client::connect(sentinel).and_then(|mut client| client.ask::<()>(&format!("SENTINEL FAILOVER {}", Self::SERVICE))),
        );
        self.await_failover(old)
    }

    /// Waits until the running sentinels name another master than `old` and it takes writes. Returns its number.
    #[track_caller]
    pub fn await_failover(&self, old: usize) -> usize {
        let new = 1 - old;
        or_panic(until(GROUP, || {
            for sentinel in self.running_sentinels() {
                if self.named_by(sentinel)? != Some(new) {
                    return Ok(Err("not every sentinel names the other master".to_owned()));
                }
            }
            let role = replication_of(&self.servers[new])?;
            Ok(if role.contains("role:master") { Ok(()) } else { Err("the new master is still a replica".to_owned()) })
        }));
        new
    }

    /// Waits until the sentinels know each other and the replica follows the master: after a restart, before the next fault.
    #[track_caller]
    pub fn await_settled(&self) {
        or_panic(until(GROUP, || self.check_settled()));
    }

    fn form(&self) -> Result<(), StartError> {
        let (service, port) = (Self::SERVICE, self.servers[0].port());
        let mut replica = Client::connect(&self.servers[1])?;
        replica.ask::<()>(&format!("REPLICAOF 127.0.0.1 {port}"))?;
        // Sentinel learns of replicas from the master, and only later of those that come later.
        until(GROUP, || is_followed(&self.servers[0]))?;
        for sentinel in &self.sentinels {
            let mut client = hasten(sentinel)?;
            client.ask::<()>(&format!("SENTINEL MONITOR {service} 127.0.0.1 {port} {QUORUM}"))?;
            let mut settings = redis::cmd("SENTINEL");
            settings.arg("SET").arg(service).arg("down-after-milliseconds").arg(DOWN_AFTER.as_millis() as u64);
            settings.arg("failover-timeout").arg(FAILOVER_TIMEOUT.as_millis() as u64);
            if let Some(password) = self.servers[0].password() {
                settings.arg("auth-pass").arg(password);
            }
            client.run::<()>(&settings)?;
        }
        until(GROUP, || self.check_settled())
    }

    fn check_settled(&self) -> Result<Result<(), String>, StartError> {
        let mut master = None;
        for sentinel in self.running_sentinels() {
            let mut client = Client::connect(sentinel)?;
            let peers: Vec<Vec<String>> = client.ask(&format!("SENTINEL SENTINELS {}", Self::SERVICE))?;
            let replicas: Vec<Vec<String>> = client.ask(&format!("SENTINEL REPLICAS {}", Self::SERVICE))?;
            if peers.len() != SENTINELS - 1 || replicas.len() != 1 {
                return Ok(Err(format!("a sentinel knows {} others and {} replicas", peers.len(), replicas.len())));
            }
            // What a failover needs: a replica that sentinel has heard of lately, and whose link it believes in.
            let state = |name: &str| replicas[0].iter().skip_while(|field| *field != name).nth(1).cloned().unwrap_or_default();
            if state("flags") != "slave" || state("master-link-status") != "ok" {
                return Ok(Err(format!(
                    "a sentinel sees a replica that is {} with its link {}",
                    state("flags"),
                    state("master-link-status")
                )));
            }
            let named = self.named_by(sentinel)?;
            if named.is_none() || master.is_some_and(|other| Some(other) != named) {
                return Ok(Err("the sentinels name different masters".to_owned()));
            }
            master = named;
        }
        master.map_or_else(|| Ok(Err("no sentinel runs".to_owned())), |master| is_followed(&self.servers[master]))
    }

    fn running_sentinels(&self) -> impl Iterator<Item = &Redis> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }

    fn named_by(&self, sentinel: &Redis) -> Result<Option<usize>, StartError> {
        let command = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", Self::SERVICE);
        let (_, port): (String, u16) = Client::connect(sentinel)?.ask(&command)?;
        Ok(self.servers.iter().position(|server| server.port() == port))
    }
}

/// Until its next restart.
fn hasten(sentinel: &Redis) -> Result<Client, StartError> {
    let mut client = Client::connect(sentinel)?;
    client.ask::<()>(&format!("SENTINEL DEBUG {HASTE}"))?;
    Ok(client)
}

fn is_followed(master: &Redis) -> Result<Result<(), String>, StartError> {
    let state = replication_of(master)?;
    let is_online = state.lines().any(|line| line.starts_with("slave0:") && line.contains("state=online"));
    Ok(if is_online { Ok(()) } else { Err("the replica does not follow".to_owned()) })
}

fn replication_of(server: &Redis) -> Result<String, StartError> {
    Client::connect(server)?.ask("INFO replication")
}
