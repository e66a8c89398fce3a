//! The scripts against the pure state machine, command by command, on a real server.

mod common;

use bytes::Bytes;
use cache_core::marks::{MOST_MARKS, marked, open_marks};
use cache_core::record::{Body, FORMAT, HEADER_LEN, Record, State, is_ours, millis};
use cache_core::testing::{Plant, remote_suite};
use cache_core::{
    Acquire, Acquired, Claim, Command, Fill, Invalidation, Mark, Namespace, Notice, Put, RemoteKey, RemoteTier, Reply, Slot,
    Token, Unmark, step,
};
use cache_redis::RedisTier;
use common::{Raw, body, key, local_ms, shared, tier};
use std::ops::RangeInclusive;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_run_the_machine() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let suites: Vec<_> = (0..80)
        .map(|seed| {
            let (tier, raw) = (tier.clone(), raw.clone());
            tokio::spawn(async move { remote_suite(&tier, &raw, seed, 150).await })
        })
        .collect();
    for suite in suites {
        suite.await.expect("no difference");
    }
}

/// What `remote_suite` leaves out, because a tier may keep its own time: expiry, deadlines and stamps to the millisecond, 64-bit
/// versions, and records that are damaged, cut short or of another format.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_versions_and_damaged_records_are_as_in_the_machine() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    let runs: Vec<_> = (0..40)
        .map(|seed| {
            let mut run = Run {
                tier: tier.clone(),
                raw: raw.clone(),
                key: key(),
                rng: fastrand::Rng::with_seed(seed),
                tokens: vec![],
                // Others are told, or nobody is: other scripts.
                notice: (seed % 2 == 0).then(|| Notice { node: 1, namespace: Namespace::new("", "machine").expect("a name") }),
                seed,
            };
            tokio::spawn(async move {
                for step in 0..120 {
                    run.step(step).await;
                }
            })
        })
        .collect();
    for run in runs {
        run.await.expect("no difference");
    }
}

struct Run {
    tier: RedisTier,
    raw: Raw,
    key: RemoteKey,
    rng: fastrand::Rng,
    tokens: Vec<Token>,
    notice: Option<Notice>,
    seed: u64,
}

enum Asked {
    Acquire(Acquire),
    Fill(Fill),
    Release(Token),
    Invalidate(Option<u64>, Duration),
    Put(Put, Duration),
    Mark(Mark),
    Unmark(Unmark),
}

impl Run {
    async fn step(&mut self, at: usize) {
        if self.rng.u8(0..6) == 0 {
            let planted = self.planted();
            self.raw.plant(&self.key, planted).await;
            if self.rng.bool() {
                let life = 60_000 * self.rng.u32(1..600);
                self.raw.query::<()>(redis::cmd("PEXPIRE").arg(self.key.as_bytes()).arg(life)).await;
            }
        }
        let mut before = self.slot().await;
        if matches!(before, Slot::Held { expires, .. } if expires < self.raw.time_us().await / 1_000 + 30_000) {
            // Which of the two comes first, its end or the next command, is not for this test.
            self.raw.plant(&self.key, None).await;
            before = Slot::Absent;
        }
        let asked = self.ask();
        let echo = self.key.echo();
        let command = match &asked {
            Asked::Acquire(acquire) => Command::Acquire(acquire, echo),
            Asked::Fill(fill) => Command::Fill(fill),
            Asked::Release(token) => Command::Release(*token),
            Asked::Invalidate(version, retain) => Command::Invalidate { version: *version, retain: *retain, echo },
            Asked::Put(put, retain) => Command::Put(put, *retain),
            Asked::Mark(mark) => Command::Mark(mark, echo),
            Asked::Unmark(unmark) => Command::Unmark(unmark, echo),
        };
        // The server's clock stands somewhere between these two when the script runs.
        let first = self.raw.time_us().await / 1_000;
        let said = self.send(&asked).await;
        let last = self.raw.time_us().await / 1_000;
        let (low, reply) = step(before.clone(), &command, first);
        let (high, _) = step(before.clone(), &command, last);
        let found = self.slot().await;
        let read = self.raw.time_us().await / 1_000;
        let context = format!("seed {}, step {at}: {command:?} on {before:?}", self.seed);
        assert!(alike(&said, &reply, first..=last), "{context}: {said:?}, not {reply:?}");
        assert!(between(&low, &found, &high, read), "{context}: found {found:?}, not {low:?} to {high:?}");
    }

