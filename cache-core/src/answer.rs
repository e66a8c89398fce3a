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
    /// The origin: a load ran.
    Origin,
}

/// Whether an answer is within its soft life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Freshness {
    /// It is.
    Fresh,
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
    pub(crate) fn into_cached(self, now: Moment) -> Cached<V> {
        Cached { value: self.value, tier: self.tier, age: now.since(self.created), freshness: self.freshness }
    }
}
