//! Why a placement or a router could not be built.

use std::error::Error;
use std::fmt;

/// A placement or a router was given something that cannot work. Nothing of it is transient: the same input fails again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// There was no shard at all.
    NoShards,
    /// There were more shards than an index can count.
    TooManyShards {
        /// How many were given.
        given: usize,
        /// How many are allowed.
        most: usize,
    },
    /// The shard at this position of the list had an empty name.
    EmptyName {
        /// Its position, from zero.
        position: usize,
    },
    /// Two shards had the same name.
    DuplicateName {
        /// That name.
        name: Box<str>,
    },
    /// A shard's weight was zero or too large.
    WeightOutOfRange {
        /// The shard's name.
        name: Box<str>,
        /// The weight it was given.
        weight: u32,
        /// The largest weight allowed; the smallest is one.
        most: u32,
    },
    /// A shard had a weight other than one, but the placement cannot weigh.
    CannotWeigh {
        /// The placement.
        placement: &'static str,
        /// The shard's name.
        name: Box<str>,
    },
    /// A ring was to have more points than it can hold, or none per unit of weight.
    RingPoints {
        /// How many points were asked for.
        asked: u64,
        /// How many it can hold.
        most: u64,
    },
    /// The router's shards are more or fewer than its placement's.
    ShardCount {
        /// The placement's number of shards.
        placement: usize,
        /// The router's number of shards.
        router: usize,
    },
    /// The placement knows a shard by a name that none of the router's shards has.
    UnknownName {
        /// That name.
        name: Box<str>,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoShards => f.write_str("no shards: at least one is needed"),
            Self::TooManyShards { given, most } => write!(f, "{given} shards: at most {most} are possible"),
            Self::EmptyName { position } => write!(f, "the shard at position {position} has an empty name"),
            Self::DuplicateName { name } => {
                write!(f, "two shards are named {name:?}: a name decides where keys land, so it must be unique")
            }
            Self::WeightOutOfRange { name, weight, most } => {
                write!(
                    f,
                    "shard {name:?} has the weight {weight}: weights run from 1 to {most}; remove a shard that shall hold nothing"
                )
            }
            Self::CannotWeigh { placement, name } => {
                write!(f, "shard {name:?} has a weight, which {placement} placement cannot respect: use rendezvous or ring")
            }
            Self::RingPoints { asked: 0, .. } => f.write_str("a ring needs at least one point per unit of weight"),
            Self::RingPoints { asked, most } => {
                write!(
                    f,
                    "{asked} points on the ring: at most {most} are possible; use smaller weights or fewer points per unit of weight"
                )
            }
            Self::ShardCount { placement, router } => {
                write!(f, "the placement is made for {placement} shards and the router has {router}")
            }
            Self::UnknownName { name } => write!(f, "the placement has a shard {name:?} that the router has not"),
        }
    }
}

impl Error for BuildError {}
