//! What a cache is: the trait, the stack of tiers, the record and its state machine, single-flight, stats.
//!
//! A service depends on the crate `cachestack`, which re-exports this one and the tiers. Who writes a tier depends on this
//! crate: [`LocalTier`] for one in process, [`RemoteTier`] for one behind a network, and [`testing`] (feature
//! `testing`) proves it.
#![forbid(unsafe_code)]

mod answer;
mod backoff;
mod cache;
mod clock;
mod codec;
mod coherence;
mod counters;
mod diagnosis;
mod embedded;
mod error;
mod flights;
mod key;
pub mod layers;
mod local;
mod machine;
pub mod marks;
mod mutant;
mod partition;
mod payload;
mod places;
mod prefix;
pub mod record;
mod remote;
mod stack;
mod stats;
mod tasks;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;
mod ttl;
mod written;

pub use answer::{Cached, Freshness, Tier, Why};
pub use cache::{Cache, DynCache, SharedCache};
pub use clock::{Clock, ManualClock, Moment};
#[cfg(feature = "bincode")]
pub use codec::Bincode;
#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{Codec, MessagePack};
pub use coherence::{Deployments, Ear, Listening, Meta, Notice};
pub use diagnosis::{Diagnosis, Examine, Examined, Finding, Severity};
pub use embedded::EmbeddedTier;
#[cfg(any(test, feature = "testing"))]
pub use embedded::Replicated;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::{Echo, Key, KeyParts, Namespace, PartsOfKey, RemoteKey};
pub use local::{Local, LocalTier, NoLocal, Stamp, Terms};
pub use machine::{Command, Reply, Slot, step};
pub use partition::{PARTITIONS, Partition};
#[cfg(any(feature = "lz4", feature = "zstd"))]
pub use payload::Compression;
#[cfg(feature = "encryption")]
pub use payload::Keyring;
pub use prefix::KeyPrefix;
pub use remote::{
    Acquire, Acquired, Claim, Fetched, Fill, Filled, Invalidated, Invalidation, Mark, Marked, Put, PutOutcome, Receipt,
    RemoteTier, Source, Told, Unmark,
};
pub use stack::{Builder, Closed, Coherence, Loader, Storable, TieredCache, WarmUp, Warmed};
pub use stats::{CoherenceStats, Recent, Stats, TierStats};
pub use token::Token;
pub use ttl::Ttl;
pub use written::WriteToken;
