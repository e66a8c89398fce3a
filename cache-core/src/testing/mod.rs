//! What a service, and who writes a tier, needs for tests. Behind the feature `testing`.

mod backplane_suite;
mod chaos;
mod fake;
mod local_races;
mod local_reentrancy;
mod local_suite;
mod remote_suite;
pub mod simulation;

pub use backplane_suite::backplane_suite;
pub use chaos::{Chaos, ChaosTier, Messages};
pub use fake::FakeCache;
pub use local_reentrancy::{Meddler, local_reentrancy_suite};
pub use local_suite::local_suite;
pub use remote_suite::{Plant, remote_suite};
