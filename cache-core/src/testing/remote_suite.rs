//! The conformance suite of a remote tier: the tier and the pure state machine, command by command.

use crate::embedded::EmbeddedTier;
use crate::key::{Namespace, RemoteKey};
use crate::machine::{Command, Reply, Slot, step};
use crate::marks::{self, MOST_MARKS, open_marks};
use crate::record::{Body, FORMAT, Flags, Life, Record, State};
use crate::remote::{Acquire, Acquired, Claim, Fill, Invalidation, Mark, Put, RemoteTier, Unmark};
use crate::token::Token;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;

/// How the suite puts bytes under a key behind the tier's back.
#[async_trait]
pub trait Plant: Send + Sync {
    /// Stores `bytes` under `key`, whatever stands there, without expiry; `None` removes it.
    async fn plant(&self, key: &RemoteKey, bytes: Option<Vec<u8>>);
}

#[async_trait]
impl Plant for EmbeddedTier {
    async fn plant(&self, key: &RemoteKey, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => EmbeddedTier::plant(self, key, bytes),
            None => self.unplant(key),
        }
    }
}

/// Times in the suite are either over at once or far away, so that no real clock decides an answer.
const AT_ONCE: Duration = Duration::ZERO;
const FAR: Duration = Duration::from_secs(24 * 3_600);

/// Runs `steps` random commands from `seed` on the tier and on the pure state machine, and compares each reply and what
/// then stands under the key. Run it with many seeds; a failure names its seed and step.
///
/// The keys lie in a namespace of the seed's own, so runs do not disturb each other; they are left behind.
///
/// # Panics
/// On the first difference, naming seed, step and command.
pub async fn remote_suite<T: RemoteTier + ?Sized>(tier: &T, plant: &dyn Plant, seed: u64, steps: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let namespace = Namespace::new("suite", &format!("s{seed:x}")).expect("a plain name");
    let keys: Vec<RemoteKey> = (0..3).map(|key: u32| namespace.key(&key)).collect();
    let mut model: HashMap<RemoteKey, Slot> = keys.iter().map(|key| (key.clone(), Slot::Absent)).collect();
    let mut tokens = vec![Token::unique()];
    for at in 0..steps {
        let key = rng.choice(&keys).expect("three keys").clone();
        let before = model[&key].clone();
        let now = tier.get(&key).await.expect("the tier answers").now;
        let choice = rng.u8(0..100);
        let (expected, said, what) = if choice < 4 {
            let (bytes, slot) = planted(&mut rng, &key);
            plant.plant(&key, bytes).await;
            (slot, true, "plant".to_owned())
        } else if choice < 10 {
            // One call for several keys, the same key twice included.
            let batch: Vec<Invalidation> = (0..rng.usize(1..4))
                .map(|_| Invalidation { key: rng.choice(&keys).expect("three keys").clone(), version: version(&mut rng) })
                .collect();
            let said = tier.invalidate(&batch, FAR, None).await.expect("the tier answers").outcome;
            let mut wanted = Vec::new();
            for Invalidation { key, version } in &batch {
                let command = Command::Invalidate { version: *version, retain: FAR, echo: key.echo() };
                let (slot, reply) = step(model[key].clone(), &command, now);
                model.insert(key.clone(), slot);
                wanted.push(reply);
            }
            let said: Vec<Reply> = said.into_iter().map(Reply::Invalidate).collect();
            (model[&key].clone(), said == wanted, format!("{batch:?}: {said:?}, not {wanted:?}"))
        } else {
            run_one(tier, &mut rng, &mut tokens, &key, before.clone(), now).await
        };
        assert!(said, "seed {seed}, step {at}, on {before:?}: {what}");
        let found = tier.get(&key).await.expect("the tier answers");
        assert!(
            same(found.record.as_ref(), &expected),
            "seed {seed}, step {at}, {what}, on {before:?}: found {:?}, not {expected:?}",
            found.record
        );
        model.insert(key, expected);
    }
    let fetched = tier.get_many(&keys).await.expect("the tier answers");
    for (key, fetched) in keys.iter().zip(fetched) {
        let fetched = fetched.expect("the tier answers for each key");
        assert!(same(fetched.record.as_ref(), &model[key]), "seed {seed}: get_many differs from get");
    }
}

