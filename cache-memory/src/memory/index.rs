//! The index: which slot holds the key of a hash, in buckets of one cache line.

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;

use super::slab::Address;
use crate::fetch::fetch;
use crate::policy::Slot;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Cells of a bucket: as many slots of 4 bytes as fit a line beside a tag each and the overflow.
const CELLS: usize = 12;

/// Eight to nine of twelve cells are used when the index is as full as it gets: keys fall into buckets at random, and with this mean one bucket in
/// twelve overflows. With ten it would be one in five, and every insert of a new key has to look on from there.
const FULL: f64 = 0.7;

/// A bucket. Each cell has a tag, eight bits of the hash that are never zero, and the slot; a tag of zero is an empty cell.
///
/// After F14 (Facebook, 2019): a bucket counts the keys that found it full and went on, so that a search ends at the first bucket that
/// none has passed, and removals leave no tombstones.
#[repr(C, align(64))]
#[derive(Default)]
struct Bucket {
    /// Tags of the cells 0 to 7, a byte each.
    first_tags: AtomicU64,
    /// Tags of the cells 8 to 11, and in the upper half the overflow.
    last_tags: AtomicU64,
    /// Of slots, as [`Address`]es.
    slots: [AtomicU32; CELLS],
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))))]
const BYTES: u64 = u64::from_le_bytes([1; 8]);
const ALL_CELLS: u32 = (1 << CELLS) - 1;
const LAST_CELLS: u64 = 0xFFFF_FFFF;
const ONE_OVERFLOW: u64 = 1 << 32;

/// The cells of a bucket that have a tag, a bit each.
struct Cells(u32);

impl Cells {
    /// Those whose byte in `first` and `last` is the tag, and no others: a reader that followed the slot of an empty cell would read a node that may be
    /// rewritten at that moment. (The well-known shorter form by subtraction errs in the places above a match.)
    #[cfg(any(test, not(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))))]
    #[inline]
    fn with(tag: u8, first: u64, last: u64) -> Self {
        let equal = |tags: u64| {
            let low = BYTES * 0x7F;
            let differences = tags ^ (BYTES * u64::from(tag));
            // The highest bit of each equal byte, gathered into the highest byte.
            (!(((differences & low) + low) | differences | low) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
        };
        Self((equal(first) | equal(last) << 8) as u32 & ALL_CELLS)
    }
}

/// The same by SSE2, which every x86-64 has, with one load of both words.
///
/// The load is in assembly, since Rust has no atomic one of 16 bytes: by two of 8 and a way through general registers a hit takes a tenth longer.
#[cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
mod sse2 {
    use super::{ALL_CELLS, Bucket, Cells};
    use std::arch::asm;
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi32};

    impl Bucket {
        #[inline]
        pub(super) fn cells(&self, tag: u8) -> Cells {
            let tags: __m128i;
            // SAFETY: a bucket is aligned to 64 bytes and begins with its tags. They are atomics, so that the load may race with stores to them: no
            // byte is torn, and each is looked at for itself.
            // Ordering: x86 keeps loads in order, and assembly that may read memory is not moved across other accesses: an acquire.
            unsafe {
                asm!("movdqa {tags}, xmmword ptr [{bucket}]", tags = lateout(xmm_reg) tags, bucket = in(reg) self,
                    options(nostack, preserves_flags));
            }
            // SAFETY: SSE2 is part of x86-64.
            let equal = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi32((u32::from(tag) * 0x0101_0101) as i32))) };
            Cells(equal as u32 & ALL_CELLS)
        }
    }
}

impl Iterator for Cells {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let cell = self.0.trailing_zeros();
            self.0 &= self.0 - 1;
            cell as usize
        })
    }
}

