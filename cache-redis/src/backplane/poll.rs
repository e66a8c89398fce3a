//! How far the partitions' sequences have come: one command a master, in a cluster one pipeline.

use super::history::Server;
use super::names::meta_key;
use super::tell::fresh;
use crate::config::Address;
use crate::error::from_driver;
use crate::node::Node;
use crate::script::SCRIPTS;
use crate::tier::{RedisTier, failed, read};
use crate::verbs::not_understood;
use bytes::Bytes;
use cache_core::{Error, ErrorKind, Meta, Partition, Result};
use futures_util::future::join_all;
use redis::{Pipeline, RedisResult, Value, from_redis_value};
use std::sync::Arc;
use std::time::Instant;

/// A partition's place in the list, and its meta key.
type Asked = (usize, Vec<u8>);

/// What a look at a partition gave.
enum Look {
    /// All that is to know.
    Known(Meta),
    /// It has to be begun on this server.
    Begin,
    /// It is on another server.
    Elsewhere,
    Failed(Error),
}

impl RedisTier {
    /// Each partition has an answer of its own: where they are on several masters, one that is away fails its own.
    pub(crate) async fn poll_all(&self, prefix: &str, partitions: &[Partition]) -> Vec<Result<Meta>> {
        let deadline = self.deadline();
        let keys: Vec<_> = partitions.iter().map(|partition| meta_key(prefix, *partition)).collect();
        let mut answers = vec![Err(not_understood()); partitions.len()];
        let mut shares: Vec<(Arc<Node>, Vec<Asked>)> = Vec::new();
        for (place, key) in keys.into_iter().enumerate() {
            match self.nodes().of(deadline, &key).await {
                Ok(node) => match shares.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &node)) {
                    Some((_, share)) => share.push((place, key)),
                    None => shares.push((node, vec![(place, key)])),
                },
                Err(err) => answers[place] = Err(err),
            }
        }
        let polled = join_all(shares.into_iter().map(|(node, share)| self.poll_node(deadline, node, share))).await;
        for (place, answer) in polled.into_iter().flatten() {
            answers[place] = answer;
        }
        if let Some(err) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            failed("poll", err);
        }
        answers
    }

    async fn poll_node(&self, deadline: Instant, node: Arc<Node>, share: Vec<Asked>) -> Vec<(usize, Result<Meta>)> {
        let looks = match self.look(deadline, &node, &share).await {
            Ok(looks) => looks,
            Err(err) => {
                self.doubt();
                return share.into_iter().map(|(place, _)| (place, Err(err.clone()))).collect();
            }
        };
        let settle = async |look, key: &[u8]| match look {
            Look::Known(meta) => Ok(meta),
            // This very server has just answered.
            Look::Begin => self.begin(deadline, key).await.map_err(refused),
            Look::Elsewhere => self.begin(deadline, key).await,
            Look::Failed(err) => Err(err),
        };
        let settled = join_all(looks.into_iter().zip(&share).map(|(look, (_, key))| settle(look, key))).await;
        share.iter().map(|(place, _)| *place).zip(settled).collect()
    }

    /// Looks at a node's partitions, and at what the server says of itself, without changing anything.
    async fn look(&self, deadline: Instant, node: &Node, share: &[Asked]) -> Result<Vec<Look>> {
        let mut commands = Pipeline::with_capacity(share.len() + 1);
        commands.add_command(Server::ask());
        let keys = share.iter().map(|(_, key)| &key[..]);
        // In a cluster they are of several slots.
        let is_one_command = !self.nodes().are_many();
        if is_one_command {
            commands.add_command(keys.fold(redis::cmd("MGET"), |mut cmd, key| {
                cmd.arg(key);
                cmd
            }));
        } else {
            for key in keys {
                commands.cmd("GET").arg(key);
            }
        }
        let mut replies = node.send_all(deadline, &commands).await?.reply.into_iter();
        let info = read::<Bytes>(replies.next().unwrap_or(Ok(Value::Nil)))?;
        let server = Server::read(&info).ok_or_else(not_understood)?;
        let vitals = node.vitals();
        if !server.is_master {
            // Sentinels know a better one. Who has this address alone may only wait.
            if let (Address::Sentinel(_), Some(vitals)) = (node.address(), vitals) {
                vitals.read_only();
            }
            return Err(Error::new(ErrorKind::Unavailable, "Redis is a replica and does not tell of invalidations"));
        }
        if let Some(vitals) = vitals {
            vitals.know(&server);
        }
        if !is_one_command {
            return Ok(replies.map(|reply| look(reply, &server)).collect());
        }
        match read(replies.next().unwrap_or(Ok(Value::Nil)))? {
            Value::Array(found) if found.len() == share.len() => {
                Ok(found.into_iter().map(|found| look(Ok(found), &server)).collect())
            }
            _ => Err(not_understood()),
        }
    }

    /// Begins a partition's sequences if they are not this server's, wherever it is, and tells how far they have come.
    async fn begin(&self, deadline: Instant, key: &[u8]) -> Result<Meta> {
        let mut call = SCRIPTS.begin.call(1);
        call.arg(key).arg(&fresh()).arg(&[0_u8; 8]);
        let (_, begun) = self.run("poll", deadline, key, &SCRIPTS.begin, &call).await?;
        meta(&begun).ok_or_else(not_understood)
    }

    /// The slots may be elsewhere by now.
    pub(super) fn doubt(&self) {
        if let Some(cluster) = self.nodes().cluster() {
            cluster.doubt();
        }
    }
}

/// What a partition's meta key says, on a server that is a master.
fn look(reply: RedisResult<Value>, server: &Server) -> Look {
    let found = match reply {
        Ok(found) => from_redis_value::<Option<Bytes>>(found),
        // The script is sent to where it is now, or fails for the same reason.
        Err(err) if matches!(err.code(), Some("MOVED" | "ASK" | "CLUSTERDOWN")) => return Look::Elsewhere,
        Err(err) if err.code() == Some("LOADING") => return Look::Failed(from_driver(&err)),
        Err(err) => return Look::Failed(refused(from_driver(&err))),
    };
    let Ok(found) = found else { return Look::Failed(not_understood()) };
    // What is no string, or not one of ours, the script says.
    match found.as_deref().and_then(meta) {
        Some(meta) if meta.history == server.history => Look::Known(meta),
        _ => Look::Begin,
    }
}

/// A server that answers is not away, whatever it refuses: who has an older value must not count on that.
fn refused(err: Error) -> Error {
    if err.kind() != ErrorKind::Unavailable {
        return err;
    }
    Error::new(ErrorKind::Refused, "Redis answers, and does not tell how far a partition's invalidations have come")
        .with_source(err)
}

/// What a meta key has: incarnation, sequence and history, eight bytes each.
fn meta(found: &[u8]) -> Option<Meta> {
    let found: [u8; 24] = found.try_into().ok()?;
    let number = |at| u64::from_be_bytes(std::array::from_fn(|byte| found[at + byte]));
    Some(Meta { incarnation: number(0), sequence: number(8), history: number(16) }).filter(|meta| meta.incarnation != 0)
}
