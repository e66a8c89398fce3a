//! Coherence between nodes: how invalidations reach other nodes' L1, and how a node knows that none was lost.
//!
//! Every invalidation takes the next *sequence* of its partition and is published with it, in one step with the tombstone ([`Notice`]). Each node
//! listens ([`Ear`]), applies what it hears, and every second polls how far the sequences have come ([`Meta`]). As long as all that was told is applied, L1
//! is *verified* until a bound after the poll was sent; a message that was lost ends that, whatever TCP says. DESIGN.md has the whole; `spec/` checks it.

mod again;
mod deployment;
mod ear;
mod frame;
mod ledger;
mod registry;
mod replay;
mod rounds;

pub(crate) use deployment::{Deployment, Lease, Member, Standing, What};
pub use ear::{Ear, Listening};
pub(crate) use frame::Frame;
pub use frame::Notice;
pub(crate) use frame::stamped;
pub use ledger::Meta;
pub use registry::Deployments;
