//! The slab: nodes by slot, in chunks that double, and never move while the slab lives.

use super::node::{Extra, Node};
use crate::fetch::fetch;
use crate::policy::{Marks, Slot};
use crate::sync::{AtomicPtr, Ordering};
#[cfg(not(any(loom, shuttle)))]
use std::alloc::alloc_zeroed;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr;

/// The first chunk has 2^5 nodes.
const FIRST_BITS: u32 = 5;

/// The chunk of 2^n nodes is the n-th: there are places for 32, so that no slot is out of bounds, and the first five stay empty.
const CHUNKS: usize = 32;

struct Chunk<K, V> {
    nodes: AtomicPtr<Node<K, V>>,
    /// As many as nodes, or null while none of them needs one.
    extras: AtomicPtr<Extra>,
}

/// Memory for nodes. It knows not which slots are in use: its owner writes, and drops, and gives out references.
pub(super) struct Slab<K, V> {
    chunks: [Chunk<K, V>; CHUNKS],
}

/// Where a slot's node is: the chunk in the top five bits, the place in it below.
///
/// What the index holds, so that a reader need not look for a slot's highest bit: that takes longer than all the rest of finding a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address(u32);

impl Address {
    const PLACE_BITS: u32 = 27;

    #[inline]
    pub(super) fn of(slot: Slot) -> Self {
        // Slots end before this overflows.
        let number = slot.wrapping_add(1 << FIRST_BITS);
        let bits = (number | 1).ilog2();
        Self(bits << Self::PLACE_BITS | (number ^ (1 << bits)))
    }

    #[inline]
    pub(super) fn slot(self) -> Slot {
        ((1 << self.chunk()) | self.place() as u32).wrapping_sub(1 << FIRST_BITS)
    }

    /// One that was [stored](Self::bits).
    #[inline]
    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// That of a slot so much further on in the same chunk.
    #[inline]
    pub(super) fn plus(self, slots: u32) -> Self {
        Self(self.0 + slots)
    }

    #[inline]
    fn chunk(self) -> usize {
        // Five bits are always below `CHUNKS`.
        (self.0 >> Self::PLACE_BITS) as usize
    }

    #[inline]
    fn place(self) -> usize {
        (self.0 & ((1 << Self::PLACE_BITS) - 1)) as usize
    }
}

fn len(chunk: usize) -> usize {
    1 << chunk
}

impl<K, V> Slab<K, V> {
    /// The most slots there can be: as many as a policy can order.
    pub(super) const MOST_SLOTS: usize = 1 << 26;

    /// It takes memory as slots are prepared.
    pub(super) fn new() -> Self {
        let none = |_| Chunk { nodes: AtomicPtr::new(ptr::null_mut()), extras: AtomicPtr::new(ptr::null_mut()) };
        Self { chunks: std::array::from_fn(none) }
    }

    /// Where the node of a prepared slot is or will be.
    #[inline]
    pub(super) fn node(&self, slot: Slot) -> *mut Node<K, V> {
        self.node_at(Address::of(slot))
    }

    /// The same by the slot's address.
    #[inline]
    pub(super) fn node_at(&self, address: Address) -> *mut Node<K, V> {
        // Ordering: relaxed. The address came by way of an acquire from the index, or from the writer itself; the chunk was there before.
        let nodes = self.chunks[address.chunk()].nodes.load(Ordering::Relaxed);
        // SAFETY: a chunk of a prepared slot has `len(chunk)` nodes, and its place is below that.
        unsafe { nodes.add(address.place()) }
    }

    /// Has the CPU fetch the line with a prepared slot's life and mark, for whoever looks at it later.
    pub(super) fn fetch(&self, slot: Slot) {
        fetch(self.node(slot));
    }

    /// What the slot has beside its node; `None` where nothing in its chunk has.
    #[inline]
    pub(super) fn extra_at(&self, address: Address) -> Option<*mut Extra> {
        // Ordering: acquire pairs with the release in `prepare_extra`: a reader of another slot of the chunk sees zeroes.
        let extras = self.chunks[address.chunk()].extras.load(Ordering::Acquire);
        // SAFETY: as in `node_at`; extras are as many as nodes.
        (!extras.is_null()).then(|| unsafe { extras.add(address.place()) })
    }

