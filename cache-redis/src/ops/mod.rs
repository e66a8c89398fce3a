//! What services do with a cache's Redis besides caching: counters, lives, sweeps, figures, health. None of it is on a read's path.

mod absent;
mod counter;
mod examine;
mod health;
mod info;
mod life;
mod sequences;
mod sweep;

pub use health::{Health, NodeHealth};
pub use info::{Role, ServerInfo};
pub use life::Remaining;
pub use sweep::Swept;

use cache_core::{Error, ErrorKind};

fn foreign() -> Error {
    Error::new(ErrorKind::Foreign, "Redis holds something under this key that this library did not write")
}
