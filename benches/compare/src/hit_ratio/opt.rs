//! What foresight would hit: Belady's optimal replacement, with bypass.
//!
//! L. A. Belady, A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal 5(2), 1966. A cache need not keep what
//! it fetches, so a key that is wanted later than all of those kept is not admitted (bypass); what is never wanted again leaves at once.

use std::collections::BinaryHeap;

use super::trace::Trace;

const NEVER: u32 = u32::MAX;

/// Hits of a cache of `capacity` entries. Eight to twelve bytes an access, whatever the capacity.
pub(crate) fn hits(trace: &Trace, capacity: usize) -> u64 {
    let ids = &trace.ids;
    let next = next_uses(trace);
    let mut resident = vec![false; trace.distinct];
    let mut entries = 0;
    // The next use of each resident key; it names the key, since one key is accessed then. A hit pushes the use after it and leaves the
    // old one, which has passed by then: what is past is smaller than what is to come and never reaches the top.
    let mut uses = BinaryHeap::new();
    let mut hits = 0;
    for (id, next) in ids.iter().zip(next) {
        let id = *id as usize;
        if resident[id] {
            hits += 1;
            if next == NEVER {
                resident[id] = false;
                entries -= 1;
            } else {
                uses.push(next);
            }
            continue;
        }
        if next == NEVER || capacity == 0 {
            continue;
        }
        if entries == capacity {
            let Some(latest) = uses.peek_mut().filter(|latest| **latest > next) else { continue };
            let latest = std::collections::binary_heap::PeekMut::pop(latest);
            resident[ids[latest as usize] as usize] = false;
            entries -= 1;
        }
        resident[id] = true;
        entries += 1;
        uses.push(next);
    }
    hits
}

/// Of each access, the place of the next one to the same key.
fn next_uses(trace: &Trace) -> Vec<u32> {
    let mut next = vec![NEVER; trace.ids.len()];
    let mut seen = vec![NEVER; trace.distinct];
    for (place, id) in trace.ids.iter().enumerate().rev() {
        next[place] = std::mem::replace(&mut seen[*id as usize], place as u32);
    }
    next
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fastrand::Rng;

    use super::*;

    fn trace(keys: &[u64]) -> Trace {
        Trace::of("t".into(), keys.to_vec())
    }

    /// The most hits that any sequence of choices reaches: all of them are tried.
    fn best(keys: &[u64], kept: &BTreeSet<u64>, capacity: usize) -> u64 {
        let Some((key, later)) = keys.split_first() else { return 0 };
        if kept.contains(key) {
            return 1 + best(later, kept, capacity);
        }
        let bypassed = best(later, kept, capacity);
        let mut with = kept.clone();
        with.insert(*key);
        if with.len() <= capacity {
            return bypassed.max(best(later, &with, capacity));
        }
        let admitted = kept.iter().map(|victim| {
            let mut kept = with.clone();
            kept.remove(victim);
            best(later, &kept, capacity)
        });
        admitted.max().unwrap_or(0).max(bypassed)
    }

    #[test]
    fn a_trace_small_enough_to_see_through() {
        // Room for two: a and b stay, c and d pass by.
        assert_eq!(hits(&trace(&[1, 2, 3, 1, 2, 4, 1, 2]), 2), 4);
        // A loop of three in room for two: after the first round every second access hits.
        assert_eq!(hits(&trace(&[1, 2, 3, 1, 2, 3, 1, 2, 3]), 2), 4);
        assert_eq!(hits(&trace(&[1, 1, 1]), 0), 0);
    }

    #[test]
    fn no_sequence_of_choices_hits_more_often() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..200 {
            let keys: Vec<u64> = (0..11).map(|_| rng.u64(..5)).collect();
            for capacity in 1..=3 {
                assert_eq!(hits(&trace(&keys), capacity), best(&keys, &BTreeSet::new(), capacity), "{keys:?} in {capacity}");
            }
        }
    }

    #[test]
    fn room_for_all_misses_each_key_once() {
        let mut rng = Rng::with_seed(5);
        let keys: Vec<u64> = (0..5_000).map(|_| rng.u64(..300)).collect();
        let trace = trace(&keys);
        assert_eq!(hits(&trace, trace.distinct), (keys.len() - trace.distinct) as u64);
    }
}
