//! First in, first out, over slots that may leave from the middle.

use super::Slot;

/// No slot.
const NONE: Slot = Slot::MAX;

/// A slot's neighbours in the one queue that holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    older: Slot,
    newer: Slot,
}

impl Links {
    pub(super) const ALONE: Self = Self { older: NONE, newer: NONE };
}

/// A doubly linked queue; the links lie in a slice that several queues share.
#[derive(Debug)]
pub(super) struct Queue {
    oldest: Slot,
    newest: Slot,
    len: u32,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn push(&mut self, links: &mut [Links], slot: Slot) {
        links[slot as usize] = Links { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = slot,
            newest => links[newest as usize].newer = slot,
        }
        self.newest = slot;
        self.len += 1;
    }

    pub(super) fn pop(&mut self, links: &mut [Links]) -> Option<Slot> {
        let oldest = self.oldest;
        (oldest != NONE).then(|| {
            self.remove(links, oldest);
            oldest
        })
    }

    /// Takes out a slot that is in this queue.
    pub(super) fn remove(&mut self, links: &mut [Links], slot: Slot) {
        let Links { older, newer } = std::mem::replace(&mut links[slot as usize], Links::ALONE);
        match older {
            NONE => self.oldest = newer,
            older => links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => links[newer as usize].older = older,
        }
        self.len -= 1;
    }

    /// From the oldest to the newest.
    #[cfg(test)]
    pub(super) fn iter(&self, links: &[Links]) -> impl Iterator<Item = Slot> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let slot = (next != NONE).then_some(next)?;
            next = links[slot as usize].newer;
            Some(slot)
        })
    }
}
