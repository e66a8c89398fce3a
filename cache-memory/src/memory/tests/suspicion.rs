//! A suspicion that comes round to the number that an entry has.

use super::{Cause, LocalTier, MemoryTier, NOW, Partition, Terms, endless};
use std::sync::{Arc, Weak};

/// A key that acts when it is compared, where it is the one stored.
struct Acts(u64, Option<Box<dyn Fn() + Send + Sync>>);

impl PartialEq for Acts {
    fn eq(&self, other: &Self) -> bool {
        self.1.iter().for_each(|act| act());
        self.0 == other.0
    }
}

impl Eq for Acts {}

impl std::hash::Hash for Acts {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

type Tier = MemoryTier<Acts, u64>;

fn suspect(tier: &Tier, times: usize) {
    (0..times).for_each(|_| tier.suspect(Partition::default()));
}

/// Whether the tier has the key, and says so without a doubt.
fn trusts(tier: &Tier, key: u64) -> bool {
    tier.with(7, &Acts(key, None), NOW, |local| !local.suspect).unwrap_or(false)
}

#[test]
fn an_entry_that_came_while_a_suspicion_cleared_the_tier_is_never_trusted_again() {
    for before in 0..=255 {
        let tier = Arc::new(Tier::builder(100).shards(1).build());
        suspect(&tier, before);
        let behind: Weak<Tier> = Arc::downgrade(&tier);
        // An insert that has looked at the epoch compares its key with this one, and meanwhile comes a suspicion.
        tier.insert(7, Acts(1, Some(Box::new(move || suspect(&behind.upgrade().unwrap(), 1)))), 1, &endless(), NOW, &|| true);
        assert!(tier.insert(7, Acts(2, None), 2, &endless(), NOW, &|| true));
        tier.remove(7, &Acts(1, None), None, &|| ());
        for later in 0..600 {
            assert!(!trusts(&tier, 2), "stored as of suspicion {before}, and trusted {later} after it came");
            suspect(&tier, 1);
        }
    }
}

fn hash(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A partition's, so that there is something to suspect.
fn store(tier: &MemoryTier<u64, u64>, key: u64, partition: u8) {
    let terms = Terms { partition: Partition::from_index(partition), ..endless() };
    assert!(tier.insert(hash(key), key, key, &terms, NOW, &|| true));
}

fn trusted(tier: &MemoryTier<u64, u64>, keys: std::ops::Range<u64>) -> usize {
    keys.filter(|key| tier.with(hash(*key), key, NOW, |local| !local.suspect) == Some(true)).count()
}

/// A walk takes out what has been suspect for long, of whatever partition, and nothing else.
#[test]
fn however_often_one_partition_is_suspected_the_others_stay() {
    let tier = MemoryTier::builder(100_000).shards(4).build();
    let spread = |key: u64| (key % 256) as u8;
    (0..50_000).for_each(|key| store(&tier, key, spread(key)));
    tier.suspect(Partition::from_index(9));
    let others = 50_000 - (0..50_000).filter(|key| spread(*key) == 9).count();
    let late = 60_000..60_010;
    for round in 0..2_000 {
        store(&tier, 50_000 + round % 7, 3);
        tier.suspect(Partition::from_index(3));
        if round % 100 == 0 {
            let of_three = (0..50_000).filter(|key| spread(*key) == 3).count();
            assert_eq!(trusted(&tier, 0..50_000), others - of_three, "after {round} suspicions");
        }
        if round == 1_990 {
            late.clone().for_each(|key| store(&tier, key, 3));
        }
    }
    assert_eq!(
        tier.len(),
        50_000 - 196 + 7 + 10,
        "what was suspected 2,000 times is gone, what was a few times is not: it may be asked about"
    );
}

/// Of which nobody has stored anything since the last one.
#[test]
fn to_suspect_a_partition_that_has_nothing_takes_nothing_out() {
    let tier = MemoryTier::builder(1_000).shards(1).build();
    store(&tier, 1, 3);
    for _ in 0..10_000 {
        tier.suspect(Partition::from_index(3));
        tier.suspect(Partition::from_index(4));
    }
    assert_eq!(tier.with(hash(1), &1, NOW, |local| local.suspect), Some(true), "suspected once, to its knowledge");
}

/// An insert that looks at the epoch, and comes to store under it after hundreds of suspicions, each with something to suspect.
#[test]
fn an_insert_that_stands_still_for_any_number_of_suspicions_is_suspect() {
    for suspicions in [1, 31, 32, 127, 128, 129, 191, 192, 193, 255, 256, 257, 512] {
        let tier = Arc::new(Tier::builder(100).shards(1).build());
        let behind: Weak<Tier> = Arc::downgrade(&tier);
        let meanwhile = move || {
            let tier = behind.upgrade().unwrap();
            for _ in 0..suspicions {
                assert!(tier.insert(1 << 20, Acts(9, None), 9, &endless(), NOW, &|| true));
                suspect(&tier, 1);
            }
        };
        tier.insert(7, Acts(1, Some(Box::new(meanwhile))), 1, &endless(), NOW, &|| true);
        assert!(tier.insert(7, Acts(2, None), 2, &endless(), NOW, &|| true));
        tier.remove(7, &Acts(1, None), None, &|| ());
        for later in 0..600 {
            assert!(!trusts(&tier, 2), "{suspicions} meanwhile, {later} after");
            tier.insert(1 << 20, Acts(9, None), 9, &endless(), NOW, &|| true);
            suspect(&tier, 1);
        }
    }
}

/// A listener that stores and suspects while a walk tells it of what it takes out. Neither waits for the other, and nothing is trusted again.
#[test]
fn whoever_is_told_of_a_walk_may_suspect_too() {
    let behind: Arc<std::sync::OnceLock<Weak<MemoryTier<u64, u64>>>> = Arc::default();
    let told = behind.clone();
    let listener = move |key: &u64, _: &u64, cause| {
        if let (Some(tier), Cause::Removed) = (told.get().and_then(Weak::upgrade), cause) {
            for more in 0..3 {
                store(&tier, 100_000 + (key + more) % 5, 3);
                tier.suspect(Partition::from_index(3));
            }
        }
    };
    let tier = Arc::new(MemoryTier::builder(1_000_000).shards(2).listener(listener).build());
    behind.set(Arc::downgrade(&tier)).unwrap();
    (0..2_000).for_each(|key| store(&tier, key, 3));
    for round in 0..400 {
        store(&tier, 5_000, 3);
        tier.suspect(Partition::from_index(3));
        assert_eq!(trusted(&tier, 0..2_000), 0, "round {round}");
    }
}
