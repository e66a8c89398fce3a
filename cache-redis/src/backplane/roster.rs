//! Which connection listens to which partition, and what the ear is told of that.

use cache_core::{Ear, Partition};
use parking_lot::Mutex;
use std::sync::Weak;

/// No connection has this number.
pub(super) const NOBODY: u64 = 0;

/// Connections come and go beside each other: what one says of a partition that has become another's is not passed on.
pub(super) struct Roster {
    ear: Weak<dyn Ear>,
    /// By partition.
    places: Mutex<Vec<Place>>,
}

#[derive(Clone, Copy)]
struct Place {
    assigned: u64,
    is_heard: bool,
}

impl Roster {
    pub(super) fn new(ear: Weak<dyn Ear>, partitions: usize) -> Self {
        Self { ear, places: Mutex::new(vec![Place { assigned: NOBODY, is_heard: false }; partitions]) }
    }

    /// From now on a partition is this connection's.
    pub(super) fn assign(&self, partition: Partition, to: u64) {
        self.change(
            &[partition],
            |place| {
                let was_heard = place.is_heard && place.assigned != to;
                *place = Place { assigned: to, is_heard: place.is_heard && !was_heard };
                was_heard
            },
            <dyn Ear>::deaf,
        );
    }

    /// The server has confirmed that it sends what is published in these partitions, and that it `tracks` writes if it was asked to.
    pub(super) fn hears(&self, partitions: &[Partition], by: u64, tracks: bool) {
        self.change(
            partitions,
            |place| {
                let is_new = place.assigned == by && !place.is_heard;
                place.is_heard |= is_new;
                is_new
            },
            |ear, partitions| {
                if tracks {
                    ear.may_have_changed(partitions);
                }
                ear.listening(partitions);
            },
        );
    }

    /// It may not any more.
    pub(super) fn lost(&self, partitions: &[Partition], by: u64) {
        self.change(
            partitions,
            |place| {
                let was_heard = place.assigned == by && place.is_heard;
                place.is_heard &= !was_heard;
                was_heard
            },
            <dyn Ear>::deaf,
        );
    }

    /// A message, whoever heard it: what it removes may go in any case.
    pub(super) fn hear(&self, partition: Partition, message: &[u8]) {
        if let Some(ear) = self.ear.upgrade() {
            ear.hear(partition, message);
        }
    }

    /// What is under a key was changed, whoever says so.
    pub(super) fn changed(&self, key: &[u8]) {
        if let Some(ear) = self.ear.upgrade() {
            ear.changed(key);
        }
    }

    /// The same of any keys of these partitions.
    pub(super) fn may_have_changed(&self, partitions: &[Partition]) {
        if let Some(ear) = self.ear.upgrade() {
            ear.may_have_changed(partitions);
        }
    }

    /// Changes places, and tells of those that did change. Locked meanwhile, so that what is told last is what is true.
    fn change(&self, partitions: &[Partition], change: impl Fn(&mut Place) -> bool, tell: impl FnOnce(&dyn Ear, &[Partition])) {
        let mut places = self.places.lock();
        let changed = partitions.iter().filter(|partition| change(&mut places[usize::from(partition.index())]));
        let changed: Vec<Partition> = changed.copied().collect();
        if let Some(ear) = self.ear.upgrade().filter(|_| !changed.is_empty()) {
            tell(&*ear, &changed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Default)]
    struct Heard(Mutex<Vec<(&'static str, Vec<u8>)>>);

    impl Heard {
        fn take(&self) -> Vec<(&'static str, Vec<u8>)> {
            std::mem::take(&mut *self.0.lock())
        }

        fn note(&self, what: &'static str, partitions: &[Partition]) {
            self.0.lock().push((what, partitions.iter().map(|partition| partition.index()).collect()));
        }
    }

    impl Ear for Heard {
        fn listening(&self, partitions: &[Partition]) {
            self.note("listening", partitions);
        }

        fn deaf(&self, partitions: &[Partition]) {
            self.note("deaf", partitions);
        }

        fn hear(&self, _: Partition, _: &[u8]) {}

        fn changed(&self, _: &[u8]) {}

        fn may_have_changed(&self, partitions: &[Partition]) {
            self.note("may have changed", partitions);
        }
    }

    #[test]
    fn what_a_connection_says_of_another_s_partition_is_not_told() {
        let heard = Arc::new(Heard::default());
        let ear: Weak<dyn Ear> = Arc::downgrade(&(heard.clone() as Arc<dyn Ear>));
        let roster = Roster::new(ear, 3);
        let partitions = [0, 1, 2].map(Partition::from_index);
        for partition in partitions {
            roster.assign(partition, 7);
        }
        roster.hears(&partitions, 8, true);
        assert_eq!(heard.take(), []);
        roster.hears(&partitions, 7, false);
        roster.hears(&partitions[..1], 7, false);
        assert_eq!(heard.take(), [("listening", vec![0, 1, 2])]);
        roster.assign(partitions[1], 7);
        assert_eq!(heard.take(), [], "it stays whose it is");
        roster.assign(partitions[1], 8);
        assert_eq!(heard.take(), [("deaf", vec![1])]);
        roster.hears(&partitions[1..2], 8, true);
        roster.lost(&partitions, 7);
        assert_eq!(heard.take(), [("may have changed", vec![1]), ("listening", vec![1]), ("deaf", vec![0, 2])]);
        roster.lost(&partitions, 7);
        assert_eq!(heard.take(), []);
    }
}
