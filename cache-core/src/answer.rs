//! Where an answer came from and how fresh it is.

use crate::clock::Moment;
use std::time::Duration;

/// Who gave an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// Memory of this process.
    L1,
    /// Redis, or what stands for it.
    L2,
    /// A replica of Redis, because [reads from replicas](crate::Source::Replica) were chosen. The value is as old as the replica lags, and was not
    /// kept in L1.
    L2Replica,
    /// The origin: a load ran.
    Origin,
}

/// Whether an answer is within its soft life, and known not to have been invalidated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Freshness {
    /// It is.
    Fresh,
    /// It may have been invalidated or overwritten without this process being able to know: it is from a replica, which may be behind its master, or
    /// from L1 while L2 is away.
    Unverified,
    /// It is past it, and was served all the same.
    Stale {
        /// Why.
        why: Why,
    },
}

/// Why a stale value was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// [`Ttl::stale_for`](crate::Ttl::stale_for) allows it while a refresh runs.
    Refreshing,
    /// [`Ttl::stale_if_error`](crate::Ttl::stale_if_error) allows it because the origin failed.
    OriginFailed,
}

/// A value and its provenance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cached<V> {
    /// The value.
    pub value: V,
    /// Who gave it.
    pub tier: Tier,
    /// Time since the load that made it began.
    pub age: Duration,
    /// Whether it is within its soft life.
    pub freshness: Freshness,
}

impl<V> Cached<V> {
    /// A value with its provenance, for who implements [`Cache`](crate::Cache).
    pub fn new(value: V, tier: Tier, age: Duration, freshness: Freshness) -> Self {
        Self { value, tier, age, freshness }
    }
}

/// An answer on its way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Answer<V> {
    pub(crate) value: V,
    pub(crate) tier: Tier,
    pub(crate) created: Moment,
    pub(crate) freshness: Freshness,
}

impl<V> Answer<V> {
    /// What a replica gave, and how it is marked.
    pub(crate) fn from_replica(value: V, created: Moment, is_fresh: bool) -> Self {
        let freshness = if is_fresh { Freshness::Unverified } else { Freshness::Stale { why: Why::Refreshing } };
        Self { value, tier: Tier::L2Replica, created, freshness }
    }

    /// Past its soft life: a refresh is due. What is merely unverified needs none.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.freshness, Freshness::Stale { .. })
    }

    pub(crate) fn into_cached(self, now: Moment) -> Cached<V> {
        Cached { value: self.value, tier: self.tier, age: now.since(self.created), freshness: self.freshness }
    }
}
