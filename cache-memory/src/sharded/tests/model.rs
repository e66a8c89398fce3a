//! Against a map: what the tier shows, holds and frees after every step.

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Put { key: u64, life: u64 },
    Refused { key: u64 },
    Get { key: u64 },
    Remove { key: u64, version: Option<u64> },
    Wait(u64),
    Clear,
}

fn steps(keys: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..keys, prop_oneof![1..40_u64, Just(LONG)]).prop_map(|(key, life)| Step::Put { key, life }),
        1 => (0..keys).prop_map(|key| Step::Refused { key }),
        8 => (0..keys).prop_map(|key| Step::Get { key }),
        2 => (0..keys, prop::option::of(0..3_u64)).prop_map(|(key, version)| Step::Remove { key, version }),
        2 => (1..20_u64).prop_map(Step::Wait),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..400)
}

struct Entry {
    alive: Weak<u64>,
    value: u64,
    last: u64,
}

/// Runs the steps on a tier and on a map that never evicts. `hash` may send many keys to one hash.
fn agree(capacity: u64, steps: Vec<Step>, hash: impl Fn(u64) -> u64) {
    let tier = MemoryTier::<u64, Arc<u64>>::new(capacity);
    let mut map: HashMap<u64, Entry> = HashMap::new();
    // Values that were replaced, removed or cleared: they must be free at once.
    let mut now = 1;
    for (count, step) in (0_u64..).zip(steps) {
        let evictions = LocalTier::<u64, _>::evictions(&tier);
        match step {
            Step::Put { key, life } => {
                let value = Arc::new(count);
                let stamp = Stamp { version: key % 3, created: Moment::from_nanos(now), ..until(now.saturating_add(life)) };
                assert!(tier.insert(hash(key), key, value.clone(), stamp, &|| true));
                let entry = Entry { alive: Arc::downgrade(&value), value: count, last: stamp.last.as_nanos() };
                drop(value);
                if let Some(old) = map.insert(key, entry) {
                    assert_eq!(old.alive.strong_count(), 0, "a replaced value is freed");
                }
                let found = tier.get(hash(key), &key, Moment::from_nanos(now));
                assert_eq!(found.map(|local| *local.value), Some(count), "what was just inserted is found");
            }
            Step::Refused { key } => {
                let before = tier.get(hash(key), &key, Moment::from_nanos(now));
                assert!(!tier.insert(hash(key), key, Arc::new(count), until(LONG), &|| false));
                assert_eq!(tier.get(hash(key), &key, Moment::from_nanos(now)), before, "a refused insert changes nothing");
            }
            Step::Get { key } => {
                let found = tier.get(hash(key), &key, Moment::from_nanos(now)).map(|local| *local.value);
                let expected = map.get(&key).filter(|entry| now < entry.last && entry.alive.strong_count() > 0);
                assert_eq!(found, expected.map(|entry| entry.value), "a get finds what is held and not expired");
            }
            Step::Remove { key, version } => {
                let held = map.get(&key).is_some_and(|entry| entry.alive.strong_count() > 0);
                let older = version.is_none_or(|version| key % 3 < version);
                assert_eq!(tier.remove(hash(key), &key, version), held && older);
                if held && older {
                    assert_eq!(map.remove(&key).unwrap().alive.strong_count(), 0, "a removed value is freed");
                }
            }
            Step::Wait(nanos) => now += nanos,
            Step::Clear => {
                tier.clear();
                assert!(map.drain().all(|(_, entry)| entry.alive.strong_count() == 0), "cleared values are freed");
            }
        }
        tier.check();
        assert!(len(&tier) <= capacity);
        let evicted = LocalTier::<u64, _>::evictions(&tier) - evictions;
        let before = map.len() as u64;
        // Who left by itself was evicted, one at a time and for room, or had expired.
        map.retain(|_, entry| entry.alive.strong_count() > 0 || now < entry.last);
        let vanished = map.iter().filter(|(_, entry)| entry.alive.strong_count() == 0).count() as u64;
        assert!(vanished <= evicted && evicted <= 1, "{vanished} of {before} live entries vanished, {evicted} evicted");
        map.retain(|_, entry| entry.alive.strong_count() > 0);
        assert_eq!(len(&tier), map.len() as u64, "len is exact");
    }
    drop(tier);
    assert!(map.values().all(|entry| entry.alive.strong_count() == 0), "values are dropped with the tier");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_map_while_evicting(capacity in 1..40_u64, steps in steps(60)) {
        agree(capacity, steps, hash);
    }

    #[test]
    fn agrees_with_a_map_when_every_hash_is_the_same(capacity in 1..20_u64, steps in steps(15)) {
        agree(capacity, steps, |_| 7);
    }

    #[test]
    fn agrees_with_a_map_when_hashes_share_the_half_that_the_index_keeps(capacity in 1..20_u64, steps in steps(15)) {
        agree(capacity, steps, |key| (key % 5) << 40 | 7);
    }
}

