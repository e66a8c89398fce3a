//! No server and no directory outlives the process that started it, however that process ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A process that holds a server, with a TMPDIR of its own so that what it leaves behind can be counted.
struct Holder {
    process: Child,
    port: u16,
    temporary: PathBuf,
}

impl Holder {
    fn of(server: &str, name: &str) -> Self {
        let temporary = std::env::temp_dir().join(format!("test-servers-{name}-{}", std::process::id()));
        fs::create_dir_all(&temporary).expect("a temporary directory");
        // PostgreSQL runs as another user when we are root, and makes its directory in this one.
        let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        fs::set_permissions(&temporary, open).expect("our own directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_test-servers"));
        let mut process =
            command.arg(server).env("TMPDIR", &temporary).stdout(Stdio::piped()).spawn().expect("the holder starts");
        let mut url = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut url).expect("a URL");
        let port = url.trim_end().rsplit(':').next().and_then(|rest| rest.split('/').next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {url:?}"));
        Self { process, port, temporary }
    }

    fn end(&mut self, signal: &str) {
        let kill = format!("kill -s {signal} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
        self.process.wait().expect("it ends");
    }

    fn assert_nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = left_in(&self.temporary);
            let listening = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if left.is_empty() && !listening {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:?}, listening: {listening}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir(&self.temporary);
    }
}

fn left_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn redis_ends_with_a_process_that_is_killed() {
    let mut holder = Holder::of("redis", "killed-redis");
    assert_eq!(left_in(&holder.temporary).len(), 1, "one directory while it runs");
    TcpStream::connect((Ipv4Addr::LOCALHOST, holder.port)).expect("it listens");
    holder.end("KILL");
    holder.assert_nothing_left();
}

#[test]
fn postgres_ends_with_a_process_that_is_killed() {
    let mut holder = Holder::of("postgres", "killed-postgres");
    assert_eq!(left_in(&holder.temporary).len(), 1, "one directory while it runs");
    TcpStream::connect((Ipv4Addr::LOCALHOST, holder.port)).expect("it listens");
    holder.end("KILL");
    holder.assert_nothing_left();
}

#[test]
fn every_node_of_a_cluster_ends_with_a_process_that_is_killed() {
    let mut holder = Holder::of("cluster", "killed-cluster");
    assert_eq!(left_in(&holder.temporary).len(), 6, "one directory a node while it runs");
    holder.end("KILL");
    holder.assert_nothing_left();
}

#[test]
fn sentinels_and_their_servers_end_with_a_process_that_is_killed() {
    let mut holder = Holder::of("sentinel", "killed-sentinel");
    assert_eq!(left_in(&holder.temporary).len(), 5, "one directory a server while it runs");
    holder.end("KILL");
    holder.assert_nothing_left();
}

#[test]
fn redis_ends_with_a_process_that_is_interrupted() {
    let mut holder = Holder::of("redis", "interrupted-redis");
    holder.end("INT");
    holder.assert_nothing_left();
}

#[test]
fn the_directory_is_closed_to_other_users() {
    let mut holder = Holder::of("redis", "private-redis");
    let directory = left_in(&holder.temporary).pop().expect("one directory while it runs");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(directory).expect("it is there"));
    assert_eq!(mode & 0o077, 0);
    holder.end("TERM");
    holder.assert_nothing_left();
}

#[test]
fn a_server_ends_with_a_test_that_panics() {
    let port = thread::spawn(|| {
        let redis = test_servers::Redis::start();
        std::panic::panic_any(redis.port());
    });
    let port = *port.join().expect_err("it panicked").downcast::<u16>().expect("the port");
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("nobody listens");
}
