//! A Redis server.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::certificate::{self, ServerCertificate};
use crate::command::Client;
use crate::error::{StartError, or_panic};
use crate::watchdog::Watchdog;
use crate::{port, program, signal};

const START_LIMIT: Duration = Duration::from_secs(20);
const PORT_DRAWS: usize = 5;
const SENTINEL_FILE: &str = "sentinel.conf";
const SOCKET_FILE: &str = "redis.sock";

/// A Redis server on a free loopback port: no persistence, database empty, about 25 ms to the first answer.
///
/// Dropping it ends it and removes its directory.
///
/// ```
/// use test_servers::Redis;
///
/// let mut redis = Redis::start();
/// let url = redis.url(); // redis://127.0.0.1:PORT/
/// redis.kill(); // connections break, the port refuses
/// redis.restart(); // same port, empty
/// assert_eq!(redis.url(), url);
/// ```
#[derive(Debug)]
pub struct Redis {
    // Before the watchdog, whose drop removes the directory; ended by our own drop, which runs before both.
    child: Option<Child>,
    watchdog: Watchdog,
    program: PathBuf,
    arguments: Vec<OsString>,
    password: Option<String>,
    port: u16,
    tls_port: Option<u16>,
    has_unix_socket: bool,
    is_sentinel: bool,
    paused: AtomicBool,
}

/// What a [`Redis`] starts with. From [`Redis::builder`].
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    arguments: Vec<OsString>,
    password: Option<String>,
    port: Option<u16>,
    certificate: Option<ServerCertificate>,
    unix_socket: bool,
    is_sentinel: bool,
}

impl RedisBuilder {
    /// Clients must send this password; default none. It stands on the server's command line: a secret only to the tests.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// One more ACL user with this password. `rules` are Redis' own, apart by spaces: `"~app:* +@read +@write"`. The `default` user
    /// stays as it is, so give it a [`password`](Self::password) to shut it.
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.arguments.extend(["--user".into(), name.into(), "on".into(), format!(">{password}").into()]);
        self.arguments.extend(rules.split_ascii_whitespace().map(Into::into));
        self
    }

    /// Listens with TLS too, on a second port ([`Redis::tls_url`]), and asks clients for no certificate of theirs. The plain port
    /// stays open.
    pub fn tls(mut self, certificate: &ServerCertificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Listens on a unix socket too ([`Redis::unix_socket`]).
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// A Sentinel instead of a data server. It keeps its state in a file of its own, also over [`Redis::restart`].
    pub(crate) fn sentinel(mut self) -> Self {
        self.is_sentinel = true;
        self
    }

    /// As a replica it shows its master the password that it asks of clients.
    pub(crate) fn password_to_master(mut self) -> Self {
        if let Some(password) = &self.password {
            self.arguments.extend(["--masterauth".into(), password.into()]);
        }
        self
    }

    /// The arguments and the choices of another builder, which win over ours.
    pub(crate) fn followed_by(mut self, mut other: Self) -> Self {
        self.arguments.append(&mut other.arguments);
        Self { arguments: self.arguments, ..other }
    }

    /// One more argument for `redis-server`; a directive and its value are two: `.arg("--maxmemory").arg("2mb")`. Later ones win,
    /// over the defaults too: `.arg("--appendonly").arg("yes")` keeps the data over [`Redis::restart`].
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// This port and no other; default any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the server and returns when it answers.
    ///
    /// # Panics
    /// With the text of the [`StartError`] that [`try_start`](Self::try_start) would return.
    #[track_caller]
    pub fn start(self) -> Redis {
        or_panic(self.try_start())
    }

    /// Starts the server and returns when it answers, or after 20 s.
    ///
    /// # Errors
    /// `redis-server` is not installed, does not take the arguments, or cannot have the port.
    pub fn try_start(self) -> Result<Redis, StartError> {
        let program = program::on_path("redis-server").ok_or(StartError::NotInstalled {
            program: "redis-server",
            install: "install Redis (`apt-get install redis-server`, `brew install redis`)",
        })?;
        let Self { arguments, password, port: fixed, certificate, unix_socket: has_unix_socket, is_sentinel } = self;
        let watchdog = Watchdog::start("KILL", None)?;
        if let Some(certificate) = &certificate {
            certificate.write(watchdog.directory())?;
        }
        if is_sentinel {
            fs::write(watchdog.directory().join(SENTINEL_FILE), "").map_err(StartError::io("write Sentinel's configuration"))?;
        }
        let paused = AtomicBool::new(false);
        let mut redis = Redis {
            child: None,
            watchdog,
            program,
            arguments,
            password,
            port: 0,
            tls_port: None,
            has_unix_socket,
            is_sentinel,
            paused,
        };
        for draw in 1.. {
            redis.port = fixed.unwrap_or_else(port::draw);
            redis.tls_port = certificate.as_ref().map(|_| port::draw());
            match redis.launch() {
                Err(error) if draw < PORT_DRAWS && fixed.is_none() && error.is_port_taken() => {}
                outcome => return outcome.map(|()| redis),
            }
        }
        unreachable!("the last draw returns")
    }
}

impl Redis {
    /// Starts a server without a password and returns when it answers.
    ///
    /// # Panics
    /// With the text of the [`StartError`] that [`try_start`](Self::try_start) would return.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Starts a server without a password and returns when it answers, or after 20 s.
    ///
    /// # Errors
    /// `redis-server` is not installed or does not start.
    pub fn try_start() -> Result<Self, StartError> {
        Self::builder().try_start()
    }

    /// A server with a password, further arguments, or a given port.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Whether `redis-server` is on the PATH.
    pub fn is_available() -> bool {
        program::on_path("redis-server").is_some()
    }

