//! INVALIDATE: tombstones by one script for many keys, what is left of it without memory, and telling other nodes in the same step.

use crate::backplane::{Telling, in_turns};
use crate::error::is_wrong_type;
use crate::multiplexer::Request;
use crate::script::{Each, Verb};
use crate::tier::{RedisTier, Unable, failed, read};
use crate::verbs::{at_least_one, not_understood};
use bytes::Bytes;
use cache_core::record::{Body, HEAD_LEN, HEADER_LEN, Record, State, is_ours};
use cache_core::{Echo, Error, ErrorKind, Invalidated, Invalidation, Notice, Receipt, RemoteKey, Result, Token, Told};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tracing::debug;

/// Keys of one invalidation script, which keeps Redis from other work for some 5 µs a key.
pub(crate) const INVALIDATE_BATCH: usize = 128;

/// What came of a lot: a letter for each key, and where others were told.
pub(crate) struct Lot {
    pub(crate) letters: Bytes,
    pub(crate) receipt: Option<Receipt>,
}

impl Lot {
    /// From what an invalidation or an unmark answers.
    pub(crate) fn read(mut letters: Bytes, keys: usize, telling: Option<&Telling>) -> Result<Self> {
        let receipt = match telling {
            Some(telling) => {
                let stamp = letters.len().checked_sub(keys).ok_or_else(not_understood)?;
                telling.receipt(&letters.split_to(stamp))?
            }
            None => None,
        };
        if letters.len() == keys { Ok(Self { letters, receipt }) } else { Err(not_understood()) }
    }
}

/// A key, and what is known of it.
pub(crate) type Wanted<'a> = (&'a [u8], Vec<u8>);

impl RedisTier {
    pub(crate) async fn invalidate_all(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        let deadline = self.deadline();
        let (lots, ended) = if let Some(notice) = notice {
            let lots = by_partition(keys);
            let run = async |lot: &Vec<usize>| {
                let told: Vec<_> = lot.iter().map(|place| &keys[*place]).collect();
                let telling = Telling::new(self, notice, told[0].key.partition(), notice.frame(told.into_iter()));
                self.run_told("invalidate", deadline, retain, wanted(keys, lot), &telling).await
            };
            // All to their end, here and in a cluster: that one node is away must not keep the others from hearing of it.
            let ended = in_turns(lots.iter().map(run).collect()).await.into_iter().collect::<Result<Vec<_>>>()?;
            (lots, ended)
        } else {
            let lots = self.nodes().lots(keys.iter().map(|invalidation| invalidation.key.as_bytes()), INVALIDATE_BATCH);
            let ended = self.run_lots(deadline, retain, keys, &lots).await?;
            (lots, ended)
        };
        let mut told = Told::silently(vec![Invalidated::Foreign; keys.len()]);
        for (lot, Lot { letters, receipt }) in lots.into_iter().zip(ended) {
            told.receipts.extend(receipt);
            for (place, letter) in lot.into_iter().zip(letters) {
                told.outcome[place] = match letter {
                    b'T' => Invalidated::Tombstoned,
                    b'C' => Invalidated::Current,
                    b'F' => Invalidated::Foreign,
                    _ => return Err(not_understood()),
                };
            }
        }
        Ok(told)
    }

    /// Lots of which nobody is told.
    async fn run_lots(
        &self,
        deadline: Instant,
        retain: Duration,
        keys: &[Invalidation],
        lots: &[Vec<usize>],
    ) -> Result<Vec<Lot>> {
        let run = |lot: &[usize]| self.run_invalidate("invalidate", deadline, retain, wanted(keys, lot), None);
        if self.nodes().are_many() {
            let run_apart = async |lot: &Vec<usize>| match run(lot).await {
                // A slot on the move may have some of the keys on either side: one by one they are found.
                Err(err) if lot.len() > 1 && err.kind() == ErrorKind::Unavailable => {
                    self.run_apart("invalidate", deadline, retain, wanted(keys, lot)).await
                }
                ended => ended,
            };
            return join_all(lots.iter().map(run_apart)).await.into_iter().collect();
        }
        // One after the other: Redis does nothing else during a lot.
        let mut ended = Vec::with_capacity(lots.len());
        for lot in lots {
            ended.push(run(lot).await?);
        }
        Ok(ended)
    }

    /// Invalidates keys of one partition and tells of it, in one step, or where that cannot be in two: tombstones first.
    pub(crate) async fn run_told(
        &self,
        verb: &'static str,
        deadline: Instant,
        retain: Duration,
        keys: Vec<Wanted<'_>>,
        telling: &Telling,
    ) -> Result<Lot> {
        match self.run_invalidate(verb, deadline, retain, keys.clone(), Some(telling)).await {
            Err(err) if needs_two_steps(&err) => {
                let Lot { letters, .. } = self.run_apart(verb, deadline, retain, keys).await?;
                Ok(Lot { letters, receipt: self.tell(verb, deadline, telling).await? })
            }
            ended => ended,
        }
    }

