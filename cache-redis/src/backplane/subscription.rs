//! One connection that listens: what it has asked for, what is confirmed, and whether the server still answers.

use super::connection::Connection;
use super::station::Station;
use super::tell::STAMP_LEN;
use crate::error::{from_driver, is_refusal};
use crate::nodes::Nodes;
use cache_core::{Error, ErrorKind, Partition, Result};
use futures_util::FutureExt;
use futures_util::future::try_join;
use redis::{PushKind, RedisError, RedisResult, Value};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};

/// How often the server is asked for a sign of life. Two that stay away end the connection.
const PING_EVERY: Duration = Duration::from_secs(1);
/// A nonce, behind a stamp of nothing: shorter than any frame.
const TEST_LEN: usize = STAMP_LEN + 8;

pub(super) struct Subscription<'a> {
    station: &'a mut Station,
    connection: Connection,
    /// Asked for and not answered, in the order of both.
    asked: VecDeque<Partition>,
    /// Confirmed.
    heard: BTreeSet<Partition>,
    /// Since when the server owes an answer to a PING.
    silent_since: Option<Instant>,
}

impl<'a> Subscription<'a> {
    pub(super) fn new(station: &'a mut Station, connection: Connection) -> Self {
        Self { station, connection, asked: VecDeque::new(), heard: BTreeSet::new(), silent_since: None }
    }

    /// Subscribes, and makes sure that what is published comes back: else nothing may rest on it.
    pub(super) async fn begin(&mut self) -> Result<()> {
        let patience = self.station.patience();
        let confirm = async {
            if self.station.tracks() {
                self.track().await?;
            }
            self.ask().await?;
            while !self.asked.is_empty() {
                let reply = self.connection.next().await?;
                self.take(reply)?;
            }
            Ok(())
        };
        timeout(patience, confirm).await.unwrap_or_else(|_| Err(silent()))?;
        let none = || Error::new(ErrorKind::Unavailable, "the server has none of the partitions that were looked for");
        let first = self.heard.first().copied().ok_or_else(none)?;
        self.test(first, patience).await?;
        let heard: Vec<_> = self.heard.iter().copied().collect();
        self.station.roster.hears(&heard, self.station.id, self.station.tracks());
        Ok(())
    }

    /// Has the server say of every write to the deployment's keys that there was one, whoever it is by.
    async fn track(&mut self) -> Result<()> {
        let mut commands = redis::pipe();
        commands.cmd("HELLO").arg(3);
        commands.cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(&self.station.channels.keys);
        self.connection.send(&commands.get_packed_pipeline()).await?;
        for _ in 0..2 {
            self.connection.next().await?.map_err(|err| {
                if is_refusal(&err) { may_not_track() } else { Error::new(ErrorKind::Config, "tracking needs Redis 6 or later") }
            })?;
        }
        Ok(())
    }

    async fn test(&mut self, partition: Partition, patience: Duration) -> Result<()> {
        let message = [&[0; STAMP_LEN][..], &fastrand::u64(..).to_be_bytes()].concat();
        let (tier, channel) = (self.station.tier.clone(), self.station.channel(partition).to_vec());
        let publish = async {
            let published = tier.publish((Instant::now() + patience).into_std(), &channel, &message).await;
            published.map_err(|err| if err.kind() == ErrorKind::Credentials { no_permission() } else { err })
        };
        let returned = async {
            loop {
                let reply = self.connection.next().await?;
                if self.take(reply)?.is_some_and(|test| test == message) {
                    return Ok(());
                }
            }
        };
        let tested = timeout(patience, try_join(publish, returned)).await;
        tested.map_err(|_| {
            Error::new(ErrorKind::Config, "what is published in Redis does not come back to who has subscribed to it")
        })??;
        Ok(())
    }

    /// Listens until that is of no more use, and tells why.
    pub(super) async fn serve(&mut self) -> Result<()> {
        let patience = self.station.patience();
        let mut ping_at = Instant::now() + PING_EVERY;
        loop {
            let silent_at = self.silent_since.map(|since| since + PING_EVERY + patience);
            tokio::select! {
                reply = self.connection.next() => self.take_on(reply?)?,
                () = sleep_until(silent_at.map_or(ping_at, |at| at.min(ping_at))) => {
                    // What has come by now counts, though this process may have stood still for long.
                    if let Some(reply) = self.connection.next().now_or_never() {
                        self.take_on(reply?)?;
                    } else if silent_at.is_some_and(|at| at <= Instant::now()) {
                        return Err(silent());
                    } else if ping_at <= Instant::now() {
                        ping_at = Instant::now() + PING_EVERY;
                        timeout(patience, self.ping()).await.unwrap_or_else(|_| Err(silent()))?;
                    }
                }
                changed = self.station.wanted.changed() => {
                    changed.map_err(|_| silent())?;
                    timeout(patience, self.ask()).await.unwrap_or_else(|_| Err(silent()))?;
                }
            }
        }
    }

    async fn ping(&mut self) -> Result<()> {
        // Behind a name there may be another master by now.
        if let Nodes::One(node) = self.station.tier.nodes()
            && let Some(process) = node.vitals().and_then(|vitals| vitals.process())
            && process != self.connection.server().process
        {
            return Err(Error::new(ErrorKind::Unavailable, "another server is in the place of the one that was subscribed to"));
        }
        self.silent_since.get_or_insert_with(Instant::now);
        self.connection.send(b"*1\r\n$4\r\nPING\r\n").await?;
        // What was refused because the slots were on the move.
        self.ask().await
    }

