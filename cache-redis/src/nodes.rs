//! The nodes behind a tier, and which of them has a key.

use crate::cluster::{Cluster, slot_of};
use crate::multiplexer::{Request, Underway};
use crate::node::{Called, Node, called};
use cache_core::{Error, ErrorKind, Result};
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::{RedisResult, Value};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

/// How a command ended. An error that the server answered with is a reply.
pub(crate) type Outcome = Result<Called<RedisResult<Value>>>;

pub(crate) enum Nodes {
    /// One node, or the master that Sentinels name.
    One(Arc<Node>),
    /// As many as there are masters.
    Cluster(Cluster),
}

/// A command that was sent to its node, if there is a connection.
struct Begun<'a> {
    key: &'a [u8],
    request: Request<'a>,
    /// The same for all of one node.
    lane: u16,
    underway: Option<Result<Underway>>,
}

impl Nodes {
    /// Whether there is a connection at the moment; in a cluster: to every master. Nothing is sent.
    pub(crate) fn is_connected(&self) -> bool {
        match self {
            Self::One(node) => node.is_connected(),
            Self::Cluster(cluster) => cluster.is_connected(),
        }
    }

    /// Waits for the first dials. Only what a person must mend is an error.
    pub(crate) async fn first_dial(&self) -> Result<()> {
        match self {
            Self::One(node) => node.first_dial().await,
            Self::Cluster(cluster) => cluster.first_dial().await,
        }
    }

    /// Sends a command to the node that has the key. An error that the server answered with is a reply.
    ///
    /// Almost always there is a connection and nothing to follow: that way is short, for its future is part of each call's. The rest is boxed.
    pub(crate) async fn send(&self, deadline: Instant, key: &[u8], request: Request<'_>) -> Outcome {
        match self.first(self.begin(deadline, key, request)).await {
            Ok(outcome) => outcome,
            Err(first) => Box::pin(self.go_on(deadline, key, request, first)).await,
        }
    }

