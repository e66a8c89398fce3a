//! A PostgreSQL server.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};

use crate::error::{Report, StartError};
use crate::watchdog::{Account, Watchdog};
use crate::{port, program, signal};

/// `initdb` writes some 40 MB and takes a second on an idle core; two busy ones can make that many.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The postmaster itself kills children that have not left within 5 s of an immediate shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(8);
const PORT_DRAWS: usize = 5;

/// Speed over the safety that only a crash of the machine would need. A commit still reaches the kernel before it is acknowledged
/// (`synchronous_commit` stays on), so what was committed is there after [`Postgres::kill`].
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "jit=off",
    "shared_buffers=16MB",
    "max_connections=200",
];

/// A PostgreSQL server on a free loopback port, with a fresh cluster: superuser `postgres`, no password, databases in UTF-8 with
/// the C locale. About a second to start, nearly all of it `initdb`.
///
/// PostgreSQL refuses to run as root; when we are root it runs as `postgres`, else as `nobody`. Dropping it ends it and removes
/// its directory.
///
/// ```
/// use test_servers::Postgres;
///
/// let postgres = Postgres::start();
/// postgres.create_database("shard_0");
/// postgres.execute("shard_0", "CREATE TABLE product (id BIGINT PRIMARY KEY)");
/// let url = postgres.url("shard_0"); // postgres://postgres@127.0.0.1:PORT/shard_0
/// # assert!(url.ends_with("/shard_0"));
/// ```
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    watchdog: Watchdog,
    bin: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts a server and returns when it answers.
    ///
    /// # Panics
    /// With the text of the [`StartError`] that [`try_start`](Self::try_start) would return.
    #[track_caller]
    pub fn start() -> Self {
        match Self::try_start() {
            Ok(postgres) => postgres,
            Err(error) => panic!("{}", Report(&error)),
        }
    }

    /// Starts a server and returns when it answers, or after 60 s for `initdb` and 60 s for the server.
    ///
    /// # Errors
    /// PostgreSQL is not installed, has no account to run under, or does not start.
    pub fn try_start() -> Result<Self, StartError> {
        let bin = program::postgres_bin().ok_or(StartError::NotInstalled {
            program: "PostgreSQL (initdb and postgres)",
            install: "install PostgreSQL (`apt-get install postgresql`, `brew install postgresql`)",
        })?;
        // An immediate shutdown: unlike SIGKILL it leaves no shared memory behind.
        let watchdog = Watchdog::start("QUIT", account()?)?;
        let mut postgres = Self { child: None, watchdog, bin, port: 0 };
        postgres.initialize()?;
        for _ in 1..PORT_DRAWS {
            postgres.port = port::draw();
            match postgres.launch() {
                Err(error) if error.is_port_taken() => {}
                outcome => return outcome.map(|()| postgres),
            }
        }
        postgres.port = port::draw();
        postgres.launch().map(|()| postgres)
    }

    /// Whether `initdb` and `postgres` are installed, on the PATH or where packages put them.
    pub fn is_available() -> bool {
        program::postgres_bin().is_some()
    }

    /// `postgres://postgres@127.0.0.1:PORT/DATABASE`. The database `postgres` is there from the start.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The same for the server's whole life, through [`kill`](Self::kill) and [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database; some 50 ms.
    ///
    /// # Panics
    /// When the name has other characters than ASCII letters, digits and `_`, or PostgreSQL refuses, with its message.
    #[track_caller]
    pub fn create_database(&self, name: &str) {
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        assert!(plain, "a test database is named with ASCII letters, digits and _, not {name:?}");
        self.execute("postgres", &format!("CREATE DATABASE \"{name}\""));
    }

    /// Runs SQL through `psql`, for setting a test up without a driver. Stops at the first error.
    ///
    /// # Panics
    /// When PostgreSQL refuses, with its message.
    #[track_caller]
    pub fn execute(&self, database: &str, sql: &str) {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            "--set=ON_ERROR_STOP=1",
            "--username=postgres",
            "--host=127.0.0.1",
        ]);
        psql.arg(format!("--port={}", self.port)).arg(format!("--dbname={database}")).args(["--command", sql]);
        // The PG… variables of whoever runs the tests are meant for another server.
        match psql.env_clear().output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => panic!("could not run psql: {error}"),
        }
    }

    /// Ends it in order but without a checkpoint (an immediate shutdown): clients are told (57P02), connections close, the port
    /// refuses. Nothing happens to one that has ended.
    pub fn stop(&mut self) {
        self.resume();
        let Some(mut child) = self.child.take() else { return };
        signal::send(child.id(), Signal::QUIT);
        let deadline = Instant::now() + STOP_LIMIT;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.watchdog.reap(&mut child);
    }

    /// Ends every process of it at once (`SIGKILL`): connections break without a word and the port refuses. Nothing happens to
    /// one that has ended.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Stopped first, the postmaster neither forks another backend meanwhile nor tells clients about the first that dies.
        signal::pause(&[child.id()]);
        let backends = signal::children(child.id());
        for &backend in &backends {
            signal::send(backend, Signal::KILL);
        }
        let _ = child.kill();
        self.watchdog.reap(&mut child);
        // A server started while one of them still holds the shared memory would refuse to run.
        signal::await_standstill(&backends);
        self.remove_shared_memory();
    }

    /// Kills it if it runs and starts it on the same port with the data it had committed; returns when it answers.
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

    /// Stops it and its backends without ending them (`SIGSTOP`): connections stay open, new ones are accepted by the kernel, and
    /// nothing answers. Returns once all have stopped.
    pub fn pause(&self) {
        if let Some(child) = &self.child {
            signal::pause(&[child.id()]);
            signal::pause(&signal::children(child.id()));
        }
    }

    /// Lets a paused server go on (`SIGCONT`). What was sent to it meanwhile is answered now.
    pub fn resume(&self) {
        if let Some(child) = &self.child {
            for process in signal::children(child.id()) {
                signal::send(process, Signal::CONT);
            }
            signal::send(child.id(), Signal::CONT);
        }
    }

    fn data(&self) -> PathBuf {
        self.watchdog.directory().join("data")
    }

    fn initialize(&mut self) -> Result<(), StartError> {
        let data = self.data();
        let arguments = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--no-locale", "--wal-segsize=1"];
        let arguments = arguments.into_iter().map(Into::into).chain(["--pgdata".into(), data.into_os_string()]);
        let mut child = self.watchdog.spawn(&self.bin.join("initdb"), arguments)?;
        let outcome = await_initdb(&mut child, &self.watchdog);
        let _ = child.kill();
        self.watchdog.reap(&mut child);
        outcome
    }

    fn launch(&mut self) -> Result<(), StartError> {
        let data = self.data();
        let arguments = ["-D".into(), data.clone().into_os_string(), "-k".into(), self.watchdog.directory().into()];
        let arguments = arguments.into_iter().chain(["-p".into(), self.port.to_string().into()]);
        let arguments = arguments.chain(SETTINGS.into_iter().flat_map(|setting| ["-c".into(), setting.into()]));
        let child = self.child.insert(self.watchdog.spawn(&self.bin.join("postgres"), arguments)?);

        let deadline = Instant::now() + START_LIMIT;
        let error = loop {
            if child.try_wait().map_err(StartError::io("wait for postgres"))?.is_some() {
                break StartError::Exited { program: "postgres", log: self.watchdog.log_tail() };
            }
            // The file that pg_ctl reads as well: line 1 is the process, line 8 its status.
            let file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let mut lines = file.lines();
            if lines.next() == Some(&child.id().to_string()) && lines.nth(6).is_some_and(|status| status.trim() == "ready") {
                return Ok(());
            }
            if Instant::now() > deadline {
                break StartError::NoAnswer { program: "postgres", waited: START_LIMIT, log: self.watchdog.log_tail() };
            }
            thread::sleep(Duration::from_millis(1));
        };
        self.stop();
        Err(error)
    }

    /// The System V segment by which a data directory is guarded stays after `SIGKILL`, and the kernel has room for 4096 of them.
    /// Its number is the second on line 7 of `postmaster.pid`.
    fn remove_shared_memory(&self) {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(segment) = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
            let _ = Command::new("ipcrm").args(["-m", segment]).output();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn await_initdb(child: &mut Child, watchdog: &Watchdog) -> Result<(), StartError> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        match child.try_wait().map_err(StartError::io("wait for initdb"))? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => return Err(StartError::Exited { program: "initdb", log: watchdog.log_tail() }),
            None => thread::sleep(Duration::from_millis(2)),
        }
    }
    Err(StartError::NoAnswer { program: "initdb", waited: START_LIMIT, log: watchdog.log_tail() })
}

/// Whom to run as: ourselves (`None`) unless we are root.
fn account() -> Result<Option<Account>, StartError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").map_err(StartError::io("read /etc/passwd"))?;
    let find = |name: &str| {
        // name:password:user:group:…
        let mut fields =
            accounts.lines().map(|line| line.split(':')).find_map(|mut line| (line.next() == Some(name)).then_some(line))?;
        Some(Account { user: fields.nth(1)?.parse().ok()?, group: fields.next()?.parse().ok()? })
    };
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or(StartError::NoAccount)
}
