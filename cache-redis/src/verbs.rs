//! The verbs of [`RemoteTier`], as commands and scripts.

use crate::error::{from_driver, is_wrong_type};
use crate::multiplexer::Request;
use crate::node::Called;
use crate::script::{SCRIPTS, digits};
use crate::tier::{RedisTier, failed, read};
use async_trait::async_trait;
use bytes::Bytes;
use cache_core::record::{Body, HEAD_LEN, HEADER_LEN, Record, State, check, is_ours, millis};
use cache_core::{
    Acquire, Acquired, Claim, Echo, Error, ErrorKind, Fetched, Fill, Filled, Invalidated, Invalidation, Namespace, Put,
    PutOutcome, RemoteKey, RemoteTier, Result, Source, Token,
};
use futures_util::future::join_all;
use redis::{Cmd, RedisResult, Value};
use std::time::{Duration, Instant};
use tracing::debug;

/// Keys of one invalidation script, which keeps Redis from other work for some 5 µs a key.
pub(crate) const INVALIDATE_BATCH: usize = 128;

/// Payloads longer than this go with room for their head, which Redis then patches in place: see value.lua. Both ways cost a server without
/// replicas the same at 256 bytes; at 1,024 to patch is a tenth cheaper, at 4,096 a quarter.
const PATCHED_FROM: usize = 1_024;

#[async_trait]
impl RemoteTier for RedisTier {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        let (called, from) = match self.replicas() {
            None => (self.nodes().send(self.deadline(), key.as_bytes(), Request::Get(key.as_bytes())).await, Source::Master),
            // Boxed, for it would make each call's future larger.
            Some(replicas) => Box::pin(replicas.read(self.nodes(), self.deadline(), key.as_bytes())).await,
        };
        self.fetched(called, from).inspect_err(|err| failed("get", err))
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        // As many GETs, which go together by themselves, in groups that hold up nobody for long.
        let fetched: Vec<_> = if let Some(replicas) = self.replicas() {
            let keys: Vec<_> = keys.iter().map(RemoteKey::as_bytes).collect();
            let called = Box::pin(replicas.read_many(self.nodes(), self.deadline(), &keys)).await;
            called.into_iter().map(|(called, from)| self.fetched(called, from)).collect()
        } else {
            let requests = keys.iter().map(|key| (key.as_bytes(), Request::Get(key.as_bytes()))).collect();
            let called = self.nodes().send_many(self.deadline(), requests).await;
            called.into_iter().map(|called| self.fetched(called, Source::Master)).collect()
        };
        let error = fetched.iter().find_map(|fetched| fetched.as_ref().err());
        let Some(error) = error else { return Ok(fetched) };
        failed("get_many", error);
        if fetched.iter().all(Result::is_err) { Err(error.clone()) } else { Ok(fetched) }
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        // A forced one begins a write. Any other may find a value that replicas have not, and for as long as others wait for its load, they read where
        // that is filled.
        self.note(key.as_bytes(), if acquire.claim == Claim::Force { acquire.retain } else { acquire.lease });
        let mut call = SCRIPTS.acquire.call(1);
        call.arg(key.as_bytes()).arg(asked(key, acquire));
        let (word, detail) = self.run("acquire", self.deadline(), key.as_bytes(), &SCRIPTS.acquire, &call).await?;
        match &*word {
            b"granted" => {
                let floor = detail.as_ref().try_into().map_err(|_| not_understood())?;
                Ok(Acquired::Granted { floor: u64::from_be_bytes(floor) })
            }
            b"busy" => {
                let left = digits(&detail).ok_or_else(not_understood)?;
                Ok(Acquired::Busy(Duration::from_millis(left)))
            }
            b"hit" => Ok(Acquired::Hit),
            b"newer" => Ok(Acquired::Newer),
            b"foreign" => Ok(Acquired::Foreign),
            _ => Err(not_understood()),
        }
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        self.check_size(&fill.body)?;
        let mut call = SCRIPTS.fill.call(1);
        value_args(call.arg(key.as_bytes()), fill.token, fill.version, fill.age, &fill.body, Duration::ZERO);
        let (word, _) = self.run("fill", self.deadline(), key.as_bytes(), &SCRIPTS.fill, &call).await?;
        match &*word {
            b"stored" => Ok(Filled::Stored),
            b"lost" => Ok(Filled::LeaseLost),
            b"old" => Ok(Filled::TooOld),
            _ => Err(not_understood()),
        }
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        let mut call = SCRIPTS.release.call(1);
        call.arg(key.as_bytes()).arg(token.as_bytes());
        let (word, _) = self.run("release", self.deadline(), key.as_bytes(), &SCRIPTS.release, &call).await?;
        Ok(&*word == b"released")
    }

    async fn invalidate(&self, keys: &[Invalidation], retain: Duration) -> Result<Vec<Invalidated>> {
        let deadline = self.deadline();
        let lots = self.nodes().lots(keys.iter().map(|invalidation| invalidation.key.as_bytes()), INVALIDATE_BATCH);
        let run = |lot: &[usize]| {
            let wanted = lot.iter().map(|place| {
                let Invalidation { key, version } = &keys[*place];
                (key.as_bytes(), known(key, *version))
            });
            self.run_invalidate("invalidate", deadline, retain, wanted.collect())
        };
        let letters = if self.nodes().are_many() {
            // All to their end: that one node is away must not keep the others from hearing of it.
            let run_apart = async |lot: &Vec<usize>| match run(lot).await {
                // A slot on the move may have some of the keys on either side: one by one they are found.
                Err(err) if lot.len() > 1 && err.kind() == ErrorKind::Unavailable => {
                    let letters = join_all(lot.iter().map(|place| run(std::slice::from_ref(place)))).await;
                    Ok(letters.into_iter().collect::<Result<Vec<_>>>()?.concat().into())
                }
                letters => letters,
            };
            join_all(lots.iter().map(run_apart)).await.into_iter().collect::<Result<Vec<_>>>()?
        } else {
            // One after the other: Redis does nothing else during a lot.
            let mut letters = Vec::with_capacity(lots.len());
            for lot in &lots {
                letters.push(run(lot).await?);
            }
            letters
        };
        let mut outcomes = vec![Invalidated::Foreign; keys.len()];
        for (lot, letters) in lots.into_iter().zip(letters) {
            for (place, letter) in lot.into_iter().zip(letters) {
                outcomes[place] = match letter {
                    b'T' => Invalidated::Tombstoned,
                    b'C' => Invalidated::Current,
                    b'F' => Invalidated::Foreign,
                    _ => return Err(not_understood()),
                };
            }
        }
        Ok(outcomes)
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration) -> Result<PutOutcome> {
        self.check_size(&put.body)?;
        self.note(key.as_bytes(), retain);
        let deadline = self.deadline();
        let mut call = SCRIPTS.put.call(1);
        value_args(call.arg(key.as_bytes()), put.token, put.version, put.age, &put.body, retain);
        let (word, _) = self.run("put", deadline, key.as_bytes(), &SCRIPTS.put, &call).await?;
        match &*word {
            b"stored" => Ok(PutOutcome::Stored),
            b"vacant" => {
                // Whatever came in between, an invalidation up to this version is right.
                let wanted = vec![(key.as_bytes(), known(key, Some(put.version)))];
                match &*self.run_invalidate("put", deadline, retain, wanted).await? {
                    b"T" => Ok(PutOutcome::Tombstoned),
                    b"C" => Ok(PutOutcome::NotNewer),
                    b"F" => Ok(PutOutcome::Foreign),
                    _ => Err(not_understood()),
                }
            }
            b"old" => Ok(PutOutcome::NotNewer),
            b"marked" => Ok(PutOutcome::Marked),
            b"foreign" => Ok(PutOutcome::Foreign),
            _ => Err(not_understood()),
        }
    }

    /// In batches, each within the timeout of its own: a SCAN over 1,000 keys of whatever kind, then the invalidation script on
    /// those that are ours. A record that appears or is renewed meanwhile may be counted twice or be left; its load began after
    /// the clear did.
    async fn clear(&self, namespace: &Namespace, retain: Duration) -> Result<u64> {
        Ok(self.sweep("clear", namespace, retain, &|_| true, &mut |_| ()).await?.tombstoned)
    }

    /// Ends the supervisor. Calls under way still end by themselves; later ones fail with [`ErrorKind::Closed`].
    async fn close(&self) {
        self.stop().await;
    }
}