    /// `redis://127.0.0.1:PORT/`. The password is not in it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The same for the server's whole life, through [`kill`](Self::kill) and [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `rediss://localhost:PORT/`, for a name that the certificate carries.
    ///
    /// # Panics
    /// When it was started without [`RedisBuilder::tls`].
    #[track_caller]
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}/", self.tls_port())
    }

    /// The port that speaks TLS; the same for the server's whole life.
    ///
    /// # Panics
    /// When it was started without [`RedisBuilder::tls`].
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("started with `tls`")
    }

    /// Shows this certificate to new TLS connections from now on; those that are open go on.
    ///
    /// # Panics
    /// When it was started without [`RedisBuilder::tls`], does not answer, or refuses the certificate.
    #[track_caller]
    pub fn set_certificate(&self, certificate: &ServerCertificate) {
        let directory = self.watchdog.directory();
        assert!(self.tls_port.is_some(), "started with `tls`");
        let outcome = certificate.write(directory).and_then(|()| {
            let mut command = redis::cmd("CONFIG");
            command.arg("SET");
            for (directive, file) in certificate::directives(directory) {
                command.arg(directive).arg(file.as_os_str().as_encoded_bytes());
            }
            Client::connect(self)?.run::<()>(&command)
        });
        or_panic(outcome);
    }

    /// The path of its unix socket.
    ///
    /// # Panics
    /// When it was started without [`RedisBuilder::unix_socket`].
    #[track_caller]
    pub fn unix_socket(&self) -> PathBuf {
        assert!(self.has_unix_socket, "started with `unix_socket`");
        self.watchdog.directory().join(SOCKET_FILE)
    }

    /// The process, unless it was [killed](Self::kill). Another one after each [`restart`](Self::restart).
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Neither killed nor paused by us.
    pub fn is_running(&self) -> bool {
        // Ordering: alone. The process itself is the truth; one who pauses and asks at once has ordered the two himself.
        self.child.is_some() && !self.paused.load(Ordering::Relaxed)
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Ends it at once (`SIGKILL`): connections break and the port refuses. Nothing happens to one that has ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            self.watchdog.reap(&mut child);
        }
        *self.paused.get_mut() = false;
    }

    /// Kills it if it runs and starts it on the same port; returns when it answers. The data is lost, unless persistence was
    /// asked for by [`RedisBuilder::arg`].
    ///
    /// # Panics
    /// When it does not start, with its log.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        or_panic(self.launch());
    }

    /// Stops it without ending it (`SIGSTOP`): connections stay open, new ones are accepted by the kernel, and nothing answers.
    /// Returns once it has stopped.
    pub fn pause(&self) {
        if let Some(child) = &self.child {
            signal::pause(&[child.id()]);
            self.paused.store(true, Ordering::Relaxed); // Ordering: as in `is_running`
        }
    }

    /// Lets a paused server go on (`SIGCONT`). What was sent to it meanwhile is answered now.
    pub fn resume(&self) {
        if let Some(child) = &self.child {
            signal::send(child.id(), Signal::CONT);
            self.paused.store(false, Ordering::Relaxed); // Ordering: as in `is_running`
        }
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let directory = self.watchdog.directory();
        let mut arguments: Vec<OsString> = Vec::new();
        if self.is_sentinel {
            arguments.extend([directory.join(SENTINEL_FILE).into(), "--sentinel".into()]);
        }
        arguments.extend(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"].map(Into::into));
        arguments.extend([self.port.to_string().into(), "--dir".into(), directory.into()]);
        if let Some(tls_port) = self.tls_port {
            arguments.extend(["--tls-port".into(), tls_port.to_string().into(), "--tls-auth-clients".into(), "no".into()]);
            arguments.extend(
                certificate::directives(directory)
                    .into_iter()
                    .flat_map(|(directive, file)| [format!("--{directive}").into(), file.into()]),
            );
        }
        if self.has_unix_socket {
            arguments.extend(["--unixsocket".into(), directory.join(SOCKET_FILE).into()]);
        }
        if let Some(password) = &self.password {
            arguments.extend(["--requirepass".into(), password.into()]);
        }
        arguments.extend_from_slice(&self.arguments);
        let child = self.child.insert(self.watchdog.spawn(&self.program, arguments)?);

        let deadline = Instant::now() + START_LIMIT;
        let error = loop {
            if child.try_wait().map_err(StartError::io("wait for redis-server"))?.is_some() {
                break StartError::Exited { program: "redis-server", log: self.watchdog.log_tail() };
            }
            if answers(self.port, self.password.as_deref(), child.id()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                break StartError::NoAnswer { program: "redis-server", waited: START_LIMIT, log: self.watchdog.log_tail() };
            }
            thread::sleep(Duration::from_millis(1));
        };
        self.kill();
        Err(error)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether our own process answers on the port: another test's server may have won a race for it, and would answer as well. PING
/// tells that it has loaded its data; INFO answers before.
fn answers(port: u16, password: Option<&str>, process: u32) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut request = Vec::new();
        if let Some(password) = password {
            write!(request, "*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len())?;
        }
        request.extend_from_slice(b"INFO server\r\nPING\r\n");
        stream.write_all(&request)?;
        // The server closes in answer, so the reply is whatever comes before the end. Sentinel does not know QUIT.
        stream.shutdown(Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(reply)
    };
    let is_ours = |reply: Vec<u8>| {
        let reply = String::from_utf8_lossy(&reply);
        reply.lines().any(|line| line.strip_prefix("process_id:") == Some(&process.to_string()))
            && reply.lines().any(|line| line == "+PONG")
    };
    ask().is_ok_and(is_ours)
}
