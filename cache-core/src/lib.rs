//! What a cache is: the trait, the stack of tiers, the record and its state machine, single-flight, stats.
#![forbid(unsafe_code)]

mod clock;
mod embedded;
mod error;
mod key;
mod machine;
mod partition;
pub mod record;
mod remote;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;

pub use clock::{Clock, ManualClock, Moment};
pub use embedded::EmbeddedTier;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::{Echo, Key, KeyParts, Namespace, RemoteKey};
pub use machine::{Command, Reply, Slot, step};
pub use partition::{PARTITIONS, Partition};
pub use remote::{Acquire, Acquired, Claim, Fetched, Fill, Filled, Invalidated, Invalidation, Put, PutOutcome, RemoteTier};
pub use token::Token;