impl RedisTier {
    fn fetched(&self, called: Result<Called<RedisResult<Value>>>, from: Source) -> Result<Fetched> {
        let called = called?;
        let now = called.now();
        let record = match called.reply {
            Ok(Value::Nil) => None,
            Ok(Value::BulkString(record)) => Some(self.bounded(record.into())),
            // A list, say, is as foreign as any foreign string.
            Err(err) if is_wrong_type(&err) => Some(Bytes::new()),
            Err(err) => return Err(from_driver(&err)),
            Ok(_) => return Err(not_understood()),
        };
        Ok(Fetched { record, now, from })
    }

    /// Invalidates keys that one command can name, each with its echo and version. A letter for each.
    pub(crate) async fn run_invalidate(
        &self,
        verb: &'static str,
        deadline: Instant,
        retain: Duration,
        keys: Vec<(&[u8], Vec<u8>)>,
    ) -> Result<Bytes> {
        let Some((first, _)) = keys.first() else { return Ok(Bytes::new()) };
        let mut call = SCRIPTS.invalidate.call(keys.len());
        for (key, _) in &keys {
            self.note(key, retain);
            call.arg(key);
        }
        call.arg(tombstones(&keys, retain));
        let Some((_, letters)) = self.run_with_memory(verb, deadline, first, &SCRIPTS.invalidate, &call).await? else {
            debug!(verb, "Redis is out of memory: records are removed where tombstones should be");
            // All to their end, whatever becomes of one.
            let removed = join_all(keys.iter().map(|(key, wanted)| self.remove(verb, deadline, key, wanted.is_empty())));
            return removed.await.into_iter().collect::<Result<Vec<u8>>>().map(Bytes::from);
        };
        if letters.len() == keys.len() { Ok(letters) } else { Err(not_understood()) }
    }

