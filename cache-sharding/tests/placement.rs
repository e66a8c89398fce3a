//! What a change of shards moves, and how even the shares are.

use cache_sharding::{BuildError, Jump, MAX_SHARDS, MAX_WEIGHT, Modulo, Placement, Rendezvous, Ring};
use proptest::prelude::*;

/// Hashes at even distances over the whole range, for placements that cut it into pieces.
fn grid(steps: u64) -> impl Iterator<Item = u64> {
    (0..steps).map(move |n| n * (u64::MAX / steps) + (u64::MAX / steps / 2))
}

/// Hashes as keys have them, the same in every run.
fn hashes(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| cache_sharding::ShardKey::shard_hash(&n))
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("db-{i}.internal"))
}

/// The fraction of keys that move when the list of shards grows by one at its end, checked to move to the new shard only.
fn moved(before: &dyn Placement, after: &dyn Placement) -> f64 {
    let keys = 100_000;
    let mut moved = 0;
    for hash in hashes(keys) {
        let (from, to) = (before.place(hash), after.place(hash));
        if from != to {
            assert_eq!(to.get(), before.shards(), "a key moved between shards that stayed");
            moved += 1;
        }
    }
    f64::from(moved) / keys as f64
}

fn assert_a_joining_shard_takes_its_part_only(placement: impl Fn(usize) -> Box<dyn Placement>) {
    for shards in [1, 2, 3, 4, 7, 10, 16, 40] {
        let ideal = 1.0 / (shards + 1) as f64;
        let moved = moved(&placement(shards), &placement(shards + 1));
        assert!((moved - ideal).abs() < 0.01, "{moved} of the keys moved from {shards} shards to one more, ideal is {ideal}");
    }
}

#[test]
fn a_shard_that_joins_jump_takes_its_part_only() {
    assert_a_joining_shard_takes_its_part_only(|shards| Box::new(Jump::new(shards).unwrap()));
}

#[test]
fn a_shard_that_joins_rendezvous_takes_its_part_only() {
    assert_a_joining_shard_takes_its_part_only(|shards| Box::new(Rendezvous::new(names(shards)).unwrap()));
}

#[test]
fn a_shard_that_joins_a_ring_takes_its_part_only() {
    assert_a_joining_shard_takes_its_part_only(|shards| Box::new(Ring::new(names(shards)).unwrap()));
}

#[test]
fn a_shard_that_joins_modulo_moves_all_but_one_key_in_n() {
    let (before, after) = (Modulo::new(16).unwrap(), Modulo::new(17).unwrap());
    let keys = 100_000;
    let moved = hashes(keys).filter(|&hash| before.place(hash) != after.place(hash)).count();
    assert!((moved as f64 / keys as f64 - 16.0 / 17.0).abs() < 0.01);
}

/// Each shard's part of all keys against its part of all weights, with a bound of five standard deviations of a draw of `drawn` pieces.
fn assert_shares(placement: &dyn Placement, weights: &[u32], hashes: impl Iterator<Item = u64>, drawn: f64) {
    let mut shares = vec![0.0; weights.len()];
    let mut keys = 0.0;
    for hash in hashes {
        shares[placement.place(hash).get()] += 1.0;
        keys += 1.0;
    }
    let total: u32 = weights.iter().sum();
    for (share, &weight) in shares.iter().zip(weights) {
        let fair = f64::from(weight) / f64::from(total);
        let bound = 5.0 * (fair * (1.0 - fair) / drawn).sqrt() + 1e-9;
        let share = share / keys;
        assert!((share - fair).abs() <= bound, "a share of {share}, {fair} is fair, the bound is {bound}");
    }
}

const SLOTS: u64 = 1 << 16;
const POINTS_PER_WEIGHT: f64 = 8192.0;

/// Two or more shards with names that differ and small weights.
fn weighted_shards() -> impl Strategy<Value = Vec<(String, u32)>> {
    prop::collection::btree_map("[a-z]{1,12}", 1_u32..=8, 2..10)
        .prop_map(|shards| shards.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn weights(shards: &[(String, u32)]) -> Vec<u32> {
    shards.iter().map(|(_, weight)| *weight).collect()
}

type Build = fn(&[(String, u32)]) -> Box<dyn Placement>;

/// The placements that know shards by name.
const NAMED: [Build; 2] = [
    |shards| Box::new(Rendezvous::weighted(shards.iter().cloned()).unwrap()),
    |shards| Box::new(Ring::weighted(shards.iter().cloned()).unwrap()),
];

/// The name of the shard of each of many hashes.
fn places<'a>(placement: &dyn Placement, shards: &'a [(String, u32)]) -> Vec<&'a str> {
    grid(SLOTS).map(|hash| &*shards[placement.place(hash).get()].0).collect()
}

