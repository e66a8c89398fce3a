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

/// Keys that are read at a time before the load begins.
const WARMING: usize = 32;

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

    /// Reads every key once, so that phases compare.
    pub(super) async fn warm(&self, keys: u64) -> Result<(), BoxError> {
        let mut reads = JoinSet::new();
        for key in 0..keys {
            if reads.len() == WARMING
                && let Some(read) = reads.join_next().await
            {
                read??;
            }
            let cache = self.clone();
            reads.spawn(async move { cache.read(key).await.map(drop) });
        }
        while let Some(read) = reads.join_next().await {
            read??;
        }
        Ok(())
    }

    /// What it has counted since it was made.
    pub(super) fn counts(&self) -> Tally {
        match self {
            Self::Stack(stack) => stack.counts(),
            Self::ByHand(by_hand) => by_hand.counts(),
        }
    }
}
