//! Who goes when there is no room: never the entry that comes.

use super::{LocalTier, MemoryTier, NOW, POLICIES, hash, put, read};

/// Puts keys at random, with weights at random, over and over, where a key is there, or where it is not. How often one was stored and gone at once.
fn lost(kind: crate::Policy, replaced: bool) -> u32 {
    let tier = MemoryTier::<u64, u32>::builder(1_000).shards(1).policy(kind).weigher(|_, weight| *weight).build();
    let (mut lost, mut random) = (0, 1);
    for _ in 0..if cfg!(miri) { 300 } else { 50_000 } {
        random = hash(random);
        let key = random % 300;
        let counts = tier.holds(hash(key), &key, NOW) == replaced;
        let stored = put(&tier, key, 1 + (random >> 32) as u32 % 20);
        lost += u32::from(counts && stored && !tier.holds(hash(key), &key, NOW));
    }
    tier.check();
    lost
}

#[test]
fn what_insert_says_it_stored_is_there_whatever_it_weighs() {
    for kind in POLICIES {
        assert_eq!((lost(kind, false), lost(kind, true)), (0, 0), "{kind:?}: new ones and replaced ones that are gone at once");
    }
}

#[test]
fn a_heavier_value_that_takes_all_the_room_is_stored() {
    for kind in POLICIES {
        let tier = MemoryTier::<u64, u32>::builder(10).shards(1).policy(kind).weigher(|_, weight| *weight).build();
        (0..10).for_each(|key| assert!(put(&tier, key, 1)));
        for key in 0..10 {
            for weight in [2, 9, 10, 3] {
                assert!(put(&tier, key, weight));
                assert_eq!(read(&tier, key), Some(weight), "{kind:?}");
                assert!(tier.weight() <= 10);
                tier.check();
            }
        }
    }
}

#[test]
fn a_shard_that_has_used_all_its_slots_goes_on_to_store() {
    for kind in POLICIES {
        let tier = MemoryTier::<u64, u64>::builder(1_000_000).shards(1).policy(kind).build();
        let most = 3_000;
        tier.shards[0].writer.lock().limit_slots(most);
        let keys = if cfg!(miri) { 4_000 } else { 30_000 };
        for key in 0..keys {
            // Refused only while a reader of another test holds up a thousand slots.
            let stored = (0..1_000_000).any(|_| {
                put(&tier, key, key) || {
                    std::thread::yield_now();
                    false
                }
            });
            assert!(stored && read(&tier, key) == Some(key), "{key} is refused for ever");
            put(&tier, key / 2, key);
        }
        tier.check();
        // How many of the slots have an entry is up to those who read, here and in other tests: what left waits in batches for them.
        assert!((1..=most.into()).contains(&tier.len()), "{} entries in {most} slots", tier.len());
    }
}

#[test]
fn a_shard_whose_slots_a_reader_holds_up_refuses_and_stores_again_when_it_has_left() {
    let tier = MemoryTier::<u64, u64>::builder(1_000_000).shards(1).build();
    tier.shards[0].writer.lock().limit_slots(2_000);
    let other = MemoryTier::<u64, u64>::new(10);
    put(&other, 1, 1);
    let stored = other.with(hash(1), &1, NOW, |_| (0..5_000).filter(|key| put(&tier, *key, 0)).count());
    assert_eq!(stored, Some(2_000), "as many as there are slots");
    tier.check();
    for key in 5_000..1_000_000 {
        if put(&tier, key, 0) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("new keys are refused for ever");
}

#[test]
#[cfg_attr(miri, ignore = "slow, and meets no unsafe code that the others do not")]
fn an_index_has_no_room_for_more_than_there_can_be() {
    for weighted in [false, true] {
        let builder = MemoryTier::<u64, u64>::builder(4_000_000_000).shards(1);
        let tier = if weighted { builder.weigher(|_, _| 2) } else { builder }.build();
        let most = 4_000;
        tier.shards[0].writer.lock().limit_slots(most);
        (0..2_900).for_each(|key| assert!(put(&tier, key, key)));
        let room = tier.shards[0].table(&tier.enter()).index.room();
        // In whole buckets.
        assert!((2_900..=most as usize + 12).contains(&room), "room for {room} in {most} slots");
    }
}
