//! Each key and each value is dropped once, and none is left behind: fault A7, of which `tests/lateness.rs` has how soon.

use super::census::{Census, Value};
use super::{LocalTier, MemoryTier, NOW, POLICIES, endless, hash, panics, put, read, take};

type Tier = MemoryTier<u64, Value>;

/// A unit of how many there are.
const SOME: u64 = if cfg!(miri) { 2 } else { 100 };

fn tier(capacity: u64) -> Tier {
    MemoryTier::builder(capacity).shards(2).build()
}

fn fill(tier: &Tier, census: &Census, keys: std::ops::Range<u64>) {
    keys.for_each(|key| assert!(put(tier, key, census.value(key, 1))));
}

#[test]
fn a7_a_tier_that_is_dropped_leaves_no_key_and_no_value() {
    for kind in POLICIES {
        let census = Census::default();
        let tier = MemoryTier::builder(300).policy(kind).shards(4).build();
        for key in 0..20 * SOME {
            tier.insert(hash(key), census.key(key), census.value(key, 1), &endless(), NOW, &|| true);
            tier.remove(hash(key / 2), &(key / 2), None, &|| ());
        }
        assert!(census.living() >= 2 * tier.len());
        drop(tier);
        assert_eq!(census.living(), 0);
    }
}

#[test]
fn a7_what_was_cleared_goes_with_the_tier_although_nobody_wrote_again() {
    let census = Census::default();
    let tier = tier(1_000);
    for _ in 0..3 {
        fill(&tier, &census, 0..5 * SOME);
        tier.clear();
    }
    assert_eq!(tier.len(), 0);
    drop(tier);
    assert_eq!(census.living(), 0);
}

#[test]
fn a7_what_left_while_a_reader_stayed_goes_with_the_tier() {
    let census = Census::default();
    let tier = tier(1_000);
    let other = MemoryTier::new(10);
    put(&other, 1, 1);
    // A region of any tier holds up the memory of all.
    other.with(hash(1), &1, NOW, |_| {
        fill(&tier, &census, 0..30 * SOME);
        tier.clear();
        fill(&tier, &census, 0..7 * SOME);
        assert_eq!(census.living(), 37 * SOME, "nothing goes that a reader may still see");
        tier.check();
        drop(tier);
    });
    assert_eq!(census.living(), 0);
}

#[test]
fn nothing_is_left_when_other_threads_have_read_and_ended() {
    let census = Census::default();
    let tier = tier(SOME);
    fill(&tier, &census, 0..SOME);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..SOME).for_each(|key| _ = read(&tier, key)));
        }
    });
    fill(&tier, &census, SOME / 2..3 * SOME);
    drop(tier);
    assert_eq!(census.living(), 0);
}

#[test]
fn a7_after_a_burst_of_evictions_a_sweep_leaves_what_is_held() {
    let census = Census::default();
    let tier = tier(5 * SOME);
    fill(&tier, &census, 0..20 * SOME);
    tier.drain(NOW);
    assert_eq!((tier.len(), census.living()), (5 * SOME, 5 * SOME));
    tier.clear();
    tier.drain(NOW);
    assert_eq!((tier.len(), census.living()), (0, 0));
}

#[test]
fn writes_after_a_clear_take_it_apart() {
    let census = Census::default();
    let (capacity, entries, few) = if cfg!(miri) { (1_000, 150, 100) } else { (10_000, 8_000, 1_000) };
    let tier = MemoryTier::builder(capacity).shards(1).build();
    fill(&tier, &census, 0..entries);
    tier.clear();
    for key in 0..1_000_000 {
        put(&tier, key % 16, census.value(0, 1));
        if census.living() < few {
            break;
        }
    }
    tier.check();
    assert!(census.living() < few, "{} live", census.living());
}

#[test]
fn a_value_that_is_read_stays_while_it_is_read() {
    let census = Census::default();
    let tier = tier(10);
    fill(&tier, &census, 0..1);
    let seen = tier.with(hash(0), &0, NOW, |local| {
        assert!(take(&tier, 0) && read(&tier, 0).is_none());
        fill(&tier, &census, 1..10 * SOME);
        tier.sweep(NOW);
        tier.clear();
        tier.sweep(NOW);
        (local.value.id, census.living())
    });
    assert_eq!(seen, Some((0, 10 * SOME)), "none was dropped");
    tier.drain(NOW);
    assert_eq!(census.living(), 0, "and it comes back when the reader has left");
}

#[test]
fn values_whose_drops_panic_are_dropped_once_and_so_are_the_others() {
    let census = Census::default();
    let tier = tier(50);
    let mut panicked = 0;
    for key in 0..20 * SOME {
        let value = census.value(key, 1).loud(key % 3 == 0);
        panicked += u64::from(panics(|| _ = put(&tier, key % 200, value)));
        if key % 7 == 0 {
            panicked += u64::from(panics(|| _ = take(&tier, key / 2 % 200)));
        }
        if (key + 1) % (4 * SOME) == 0 {
            panicked += u64::from(panics(|| tier.clear()));
        }
    }
    tier.check();
    assert!(panicked > 0);
    for _ in 0..SOME {
        panics(|| tier.sweep(NOW));
    }
    tier.check();
    put(&tier, 1, census.value(1, 1).loud(true));
    put(&tier, 2, census.value(2, 1));
    assert!(read(&tier, 2).is_some(), "it is as usable as before");
    assert!(panics(|| drop(tier)), "the panic of a value that was left goes on");
    assert_eq!(census.living(), 0);
}

#[test]
fn a_clear_after_growth_forgets_the_tables_that_were_outgrown() {
    let census = Census::default();
    let tier = MemoryTier::builder(20_000).shards(1).build();
    // The first index has room for 64.
    let sizes = if cfg!(miri) { vec![40, 80] } else { (1..6).map(|round| round * 500).collect() };
    for size in sizes {
        fill(&tier, &census, 0..size);
        assert!((0..size).all(|key| read(&tier, key).is_some()));
        tier.clear();
        tier.check();
    }
    drop(tier);
    assert_eq!(census.living(), 0);
}

#[test]
fn a_table_that_was_outgrown_stays_while_it_is_read_and_no_longer() {
    let (entries, tables) = if cfg!(miri) { (80, 1) } else { (5_000, 2) };
    let tier = MemoryTier::builder(20_000).shards(1).build();
    let outgrown = || tier.shards[0].writer.lock().outgrown();
    put(&tier, 0, 0);
    tier.with(hash(0), &0, NOW, |_| {
        (0..entries).for_each(|key| assert!(put(&tier, key, 0)));
        tier.sweep(NOW);
        assert!(outgrown() >= tables, "{} tables", outgrown());
    });
    for _ in 0..1_000_000 {
        tier.sweep(NOW);
        if outgrown() == 0 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("{} tables are never freed", outgrown());
}