    /// Subscribes to what is wanted and was not asked for, and lets go of what is not wanted any more.
    async fn ask(&mut self) -> Result<()> {
        let wanted: BTreeSet<_> = self.station.wanted.borrow_and_update().iter().copied().collect();
        let is_missing = |partition: &&Partition| !self.heard.contains(*partition) && !self.asked.contains(*partition);
        let missing: Vec<_> = wanted.iter().filter(is_missing).copied().collect();
        let unwanted: Vec<_> = self.heard.difference(&wanted).copied().collect();
        let mut commands = redis::pipe();
        let name = |partition: &Partition| self.station.channel(*partition);
        if self.station.is_sharded() {
            // A command takes channels of one slot.
            for (word, partitions) in [("SSUBSCRIBE", &missing), ("SUNSUBSCRIBE", &unwanted)] {
                for partition in partitions {
                    commands.cmd(word).arg(name(partition));
                }
            }
        } else if !missing.is_empty() {
            commands.cmd("SUBSCRIBE").arg(missing.iter().map(name).collect::<Vec<_>>());
        }
        self.asked.extend(missing);
        self.heard.retain(|partition| wanted.contains(partition));
        if commands.is_empty() { Ok(()) } else { self.connection.send(&commands.get_packed_pipeline()).await }
    }

    /// The same as `take`, and what is newly confirmed is told.
    fn take_on(&mut self, reply: RedisResult<Value>) -> Result<()> {
        let before = self.asked.front().copied();
        self.take(reply)?;
        if let Some(partition) = before.filter(|partition| self.heard.contains(partition)) {
            self.station.roster.hears(&[partition], self.station.id, self.station.tracks());
        }
        Ok(())
    }

    /// Takes in whatever the server sends. A test's message is returned.
    fn take(&mut self, reply: RedisResult<Value>) -> Result<Option<Vec<u8>>> {
        self.silent_since = None;
        let parts = match reply {
            Ok(Value::Array(parts)) => parts,
            // Where it tracks, everything that is no reply comes as a push.
            Ok(Value::Push { kind: PushKind::Invalidate, data }) => return self.changed(&data).map(|()| None),
            Ok(Value::Push { kind, mut data }) => {
                data.insert(0, Value::BulkString(kind.to_string().into_bytes()));
                data
            }
            // To a PING when nothing is subscribed to.
            Ok(Value::SimpleString(_)) => return Ok(None),
            Ok(_) => return Err(garbled()),
            Err(err) => return self.refused(&err).map(|()| None),
        };
        let mut parts = parts.into_iter().map(|part| if let Value::BulkString(text) = part { text } else { Vec::new() });
        let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if kind == b"pong" {
            return Ok(None);
        }
        let partition = self.station.partition(&name).ok_or_else(garbled)?;
        match &kind[..] {
            b"message" | b"smessage" => {
                let message = parts.next().unwrap_or_default();
                if message.len() == TEST_LEN && message.starts_with(&[0; STAMP_LEN]) {
                    return Ok(Some(message));
                }
                self.station.roster.hear(partition, &message);
            }
            b"subscribe" | b"ssubscribe" => {
                // Answers come in the order of what was asked.
                if self.asked.pop_front() != Some(partition) {
                    return Err(garbled());
                }
                if self.station.wanted.borrow().contains(&partition) {
                    self.heard.insert(partition);
                }
            }
            b"unsubscribe" | b"sunsubscribe" => {
                // Asked for, or by itself: the slot has moved.
                if self.heard.remove(&partition) {
                    self.station.roster.lost(&[partition], self.station.id);
                    self.station.tier.doubt();
                }
            }
            _ => return Err(garbled()),
        }
        Ok(None)
    }

    /// Keys that were written, or all of them.
    fn changed(&self, data: &[Value]) -> Result<()> {
        match data {
            [Value::Array(keys)] => {
                for key in keys {
                    let Value::BulkString(key) = key else { return Err(garbled()) };
                    self.station.roster.changed(key);
                }
            }
            [Value::Nil] => self.station.roster.may_have_changed(&self.heard.iter().copied().collect::<Vec<_>>()),
            _ => return Err(garbled()),
        }
        Ok(())
    }

    /// An error stands for the answer to the next that was asked for.
    fn refused(&mut self, err: &RedisError) -> Result<()> {
        if is_refusal(err) {
            return Err(no_permission());
        }
        if !self.station.is_sharded() || self.asked.pop_front().is_none() {
            return Err(from_driver(err));
        }
        // The slot is elsewhere, or nowhere at the moment.
        self.station.tier.doubt();
        Ok(())
    }
}

fn silent() -> Error {
    Error::new(ErrorKind::Unavailable, "the subscription to Redis was not answered in time")
}

fn garbled() -> Error {
    Error::new(ErrorKind::Unavailable, "what came over the subscription to Redis was not understood")
}

fn may_not_track() -> Error {
    Error::new(
        ErrorKind::Credentials,
        "the Redis user may not track writes, and L1 is not relied on: grant HELLO and CLIENT|TRACKING",
    )
}

fn no_permission() -> Error {
    let text = "the Redis user may not use the channels of invalidations, and L1 is not relied on: grant SUBSCRIBE, PUBLISH, \
        in a cluster SSUBSCRIBE, SPUBLISH, and the channels &<key prefix>{*}:!*";
    Error::new(ErrorKind::Credentials, text)
}