proptest! {
    // A case builds several placements of 65,536 slots or more, which takes a debug build a while.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn rendezvous_shares_follow_the_weights(shards in weighted_shards()) {
        let placement = Rendezvous::weighted(shards.clone()).unwrap();
        assert_shares(&placement, &weights(&shards), grid(SLOTS), SLOTS as f64);
    }

    #[test]
    fn ring_shares_follow_the_weights(shards in weighted_shards()) {
        let placement = Ring::weighted(shards.clone()).unwrap();
        let weights = weights(&shards);
        let points = f64::from(weights.iter().sum::<u32>()) * POINTS_PER_WEIGHT;
        assert_shares(&placement, &weights, grid(1 << 19), points);
    }

    #[test]
    fn jump_shares_are_even(shards in 1_usize..200) {
        let keys = 100_000;
        assert_shares(&Jump::new(shards).unwrap(), &vec![1; shards], hashes(keys), keys as f64);
    }

    #[test]
    fn the_order_of_listing_decides_nothing(shards in weighted_shards()) {
        let reversed: Vec<_> = shards.iter().rev().cloned().collect();
        for build in NAMED {
            prop_assert!(places(&build(&shards), &shards) == places(&build(&reversed), &reversed));
        }
    }

    #[test]
    fn removing_any_shard_moves_its_keys_only(shards in weighted_shards(), gone: prop::sample::Index) {
        let gone = gone.index(shards.len());
        let mut rest = shards.clone();
        rest.remove(gone);
        for build in NAMED {
            for (before, after) in places(&build(&shards), &shards).into_iter().zip(places(&build(&rest), &rest)) {
                prop_assert!(before == after || before == shards[gone].0);
            }
        }
    }

    #[test]
    fn raising_a_weight_moves_keys_to_that_shard_only(shards in weighted_shards(), raised: prop::sample::Index, by in 1_u32..4) {
        let raised = raised.index(shards.len());
        let mut heavier = shards.clone();
        heavier[raised].1 += by;
        for build in NAMED {
            for (before, after) in places(&build(&shards), &shards).into_iter().zip(places(&build(&heavier), &heavier)) {
                prop_assert!(before == after || after == shards[raised].0);
            }
        }
    }
}

#[test]
fn only_the_ratio_of_rendezvous_weights_counts() {
    let light = Rendezvous::weighted([("a", 1), ("b", 3)]).unwrap();
    let heavy = Rendezvous::weighted([("a", MAX_WEIGHT / 4), ("b", MAX_WEIGHT / 4 * 3)]).unwrap();
    assert!(grid(SLOTS).all(|hash| light.place(hash) == heavy.place(hash)));
}

#[test]
fn one_shard_holds_everything() {
    let alone: [Box<dyn Placement>; 4] = [
        Box::new(Modulo::new(1).unwrap()),
        Box::new(Jump::new(1).unwrap()),
        Box::new(Rendezvous::new(["a"]).unwrap()),
        Box::new(Ring::with_points(1, [("a", 1)]).unwrap()),
    ];
    for placement in alone {
        assert!([0, 1, u64::MAX / 2, u64::MAX].iter().all(|&hash| placement.place(hash).get() == 0));
    }
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    let duplicate = BuildError::DuplicateName { name: "a".into() };
    assert_eq!(Rendezvous::new(["a", "b", "a"]).unwrap_err(), duplicate);
    assert_eq!(Ring::new(["a", "a"]).unwrap_err(), duplicate);
    assert_eq!(Rendezvous::new(["a", ""]).unwrap_err(), BuildError::EmptyName { position: 1 });
    for weight in [0, MAX_WEIGHT + 1] {
        let refused = BuildError::WeightOutOfRange { name: "b".into(), weight, most: MAX_WEIGHT };
        assert_eq!(Rendezvous::weighted([("a", 1), ("b", weight)]).unwrap_err(), refused);
        assert_eq!(Ring::weighted([("a", 1), ("b", weight)]).unwrap_err(), refused);
    }
    assert_eq!(Modulo::new(0).unwrap_err(), BuildError::NoShards);
    assert_eq!(Jump::new(0).unwrap_err(), BuildError::NoShards);
    assert_eq!(Rendezvous::new([""; 0]).unwrap_err(), BuildError::NoShards);
    assert_eq!(Ring::new([""; 0]).unwrap_err(), BuildError::NoShards);
    assert_eq!(Jump::new(MAX_SHARDS + 1).unwrap_err(), BuildError::TooManyShards { given: MAX_SHARDS + 1, most: MAX_SHARDS });
    assert!(matches!(Ring::weighted([("a", MAX_WEIGHT)]).unwrap_err(), BuildError::RingPoints { .. }));
    assert!(matches!(Ring::with_points(0, [("a", 1)]).unwrap_err(), BuildError::RingPoints { asked: 0, .. }));
}
