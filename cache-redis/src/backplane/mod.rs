//! The backplane: how other nodes are told of invalidations, how far the telling has come, and how this node hears of theirs.
//!
//! ```text
//!  invalidate, put, clear ─ script: change, next sequence of the partition, PUBLISH ─▶ one connection a master ─▶ ear
//!  poll ─ one pipeline a master: INFO, and the partitions' sequences
//! ```

mod connection;
mod history;
mod listen;
mod names;
mod poll;
mod roster;
mod station;
mod subscription;
mod tell;

pub(crate) use history::Server;
pub(crate) use listen::listen;
pub(crate) use names::meta_key;
pub(crate) use tell::{Telling, in_turns};