    /// What is left of an invalidation where Redis is out of memory and takes no script at all: the record goes, and with it any lease, so that
    /// nothing older can be read or stored. Its floor and its announced writes go too. The letter of `invalidate.lua` for it.
    async fn remove(&self, verb: &'static str, deadline: Instant, key: &[u8], may_be_absent: bool) -> Result<u8> {
        let mut look = redis::cmd("GETRANGE");
        look.arg(key).arg(0).arg(HEAD_LEN - 1);
        let looked = self.nodes().send(deadline, key, Request::Run(&look)).await.inspect_err(|err| failed(verb, err))?;
        if looked.reply.as_ref().is_err_and(is_wrong_type) {
            return Ok(b'F');
        }
        let head = read::<Bytes>(looked.reply).inspect_err(|err| failed(verb, err))?;
        if head.is_empty() {
            return Ok(if may_be_absent { b'A' } else { b'T' });
        }
        if !is_ours(&head) {
            return Ok(b'F');
        }
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(key);
        let removed = self.nodes().send(deadline, key, Request::Run(&unlink)).await.and_then(|called| read::<u64>(called.reply));
        removed.inspect_err(|err| failed(verb, err)).map(|_| b'T')
    }

    pub(crate) fn check_size(&self, body: &Body) -> Result<()> {
        if HEADER_LEN + body.payload.len() > self.config().max_record_bytes {
            return Err(Error::new(ErrorKind::TooLarge, "the record is larger than the Redis tier's max_record_bytes"));
        }
        Ok(())
    }
}

/// The argument of an acquire: see lease.lua.
fn asked(key: &RemoteKey, acquire: &Acquire) -> Vec<u8> {
    let claim = match acquire.claim {
        Claim::Vacant => b'v',
        Claim::Stale => b's',
        Claim::Force => b'f',
    };
    let lease = millis(acquire.lease);
    let keep = at_least_one(acquire.retain).max(lease).to_string();
    let body = Body::empty(acquire.schema, acquire.generation, key.echo()).encode(0);
    // A lease has no value, hence no CRC: the last four bytes.
    let fields = &body[..body.len() - 4];
    [&[claim], &lease.to_be_bytes()[2..], acquire.token.as_bytes(), fields, &[0; 4], keep.as_bytes()].concat()
}

/// A value's fields, and its body: see value.lua.
fn value_args(call: &mut Cmd, token: Token, version: u64, age: Duration, body: &Body, retain: Duration) {
    let (age, retain) = (millis(age), at_least_one(retain));
    let keep = millis(body.life.last).saturating_sub(age).max(retain).to_string();
    let check = check(State::Value, version, 0, 0).to_be_bytes();
    let roomy = body.payload.len() > PATCHED_FROM;
    let (age, version_bytes, retain) = (age.to_be_bytes(), version.to_be_bytes(), retain.to_be_bytes());
    let room = if roomy { b"y" } else { b"n" };
    call.arg([&age[2..], &check, &version_bytes, token.as_bytes(), &retain[2..], room, keep.as_bytes()].concat());
    let body = body.encode(version);
    if roomy {
        call.arg([&[0; HEAD_LEN][..], &body].concat())
    } else {
        call.arg(body)
    };
}

/// What an invalidation knows of a key: its echo, and the version of the write if it has one.
fn known(key: &RemoteKey, version: Option<u64>) -> Vec<u8> {
    let mut known = key.echo().as_bytes().to_vec();
    known.extend(version.iter().flat_map(|version| version.to_be_bytes()));
    known
}

/// What is known of each key and its tombstone, and for how long tombstones stay: see invalidate.lua.
fn tombstones(keys: &[(&[u8], Vec<u8>)], retain: Duration) -> Vec<u8> {
    let mut all = Vec::with_capacity((1 + HEADER_LEN) * keys.len() + 15);
    for (_, wanted) in keys {
        all.push(match wanted.len() {
            0 => b'n',
            16 => b'e',
            _ => b'v',
        });
        let echo = wanted.first_chunk().map_or_else(Echo::default, |echo| Echo::from_bytes(*echo));
        let version = wanted.last_chunk().filter(|_| wanted.len() == 24).map_or(0, |version| u64::from_be_bytes(*version));
        let body = Body::empty(0, 0, echo);
        let tombstone =
            Record { state: State::Tombstone, version, token: Token::default(), deadline: 0, created: 0, marks: 0, body };
        all.extend_from_slice(&tombstone.encode());
    }
    all.extend_from_slice(at_least_one(retain).to_string().as_bytes());
    all
}

/// Redis refuses an expiry of no milliseconds.
fn at_least_one(duration: Duration) -> u64 {
    millis(duration).max(1)
}

pub(crate) fn not_understood() -> Error {
    Error::new(ErrorKind::Unavailable, "Redis gave a reply that was not understood")
}