    /// Invalidates keys one by one, and tells nobody.
    async fn run_apart(&self, verb: &'static str, deadline: Instant, retain: Duration, keys: Vec<Wanted<'_>>) -> Result<Lot> {
        let letters = join_all(keys.into_iter().map(|key| self.run_invalidate(verb, deadline, retain, vec![key], None))).await;
        let letters = letters.into_iter().map(|lot| lot.map(|lot| lot.letters)).collect::<Result<Vec<_>>>()?;
        Ok(Lot { letters: letters.concat().into(), receipt: None })
    }

    /// Invalidates keys that one command can name, each with its echo and version.
    pub(crate) async fn run_invalidate(
        &self,
        verb: &'static str,
        deadline: Instant,
        retain: Duration,
        keys: Vec<Wanted<'_>>,
        telling: Option<&Telling>,
    ) -> Result<Lot> {
        let Some((first, _)) = keys.first() else { return Ok(Lot { letters: Bytes::new(), receipt: None }) };
        for (key, _) in &keys {
            self.note(key, retain);
        }
        let names: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
        let how = telling.map_or_else(|| NOBODY.to_vec(), Telling::how);
        let asked = [&how[..], &(keys.len() as u16).to_be_bytes(), &tombstones(&keys, retain)].concat();
        let verb_of = if telling.is_some() { Verb::InvalidateTold } else { Verb::Invalidate };
        let each = Each { verb: verb_of, first: telling.map(Telling::meta), keys: &names, arguments: &[&asked] };
        match self.try_plain(verb, deadline, first, each.script(), Request::Each(each)).await? {
            Ok(letters) => Lot::read(letters, keys.len(), telling),
            Err(Unable::Moving) => Err(Unable::Moving.error()),
            Err(Unable::Memory) => {
                debug!(verb, "Redis is out of memory: records are removed where tombstones should be");
                // All to their end, whatever becomes of one.
                let removed = join_all(keys.iter().map(|(key, wanted)| self.remove(verb, deadline, key, wanted.is_empty())));
                let letters = removed.await.into_iter().collect::<Result<Vec<u8>>>()?.into();
                if let Some(telling) = telling {
                    self.tell_without_memory(verb, deadline, telling).await?;
                }
                Ok(Lot { letters, receipt: None })
            }
        }
    }

    /// What is left of an invalidation where Redis is out of memory and takes no script at all: the record goes, and with it any lease, so that
    /// nothing older can be read or stored. Its floor and its announced writes go too. The letter of invalidate.lua for it.
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
}

/// Whether telling cannot be one step with the change: the keys are on both sides of a slot on the move, or telling is refused, which is an error,
/// but none that should keep the change from happening.
pub(crate) fn needs_two_steps(err: &Error) -> bool {
    err.kind() == ErrorKind::Credentials || Unable::Moving.is(err)
}

/// The places of keys in lots of one partition each.
fn by_partition(keys: &[Invalidation]) -> Vec<Vec<usize>> {
    let partition = |place: &usize| keys[*place].key.partition();
    let mut places: Vec<usize> = (0..keys.len()).collect();
    places.sort_by_key(partition);
    let same = places.chunk_by(|one, other| partition(one) == partition(other));
    same.flat_map(|places| places.chunks(INVALIDATE_BATCH)).map(<[usize]>::to_vec).collect()
}

fn wanted<'a>(keys: &'a [Invalidation], lot: &[usize]) -> Vec<Wanted<'a>> {
    let wanted = |place: &usize| {
        let Invalidation { key, version } = &keys[*place];
        (key.as_bytes(), known(key, *version))
    };
    lot.iter().map(wanted).collect()
}

/// What an invalidation knows of a key: its echo, and the version of the write if it has one.
pub(crate) fn known(key: &RemoteKey, version: Option<u64>) -> Vec<u8> {
    let mut known = key.echo().as_bytes().to_vec();
    known.extend(version.iter().flat_map(|version| version.to_be_bytes()));
    known
}

/// How others are told where nobody is: an argument's part that is not read.
const NOBODY: &[u8] = &[0; 17];

/// What stands in place of keys, and of how many, where there are none: see invalidations.lua.
pub(crate) fn no_keys() -> Vec<u8> {
    [&[0, 0, b'1', 0][..], &[0; 1 + HEADER_LEN]].concat()
}

/// For how long tombstones stay, and of each key what is known of it and its tombstone: see invalidate.lua.
pub(crate) fn tombstones(keys: &[Wanted<'_>], retain: Duration) -> Vec<u8> {
    let mut all = Vec::with_capacity((1 + HEADER_LEN) * keys.len() + 15);
    all.extend_from_slice(at_least_one(retain).to_string().as_bytes());
    all.push(0);
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
    all
}
