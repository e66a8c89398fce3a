//! Every order of a few steps of readers and writers, tried by loom; see [`crate::sync`].
//!
//! A node that is freed is written here, so that a reader that may still be in it is a race, which loom reports.

use super::Grace;
use crate::sync::{AtomicU32, Ordering, explore};
use loom::cell::UnsafeCell;
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const NOTHING: u32 = u32::MAX;
const FREED: u64 = u64::MAX;

/// Nodes behind a link each.
struct Place<const N: usize> {
    links: [AtomicU32; N],
    nodes: [UnsafeCell<u64>; N],
}

impl<const N: usize> Place<N> {
    fn new() -> Arc<Self> {
        let links = std::array::from_fn(|node| AtomicU32::new(node as u32));
        Arc::new(Self { links, nodes: std::array::from_fn(|node| UnsafeCell::new(node as u64)) })
    }

    /// What a reader in a region does.
    fn read(&self, link: usize) {
        let node = self.links[link].load(Ordering::Acquire);
        if node != NOTHING {
            // SAFETY: loom proves that nobody writes it meanwhile, or panics.
            let value = self.nodes[node as usize].with(|value| unsafe { *value });
            assert_eq!(value, u64::from(node), "a freed node was read");
        }
    }

    /// Takes a node out, as stamped.
    fn unlink(&self, link: usize) -> u64 {
        self.links[link].store(NOTHING, Ordering::Release);
        Grace::global().stamp()
    }

    fn free_if_over(&self, link: usize, stamp: u64) -> bool {
        let over = Grace::global().is_over(stamp);
        if over {
            // SAFETY: as in `read`.
            self.nodes[link].with_mut(|value| unsafe { *value = FREED });
        }
        over
    }
}

// SAFETY: loom's cells are for sharing; that is what they check.
unsafe impl<const N: usize> Sync for Place<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Send for Place<N> {}

fn reader<const N: usize>(place: &Arc<Place<N>>, read: impl FnOnce(&Place<N>) + 'static) -> thread::JoinHandle<()> {
    let place = place.clone();
    thread::spawn(move || read(&place))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_node_is_freed_after_its_readers() {
    explore(None, || {
        let place = Place::<1>::new();
        let reads = reader(&place, |place| {
            for _ in 0..2 {
                let _region = Grace::global().enter();
                place.read(0);
            }
        });
        let stamp = place.unlink(0);
        for _ in 0..2 {
            Grace::global().advance();
            if place.free_if_over(0, stamp) {
                break;
            }
        }
        join([reads]);
    });
}

#[test]
fn a_reader_that_enters_while_another_thread_advances_does_not_see_what_was_unlinked_before() {
    explore(None, || {
        let place = Place::<1>::new();
        let reads = reader(&place, |place| {
            let _region = Grace::global().enter();
            place.read(0);
        });
        let advances = thread::spawn(|| Grace::global().advance());
        let stamp = place.unlink(0);
        place.free_if_over(0, stamp);
        join([reads, advances]);
    });
}

#[test]
fn the_outermost_region_counts() {
    explore(None, || {
        let place = Place::<1>::new();
        let reads = reader(&place, |place| {
            let _outer = Grace::global().enter();
            drop(Grace::global().enter());
            place.read(0);
        });
        let stamp = place.unlink(0);
        Grace::global().advance();
        place.free_if_over(0, stamp);
        join([reads]);
    });
}

#[test]
fn two_writers_advance_at_once() {
    explore(Some(3), || {
        let place = Place::<2>::new();
        let reads = reader(&place, |place| {
            let _region = Grace::global().enter();
            place.read(0);
            place.read(1);
        });
        let writes = |link: usize| {
            move |place: &Place<2>| {
                let stamp = place.unlink(link);
                Grace::global().advance();
                place.free_if_over(link, stamp);
            }
        };
        let other = reader(&place, writes(0));
        writes(1)(&place);
        join([reads, other]);
    });
}

#[test]
fn a_record_passes_to_another_thread() {
    explore(Some(3), || {
        let place = Place::<1>::new();
        let reads = |place: &Place<1>| {
            let _region = Grace::global().enter();
            place.read(0);
        };
        let readers = [reader(&place, reads), reader(&place, reads)];
        let stamp = place.unlink(0);
        Grace::global().advance();
        place.free_if_over(0, stamp);
        join(readers);
    });
}

#[test]
fn a_record_is_had_by_one_thread_at_a_time() {
    explore(Some(3), || {
        // Of the standard library: they add no order. By the records' numbers.
        let had: Arc<[AtomicBool; 3]> = Arc::default();
        let enter = || {
            let had = had.clone();
            thread::spawn(move || {
                let region = Grace::global().enter();
                let record = region.thread();
                assert!(!had[record].swap(true, Ordering::SeqCst), "two threads have one record");
                drop(region);
                had[record].store(false, Ordering::SeqCst);
            })
        };
        // It leaves a record that is free, and the next two ask for it at once.
        join([enter()]);
        join([enter(), enter()]);
    });
}

/// As above, of threads that have one for a region only, beside one that keeps it.
#[test]
fn a_lent_record_is_had_by_one_thread_at_a_time() {
    explore(Some(3), || {
        // What goes with a record: written by whoever has it, and by nobody at the same time.
        let place = Place::<3>::new();
        let enter = |lent: bool| {
            let place = place.clone();
            thread::spawn(move || {
                let region = if lent { Grace::global().borrow() } else { Grace::global().enter() };
                // SAFETY: loom proves that nobody else has it, or panics.
                place.nodes[region.thread()].with_mut(|value| unsafe { *value += 1 });
            })
        };
        // They leave one that was lent, and one that was given back.
        join([enter(true)]);
        join([enter(true), enter(false)]);
    });
}

#[test]
fn a_node_is_freed_after_a_reader_with_a_lent_record() {
    explore(Some(3), || {
        let place = Place::<1>::new();
        let reads = |place: &Place<1>| {
            let _region = Grace::global().borrow();
            place.read(0);
        };
        let readers = [reader(&place, reads), reader(&place, reads)];
        let stamp = place.unlink(0);
        Grace::global().advance();
        place.free_if_over(0, stamp);
        join(readers);
    });
}

#[test]
fn what_is_stamped_after_a_reader_entered_waits_for_it() {
    explore(None, || {
        let place = Place::<2>::new();
        let reads = reader(&place, |place| {
            let _region = Grace::global().enter();
            place.read(0);
            place.read(1);
        });
        let first = place.unlink(0);
        Grace::global().advance();
        // Stamped in the next epoch: the reader may be of that one.
        let second = place.unlink(1);
        place.free_if_over(0, first);
        place.free_if_over(1, second);
        Grace::global().advance();
        place.free_if_over(1, second);
        join([reads]);
    });
}

#[test]
fn a_grace_period_ends_when_nobody_is_inside_and_not_before() {
    explore(None, || {
        let grace = Grace::global();
        let region = grace.enter();
        let stamp = grace.stamp();
        thread::spawn(|| Grace::global().advance()).join().unwrap();
        assert!(!grace.is_over(stamp));
        drop(region);
        grace.advance();
        assert!(grace.is_over(stamp));
    });
}