    /// Sends commands, each to the node that has its key, those for one node together. Outcomes in their order; none holds up the others.
    pub(crate) async fn send_many(&self, deadline: Instant, requests: Vec<(&[u8], Request<'_>)>) -> Vec<Outcome> {
        let begun = requests.into_iter().map(|(key, request)| {
            let (lane, underway) = match self {
                Self::One(node) => (0, node.begin(deadline, request)),
                Self::Cluster(cluster) => cluster.begin_in_lane(deadline, key, request),
            };
            Begun { key, request, lane, underway }
        });
        let mut begun: Vec<_> = begun.enumerate().collect();
        // A node answers in its order. What hangs there holds up nothing elsewhere.
        if self.are_many() {
            begun.sort_by_key(|(_, begun)| begun.lane);
        }
        let count = begun.len();
        let mut lanes = Vec::new();
        while let Some((_, Begun { lane, .. })) = begun.first() {
            let lane = *lane;
            let rest = begun.split_off(begun.partition_point(|(_, begun)| begun.lane == lane));
            lanes.push(self.finish(deadline, std::mem::replace(&mut begun, rest)));
        }
        let mut outcomes: Vec<_> = std::iter::repeat_with(|| None).take(count).collect();
        for (place, outcome) in join_all(lanes).await.into_iter().flatten() {
            outcomes[place] = Some(outcome);
        }
        let missing = || Err(Error::new(ErrorKind::Unavailable, "there is no connection to Redis"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    /// Waits for the replies of one node, in their order, and meanwhile follows those that point elsewhere. Outcomes with the places of their commands.
    async fn finish(&self, deadline: Instant, begun: Vec<(usize, Begun<'_>)>) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(begun.len());
        let mut unsettled = FuturesUnordered::new();
        for (place, Begun { key, request, underway, .. }) in begun {
            let mut first = pin!(self.first(underway));
            let first = loop {
                tokio::select! {
                    biased;
                    first = &mut first => break first,
                    Some(settled) = unsettled.next() => outcomes.push(settled),
                }
            };
            match first {
                Ok(outcome) => outcomes.push((place, outcome)),
                Err(first) => unsettled.push(self.go_on(deadline, key, request, first).map(move |outcome| (place, outcome))),
            }
        }
        outcomes.extend(unsettled.collect::<Vec<_>>().await);
        outcomes
    }

    fn begin(&self, deadline: Instant, key: &[u8], request: Request<'_>) -> Option<Result<Underway>> {
        match self {
            Self::One(node) => node.begin(deadline, request),
            Self::Cluster(cluster) => cluster.begin(deadline, key, request),
        }
    }

    /// The outcome of a command that was begun, or, as an error, how it went if that is not the end of it.
    async fn first(&self, begun: Option<Result<Underway>>) -> std::result::Result<Outcome, Option<Outcome>> {
        let outcome = match begun {
            None => return Err(None),
            Some(Ok(underway)) => called(underway).await,
            Some(Err(err)) => Err(err),
        };
        match (self, &outcome) {
            (_, Ok(Called { reply: Ok(_), .. })) | (Self::One(_), Ok(_)) => Ok(outcome),
            (Self::One(node), Err(_)) => {
                node.revive();
                Ok(outcome)
            }
            // It may have to be sent elsewhere, or put the map in doubt.
            (Self::Cluster(_), _) => Err(Some(outcome)),
        }
    }

    async fn go_on(&self, deadline: Instant, key: &[u8], request: Request<'_>, first: Option<Outcome>) -> Outcome {
        match self {
            Self::One(node) => node.send(deadline, request).await,
            Self::Cluster(cluster) => cluster.send(deadline, key, request, first).await,
        }
    }

    /// The cluster, if it is one.
    pub(crate) fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::One(_) => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// The time in ms of the key's master, as late as it may have been; 0 if it is not connected.
    pub(crate) fn latest_ms(&self, key: &[u8], when: Instant) -> u64 {
        match self {
            Self::One(node) => node.latest_ms(when),
            Self::Cluster(cluster) => cluster.latest_ms(key, when),
        }
    }

    /// The node that has a key, once that is known.
    pub(crate) async fn of(&self, deadline: Instant, key: &[u8]) -> Result<Arc<Node>> {
        match self {
            Self::One(node) => Ok(node.clone()),
            Self::Cluster(cluster) => cluster.node_of(deadline, slot_of(key)).await,
        }
    }

    /// Splits keys into lots that one command can name, of so many at most, by their places in the list: in a cluster, those of one slot.
    pub(crate) fn lots<'a>(&self, keys: impl Iterator<Item = &'a [u8]>, most: usize) -> Vec<Vec<usize>> {
        let mut lots: Vec<(Option<u16>, Vec<usize>)> = Vec::new();
        let mut order: Vec<(Option<u16>, usize)> = match self {
            Self::One(_) => keys.enumerate().map(|(place, _)| (None, place)).collect(),
            Self::Cluster(_) => keys.enumerate().map(|(place, key)| (Some(slot_of(key)), place)).collect(),
        };
        order.sort_by_key(|(slot, _)| *slot);
        for (slot, place) in order {
            match lots.last_mut() {
                Some((last, lot)) if *last == slot && lot.len() < most => lot.push(place),
                _ => lots.push((slot, vec![place])),
            }
        }
        lots.into_iter().map(|(_, lot)| lot).collect()
    }

    /// The nodes that have keys of their own: a command to all keys goes to each.
    pub(crate) async fn masters(&self, deadline: Instant) -> Result<Vec<Arc<Node>>> {
        match self {
            Self::One(node) => Ok(vec![node.clone()]),
            Self::Cluster(cluster) => cluster.masters(deadline).await,
        }
    }

    /// Whether keys that a call names are best sent one by one, for each may be on another node.
    pub(crate) fn are_many(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    pub(crate) async fn stop(&self) {
        match self {
            Self::One(node) => node.stop().await,
            Self::Cluster(cluster) => cluster.stop().await,
        }
    }
}
