//! Executable models of the coherence protocol, checked by breadth-first and depth-first search.
//!
//! Nothing depends on this crate, and it is not published. `README.md` beside it says what is modelled, in which scopes, and what
//! is left out; the tests under `tests/` are the checks.
#![forbid(unsafe_code)]

pub mod check;
pub mod clear;
pub mod failover;
pub mod l1;
pub mod l2;
