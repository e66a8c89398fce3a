use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

impl Index {
    /// Panics where a bucket miscounts the keys that have gone on from it. The slots there are.
    pub(in crate::memory) fn check(&self, spread: impl Fn(Slot) -> u32) -> Vec<Slot> {
        let mut passed = vec![0; self.buckets()];
        let mut slots = Vec::new();
        for found in 0..self.buckets() {
            for slot in self.slots_in(found) {
                let mut at = self.home(spread(slot));
                while at != found {
                    passed[at] += 1;
                    at = self.next(at);
                }
                slots.push(slot);
            }
        }
        let counted: Vec<_> = self.buckets.iter().map(|bucket| bucket.last_tags.load(Ordering::Relaxed) >> 32).collect();
        assert_eq!(counted, passed, "each bucket counts who found it full");
        slots
    }
}

/// The spread that has this bucket as home, and is told apart from its neighbours.
fn homed(index: &Index, bucket: usize) -> u32 {
    ((bucket as u64 * (1 << 32)).div_ceil(index.buckets() as u64)) as u32
}

#[test]
#[cfg_attr(miri, ignore = "arithmetic")]
fn it_has_room_for_as_many_as_it_is_made_for() {
    for room in (0..3_000).chain([1 << 16, 1_000_003]) {
        let index = Index::new(room);
        assert!(index.room() >= room && index.room() < room + 2 * CELLS, "{} for {room}", index.room());
        assert!(index.buckets() * CELLS >= index.room());
    }
}

#[test]
fn a_tag_is_found_in_each_cell_and_in_no_other() {
    let (step, crowd) = if cfg!(miri) { (60, 3) } else { (1, 300) };
    for tag in (1..=255).step_by(step) {
        for cell in 0..CELLS {
            let bucket = Bucket::default();
            for other in 0..CELLS {
                // Neighbours by one bit, above and below: where carries would err.
                bucket.put(other, if tag ^ 1 == 0 { 3 } else { tag ^ 1 }, 0);
            }
            bucket.put(cell, tag, 7);
            for _ in 0..crowd {
                bucket.overflow(true);
            }
            let cells = bucket.cells(tag);
            let by_words: Vec<_> = bucket.cells_by_words(tag).collect();
            assert_eq!((cells.collect::<Vec<_>>(), by_words, bucket.goes_on()), (vec![cell], vec![cell], true));
            bucket.set_tag(cell, 0);
            (0..crowd).for_each(|_| bucket.overflow(false));
            assert!(bucket.cells(tag).next().is_none() && bucket.cells_by_words(tag).next().is_none() && !bucket.goes_on());
        }
    }
}

#[test]
fn a_search_goes_on_past_full_buckets_and_round_the_end() {
    let (slots, index) = (if cfg!(miri) { 14 } else { 50 }, Index::new(100));
    let last = homed(&index, index.buckets() - 1);
    let place = Place::new(last, 9);
    for slot in 0..slots {
        index.insert(place, slot);
    }
    index.check(|_| last);
    let mut met = Vec::new();
    assert_eq!(
        index.find(place, |slot| {
            met.push(slot);
            false
        }),
        None
    );
    met.sort_unstable();
    assert_eq!(met, (0..slots).collect::<Vec<_>>(), "each once, through the end of the buckets to their beginning");
    for slot in 0..slots {
        assert!(index.remove(last, slot) && !index.remove(last, slot));
        index.check(|_| last);
    }
    assert!((0..index.buckets()).all(|bucket| !index.buckets[bucket].goes_on()), "removals leave nothing to search past");
}

#[test]
fn a_full_index_of_one_tag_ends_its_searches() {
    let index = Index::new(CELLS + 1);
    let place = Place::new(0, 1);
    let cells = (index.buckets() * CELLS) as Slot;
    (0..cells).for_each(|slot| index.insert(place, slot));
    assert_eq!(index.find(place, |_| false), None);
    assert_eq!(index.find(place, |slot| slot == cells - 1), Some(cells - 1));
    assert!(!index.remove(0, cells));
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32, u8),
    Replace(usize),
    Remove(usize),
    Grow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let spread = prop_oneof![any::<u32>(), Just(7), Just(u32::MAX), 0..3_u32];
    let step = prop_oneof![
        6 => (spread, 0..4_u8).prop_map(|(spread, tag)| Step::Insert(spread, tag)),
        2 => any::<usize>().prop_map(Step::Replace),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => Just(Step::Grow),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 20 } else { 300 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_finds_what_a_map_has(steps in steps()) {
        let mut index = Index::new(12);
        let mut map: HashMap<Slot, Place> = HashMap::new();
        let mut next = 0;
        for step in steps {
            let nth = |n: usize| { let mut slots: Vec<_> = map.keys().copied().collect(); slots.sort_unstable(); slots.get(n % slots.len().max(1)).copied() };
            match step {
                Step::Insert(..) if map.len() >= index.room() => {}
                Step::Insert(spread, tag) => {
                    let place = Place::new(spread, tag);
                    index.insert(place, next);
                    map.insert(next, place);
                    next += 1;
                }
                Step::Replace(n) => if let Some(old) = nth(n) {
                    let place = map.remove(&old).unwrap();
                    index.replace(place, old, next);
                    map.insert(next, place);
                    next += 1;
                },
                Step::Remove(n) => if let Some(slot) = nth(n) {
                    let place = map.remove(&slot).unwrap();
                    prop_assert!(index.remove(place.spread(), slot));
                },
                Step::Grow => index = index.grown(index.room() + 5, |slot| map[&slot].spread()),
            }
            let mut slots = index.check(|slot| map[&slot].spread());
            slots.sort_unstable();
            let mut expected: Vec<_> = map.keys().copied().collect();
            expected.sort_unstable();
            prop_assert_eq!(slots, expected);
            for (slot, place) in &map {
                prop_assert_eq!(index.find(*place, |found| found == *slot), Some(*slot));
                prop_assert!(index.find(*place, |found| map[&found].tag != place.tag).is_none(), "other tags are not looked at");
            }
        }
    }
}
