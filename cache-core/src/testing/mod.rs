//! What a service, and who writes a tier, needs for tests. Behind the feature `testing`.

mod remote_suite;

pub use remote_suite::{Plant, remote_suite};
