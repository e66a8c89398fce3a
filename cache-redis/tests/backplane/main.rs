//! The backplane: what one node tells and another one hears, how far the telling has come, and when a node knows that it does not hear.

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod ears;
mod gathered;
mod histories;
mod outages;
mod permissions;
mod told;
mod tracking;
mod ways;
