//! The orders that loom and shuttle try; see [`crate::sync`].

#[cfg(loom)]
mod index;
#[cfg(shuttle)]
mod races;
#[cfg(loom)]
mod tier;

use std::alloc::{GlobalAlloc, Layout, System};

/// Spoils what is freed, so that whoever reads it fails: loom watches its own cells and atomics, but not the memory that they are in.
struct Spoiling;

#[global_allocator]
static ALLOCATOR: Spoiling = Spoiling;

// SAFETY: the system's, which takes memory back whatever is in it.
unsafe impl GlobalAlloc for Spoiling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up so many bytes.
        unsafe { memory.write_bytes(0xDD, layout.size()) };
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}