async fn run_one<T: RemoteTier + ?Sized>(
    tier: &T,
    rng: &mut fastrand::Rng,
    tokens: &mut Vec<Token>,
    key: &RemoteKey,
    before: Slot,
    now: u64,
) -> (Slot, bool, String) {
    match rng.u8(0..7) {
        0 => {
            let token = Token::unique();
            tokens.push(token);
            let claim = *rng.choice(&[Claim::Vacant, Claim::Vacant, Claim::Stale, Claim::Force]).expect("some");
            let acquire =
                Acquire { token, lease: *soon_or_far(rng), retain: FAR, claim, schema: rng.u32(1..3), generation: rng.u32(0..2) };
            let (slot, wanted) = step(before, &Command::Acquire(&acquire, key.echo()), now);
            let said = tier.acquire(key, &acquire).await.expect("the tier answers");
            let alike = match (&said, &wanted) {
                // The remaining time has moved on between the model's clock and the tier's.
                (Acquired::Busy(said), Reply::Acquire(Acquired::Busy(wanted))) => {
                    said.abs_diff(*wanted) < Duration::from_secs(5 * 60)
                }
                // So has the time of the grant.
                (Acquired::Granted { floor: said, .. }, Reply::Acquire(Acquired::Granted { floor: wanted, .. })) => {
                    said == wanted
                }
                (said, wanted) => Reply::Acquire(*said) == *wanted,
            };
            (slot, alike, format!("{acquire:?}: {said:?}, not {wanted:?}"))
        }
        1 => {
            let fill = Fill { token: any_token(rng, tokens), version: rng.u64(0..6), created: now, body: body(rng, key) };
            let (slot, wanted) = step(before, &Command::Fill(&fill), now);
            let said = Reply::Fill(tier.fill(key, &fill).await.expect("the tier answers"));
            (slot, said == wanted, format!("{fill:?}: {said:?}, not {wanted:?}"))
        }
        2 => {
            let token = any_token(rng, tokens);
            let (slot, wanted) = step(before, &Command::Release(token), now);
            let said = Reply::Release(tier.release(key, token).await.expect("the tier answers"));
            (slot, said == wanted, format!("release {token:?}: {said:?}, not {wanted:?}"))
        }
        3 => {
            let invalidation = Invalidation { key: key.clone(), version: version(rng) };
            let command = Command::Invalidate { version: invalidation.version, retain: FAR, echo: key.echo() };
            let (slot, wanted) = step(before, &command, now);
            let said = tier.invalidate(std::slice::from_ref(&invalidation), FAR, None).await.expect("the tier answers").outcome;
            let said = Reply::Invalidate(said[0]);
            (slot, said == wanted, format!("{invalidation:?}: {said:?}, not {wanted:?}"))
        }
        4 => {
            // A token of late renews its mark.
            let token = if rng.bool() { Token::unique() } else { any_token(rng, tokens) };
            tokens.push(token);
            let mark = Mark { token, life: *soon_or_far(rng), retain: FAR };
            let (slot, wanted) = step(before, &Command::Mark(&mark, key.echo()), now);
            let said = Reply::Mark(tier.mark(key, &mark).await.expect("the tier answers"));
            (slot, said == wanted, format!("{mark:?}: {said:?}, not {wanted:?}"))
        }
        5 => {
            let unmark = Unmark { token: any_token(rng, tokens), version: version(rng), retain: FAR };
            let (slot, wanted) = step(before, &Command::Unmark(&unmark, key.echo()), now);
            let said = Reply::Unmark(tier.unmark(key, &unmark, None).await.expect("the tier answers").outcome);
            (slot, said == wanted, format!("{unmark:?}: {said:?}, not {wanted:?}"))
        }
        _ => {
            let put = Put { token: Token::unique(), version: rng.u64(1..6), age: AT_ONCE, body: body(rng, key) };
            let (slot, wanted) = step(before, &Command::Put(&put, FAR), now);
            let said = Reply::Put(tier.put(key, &put, FAR, None).await.expect("the tier answers").outcome);
            (slot, said == wanted, format!("{put:?}: {said:?}, not {wanted:?}"))
        }
    }
}

