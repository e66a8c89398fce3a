//! Exact LRU: what peers are held against.

use super::trace::Trace;

const NONE: u32 = u32::MAX;

/// Keys in the order of their last access, as a list through two arrays.
#[derive(Debug)]
struct Order {
    /// Of each id, the id accessed next after it and next before it.
    newer: Vec<u32>,
    older: Vec<u32>,
    newest: u32,
    oldest: u32,
}

/// Hits of a cache of `capacity` entries, at least one.
pub(crate) fn hits(trace: &Trace, capacity: usize) -> u64 {
    let none = vec![NONE; trace.distinct];
    let mut order = Order { newer: none.clone(), older: none, newest: NONE, oldest: NONE };
    let mut resident = vec![false; trace.distinct];
    let (mut entries, mut hits) = (0, 0);
    for id in &trace.ids {
        if resident[*id as usize] {
            hits += 1;
            order.unlink(*id);
        } else {
            if entries == capacity {
                let victim = order.oldest;
                order.unlink(victim);
                resident[victim as usize] = false;
            } else {
                entries += 1;
            }
            resident[*id as usize] = true;
        }
        order.push(*id);
    }
    hits
}

impl Order {
    fn push(&mut self, id: u32) {
        (self.newer[id as usize], self.older[id as usize]) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = id,
            newest => self.newer[newest as usize] = id,
        }
        self.newest = id;
    }

    fn unlink(&mut self, id: u32) {
        let (newer, older) = (self.newer[id as usize], self.older[id as usize]);
        match newer {
            NONE => self.newest = older,
            newer => self.older[newer as usize] = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.newer[older as usize] = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// The same by a vector that is searched.
    fn plain(keys: &[u64], capacity: usize) -> u64 {
        let mut order: Vec<u64> = Vec::new();
        let mut hits = 0;
        for key in keys {
            match order.iter().position(|kept| kept == key) {
                Some(place) => {
                    hits += 1;
                    order.remove(place);
                }
                None if order.len() == capacity => {
                    order.remove(0);
                }
                None => {}
            }
            order.push(*key);
        }
        hits
    }

    #[test]
    fn it_hits_as_the_plainest_lru_does() {
        let mut rng = Rng::with_seed(1);
        for capacity in [1, 2, 7, 40] {
            let keys: Vec<u64> = (0..3_000).map(|_| rng.u64(..60) * rng.u64(..60) / 60).collect();
            assert_eq!(hits(&Trace::of("t".into(), keys.clone()), capacity), plain(&keys, capacity), "{capacity}");
        }
    }

    #[test]
    fn a_loop_one_longer_than_the_room_never_hits() {
        let keys: Vec<u64> = (0..100).map(|place| place % 5).collect();
        let trace = Trace::of("t".into(), keys);
        assert_eq!((hits(&trace, 4), hits(&trace, 5)), (0, 95));
    }
}
