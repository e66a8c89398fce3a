//! The orders that loom and shuttle try; see [`crate::sync`].

#[cfg(loom)]
mod index;
#[cfg(shuttle)]
mod races;
#[cfg(loom)]
mod tier;