    /// What stands under the key, as a script sees it: damage is looked past.
    async fn slot(&self) -> Slot {
        let mut both = redis::pipe();
        both.atomic().cmd("GET").arg(self.key.as_bytes()).cmd("PEXPIRETIME").arg(self.key.as_bytes());
        let (bytes, expires): (Option<Bytes>, i64) = both.query_async(&mut self.raw.0.clone()).await.expect("an answer");
        let Some(bytes) = bytes else { return Slot::Absent };
        if !is_ours(&bytes) {
            return Slot::Foreign;
        }
        if bytes[0] != FORMAT || bytes.len() < HEADER_LEN {
            return Slot::Newer { version: u64::from_be_bytes(bytes[6..14].try_into().expect("eight bytes")) };
        }
        let record = Record::decode_any(&bytes).expect("nothing damaged but what is cut short");
        Slot::Held { record, expires: u64::try_from(expires).unwrap_or(u64::MAX) }
    }

    async fn send(&self, asked: &Asked) -> Reply {
        let (tier, key, notice) = (&self.tier, &self.key, self.notice.as_ref());
        match asked {
            Asked::Acquire(acquire) => Reply::Acquire(tier.acquire(key, acquire).await.expect("an answer")),
            Asked::Fill(fill) => Reply::Fill(tier.fill(key, fill).await.expect("an answer")),
            Asked::Release(token) => Reply::Release(tier.release(key, *token).await.expect("an answer")),
            Asked::Invalidate(version, retain) => {
                let keys = [Invalidation { key: key.clone(), version: *version }];
                Reply::Invalidate(tier.invalidate(&keys, *retain, notice).await.expect("an answer").outcome[0])
            }
            Asked::Put(put, retain) => Reply::Put(tier.put(key, put, *retain, notice).await.expect("an answer").outcome),
            Asked::Mark(mark) => Reply::Mark(tier.mark(key, mark).await.expect("an answer")),
            Asked::Unmark(unmark) => Reply::Unmark(tier.unmark(key, unmark, notice).await.expect("an answer").outcome),
        }
    }

    fn ask(&mut self) -> Asked {
        match self.rng.u8(0..15) {
            0..3 => {
                let token = Token::unique();
                self.tokens.push(token);
                let claim = *self.rng.choice(&[Claim::Vacant, Claim::Stale, Claim::Force]).expect("three");
                let (lease, retain) = (self.time(), self.time());
                Asked::Acquire(Acquire {
                    token,
                    lease,
                    retain,
                    claim,
                    schema: self.rng.u32(1..4),
                    generation: self.rng.u32(0..2),
                })
            }
            3..6 => {
                let version = self.version();
                Asked::Fill(Fill { token: self.token(), version, created: self.created(), body: self.body() })
            }
            6 => Asked::Release(self.token()),
            7 | 8 => Asked::Invalidate(self.rng.bool().then(|| self.version()), self.time()),
            9..12 => {
                let token = if self.rng.bool() { Token::unique() } else { self.token() };
                self.tokens.push(token);
                Asked::Mark(Mark { token, life: self.time(), retain: self.time() })
            }
            12 | 13 => {
                let version = self.rng.bool().then(|| self.version());
                Asked::Unmark(Unmark { token: self.token(), version, retain: self.time() })
            }
            _ => Asked::Put(
                Put { token: Token::unique(), version: self.version(), age: self.time(), body: self.body() },
                self.time(),
            ),
        }
    }

    fn planted(&mut self) -> Option<Vec<u8>> {
        let state =
            *self.rng.choice(&[State::Value, State::Lease, State::Refresh, State::Tombstone, State::Marked]).expect("some");
        // Deadlines long past, far ahead, and as far as six bytes reach.
        let deadline = *self.rng.choice(&[0, 1, 1 << 42, (1 << 48) - 1]).expect("some");
        let created = *self.rng.choice(&[0, 1_795_000_000_123, (1 << 48) - 1]).expect("some");
        let version = self.version();
        let record = Record { state, version, token: self.token(), deadline, created, marks: 1, body: self.body() };
        let mut bytes = record.encode();
        if state == State::Marked && self.rng.bool() {
            // About as many marks as there may be, some of which have ended, and something behind them.
            let most = MOST_MARKS + 1 - self.rng.usize(0..3);
            let marks: Vec<_> = (0..most).map(|_| (Token::unique(), if self.rng.u8(0..64) == 0 { 1 } else { 1 << 42 })).collect();
            bytes = marked(&marks, version, self.key.echo()).encode();
            bytes.truncate(bytes.len() - self.rng.usize(0..3));
        }
        match self.rng.u8(0..6) {
            0 => return None,
            1 => bytes.truncate(self.rng.usize(0..HEADER_LEN)),
            2 => bytes[0] = 0xC0 + *self.rng.choice(&[0, 2, 15]).expect("some"),
            3 => bytes[0] = *self.rng.choice(&[0, 0xB1, 0xD1]).expect("some"),
            4 => bytes[1] = b'X',
            _ => {}
        }
        Some(bytes)
    }

