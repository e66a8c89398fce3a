//! A suspicion that comes round to the number that an entry has.

use super::{LocalTier, MemoryTier, NOW, Partition, endless};
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