#[test]
fn shards_hold_the_capacity_together_and_no_more() {
    for capacity in (1..300).chain([511, 512, 1_023, 1_024, 1_025, 5_000, 32_767, 32_768, 65_537]) {
        let tier = MemoryTier::<u64, ()>::new(capacity);
        let shares: Vec<_> = tier.shards.iter().map(|shard| u64::from(shard.read().capacity())).collect();
        assert_eq!(shares.iter().sum::<u64>(), capacity);
        assert!(capacity < 2 * FEWEST_PER_SHARD || shares.iter().all(|share| *share >= FEWEST_PER_SHARD));
    }
}

#[test]
fn the_bound_holds_at_every_insert_and_evictions_make_up_the_difference() {
    let tier = MemoryTier::new(3_000);
    for key in 0..10_000 {
        assert!(put(&tier, key, key));
        assert!(len(&tier) <= 3_000);
    }
    assert_eq!(len(&tier) + LocalTier::<u64, u64>::evictions(&tier), 10_000);
    assert!(len(&tier) >= 2_990, "every shard is full: {}", len(&tier));
}

#[test]
fn a_tier_of_the_largest_capacity_takes_no_memory_for_it() {
    let tier = MemoryTier::new(u64::MAX);
    assert!(put(&tier, 1, 1) && read(&tier, 1) == Some(1));
    assert_eq!(LocalTier::<u64, u64>::capacity(&tier), Some(u64::MAX));
}

#[test]
fn a_tier_of_no_capacity_stores_nothing() {
    let tier = MemoryTier::new(0);
    assert!(!put(&tier, 1, 1));
    assert_eq!((read(&tier, 1), len(&tier), LocalTier::<u64, u64>::capacity(&tier)), (None, 0, Some(0)));
}

#[test]
fn expired_entries_are_freed_by_inserts_without_being_read() {
    let tier = MemoryTier::new(10_000);
    let value = Arc::new(());
    for key in 0..1_000 {
        assert!(tier.insert(hash(key), key, value.clone(), until(100), &|| true));
    }
    assert_eq!(Arc::strong_count(&value), 1_001);
    // The dead are found a few at each insert: all of them once the inserts have looked at every place of every shard.
    for key in 1_000..1_800 {
        let stamp = Stamp { created: Moment::from_nanos(100), ..until(LONG) };
        assert!(tier.insert(hash(key), key, Arc::new(()), stamp, &|| true));
    }
    assert_eq!((Arc::strong_count(&value), len(&tier)), (1, 800));
    assert_eq!(LocalTier::<u64, Arc<()>>::evictions(&tier), 0, "nobody had to make room");
}

#[test]
fn the_time_of_a_miss_counts_when_fills_bring_old_stamps() {
    let tier = MemoryTier::new(100);
    let value = Arc::new(());
    assert!(tier.insert(hash(0), 0, value.clone(), until(100), &|| true));
    // A fill from a second level: made long before it is stored.
    let fill = |key| tier.insert(hash(key), key, Arc::new(()), until(LONG), &|| true);
    assert!(fill(1));
    assert_eq!(Arc::strong_count(&value), 2, "nothing says yet that it is over");
    assert_eq!(tier.get(hash(2), &2, Moment::from_nanos(100)), None);
    assert!(fill(2));
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn keys_read_twice_survive_a_scan() {
    let tier = MemoryTier::new(500);
    for key in 0..100 {
        put(&tier, key, key);
        assert!((0..2).all(|_| read(&tier, key) == Some(key)));
    }
    for key in 1_000..10_000 {
        put(&tier, key, key);
    }
    assert_eq!((0..100).filter(|key| read(&tier, *key).is_some()).count(), 100);
}

#[test]
fn a_web_trace_hits_as_often_in_shards() {
    let trace = web07();
    let distinct = trace.iter().collect::<std::collections::HashSet<_>>().len() as u64;
    for (share, least) in [(10, 57.5), (100, 43.0)] {
        let tier = MemoryTier::new(distinct / share);
        let hits = trace.iter().filter(|key| read(&tier, **key).is_some() || !put(&tier, **key, ())).count();
        let ratio = 100.0 * hits as f64 / trace.len() as f64;
        assert!(ratio >= least, "{ratio:.2} at a capacity of 1 in {share} keys");
    }
}

#[test]
fn blind_writes_count_as_uses() {
    let tier = MemoryTier::new(500);
    (0..3).for_each(|_| (0..100).for_each(|key| assert!(put(&tier, key, key))));
    (1_000..10_000).for_each(|key| assert!(put(&tier, key, key)));
    assert_eq!((0..100).filter(|key| read(&tier, *key).is_some()).count(), 100);
}
