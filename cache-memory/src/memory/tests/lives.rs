//! Ends of lives, idleness, weights, suspicion.

use super::census::Census;
use super::{
    Cause, Duration, LocalTier, MemoryTier, Moment, NOW, POLICIES, Partition, Stamp, TICK, Terms, after, endless, hash, put,
    read, take, until,
};
use std::sync::{Arc, Mutex};

fn put_on(tier: &MemoryTier<u64, u64>, key: u64, terms: &Terms, now: Moment) {
    assert!(tier.insert(hash(key), key, key, terms, now, &|| true));
}

fn lives(tier: &MemoryTier<u64, u64>, key: u64, now: Moment) -> bool {
    let terms = tier.terms(hash(key), &key, now).is_some();
    assert_eq!(terms, tier.holds(hash(key), &key, now));
    terms
}

#[test]
fn a_life_ends_at_its_tick() {
    let tier = MemoryTier::new(100);
    for ticks in [1, 2, 1_000, 1 << 30, (1 << 38) - 1] {
        put_on(&tier, ticks, &until(after(ticks)), NOW);
        let end = after(ticks);
        assert!(lives(&tier, ticks, end.before(Duration::from_nanos(1))) && !lives(&tier, ticks, end));
    }
}

#[test]
fn a_life_out_of_the_range_of_ticks_is_as_long_as_fits() {
    let tier = MemoryTier::new(100);
    let far = NOW.after(Duration::from_secs(20 * 365 * 86_400));
    put_on(&tier, 1, &until(far), NOW);
    assert!(lives(&tier, 1, after((1 << 38) - 2)) && !lives(&tier, 1, far));
    put_on(&tier, 2, &until(Moment::from_nanos(0)), NOW);
    assert!(!lives(&tier, 2, NOW));
    let endless = Moment::NEVER;
    put_on(&tier, 3, &until(endless), NOW);
    assert!(lives(&tier, 3, far) && lives(&tier, 3, endless.before(Duration::from_nanos(1))));
}

#[test]
fn an_entry_that_comes_past_its_end_is_never_read() {
    let tier = MemoryTier::new(100);
    put_on(&tier, 1, &until(after(1)), after(1));
    assert!(!lives(&tier, 1, after(1)) && read(&tier, 1).is_some(), "but for a reader whose time is before");
    tier.sweep(after(1));
    assert_eq!(tier.len(), 0);
}

#[test]
fn an_idle_entry_ends_to_the_nanosecond_after_its_last_read() {
    let tier = MemoryTier::new(100);
    let idle = Duration::from_nanos(1_000_003);
    let terms = Terms { idle: Some(idle), ..endless() };
    let short = Duration::from_nanos(1);
    put_on(&tier, 1, &terms, NOW);
    let read_at = NOW.after(idle).before(short);
    assert!(lives(&tier, 1, read_at));
    assert!(lives(&tier, 1, NOW), "a reader that was overtaken, which takes nothing from it");
    let end = read_at.after(idle);
    assert!(tier.holds(hash(1), &1, end.before(short)), "not a read itself");
    assert!(!lives(&tier, 1, end));
    for key in [2, 3] {
        put_on(&tier, key, &Terms { idle: Some([Duration::ZERO, Duration::MAX][key as usize - 2]), ..endless() }, NOW);
    }
    assert!(lives(&tier, 2, NOW) && !lives(&tier, 2, NOW.after(short)), "no time at all is the shortest there is");
    assert!(lives(&tier, 3, NOW.after(Duration::from_secs(1 << 32))));
}

#[test]
fn idleness_of_one_entry_is_not_its_neighbours_nor_its_successors() {
    let tier = MemoryTier::builder(100).shards(1).build();
    let idle = Terms { idle: Some(Duration::from_nanos(TICK)), version: 9, ..endless() };
    put_on(&tier, 1, &idle, NOW);
    put_on(&tier, 2, &endless(), NOW);
    assert!(lives(&tier, 2, after(9)), "in the same chunk, with nothing beside its node");
    assert_eq!(tier.terms(hash(2), &2, NOW).unwrap().version, 0);
    let plain = endless();
    // The slots are used again, several times over.
    for round in 0..if cfg!(miri) { 40 } else { 500 } {
        put_on(&tier, 1, if round % 2 == 0 { &idle } else { &plain }, NOW);
        let version = tier.terms(hash(1), &1, NOW).unwrap().version;
        assert_eq!(version, if round % 2 == 0 { 9 } else { 0 });
    }
    assert!(lives(&tier, 1, after(9)));
}

#[test]
fn idle_and_expired_entries_are_told_of_by_inserts_without_being_read() {
    let half = if cfg!(miri) { 10 } else { 500 };
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = events.clone();
    let listener = move |key: &u64, _: &u64, cause| told.lock().unwrap().push((*key, cause));
    let tier = MemoryTier::builder(10_000).shards(1).listener(listener).build();
    for key in 0..half {
        put_on(&tier, key, &until(after(5)), NOW);
        put_on(&tier, half + key, &Terms { idle: Some(Duration::from_nanos(5 * TICK)), ..endless() }, NOW);
    }
    // Half as many inserts as there are slots look at each, and the slots that they take themselves.
    for key in 0..2 * half {
        put_on(&tier, 2 * half + key, &until(after(100)), after(5));
    }
    let mut events = std::mem::take(&mut *events.lock().unwrap());
    events.sort_unstable_by_key(|event| event.0);
    assert_eq!(events, (0..2 * half).map(|key| (key, Cause::Expired)).collect::<Vec<_>>());
    assert_eq!((tier.len(), tier.evictions()), (2 * half, 0), "nobody had to make room");
}

