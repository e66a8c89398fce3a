//! A Redis server.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::error::{Report, StartError};
use crate::watchdog::Watchdog;
use crate::{port, program, signal};

const START_LIMIT: Duration = Duration::from_secs(20);
const PORT_DRAWS: usize = 5;

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
}

/// What a [`Redis`] starts with. From [`Redis::builder`].
#[derive(Clone, Debug, Default)]
pub struct RedisBuilder {
    arguments: Vec<OsString>,
    password: Option<String>,
    port: Option<u16>,
}

impl RedisBuilder {
    /// Clients must send this password; default none. It stands on the server's command line: a secret only to the tests.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
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
        match self.try_start() {
            Ok(redis) => redis,
            Err(error) => panic!("{}", Report(&error)),
        }
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
        let Self { arguments, password, port: fixed } = self;
        let mut redis = Redis { child: None, watchdog: Watchdog::start("KILL", None)?, program, arguments, password, port: 0 };
        for _ in 1..PORT_DRAWS {
            redis.port = fixed.unwrap_or_else(port::draw);
            match redis.launch() {
                Err(error) if fixed.is_none() && error.is_port_taken() => {}
                outcome => return outcome.map(|()| redis),
            }
        }
        redis.port = port::draw();
        redis.launch().map(|()| redis)
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

    /// Ends it at once (`SIGKILL`): connections break and the port refuses. Nothing happens to one that has ended.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            self.watchdog.reap(&mut child);
        }
    }

    /// Kills it if it runs and starts it on the same port; returns when it answers. The data is lost, unless persistence was
    /// asked for by [`RedisBuilder::arg`].
    ///
    /// # Panics
    /// When it does not start, with its log.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        if let Err(error) = self.launch() {
            panic!("{}", Report(&error));
        }
    }

    /// Stops it without ending it (`SIGSTOP`): connections stay open, new ones are accepted by the kernel, and nothing answers.
    /// Returns once it has stopped.
    pub fn pause(&self) {
        if let Some(child) = &self.child {
            signal::pause(&[child.id()]);
        }
    }

    /// Lets a paused server go on (`SIGCONT`). What was sent to it meanwhile is answered now.
    pub fn resume(&self) {
        if let Some(child) = &self.child {
            signal::send(child.id(), Signal::CONT);
        }
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let mut arguments: Vec<OsString> =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"].map(Into::into).into();
        arguments.extend([self.port.to_string().into(), "--dir".into(), self.watchdog.directory().into()]);
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
        // QUIT ends the stream, so the reply is whatever comes before its end.
        request.extend_from_slice(b"INFO server\r\nPING\r\nQUIT\r\n");
        stream.write_all(&request)?;
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
