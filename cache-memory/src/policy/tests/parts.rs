//! What the policies are made of.

use super::mix;
use crate::policy::boundary::Boundary;
use crate::policy::coldest::Coldest;
use crate::policy::history::{History, Trace};
use crate::policy::lists::Lists;
use crate::policy::renewal::{Renewal, Verdict};
use crate::policy::usage::Usage;
use proptest::prelude::*;
use std::collections::VecDeque;

proptest! {
    #[test]
    fn lists_hold_what_queues_would(steps in prop::collection::vec((0..5_u8, 0..20_u32, 0..3_u32), 1..300)) {
        let mut lists = Lists::new(3);
        let mut queues: [VecDeque<u32>; 3] = Default::default();
        (0..20).for_each(|slot| lists.admit(slot, !slot, slot % 32));
        let mut hashes: Vec<u32> = (0..20).map(|slot| !slot).collect();
        let at = |queues: &[VecDeque<u32>; 3], slot| queues.iter().position(|queue| queue.contains(&slot));
        for (step, slot, list) in steps {
            let found = at(&queues, slot);
            match (step, found) {
                (0 | 1, None) => {
                    lists.push(list, slot);
                    queues[list as usize].push_back(slot);
                }
                (2, _) => {
                    lists.unlink(slot);
                    queues = queues.map(|queue| queue.into_iter().filter(|queued| *queued != slot).collect());
                }
                (3, Some(queue)) => {
                    let new = (slot + 1) % 20;
                    if at(&queues, new).is_none() {
                        lists.set_label(new, 31);
                        lists.swap(slot, new, 30);
                        prop_assert_eq!((lists.label(new), lists.label(slot)), (slot % 32, 30));
                        hashes[new as usize] = hashes[slot as usize];
                        lists.set_label(new, new % 32);
                        lists.set_label(slot, slot % 32);
                        queues[queue].iter_mut().filter(|queued| **queued == slot).for_each(|queued| *queued = new);
                    }
                }
                (4, _) if list != 0 => {
                    lists.prepend(list, 0);
                    let mut moved = std::mem::take(&mut queues[list as usize]);
                    moved.append(&mut queues[0]);
                    queues[0] = moved;
                }
                _ => {}
            }
            for (list, queue) in queues.iter().enumerate() {
                prop_assert_eq!(&lists.iter(list as u32).collect::<VecDeque<_>>(), queue);
                prop_assert_eq!(lists.first(list as u32), queue.front().copied());
            }
            prop_assert!((0..20).all(|slot| lists.label(slot) == slot % 32), "labels stay");
            prop_assert!((0..20).all(|slot| lists.hash(slot) == hashes[slot as usize]), "hashes stay, and go with who takes a place");
        }
    }
}

#[test]
fn a_use_counts_once_a_pulse_and_up_to_three() {
    let unused = Usage::new(7);
    assert_eq!((unused.uses(), unused.age(7), unused.touched(7)), (0, 0, None));
    let mut usage = unused;
    for (pulse, uses) in [(8, 1), (9, 2), (10, 3), (11, 3)] {
        usage = usage.touched(pulse).expect("a new pulse");
        assert_eq!((usage.uses(), usage.age(pulse + 5), usage.touched(pulse)), (uses, 5, None));
    }
}

#[test]
fn an_old_mark_does_not_look_young_when_the_time_wraps() {
    let (wrap, mut usage) = (1 << 14, Usage::new(0).touched(1).unwrap());
    for now in (1..3 * wrap).step_by(64) {
        usage = usage.kept_old(now).unwrap_or(usage);
        assert_eq!((usage.age(now), usage.uses()), ((now - 1).min(wrap / 2), 1));
    }
}

#[test]
fn a_trace_tells_times_and_that_a_long_one_is_long() {
    for now in [0, 100, 5_000, u32::MAX] {
        let trace = Trace::new(1, true, Usage::new(now.wrapping_sub(10)), now, 30);
        let unused = trace.unused(now.wrapping_add(50)).unwrap();
        assert!((60..68).contains(&unused), "60 pulses, rounded up: {unused}");
        assert_eq!((trace.gone(37), trace.main()), (7, true));
        let trace = Trace::new(1, false, Usage::new(now.wrapping_sub(3_000)), now, 30);
        assert_eq!((trace.unused(now.wrapping_add(100)), trace.main()), (None, false));
    }
}

#[test]
fn history_remembers_somewhat_more_keys_than_there_are_entries() {
    let entries = 10_000;
    let mut history = History::new();
    assert!(history.recall(1).is_none());
    let hash = |key: u64| mix(key) as u32;
    for key in 0..50_000 {
        history.remember(hash(key), Trace::new(hash(key), false, Usage::new(0), 0, 0), entries);
    }
    let mut recalled = |keys: std::ops::Range<u64>| keys.filter(|key| history.recall(hash(*key)).is_some()).count();
    let (recent, earlier, old) = (recalled(40_000..50_000), recalled(30_000..40_000), recalled(0..25_000));
    assert!(recent > 9_000, "{recent} of the last 10,000");
    assert!((4_000..8_000).contains(&earlier), "{earlier} of the 10,000 before");
    assert!(old < 150, "{old} that are long forgotten");
    let again = recalled(40_000..50_000);
    assert!(again < 50, "a recall takes the trace away: {again} again");
}