    fn body(&mut self) -> Body {
        // Short and long records are stored in different ways.
        let most = if self.rng.u8(0..4) == 0 { 3_000 } else { 50 };
        let (payload, last) = (vec![7; self.rng.usize(0..most)], self.time());
        let mut body = body(&self.key, payload, last);
        body.schema = self.rng.u32(1..4);
        body.generation = self.rng.u32(0..2);
        body.life.soft = self.time();
        body.life.hard = self.time();
        body
    }

    /// Some time ago, or at the ends of what a record can tell.
    fn created(&mut self) -> u64 {
        match self.rng.u8(0..8) {
            0 => 0,
            1 => 1,
            2 => (1 << 48) - 1,
            _ => local_ms().saturating_sub(millis(self.time())),
        }
    }

    /// None, or many seconds apart from all others, so that a test that takes one does not change an answer.
    fn time(&mut self) -> Duration {
        match self.rng.u8(0..5) {
            0 => Duration::ZERO,
            1 => Duration::from_secs(365_000 * 86_400),
            2 => Duration::MAX,
            _ => Duration::from_millis(60_000 * self.rng.u64(1..600) + 7),
        }
    }

    fn version(&mut self) -> u64 {
        let around = *self.rng.choice(&[2, 1 << 32, 1 << 53, (1 << 53) + (1 << 32), u64::MAX - 2]).expect("some");
        around - 2 + self.rng.u64(0..5)
    }

    fn token(&mut self) -> Token {
        let from = self.tokens.len().saturating_sub(2);
        self.rng.choice(&self.tokens[from..]).copied().unwrap_or_default()
    }
}

fn alike(said: &Reply, wanted: &Reply, when: RangeInclusive<u64>) -> bool {
    match (said, wanted) {
        (Reply::Acquire(Acquired::Granted { floor: a, at }), Reply::Acquire(Acquired::Granted { floor: b, .. })) => {
            a == b && when.contains(at)
        }
        (Reply::Acquire(Acquired::Busy(said)), Reply::Acquire(Acquired::Busy(wanted))) => {
            said.abs_diff(*wanted) < Duration::from_secs(20)
        }
        _ => said == wanted,
    }
}

/// Whether what was found by the time `read` lies between what the machine makes of the two times.
fn between(low: &Slot, found: &Slot, high: &Slot, read: u64) -> bool {
    match (low, found, high) {
        // Stored for no time at all, and forgotten since.
        (Slot::Held { expires, .. }, Slot::Absent, _) => *expires <= read,
        (Slot::Held { record: a, expires: from }, Slot::Held { record, expires }, Slot::Held { record: b, expires: to }) => {
            let (a, b) = (as_stored(a), as_stored(b));
            (from..=to).contains(&expires)
                && (a.deadline..=b.deadline).contains(&record.deadline)
                && (a.created..=b.created).contains(&record.created)
                && *record == Record { deadline: record.deadline, created: record.created, ..with_marks_of(record, a, &b) }
        }
        _ => low == found,
    }
}

/// The first record with another's marks, if each of those ends between what the two say of it.
fn with_marks_of(found: &Record, mut low: Record, high: &Record) -> Record {
    let [low_marks, found_marks, high_marks] = [&low, found, high].map(|record| open_marks(record, 0));
    let mut all = low_marks.iter().zip(&found_marks).zip(&high_marks);
    if found_marks.len() == low_marks.len()
        && low_marks.len() == high_marks.len()
        && all.all(|((a, found), b)| a.0 == found.0 && (a.1..=b.1).contains(&found.1))
        && !found_marks.is_empty()
    {
        low.body.payload = found.body.payload.clone();
    }
    low
}

/// A record keeps six bytes of milliseconds.
fn as_stored(record: &Record) -> Record {
    Record::decode_any(&record.encode().into()).expect("a whole record")
}
