//! The deployments of a store that this process has caches in.

use super::deployment::Deployment;
use crate::clock::Clock;
use crate::remote::RemoteTier;
use parking_lot::Mutex;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The deployments that the caches of this process have in one store. A tier has one of these, and its clones share it.
#[derive(Debug, Default)]
pub struct Deployments(Mutex<Vec<(String, Weak<Deployment>)>>);

impl Deployments {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// How often the caches here have suspected something.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn suspicions(&self) -> u64 {
        let known = self.0.lock();
        known.iter().filter_map(|(_, of)| of.upgrade()).map(|of| of.counts().suspicions.load(Ordering::Relaxed)).sum()
    }

    /// The deployment of a prefix, as caches with this clock know it.
    pub(crate) fn join(&self, tier: &Arc<dyn RemoteTier>, prefix: &str, clock: &Clock, bound: Duration) -> Arc<Deployment> {
        let mut known = self.0.lock();
        known.retain(|(_, deployment)| deployment.strong_count() > 0);
        let mut same = known.iter().filter(|(of, _)| of == prefix).filter_map(|(_, deployment)| deployment.upgrade());
        if let Some(deployment) = same.find(|deployment| deployment.goes_by(clock)) {
            deployment.tighten(bound);
            return deployment;
        }
        let deployment = Arc::new(Deployment::new(tier.clone(), prefix, clock.clone(), bound));
        known.push((prefix.to_owned(), Arc::downgrade(&deployment)));
        deployment
    }
}