    /// Sees to it that the slot has memory for a node.
    pub(super) fn prepare(&self, address: Address) {
        let chunk = address.chunk();
        let nodes = &self.chunks[chunk].nodes;
        if nodes.load(Ordering::Relaxed).is_null() {
            nodes.store(allocate(alloc, Self::layout::<Node<K, V>>(chunk)).cast(), Ordering::Release);
        }
    }

    /// Sees to it that the slot, and with it all of its chunk, has an extra.
    pub(super) fn prepare_extra(&self, address: Address) {
        let chunk = address.chunk();
        let extras = &self.chunks[chunk].extras;
        if extras.load(Ordering::Relaxed).is_null() {
            extras.store(Self::none_of_it(chunk), Ordering::Release);
        }
    }

    /// Extras that say nothing. Where all zero says so the kernel hands them out, a page when it is used: to write a large chunk would keep the lock for
    /// a tenth of a second.
    #[cfg(not(any(loom, shuttle)))]
    fn none_of_it(chunk: usize) -> *mut Extra {
        // Valid as an `Extra`, which is of integers and of a token's 16 bytes, and the same as its default; see the test.
        allocate(alloc_zeroed, Self::layout::<Extra>(chunk)).cast()
    }

    /// Their atomics are no plain numbers.
    #[cfg(any(loom, shuttle))]
    fn none_of_it(chunk: usize) -> *mut Extra {
        let memory: *mut Extra = allocate(alloc, Self::layout::<Extra>(chunk)).cast();
        for at in 0..len(chunk) {
            // SAFETY: the memory has room for `len(chunk)` extras and is this function's alone.
            unsafe { memory.add(at).write(Extra::default()) };
        }
        memory
    }

    fn layout<T>(chunk: usize) -> Layout {
        // 64 so that nodes whose size divides a cache line never straddle two.
        let layout = Layout::array::<T>(len(chunk)).and_then(|layout| layout.align_to(64));
        layout.expect("a chunk that was asked for fits the address space")
    }
}

fn allocate(by: unsafe fn(Layout) -> *mut u8, layout: Layout) -> *mut u8 {
    // SAFETY: no layout here is of size zero: a node has a life at least. `by` is one of the allocator's two, which ask for no more.
    let memory = unsafe { by(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}

impl<K, V> Drop for Slab<K, V> {
    /// Gives the memory back, without dropping what nodes hold.
    fn drop(&mut self) {
        for chunk in 0..CHUNKS {
            let Chunk { nodes, extras } = &self.chunks[chunk];
            let (nodes, extras) = (nodes.load(Ordering::Relaxed), extras.load(Ordering::Relaxed));
            if !nodes.is_null() {
                // SAFETY: `prepare` allocated it with this layout, and nobody has the slab any more.
                unsafe { dealloc(nodes.cast(), Self::layout::<Node<K, V>>(chunk)) };
            }
            if !extras.is_null() {
                // SAFETY: as above, by `prepare_extra`; extras need no drop.
                unsafe { dealloc(extras.cast(), Self::layout::<Extra>(chunk)) };
            }
        }
    }
}

impl<K, V> Marks for Slab<K, V> {
    fn fetch(&self, slot: Slot) {
        Self::fetch(self, slot);
    }

    fn mark(&self, slot: Slot) -> u16 {
        // SAFETY: the policy knows slots in use only, whose nodes were written before.
        unsafe { &*self.node(slot) }.life.mark.get()
    }

    fn set_mark(&self, slot: Slot, mark: u16) {
        // SAFETY: as above; the mark is atomic.
        unsafe { &*self.node(slot) }.life.mark.set(mark);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use cache_core::Token;

    #[test]
    fn extras_that_nobody_wrote_say_nothing() {
        let addresses = [0, 40].map(Address::of);
        // Where the allocator gives the same memory again, it is not by chance that it is zero.
        let before = Slab::<u64, u64>::new();
        for address in addresses {
            before.prepare_extra(address);
            // SAFETY: prepared, with all of its chunk, and nobody looks at it.
            unsafe { before.extra_at(address).unwrap().sub(address.place()).write_bytes(0xFF, len(address.chunk())) };
        }
        drop(before);
        let slab = Slab::<u64, u64>::new();
        for address in addresses {
            slab.prepare_extra(address);
            for other in [address, address.plus(7)] {
                // SAFETY: prepared above, with all of its chunk.
                let extra = unsafe { &*slab.extra_at(other).unwrap() };
                assert_eq!((extra.version, extra.token, extra.idle()), (0, Token::default(), None));
            }
        }
    }
}