impl Bucket {
    /// The cells with this tag.
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, shuttle, miri)))))]
    #[inline]
    fn cells(&self, tag: u8) -> Cells {
        self.cells_by_words(tag)
    }

    #[cfg(any(test, not(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))))]
    #[inline]
    fn cells_by_words(&self, tag: u8) -> Cells {
        // Ordering: acquire pairs with the release in `put`: a slot whose tag is seen is seen as well.
        Cells::with(tag, self.first_tags.load(Ordering::Acquire), self.last_tags.load(Ordering::Acquire))
    }

    #[inline]
    fn address(&self, cell: usize) -> Address {
        // Ordering: acquire pairs with the release in `put` and `replace`: the node in the slot was written before.
        Address::from_bits(self.slots[cell].load(Ordering::Acquire))
    }

    fn slot(&self, cell: usize) -> Slot {
        self.address(cell).slot()
    }

    /// The cells with this address, empty ones among them. All are looked at: where a search would end is what the CPU cannot guess.
    fn holds(&self, address: u32) -> Cells {
        let is = |cell: usize| u32::from(self.slots[cell].load(Ordering::Relaxed) == address);
        Cells((0..CELLS).fold(0, |cells, cell| cells | is(cell) << cell))
    }

    fn set_tag(&self, cell: usize, tag: u8) {
        let (word, place) = if cell < 8 { (&self.first_tags, cell) } else { (&self.last_tags, cell - 8) };
        // Ordering: relaxed load; only the holder of the shard's lock writes. Release pairs with `cells`.
        let tags = word.load(Ordering::Relaxed) & !(0xFF << (8 * place));
        word.store(tags | u64::from(tag) << (8 * place), Ordering::Release);
    }

    fn put(&self, cell: usize, tag: u8, slot: Slot) {
        self.slots[cell].store(Address::of(slot).bits(), Ordering::Release);
        self.set_tag(cell, tag);
    }

    fn tag(&self, cell: usize) -> u8 {
        let (word, place) = if cell < 8 { (&self.first_tags, cell) } else { (&self.last_tags, cell - 8) };
        (word.load(Ordering::Relaxed) >> (8 * place)) as u8
    }

    /// Whether keys have gone on from here. A reader asks after it has looked at the cells: a key that comes in between has come too late for it, and one that is
    /// there was counted before it was put further on.
    #[inline]
    fn goes_on(&self) -> bool {
        // Ordering: acquire, so that the look at the next bucket comes after this one.
        self.last_tags.load(Ordering::Acquire) > LAST_CELLS
    }

    fn overflow(&self, more: bool) {
        let tags = self.last_tags.load(Ordering::Relaxed);
        let tags = if more { tags + ONE_OVERFLOW } else { tags - ONE_OVERFLOW };
        self.last_tags.store(tags, Ordering::Release);
    }
}

/// How a hash is found: the bucket by 32 bits of it, the tag by eight others. The shard takes the top ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    spread: u32,
    tag: u8,
}

impl Place {
    #[inline]
    pub(super) fn of(hash: u64) -> Self {
        Self::new((hash >> 16) as u32, hash as u8)
    }

    #[inline]
    fn new(spread: u32, tag: u8) -> Self {
        Self { spread, tag: tag.max(1) }
    }

    /// What the policy keeps of the hash.
    pub(super) fn spread(self) -> u32 {
        self.spread
    }
}

/// Buckets. Any number of readers, and one writer at a time: whoever holds the shard's lock. Its size is fixed; to grow is to make another.
pub(super) struct Index {
    buckets: Box<[Bucket]>,
}