#[test]
fn what_has_ended_and_must_make_room_is_told_of_as_expired_and_is_no_eviction() {
    for kind in POLICIES {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = events.clone();
        let listener = move |key: &u64, _: &u64, cause| told.lock().unwrap().push((*key, cause));
        // So heavy that one makes all the others go, before anyone has met them.
        let weigher = |key: &u64, _: &u64| if *key == 99 { 20 } else { 1 };
        let tier = MemoryTier::builder(20).shards(1).policy(kind).weigher(weigher).listener(listener).build();
        let idle = Terms { idle: Some(Duration::from_nanos(5 * TICK)), ..endless() };
        (0..20).for_each(|key| put_on(&tier, key, &[until(after(5)), endless(), idle][key as usize % 3], NOW));
        put_on(&tier, 99, &endless(), after(5));
        let mut events = std::mem::take(&mut *events.lock().unwrap());
        events.sort_unstable_by_key(|event| event.0);
        let cause = |key| if key % 3 == 1 { Cause::Size } else { Cause::Expired };
        assert_eq!(events, (0..20).map(|key| (key, cause(key))).collect::<Vec<_>>());
        assert_eq!((tier.len(), tier.evictions()), (1, 7));
    }
}

#[test]
fn a_sweep_finds_every_expired_entry_of_every_shard() {
    let half = if cfg!(miri) { 10 } else { 1_000 };
    for shards in [1, 4] {
        let tier = MemoryTier::builder(10_000).shards(shards).build();
        (0..2 * half).for_each(|key| put_on(&tier, key, &until(after(1 + key % 2)), NOW));
        tier.sweep(after(1));
        assert_eq!(tier.len(), half);
        tier.sweep(after(2));
        assert_eq!(tier.len(), 0);
    }
}

#[test]
fn a_pinned_entry_is_never_evicted_but_expires_and_is_removed() {
    for kind in POLICIES {
        let builder = MemoryTier::builder(10).shards(1).policy(kind);
        let tier = builder.weigher(|key: &u64, _: &u64| u32::from(*key >= 100)).build();
        put_on(&tier, 1, &until(after(5)), NOW);
        (2..50).for_each(|key| put_on(&tier, key, &endless(), NOW));
        (100..if cfg!(miri) { 110 } else { 1_000 }).for_each(|key| assert!(put(&tier, key, key)));
        tier.resize(0);
        assert_eq!((tier.len(), tier.weight()), (49, 0));
        assert!((1..50).all(|key| lives(&tier, key, NOW)) && !put(&tier, 100, 100));
        tier.sweep(after(5));
        assert!(!lives(&tier, 1, NOW) && take(&tier, 2) && tier.len() == 47);
        tier.check();
    }
}

#[test]
fn a_heavier_value_in_place_of_a_light_one_takes_the_room_of_others() {
    for kind in POLICIES {
        let (all, census) = (if cfg!(miri) { 10 } else { 100 }, Census::default());
        let tier =
            MemoryTier::builder(all).shards(1).policy(kind).weigher(|_: &u64, value: &super::census::Value| value.weight).build();
        (0..all).for_each(|key| assert!(put(&tier, key, census.value(key, 1))));
        for key in 0..all {
            assert!(put(&tier, key, census.value(key, 1 + key as u32)));
            assert!(tier.weight() <= all);
            tier.check();
        }
        assert!(tier.evictions() > all * 9 / 10);
    }
}

#[test]
fn a_suspicion_reaches_what_is_there_however_often_it_comes() {
    let tier = MemoryTier::new(100);
    let partition = Partition::from_index(3);
    let suspect = |key: u64| tier.with(hash(key), &key, NOW, |local| local.suspect);
    for round in 0..if cfg!(miri) { 5 } else { 600 } {
        put_on(&tier, 2, &Terms { partition, ..endless() }, NOW);
        assert_eq!(suspect(2), Some(false), "round {round}: it came after");
        tier.suspect(partition);
        assert_ne!(suspect(2), Some(false), "round {round}");
    }
}

#[test]
fn what_a_stamp_says_is_never_late() {
    let tier = MemoryTier::new(100);
    let stamp = Stamp { created: NOW, soft: after(60_000), hard: after(120_000), last: after(180_000) };
    put_on(&tier, 1, &stamp.into(), NOW);
    let kept = tier.with(hash(1), &1, NOW, |local| local.stamp).unwrap();
    assert!(kept.soft <= stamp.soft && kept.hard <= stamp.hard && kept.created <= stamp.created);
    assert!(kept.soft > after(59_900) && kept.hard > after(119_800) && kept.last == stamp.last);
}