#[test]
fn a_trace_is_recalled_once_also_from_a_full_bucket() {
    let mut history = History::new();
    // Of few entries there is one bucket. The fingerprints are even.
    for hash in 1..=16 {
        history.remember(2 * hash, Trace::new(2 * hash, false, Usage::new(0), 0, 0), 5);
    }
    let mut recalled = || (1..=16).filter(|hash| history.recall(2 * hash).is_some()).count();
    assert_eq!((recalled(), recalled()), (16, 0));
}

#[test]
fn history_grows_with_the_entries_and_forgets_little_of_it() {
    let mut history = History::new();
    let hash = |key: u64| mix(key) as u32;
    for key in 0..4_000 {
        history.remember(hash(key), Trace::new(hash(key), false, Usage::new(0), 0, 0), 100 + key as u32);
    }
    let recalled = (2_000..4_000).filter(|key| history.recall(hash(*key)).is_some()).count();
    assert!(recalled > 1_200, "{recalled} of the last 2,000 of 4,000");
}

#[test]
fn the_largest_capacity_has_rounds_as_others_have() {
    let mut boundary = Boundary::new(10);
    (0..10).for_each(|_| boundary.missed_by_small(0.0, 1));
    let rounds = boundary.rounds();
    boundary.resize(u64::MAX / 6);
    assert_eq!((boundary.small() > u64::MAX / 8, boundary.rounds()), (true, rounds));
    boundary.resize(u64::MAX);
    assert!((rounds..=3).contains(&boundary.rounds()));
}

#[test]
fn a_boundary_moves_between_one_percent_and_all_but_one() {
    let mut boundary = Boundary::new(1_000);
    assert_eq!((boundary.small(), boundary.rounds()), (100, 3));
    boundary.missed_by_small(0.1, 400);
    assert_eq!((boundary.small(), boundary.rounds()), (500, 1));
    boundary.missed_by_small(0.0, 5_000);
    assert_eq!(boundary.small(), 990);
    boundary.missed_by_main(0.0, 5_000);
    assert_eq!((boundary.small(), boundary.rounds()), (10, 3));
    boundary.missed_by_small(0.0, 190);
    boundary.evicted(false, 256 * 100);
    assert_eq!((boundary.small(), boundary.rounds()), (100, 3));
    boundary.resize(2_000);
    assert_eq!((boundary.small(), boundary.capacity()), (200, 2_000));
    let none = Boundary::new(0);
    assert!(none.small() == 1 && none.rounds() <= 3);
}

#[test]
fn a_later_return_moves_the_boundary_less_and_only_where_both_queues_remember_as_far() {
    let mut boundary = Boundary::new(1_000);
    boundary.missed_by_small(0.5, 100);
    assert_eq!(boundary.small(), 100, "the main queue evicts nothing that could return as late");
    (0..1_000).for_each(|_| boundary.evicted(true, 1));
    boundary.missed_by_small(0.5, 100);
    assert_eq!(boundary.small(), 125);
    boundary.missed_by_main(1.0, 120);
    assert_eq!(boundary.small(), 110);
}

#[test]
fn the_coldest_age_is_one_that_few_entries_exceed_also_after_a_change() {
    let mut coldest = Coldest::new();
    for generation in [64, 640, 64] {
        (0..20_000).for_each(|at| coldest.met(mix(at) as u32 % generation));
        let (half, all) = (generation / 2, generation);
        assert!(coldest.is_colder_than(half + half / 2) && !coldest.is_colder_than(all), "{coldest:?} of ages up to {all}");
    }
    // Where all are used at the same time, none is colder than they are.
    (0..20_000).for_each(|_| coldest.met(7));
    assert!(coldest.is_colder_than(6) && !coldest.is_colder_than(8));
}

#[test]
fn a_newcomer_that_wins_lets_others_in_and_a_stale_key_that_returns_keeps_them_out() {
    let entries = 1_000;
    let mut renewal = Renewal::new();
    let judge = |renewal: &mut Renewal, times: usize| {
        let verdicts: Vec<_> = (0..times).map(|_| renewal.judge(entries)).collect();
        (verdicts.iter().filter(|verdict| **verdict == Verdict::Try).count(), verdicts.contains(&Verdict::Replace))
    };
    let (tried, replaced) = judge(&mut renewal, 10_000);
    assert!((50..200).contains(&tried) && !replaced, "without evidence there are only {tried} duels");

    renewal.begin(5, 77);
    renewal.begin(6, 78);
    assert_eq!((renewal.end(79), renewal.end(77), renewal.end(77)), (None, Some(5), None));
    renewal.lost(entries);
    renewal.won(6, entries);
    assert!(!judge(&mut renewal, 1_000).1, "one lost and one won make nothing");
    renewal.won(6, entries);
    assert!(!judge(&mut renewal, 1_000).1, "a duel is won once");
    renewal.begin(7, 80);
    renewal.won(7, entries);
    assert!(judge(&mut renewal, 1_000).1, "one more won lets newcomers in");

    (0..1_000).for_each(|_| renewal.lost(entries));
    for duel in 0..9 {
        renewal.begin(duel, duel);
        renewal.won(duel, entries);
        assert_eq!(judge(&mut renewal, 200).1, duel == 8, "of many that were lost eight are remembered");
    }
}
