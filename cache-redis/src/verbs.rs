//! The verbs of [`RemoteTier`], as commands and scripts.

use crate::backplane::{Telling, listen};
use crate::error::{from_driver, is_wrong_type};
use crate::invalidate::{known, needs_two_steps};
use crate::multiplexer::Request;
use crate::node::Called;
use crate::script::{Answer, SCRIPTS, Verb, digits};
use crate::tier::{RedisTier, Unable, failed, read, timed_answer};
use async_trait::async_trait;
use bytes::Bytes;
use cache_core::record::{Body, HEAD_LEN, HEADER_LEN, Record, State, check, millis};
use cache_core::{
    Acquire, Acquired, Claim, Deployments, Ear, Error, ErrorKind, Examine, Examined, Fetched, Fill, Filled, Invalidated,
    Invalidation, KeyPrefix, Listening, Mark, Marked, Meta, Namespace, Notice, Partition, Put, PutOutcome, Receipt, RemoteKey,
    RemoteTier, Result, Source, Token, Told, Unmark,
};
use redis::{Cmd, RedisResult, Value};
use std::sync::Weak;
use std::time::{Duration, Instant};

/// Payloads longer than this go with room for their head, which Redis then patches in place: see value.lua. Both ways cost a server without
/// replicas the same at 256 bytes; at 1,024 to patch is a tenth cheaper, at 4,096 a quarter.
const PATCHED_FROM: usize = 1_024;

