//! Scripts that a server has forgotten are brought along once, for all calls that need them.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex as AsyncMutex;

/// So many gates are kept at most that nobody stands at.
const KEPT: usize = 64;

/// How many loads had ended when the last one of a script did. Who loads it holds the lock.
pub(crate) type Gate = Arc<AsyncMutex<u64>>;

/// The loads of a tier.
#[derive(Default)]
pub(crate) struct Loads {
    ended: AtomicU64,
    /// By node and script, each told by its address in memory.
    gates: Mutex<HashMap<(usize, usize), Gate>>,
}

impl Loads {
    /// How many have ended so far. Of a script that is loaded afterwards a call that is sent now cannot have known.
    pub(crate) fn ended(&self) -> u64 {
        // Ordering: with `note_end`, so that who sees a load's end sends its call after it.
        self.ended.load(Ordering::Acquire)
    }

    /// Notes another one.
    pub(crate) fn note_end(&self) -> u64 {
        // Ordering: with `ended`.
        self.ended.fetch_add(1, Ordering::Release) + 1
    }

    /// Where those wait who need the script on the node.
    pub(crate) fn gate(&self, node: usize, script: usize) -> Gate {
        let mut gates = self.gates.lock();
        if gates.len() >= KEPT {
            // Who comes there next loads once more, at worst.
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        gates.entry((node, script)).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_a_gate_on_each_node_and_those_where_nobody_stands_are_few() {
        let loads = Loads::default();
        let held = loads.gate(0, 0);
        assert!(Arc::ptr_eq(&held, &loads.gate(0, 0)) && !Arc::ptr_eq(&held, &loads.gate(1, 0)));
        (0..1_000).for_each(|node| drop(loads.gate(node, 1)));
        assert!(loads.gates.lock().len() <= KEPT);
        assert!(Arc::ptr_eq(&held, &loads.gate(0, 0)));
    }
}
