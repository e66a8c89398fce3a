//! Where a hash lands.

mod jump;
mod members;
mod modulo;
mod rendezvous;
mod ring;

use std::fmt;
use std::sync::Arc;

pub use jump::Jump;
pub use members::MAX_WEIGHT;
pub use modulo::Modulo;
pub use rendezvous::Rendezvous;
pub use ring::Ring;

pub(crate) use members::Members;

/// The most shards a placement can have: an index is 16 bits wide.
pub const MAX_SHARDS: usize = u16::MAX as usize;

/// The position of a shard in its placement's list, from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(u16);

impl ShardIndex {
    /// The index `index`.
    #[inline]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The index as a number to index with.
    #[inline]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A rule that gives every hash one of a fixed list of shards.
///
/// A placement is immutable, and two that were built alike agree on every hash, on every host and in every release: rows lie where it said.
/// Adding or removing a shard means building another one and moving the keys on which the two differ.
pub trait Placement: Send + Sync {
    /// How many shards it places on; at least one.
    fn shards(&self) -> usize;

    /// The names of the shards by index where the name decides what a shard holds; `None` where only the position does.
    fn names(&self) -> Option<&[Arc<str>]>;

    /// The shard of a hash; its index is below [`shards`](Self::shards).
    fn place(&self, hash: u64) -> ShardIndex;
}

macro_rules! placement_behind {
    ($($pointer:ident)*) => {$(
        impl<P: Placement + ?Sized> Placement for $pointer<P> {
            fn shards(&self) -> usize {
                (**self).shards()
            }

            fn names(&self) -> Option<&[Arc<str>]> {
                (**self).names()
            }

            #[inline]
            fn place(&self, hash: u64) -> ShardIndex {
                (**self).place(hash)
            }
        }
    )*};
}

placement_behind! { Arc Box }