#[async_trait]
impl RemoteTier for RedisTier {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.config().timeout)
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        let (called, from) = match self.replicas() {
            None => (self.nodes().send(self.deadline(), key.as_bytes(), Request::Get(key.as_bytes())).await, Source::Master),
            // Boxed, for it would make each call's future larger.
            Some(replicas) => Box::pin(replicas.read(self.nodes(), self.deadline(), key.as_bytes())).await,
        };
        self.fetched(called, from).inspect_err(|err| failed("get", err))
    }

    async fn head(&self, key: &RemoteKey) -> Result<Fetched> {
        let mut cmd = redis::cmd("GETRANGE");
        cmd.arg(key.as_bytes()).arg(0).arg(HEADER_LEN - 1);
        let called = self.nodes().send(self.deadline(), key.as_bytes(), Request::Run(&cmd)).await;
        let mut fetched = self.fetched(called, Source::Master).inspect_err(|err| failed("head", err))?;
        // Of what is not there the range is empty.
        fetched.record = fetched.record.filter(|head| !head.is_empty());
        Ok(fetched)
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
        let asked = asked(key, acquire);
        let called = self.run_each("acquire", key.as_bytes(), Verb::Acquire, &[&asked]).await?;
        timed_answer(called).and_then(acquired).inspect_err(|err| failed("acquire", err))
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        self.check_size(&fill.body)?;
        let Fill { token, version, created, ref body } = *fill;
        // A record keeps six bytes of it.
        let created = millis(Duration::from_millis(created));
        // Redis refuses an expiry at 0; one that has passed it takes.
        let ends = (created + millis(body.life.last)).max(1).to_string();
        let record = Record { state: State::Value, version, token, deadline: 0, created, marks: 0, body: body.clone() }.encode();
        let arguments: [&[u8]; 2] = [&record, ends.as_bytes()];
        let called = self.run_each("fill", key.as_bytes(), Verb::Fill, &arguments).await?;
        read(called.reply).and_then(filled).inspect_err(|err| failed("fill", err))
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        let mut call = SCRIPTS.release.call(1);
        call.arg(key.as_bytes()).arg(token.as_bytes());
        let (word, _) = self.run("release", self.deadline(), key.as_bytes(), &SCRIPTS.release, &call).await?;
        Ok(&*word == b"released")
    }

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        self.invalidate_all(keys, retain, notice).await
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        self.check_size(&put.body)?;
        self.note(key.as_bytes(), retain);
        let deadline = self.deadline();
        let telling = notice.map(|notice| {
            let told = Invalidation { key: key.clone(), version: Some(put.version) };
            Telling::new(self, notice, key.partition(), notice.frame([&told].into_iter()))
        });
        let (word, receipt) = match self.run_put(deadline, key, put, retain, telling.as_ref()).await {
            Err(err) if telling.is_some() && needs_two_steps(&err) => {
                let (word, _) = self.run_put(deadline, key, put, retain, None).await?;
                // Of a vacant key the invalidation tells.
                let telling = telling.as_ref().filter(|_| &*word != b"vacant");
                let receipt = match telling {
                    Some(telling) => self.tell("put", deadline, telling).await?,
                    None => None,
                };
                (word, receipt)
            }
            ended => ended?,
        };
        let outcome = match &*word {
            b"stored" => PutOutcome::Stored,
            b"vacant" => {
                // Whatever came in between, an invalidation up to this version is right.
                let wanted = vec![(key.as_bytes(), known(key, Some(put.version)))];
                let lot = match &telling {
                    Some(telling) => self.run_told("put", deadline, retain, wanted, telling).await?,
                    None => self.run_invalidate("put", deadline, retain, wanted, None).await?,
                };
                let outcome = match &*lot.letters {
                    b"T" => PutOutcome::Tombstoned,
                    b"C" => PutOutcome::NotNewer,
                    b"F" => PutOutcome::Foreign,
                    _ => return Err(not_understood()),
                };
                return Ok(Told { outcome, receipts: lot.receipt.into_iter().collect() });
            }
            b"old" => PutOutcome::NotNewer,
            b"marked" => PutOutcome::Marked,
            b"foreign" => PutOutcome::Foreign,
            _ => return Err(not_understood()),
        };
        Ok(Told { outcome, receipts: receipt.into_iter().collect() })
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        self.run_mark(key, mark).await
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        self.unmark_told(key, unmark, notice).await
    }

    /// In batches, each within the timeout of its own: a SCAN over 1,000 keys of whatever kind, then the invalidation script on
    /// those that are ours. A record that appears or is renewed meanwhile may be counted twice or be left; its load began after
    /// the clear did.
    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        let outcome = self.sweep("clear", namespace, retain, &|_| true, &mut |_| ()).await?.tombstoned;
        // After all tombstones: who hears of it sooner could read an older value once more.
        let receipts = match notice {
            Some(notice) => self.tell_all("clear", notice).await?,
            None => Vec::new(),
        };
        Ok(Told { outcome, receipts })
    }

    async fn invalidate_prefix(
        &self,
        namespace: &Namespace,
        prefix: &KeyPrefix,
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<u64>> {
        let (swept, receipts) = self.sweep_prefix(namespace, prefix, retain, notice, &mut |_| ()).await?;
        Ok(Told { outcome: swept.tombstoned, receipts })
    }

    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        Ok(self.poll_all(prefix, partitions).await)
    }

    fn listen(&self, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
        listen(self, prefix, ear)
    }

    fn deployments(&self) -> Option<&Deployments> {
        Some(self.shared_deployments())
    }

    /// See [`TieredCache::doctor`](cache_core::TieredCache::doctor). `INFO` and `CLIENT LIST` of the listening connections, once a
    /// master, and `STRLEN` and `PTTL` of the 256 keys that count invalidations.
    async fn examine(&self, examine: &Examine<'_>) -> Examined {
        self.examined(examine).await
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

    /// A put's word, and where others were told.
    async fn run_put(
        &self,
        deadline: Instant,
        key: &RemoteKey,
        put: &Put,
        retain: Duration,
        telling: Option<&Telling>,
    ) -> Result<(Bytes, Option<Receipt>)> {
        let script = if telling.is_some() { &SCRIPTS.put_told } else { &SCRIPTS.put };
        let mut call = script.call(1 + usize::from(telling.is_some()));
        call.arg(key.as_bytes());
        if let Some(telling) = telling {
            call.arg(telling.meta());
        }
        value_args(&mut call, put.token, put.version, put.age, &put.body, retain);
        if let Some(telling) = telling {
            telling.add_to(&mut call);
        }
        let (word, stamp) = self.try_run("put", deadline, key.as_bytes(), script, &call).await?.map_err(Unable::error)?;
        let receipt = match telling {
            Some(telling) if &*word != b"vacant" => telling.receipt(&stamp)?,
            _ => None,
        };
        Ok((word, receipt))
    }

    pub(crate) fn check_size(&self, body: &Body) -> Result<()> {
        if HEADER_LEN + body.payload.len() > self.config().max_record_bytes {
            return Err(Error::new(ErrorKind::TooLarge, "the record is larger than the Redis tier's max_record_bytes"));
        }
        Ok(())
    }
}

fn acquired(Answer { now_us, word, detail }: Answer) -> Result<Acquired> {
    match &*word {
        b"granted" => {
            let floor = detail.as_ref().try_into().map_err(|_| not_understood())?;
            // As the script has it, whose `now` is whole milliseconds.
            let at = u64::try_from(now_us / 1_000).map_err(|_| not_understood())?;
            Ok(Acquired::Granted { floor: u64::from_be_bytes(floor), at })
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

fn filled(word: Value) -> Result<Filled> {
    match word {
        Value::BulkString(word) if word == b"stored" => Ok(Filled::Stored),
        Value::BulkString(word) if word == b"lost" => Ok(Filled::LeaseLost),
        Value::BulkString(word) if word == b"old" => Ok(Filled::TooOld),
        _ => Err(not_understood()),
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
    [keep.as_bytes(), &[0, claim], &lease.to_be_bytes()[2..], acquire.token.as_bytes(), fields, &[0; 4]].concat()
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

/// Redis refuses an expiry of no milliseconds.
pub(crate) fn at_least_one(duration: Duration) -> u64 {
    millis(duration).max(1)
}

pub(crate) fn not_understood() -> Error {
    Error::new(ErrorKind::Unavailable, "Redis gave a reply that was not understood")
}
