//! cachestack itself, each way of asking it behind an adapter that adds nothing to what a user would write.

mod alone;
mod stack;

pub(crate) use self::alone::{Ours, OursBorrow, OursLru};
pub(crate) use self::stack::{OursGet, OursLoad, OursLocal};
