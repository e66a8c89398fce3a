//! Redis Cluster: which node has a key, and what a node says that has it no more.
//!
//! The driver's own cluster client is not used: it cannot send commands of different slots in one write, and does not tell which node a connection
//! is to, which invalidation will have to know.

mod redirect;
mod refusals;
mod slots;
mod topology;
#[cfg(test)]
mod topology_tests;

pub(crate) use slots::{Endpoint, slot_of};
pub(crate) use topology::Cluster;
