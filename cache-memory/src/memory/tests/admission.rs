//! An admission that panics.

use super::{LocalTier, MemoryTier, endless, panics, quiet_panic};
use crate::memory::tests::NOW;
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

/// A value that uses its tier when it is dropped.
struct Uses(Weak<MemoryTier<u64, Self>>, mpsc::Sender<u64>);

impl Drop for Uses {
    fn drop(&mut self) {
        if let Some(tier) = self.0.upgrade() {
            _ = self.1.send(tier.len());
        }
    }
}

#[test]
fn a_value_whose_admission_panics_is_dropped_without_the_lock() {
    let (said, wait) = mpsc::channel();
    // It stays behind if it waits for itself.
    std::thread::spawn(move || {
        let tier = Arc::new(MemoryTier::builder(100).shards(1).build());
        let value = Uses(Arc::downgrade(&tier), said);
        assert!(panics(|| _ = tier.insert(1, 1, value, &endless(), NOW, &|| quiet_panic())));
    });
    assert_eq!(wait.recv_timeout(Duration::from_secs(30)), Ok(0), "the length that the drop was told");
}
