//! Which entry goes when room is needed: plain, single-threaded code over slots and hashes.
//!
//! A policy hands out the slots of a fixed number of places and knows nothing of keys, values, time or threads. Marking a
//! use is its one operation by shared reference, so a caller may do it under a shared lock.

mod ghost;
mod queue;
mod s3fifo;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use s3fifo::S3Fifo;

/// A place of the policy and of whoever stores something beside it.
pub(crate) type Slot = u32;
