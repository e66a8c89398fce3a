//! Telling other nodes: the arguments of the scripts that sequence and publish, what they answer, and the ways around them.

use super::names::{channel, meta_key};
use crate::invalidate::no_keys;
use crate::multiplexer::Request;
use crate::script::{Each, Verb};
use crate::tier::{RedisTier, Unable, failed, read};
use crate::verbs::not_understood;
use cache_core::{Notice, Partition, Receipt, Result};
use futures_util::future::join_all;
use redis::Cmd;
use std::time::Instant;

/// Incarnation and sequence, as they stand before a message.
pub(super) const STAMP_LEN: usize = 16;
/// So many scripts are under way at a time: Redis does little else meanwhile.
const AT_A_TIME: usize = 32;

/// A message to other nodes, and what a script needs to tell it.
pub(crate) struct Telling {
    partition: Partition,
    meta: Vec<u8>,
    channel: Vec<u8>,
    message: Vec<u8>,
    is_sharded: bool,
}

impl Telling {
    /// A frame of a notice, to be told in one partition.
    pub(crate) fn new(tier: &RedisTier, notice: &Notice, partition: Partition, message: Vec<u8>) -> Self {
        let prefix = notice.namespace.prefix();
        let channel = channel(prefix, partition, tier.config().database);
        Self { partition, meta: meta_key(prefix, partition), channel, message, is_sharded: tier.nodes().are_many() }
    }

    /// The meta key, the last of a script's keys.
    pub(crate) fn meta(&self) -> &[u8] {
        &self.meta
    }

    /// An argument of a script: see tell.lua.
    pub(crate) fn how(&self) -> Vec<u8> {
        let publish = if self.is_sharded { b"S" } else { b"P" };
        let [channel, message] = [&self.channel, &self.message].map(|bytes| (bytes.len() as u32).to_be_bytes());
        [&fresh(), &publish[..], &channel, &self.channel, &message, &self.message].concat()
    }

    /// The last two arguments of a script that sequences. The history's place is left empty.
    pub(crate) fn add_to(&self, call: &mut Cmd) {
        call.arg(self.how()).arg(&[0_u8; 8]);
    }

    /// From what a script says that stands before the message. `None` where there was no memory to take a sequence.
    pub(crate) fn receipt(&self, stamp: &[u8]) -> Result<Option<Receipt>> {
        let (incarnation, sequence) = stamp.split_first_chunk().ok_or_else(not_understood)?;
        let sequence = sequence.try_into().map_err(|_| not_understood())?;
        let (incarnation, sequence) = (u64::from_be_bytes(*incarnation), u64::from_be_bytes(sequence));
        Ok((incarnation != 0).then_some(Receipt { partition: self.partition, incarnation, sequence }))
    }

    /// PUBLISH, or SPUBLISH in a cluster.
    fn publish(channel: &[u8], is_sharded: bool, message: &[u8]) -> Cmd {
        let mut cmd = redis::cmd(if is_sharded { "SPUBLISH" } else { "PUBLISH" });
        cmd.arg(channel).arg(message);
        cmd
    }
}

/// An incarnation that has not been before; 0 is none.
pub(super) fn fresh() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

impl RedisTier {
    /// Takes a sequence and publishes the message, after what it tells of has been done.
    pub(crate) async fn tell(&self, verb: &'static str, deadline: Instant, telling: &Telling) -> Result<Option<Receipt>> {
        let asked = [&telling.how()[..], &no_keys()].concat();
        let each = Each { verb: Verb::InvalidateTold, first: Some(telling.meta()), keys: &[], arguments: &[&asked] };
        match self.try_plain(verb, deadline, telling.meta(), each.script(), Request::Each(each)).await? {
            Ok(stamp) => telling.receipt(&stamp),
            Err(Unable::Memory) => self.tell_without_memory(verb, deadline, telling).await.map(|()| None),
            Err(moving) => Err(moving.error()),
        }
    }

    /// What is left of telling where Redis is out of memory and takes no script at all. Whoever counts on the incarnation must not go on to: without it,
    /// the next script begins another. The message counts for nothing and removes what it names.
    pub(crate) async fn tell_without_memory(&self, verb: &'static str, deadline: Instant, telling: &Telling) -> Result<()> {
        let mut forget = redis::cmd("DEL");
        forget.arg(telling.meta());
        let called = self.nodes().send(deadline, telling.meta(), Request::Run(&forget)).await;
        let forgotten = called.and_then(|called| read::<u64>(called.reply));
        forgotten.inspect_err(|err| failed(verb, err))?;
        let message = [&[0; STAMP_LEN][..], &telling.message].concat();
        // As good as lost if it fails: the incarnation tells of it.
        let _ = self.publish(deadline, &telling.channel, &message).await;
        Ok(())
    }

    /// Publishes a message as it is.
    pub(super) async fn publish(&self, deadline: Instant, channel: &[u8], message: &[u8]) -> Result<()> {
        let cmd = Telling::publish(channel, self.nodes().are_many(), message);
        let called = self.nodes().send(deadline, channel, Request::Run(&cmd)).await?;
        read::<u64>(called.reply).map(drop)
    }

    /// Tells of every partition that anything of the namespace in it may have changed. All are tried; the first error is returned.
    pub(crate) async fn tell_all(&self, verb: &'static str, notice: &Notice) -> Result<Vec<Receipt>> {
        let tell = async |partition| {
            let telling = Telling::new(self, notice, partition, notice.frame_of_all());
            self.tell(verb, self.deadline(), &telling).await
        };
        let receipts = in_turns(every_partition().into_iter().map(tell).collect()).await;
        Ok(receipts.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

/// All there are, by their numbers.
pub(super) fn every_partition() -> Vec<Partition> {
    (0..=u8::MAX).map(Partition::from_index).collect()
}

/// Runs futures a lot at a time, all to their end.
pub(crate) async fn in_turns<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut outcomes = Vec::with_capacity(calls.len());
    let mut calls = calls.into_iter();
    loop {
        let turn: Vec<_> = calls.by_ref().take(AT_A_TIME).collect();
        if turn.is_empty() {
            return outcomes;
        }
        outcomes.extend(join_all(turn).await);
    }
}
