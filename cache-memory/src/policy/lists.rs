//! Doubly linked lists over slots, many to one store of links, and the hash of each slot beside them.

use super::Slot;
use crate::fetch::fetch;

/// Slots are below this bit; with it, the rest names a list's anchor. Five bits above it are free for a label.
const ANCHOR: u32 = 1 << 26;
const NODE: u32 = (ANCHOR << 1) - 1;
const LABEL_SHIFT: u32 = 27;

/// A node's neighbours. Each list is a ring through its anchor, so that a slot leaves without anybody knowing its list.
#[derive(Debug, Clone, Copy)]
struct Links {
    /// Towards the front; in the top bits the slot's label.
    before: u32,
    after: u32,
    /// That a slot was given for. Here, since who moves or evicts a slot needs it as well: on another line it would be one more to fetch.
    hash: u32,
}

/// Lists that share the links of their slots: 12 bytes a slot with its hash. A slot is in one list or in none.
#[derive(Debug)]
pub(super) struct Lists {
    slots: Vec<Links>,
    anchors: Vec<Links>,
}

impl Lists {
    /// So many empty lists. It takes memory for slots as they are used.
    pub(super) fn new(lists: u32) -> Self {
        let mut empty = Self { slots: Vec::new(), anchors: Vec::new() };
        empty.extend(lists);
        empty
    }

    fn links(&mut self, node: u32) -> &mut Links {
        if node & ANCHOR == 0 { &mut self.slots[node as usize] } else { &mut self.anchors[(node & !ANCHOR) as usize] }
    }

    pub(super) fn reserve(&mut self, slots: usize) {
        self.slots.reserve_exact(slots.saturating_sub(self.slots.len()));
    }

    /// Makes the links of a slot, in no list.
    pub(super) fn admit(&mut self, slot: Slot, hash: u32, label: u32) {
        let free = |slot| Links { before: slot | label << LABEL_SHIFT, after: slot, hash };
        if slot >= self.slots() {
            self.slots.extend((self.slots()..=slot).map(free));
        }
        self.slots[slot as usize] = free(slot);
    }

    /// That the slot was admitted with.
    pub(super) fn hash(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].hash
    }

    /// Has the CPU fetch the links of a slot.
    pub(super) fn fetch(&self, slot: Slot) {
        if let Some(links) = self.slots.get(slot as usize) {
            fetch(links);
        }
    }

    /// The same of a slot and its neighbours.
    pub(super) fn fetch_around(&self, slot: Slot) {
        if let Some(links) = self.slots.get(slot as usize) {
            self.fetch(links.before & NODE);
            self.fetch(links.after);
        }
    }

    /// One more than the greatest slot that there has been.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Puts a slot that is in no list at the back of one.
    pub(super) fn push(&mut self, list: u32, slot: Slot) {
        let anchor = ANCHOR | list;
        let back = self.anchors[list as usize].before;
        let links = self.links(slot);
        links.before = links.before & !NODE | back;
        links.after = anchor;
        self.anchors[list as usize].before = slot;
        self.links(back).after = slot;
    }

    /// Takes a slot out of whatever list it is in.
    pub(super) fn unlink(&mut self, slot: Slot) {
        let Links { before, after, .. } = self.slots[slot as usize];
        self.links(before & NODE).after = after;
        let next = self.links(after);
        next.before = next.before & !NODE | before & NODE;
        let links = self.links(slot);
        (links.before, links.after) = (before & !NODE | slot, slot);
    }

    /// The slot at the front.
    pub(super) fn first(&self, list: u32) -> Option<Slot> {
        let first = self.anchors[list as usize].after;
        (first & ANCHOR == 0).then_some(first)
    }

    /// Puts a slot that is in no list where `old` is, with its label and hash; `old` leaves with another label, and must be in a list.
    pub(super) fn swap(&mut self, old: Slot, new: Slot, label: u32) {
        let Links { before, after, hash } = self.slots[old as usize];
        self.links(before & NODE).after = new;
        let next = self.links(after);
        next.before = next.before & !NODE | new;
        self.slots[new as usize] = Links { before, after, hash };
        self.slots[old as usize] = Links { before: label << LABEL_SHIFT | old, after: old, hash };
    }

    /// Puts all of one list before all of another.
    pub(super) fn prepend(&mut self, from: u32, to: u32) {
        let Links { before: last, after: first, .. } = self.anchors[from as usize];
        if first & ANCHOR != 0 {
            return;
        }
        let (anchor, second) = (ANCHOR | to, self.anchors[to as usize].after);
        self.anchors[to as usize].after = first;
        let links = self.links(first);
        links.before = links.before & !NODE | anchor;
        self.links(last).after = second;
        let links = self.links(second);
        links.before = links.before & !NODE | last;
        self.anchors[from as usize] = Links { before: ANCHOR | from, after: ANCHOR | from, hash: 0 };
    }

    pub(super) fn label(&self, slot: Slot) -> u32 {
        self.slots[slot as usize].before >> LABEL_SHIFT
    }

    /// Five bits for the caller, kept while the slot moves.
    pub(super) fn set_label(&mut self, slot: Slot, label: u32) {
        let links = self.links(slot);
        links.before = links.before & NODE | label << LABEL_SHIFT;
    }

    /// From the front to the back.
    #[cfg(test)]
    pub(super) fn iter(&self, list: u32) -> impl Iterator<Item = Slot> {
        let mut next = self.first(list);
        std::iter::from_fn(move || {
            let slot = next?;
            next = Some(self.slots[slot as usize].after).filter(|next| next & ANCHOR == 0);
            Some(slot)
        })
    }

    /// How many lists there are.
    pub(super) fn lists(&self) -> u32 {
        self.anchors.len() as u32
    }

    /// Adds empty lists.
    pub(super) fn extend(&mut self, lists: u32) {
        let from = self.lists();
        self.anchors.extend((from..from + lists).map(|list| Links { before: ANCHOR | list, after: ANCHOR | list, hash: 0 }));
    }
}