impl Index {
    /// An index with room for so many slots.
    pub(super) fn new(room: usize) -> Self {
        let buckets = (room as f64 / (FULL * CELLS as f64)).ceil().max(1.0) as usize;
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect() }
    }

    pub(super) fn room(&self) -> usize {
        match self.buckets.len() {
            1 => CELLS,
            buckets => (buckets as f64 * CELLS as f64 * FULL) as usize,
        }
    }

    #[inline]
    fn home(&self, spread: u32) -> usize {
        ((u64::from(spread) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn home_of(&self, place: Place) -> &Bucket {
        // SAFETY: a home is less than the number of buckets: a number below 2^32 times theirs, divided by 2^32.
        unsafe { self.buckets.get_unchecked(self.home(place.spread)) }
    }

    /// Has the CPU fetch the home of a place.
    #[inline]
    pub(super) fn fetch(&self, place: Place) {
        fetch(self.home_of(place));
    }

    /// The slots in the home of a place that have its tag.
    #[inline]
    pub(super) fn at_home(&self, place: Place) -> impl Iterator<Item = Address> {
        let bucket = self.home_of(place);
        bucket.cells(place.tag).map(|cell| bucket.address(cell))
    }

    /// Whether there may be more of them further on. To be asked after a look at the home.
    #[inline]
    pub(super) fn goes_on(&self, place: Place) -> bool {
        self.home_of(place).goes_on()
    }

    /// The first slot of the place that `is_it` accepts, in the buckets after its home.
    pub(super) fn find_beyond(&self, place: Place, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let home = self.home(place.spread);
        let mut at = home;
        while self.buckets[at].goes_on() {
            at = self.next(at);
            if at == home {
                break;
            }
            let bucket = &self.buckets[at];
            if let Some(slot) = bucket.cells(place.tag).map(|cell| bucket.slot(cell)).find(|slot| is_it(*slot)) {
                return Some(slot);
            }
        }
        None
    }

    /// The first slot of the place that `is_it` accepts.
    pub(super) fn find(&self, place: Place, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let at_home = self.at_home(place).map(Address::slot).find(|slot| is_it(*slot));
        at_home.or_else(|| self.find_beyond(place, is_it))
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    /// The bucket and the cell of a slot whose hash has this spread.
    fn locate(&self, spread: u32, slot: Slot) -> Option<(usize, usize)> {
        let (mut at, address) = (self.home(spread), Address::of(slot).bits());
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            if let Some(cell) = bucket.holds(address).find(|cell| bucket.tag(*cell) != 0) {
                return Some((at, cell));
            }
            if !bucket.goes_on() {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a slot. There must be room.
    pub(super) fn insert(&self, place: Place, slot: Slot) {
        let mut at = self.home(place.spread);
        loop {
            let bucket = &self.buckets[at];
            if let Some(cell) = bucket.cells(0).next() {
                bucket.put(cell, place.tag, slot);
                return;
            }
            // Before the slot is in place further on: a reader that misses it now has come too early for it anyway.
            bucket.overflow(true);
            at = self.next(at);
        }
    }

    /// Puts another slot where `old` is. A reader sees the one or the other.
    pub(super) fn replace(&self, place: Place, old: Slot, new: Slot) {
        let (home, old, new) = (self.home(place.spread), Address::of(old), Address::of(new).bits());
        let mut at = home;
        loop {
            let bucket = &self.buckets[at];
            if let Some(cell) = bucket.cells(place.tag).find(|cell| bucket.address(*cell) == old) {
                return bucket.slots[cell].store(new, Ordering::Release);
            }
            at = self.next(at);
            if !bucket.goes_on() || at == home {
                debug_assert!(false, "the slot to be replaced is in the index");
                return;
            }
        }
    }

    /// How many buckets there are; see [`slots_in`](Self::slots_in).
    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The slots in one bucket. For whoever holds the shard's lock.
    pub(super) fn slots_in(&self, bucket: usize) -> impl Iterator<Item = Slot> {
        let bucket = &self.buckets[bucket];
        (0..CELLS).filter(|cell| bucket.tag(*cell) != 0).map(|cell| bucket.slot(cell))
    }

    /// Takes a slot out. `false` if it is not there.
    pub(super) fn remove(&self, spread: u32, slot: Slot) -> bool {
        let Some((found, cell)) = self.locate(spread, slot) else { return false };
        self.buckets[found].set_tag(cell, 0);
        let mut at = self.home(spread);
        while at != found {
            self.buckets[at].overflow(false);
            at = self.next(at);
        }
        true
    }

    /// Another index with all of this one's slots. The hash's 32 bits of each are asked for.
    pub(super) fn grown(&self, room: usize, spread: impl Fn(Slot) -> u32) -> Self {
        let grown = Self::new(room);
        for (tag, slot) in self.iter() {
            grown.insert(Place::new(spread(slot), tag), slot);
        }
        grown
    }

    /// All slots with their tags.
    fn iter(&self) -> impl Iterator<Item = (u8, Slot)> {
        let cells = self.buckets.iter().flat_map(|bucket| (0..CELLS).map(move |cell| (bucket.tag(cell), bucket.slot(cell))));
        cells.filter(|(tag, _)| *tag != 0)
    }
}
