//! What the tests of both databases need: deliveries that are told, and a second process that is killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use cache_sharding::outbox::{Backlog, Claimed, Error, MAX_KEY, MAX_TOPIC, Postponed, Relay, RelayBuilder, Row, Store};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time;

/// A test that has not ended by then has failed.
const LIMIT: Duration = Duration::from_secs(60);
const SECOND: &str = "CACHESTACK_OUTBOX_SECOND";
const READY: &str = "second process: done, kill me";

/// Deliveries of any number of relays.
pub(crate) struct Delivered {
    told: UnboundedSender<Row>,
    hears: UnboundedReceiver<Row>,
    fails_once: Option<Vec<u8>>,
}

impl Delivered {
    pub(crate) fn new() -> Self {
        let (told, hears) = unbounded_channel();
        Self { told, hears, fails_once: None }
    }

    /// The first delivery of this key fails.
    pub(crate) fn failing_once(key: &[u8]) -> Self {
        Self { fails_once: Some(key.to_vec()), ..Self::new() }
    }

    pub(crate) fn relay<S: Store>(&self, store: S) -> Relay<S> {
        self.start(Relay::builder(store))
    }

    pub(crate) fn start<S: Store>(&self, relay: RelayBuilder<S>) -> Relay<S> {
        let (told, fails_once) = (self.told.clone(), self.fails_once.clone());
        let deliver = move |claimed: Claimed| {
            let fails = claimed.attempt == 1 && fails_once.as_deref() == Some(claimed.row.key());
            let told = if fails { Err("fails once") } else { told.send(claimed.row).map_err(|_| "nobody listens") };
            async move { told }
        };
        relay.start(deliver).unwrap()
    }

    /// The next rows delivered, which must be different ones.
    pub(crate) async fn next(&mut self, number: usize) -> BTreeSet<Row> {
        let mut rows = BTreeSet::new();
        for nth in 0..number {
            let row = time::timeout(LIMIT, self.hears.recv()).await.unwrap_or_else(|_| panic!("{nth} of {number} rows came"));
            assert!(rows.insert(row.unwrap()), "a row came twice");
        }
        rows
    }
}

pub(crate) async fn within(work: impl AsyncFnOnce()) {
    time::timeout(LIMIT, work()).await.expect("it takes too long");
}

pub(crate) fn numbered(numbers: std::ops::Range<u32>) -> Vec<Row> {
    numbers.map(|number| Row::new("product", number.to_be_bytes()).unwrap().with_version(u64::from(number))).collect()
}

/// Rows that are easily cut short, unquoted or rounded on the way.
pub(crate) fn hostile() -> Vec<Row> {
    let all: Vec<u8> = (0..=255).collect();
    vec![
        Row::new("", "").unwrap(),
        Row::new("\0", "\0\0").unwrap().with_version(0),
        Row::new(b"a\0b\xFF\xFE", &all).unwrap().with_version(u64::MAX),
        Row::new("'; DROP TABLE product; --", "\"\\'$1?{}\n\r").unwrap().with_version(1 << 63),
        Row::new("ÿ€😀", "\\x00").unwrap().with_version((1 << 63) - 1),
        Row::new([0xFF; MAX_TOPIC], vec![0xFF; MAX_KEY]).unwrap().with_version((1 << 53) + 1),
    ]
}

/// A store that never gets to delete: its relay stands between the delivery and the delete.
pub(crate) struct Stuck<S>(pub(crate) S);

impl<S: Store> Store for Stuck<S> {
    async fn claim(&self, most: u32, lease: Duration) -> Result<Vec<Claimed>, Error> {
        self.0.claim(most, lease).await
    }

    async fn delete(&self, _: &[i64]) -> Result<(), Error> {
        std::future::pending().await
    }

    async fn postpone(&self, rows: &[Postponed]) -> Result<(), Error> {
        self.0.postpone(rows).await
    }

    async fn backlog(&self) -> Result<Backlog, Error> {
        self.0.backlog().await
    }
}

/// Whether this is the second process of a test, and what it was told.
pub(crate) fn second() -> Option<String> {
    std::env::var(SECOND).ok()
}

/// In the second process: tells that it is done, and waits to be killed.
pub(crate) async fn report_and_wait() {
    println!(
        "
{READY}"
    );
    std::future::pending::<()>().await;
}

/// Runs the test named `test` in a second process until it reports, and kills it, so that nothing of it has a chance to clean up.
pub(crate) fn killed_after(test: &str, told: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(["--exact", test, "--nocapture"]).env(SECOND, told).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reported = lines.any(|line| line.is_ok_and(|line| line.contains(READY)));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(reported, "the second process ended early: {status}");
    assert_eq!(status.signal(), Some(9));
}
