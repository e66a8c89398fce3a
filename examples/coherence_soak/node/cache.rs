//! A node's cache: the stack, or what people write by hand.

use super::by_hand::ByHand;
use super::desk::Desk;
use super::stack::Stack;
use crate::database::Database;
use crate::item::Item;
use crate::orders::{Settings, Tally, Way};
use cachestack::BoxError;
use cachestack::sharding::outbox::{Relay, Row, SqliteOutbox};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Keys that are read at a time where all are.
const AT_ONCE: usize = 32;

pub(super) type NodeRelay = Relay<SqliteOutbox>;

/// Cloning shares it.
#[derive(Clone)]
pub(super) enum Cache {
    Stack(Arc<Stack>),
    ByHand(Arc<ByHand>),
}

pub(super) struct Answer {
    pub(super) item: Item,
    /// The cache says that it may be old.
    pub(super) is_marked: bool,
}

impl Cache {
    pub(super) async fn connect(settings: &Settings, database: &Database) -> Result<Self, BoxError> {
        Ok(match settings.way {
            Way::Coherent | Way::Incoherent => Self::Stack(Arc::new(Stack::connect(settings, database).await?)),
            Way::ByHand => Self::ByHand(ByHand::connect(settings, database).await?),
        })
    }

    pub(super) async fn read(&self, key: u64) -> Result<Answer, BoxError> {
        match self {
            Self::Stack(stack) => stack.read(key).await,
            Self::ByHand(by_hand) => by_hand.read(key).await.map(|item| Answer { item, is_marked: false }),
        }
    }

    /// Raises the row's version and invalidates the key, or puts the new row in the old one's place: the version that is told when this returns.
    pub(super) async fn write(&self, key: u64, database: &Database) -> Result<u64, BoxError> {
        match self {
            Self::Stack(stack) => stack.write(key, database).await,
            Self::ByHand(by_hand) => {
                let version = database.raise(key, |_| None).await?.version;
                by_hand.invalidate(key).await?;
                Ok(version)
            }
        }
    }

    /// What the outbox is given with a change. Nothing by hand: there is no outbox.
    pub(super) fn message(&self, key: u64, version: u64) -> Option<Row> {
        match self {
            Self::Stack(stack) => Some(stack.message(key, version)),
            Self::ByHand(_) => None,
        }
    }

    /// Tells what nodes, this one or others, left in the outbox.
    pub(super) fn relay(&self, database: &Database, desk: &Arc<Desk>) -> Result<Option<Arc<NodeRelay>>, BoxError> {
        match self {
            Self::Stack(stack) => Ok(Some(Arc::new(stack.clone().relay(database, desk)?))),
            Self::ByHand(_) => Ok(None),
        }
    }

    /// Reads every key once, and hands on each with the version that was read.
    pub(super) async fn read_all(
        &self,
        keys: u64,
        mut each: impl FnMut(u64, Result<u64, BoxError>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut reads = JoinSet::new();
        for key in 0..keys {
            if reads.len() == AT_ONCE
                && let Some(read) = reads.join_next().await
            {
                let (key, version) = read?;
                each(key, version)?;
            }
            let cache = self.clone();
            reads.spawn(async move { (key, cache.read(key).await.map(|answer| answer.item.version)) });
        }
        while let Some(read) = reads.join_next().await {
            let (key, version) = read?;
            each(key, version)?;
        }
        Ok(())
    }

    /// Keys whose invalidation failed, and that Redis is still to be told of.
    pub(super) fn owed(&self) -> u64 {
        match self {
            Self::Stack(stack) => stack.owed(),
            // What failed is forgotten.
            Self::ByHand(_) => 0,
        }
    }

    /// What it has counted since it was made.
    pub(super) fn counts(&self) -> Tally {
        match self {
            Self::Stack(stack) => stack.counts(),
            Self::ByHand(by_hand) => by_hand.counts(),
        }
    }
}