/// Foreign bytes, a record of a later format, announced writes, or nothing.
fn planted(rng: &mut fastrand::Rng, key: &RemoteKey) -> (Option<Vec<u8>>, Slot) {
    let marked = |deadline: u64| Record {
        state: State::Marked,
        version: 2,
        token: Token::default(),
        deadline,
        created: 0,
        marks: 1,
        body: Body::empty(0, 0, key.echo()),
    };
    match rng.u8(0..6) {
        0 => (
            Some(
                b"not ours, and long enough to be taken for a record if only its length were looked at, which is not so".to_vec(),
            ),
            Slot::Foreign,
        ),
        1 => (Some(b"short".to_vec()), Slot::Foreign),
        2 => {
            let mut bytes = marked(0).encode();
            bytes[0] = FORMAT + 1;
            (Some(bytes), Slot::Newer { version: 2 })
        }
        3 => {
            // Far beyond any clock of this century, so that the marks are live.
            let record = marked(1 << 42);
            (Some(record.encode()), Slot::Held { record, expires: u64::MAX })
        }
        4 => {
            // As many as there may be, or one less, most of which have ended.
            let (open, most) = (rng.usize(0..=MOST_MARKS), MOST_MARKS - rng.usize(0..2));
            let marks: Vec<_> = (0..most).map(|at| (Token::unique(), if at < open { 1 << 42 } else { 1 })).collect();
            let record = marks::marked(&marks, 2, key.echo());
            (Some(record.encode()), Slot::Held { record, expires: u64::MAX })
        }
        _ => (None, Slot::Absent),
    }
}

fn body(rng: &mut fastrand::Rng, key: &RemoteKey) -> Body {
    let soft = *soon_or_far(rng);
    let hard = if soft == FAR { FAR } else { *soon_or_far(rng) };
    let payload = Bytes::from(vec![rng.u8(..); rng.usize(0..300)]);
    let life = Life { soft, hard, last: FAR };
    Body { schema: rng.u32(1..3), generation: 0, life, flags: Flags::NONE, codec: 1, echo: key.echo(), payload }
}

fn soon_or_far(rng: &mut fastrand::Rng) -> &'static Duration {
    if rng.bool() { &AT_ONCE } else { &FAR }
}

fn version(rng: &mut fastrand::Rng) -> Option<u64> {
    rng.bool().then(|| rng.u64(1..6) + (rng.u64(0..2) << 33))
}

/// Mostly a token of late, sometimes any.
fn any_token(rng: &mut fastrand::Rng, tokens: &[Token]) -> Token {
    let from = if rng.u8(0..4) == 0 { 0 } else { tokens.len().saturating_sub(3) };
    tokens[rng.usize(from..tokens.len())]
}

/// Whether what stands under a key is what the model says; stamps excepted, they are the tier's own time.
fn same(found: Option<&Bytes>, model: &Slot) -> bool {
    match (found, model) {
        (None, Slot::Absent) => true,
        (Some(bytes), Slot::Foreign) => !crate::record::is_ours(bytes),
        (Some(bytes), Slot::Newer { .. }) => bytes[0] == FORMAT + 1,
        (Some(bytes), Slot::Held { record, .. }) => Record::decode_any(bytes).is_ok_and(|found| {
            let live = |deadline: u64| deadline != 0;
            live(found.deadline) == live(record.deadline)
                && (found.created == 0) == (record.created == 0)
                && alike(&found, record)
        }),
        _ => false,
    }
}

/// Whether two records differ in their stamps alone, those of marks included.
fn alike(found: &Record, model: &Record) -> bool {
    let tokens = |record| open_marks(record, 0).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
    let mut stamped = Record { deadline: found.deadline, created: found.created, ..model.clone() };
    if found.state == State::Marked && tokens(found) == tokens(model) {
        stamped.body.payload = found.body.payload.clone();
    }
    *found == stamped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_embedded_tier_runs_the_machine() {
        for seed in 0..200 {
            let tier = EmbeddedTier::new();
            remote_suite(&tier, &tier, seed, 200).await;
        }
    }
}
