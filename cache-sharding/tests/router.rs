//! Routing over plain handles, replicas, and what a builder refuses.

use cache_sharding::{BuildError, Jump, Placement, Rendezvous, ShardKey, ShardRouter, ShardSpec};

#[test]
fn a_key_goes_to_the_shard_its_placement_names() {
    let router =
        ShardRouter::builder().shard("a", "server-1").shard("b", "server-2").shard("c", "server-3").rendezvous().unwrap();
    for id in 0..100_u64 {
        let shard = router.route(&id);
        assert_eq!(shard.index(), router.placement().place(id.shard_hash()));
        assert_eq!(*shard.primary(), format!("server-{}", shard.index().get() + 1));
        assert_eq!(shard.name(), ["a", "b", "c"][shard.index().get()]);
    }
}

#[test]
fn the_name_and_not_the_order_decides_the_handle() {
    let one = ShardRouter::builder().shards([("a", 1), ("b", 2), ("c", 3)]);
    let other = ShardRouter::builder().shards([("c", 3), ("a", 1), ("b", 2)]);
    let (one, other) = (one.rendezvous().unwrap(), other.rendezvous().unwrap());
    for id in 0..1000_u64 {
        assert_eq!(one.route(&id).primary(), other.route(&id).primary());
    }
}

#[test]
fn a_ready_placement_gives_each_shard_the_index_of_its_name() {
    let placement = Rendezvous::new(["a", "b", "c"]).unwrap();
    let router = ShardRouter::builder().shards([("c", 3), ("a", 1), ("b", 2)]).placed_by(placement).unwrap();
    let listed: Vec<_> = router.shards().iter().map(|shard| (shard.name(), *shard.primary())).collect();
    assert_eq!(listed, [("a", 1), ("b", 2), ("c", 3)]);
}

#[test]
fn many_keys_are_grouped_by_shard_in_order() {
    let router = ShardRouter::builder().shards((0..8).map(|i| (format!("s{i}"), i))).jump().unwrap();
    let keys = [5_u64, 900, 5, 77, 12, 31_337];
    let batches = router.route_many(keys);
    assert!(batches.windows(2).all(|pair| pair[0].shard.index() < pair[1].shard.index()));
    for batch in &batches {
        let expected: Vec<_> = keys.iter().filter(|key| router.route(*key).name() == batch.shard.name()).copied().collect();
        assert_eq!(batch.keys, expected);
    }
    assert_eq!(batches.iter().map(|batch| batch.keys.len()).sum::<usize>(), keys.len());
    assert!(router.route_many([0_u64; 0]).is_empty());
}

#[test]
fn readers_take_the_replicas_in_turn_and_never_the_primary() {
    let router = ShardRouter::builder().spec(ShardSpec::new("a", "primary").replica("r1").replica("r2")).rendezvous().unwrap();
    // A clone takes its turn among all the others.
    let twin = router.clone();
    let shard = router.route("key");
    let read: Vec<_> = (0..3).flat_map(|_| [*shard.reader(), *twin.route("other").reader()]).collect();
    assert_eq!(read, ["r1", "r2", "r1", "r2", "r1", "r2"]);
    assert_eq!(*shard.primary(), "primary");
    assert_eq!(shard.replicas(), ["r1", "r2"]);
}

#[test]
fn a_shard_without_replicas_is_read_from_its_primary() {
    let router = ShardRouter::builder().shard("a", "primary").modulo().unwrap();
    assert_eq!(*router.route("key").reader(), "primary");
}

#[test]
fn weights_reach_the_placement() {
    let router = ShardRouter::builder().shard("light", ()).spec(ShardSpec::new("heavy", ()).weight(9)).rendezvous().unwrap();
    let heavy = (0..10_000_u64).filter(|id| router.route(id).name() == "heavy").count();
    assert!((8_800..9_200).contains(&heavy), "{heavy} of 10,000 on a shard with 9 of 10 parts");
}

#[test]
fn a_shard_is_found_by_name() {
    let router = ShardRouter::builder().shard("a", 1).shard("b", 2).jump().unwrap();
    assert_eq!(router.shard("b").map(|shard| *shard.primary()), Some(2));
    assert!(router.shard("z").is_none());
}

#[test]
fn a_handle_is_never_printed() {
    let router =
        ShardRouter::builder().spec(ShardSpec::new("a", "postgres://user:secret@host").replica("secret")).rendezvous().unwrap();
    assert!(!format!("{router:?} {:?}", router.shards()).contains("secret"));
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    let builder = ShardRouter::builder;
    assert_eq!(builder().shards([("a", 1); 0]).rendezvous().unwrap_err(), BuildError::NoShards);
    assert_eq!(builder().shard("a", 1).shard("a", 2).modulo().unwrap_err(), BuildError::DuplicateName { name: "a".into() });
    assert_eq!(builder().shard("", 1).jump().unwrap_err(), BuildError::EmptyName { position: 0 });
    let weighed = || builder().spec(ShardSpec::new("a", 1).weight(2));
    assert_eq!(weighed().jump().unwrap_err(), BuildError::CannotWeigh { placement: "jump", name: "a".into() });
    assert_eq!(weighed().modulo().unwrap_err(), BuildError::CannotWeigh { placement: "modulo", name: "a".into() });
    let two = || builder().shard("a", 1).shard("b", 2);
    assert_eq!(two().placed_by(Jump::new(3).unwrap()).unwrap_err(), BuildError::ShardCount { placement: 3, router: 2 });
    let other = Rendezvous::new(["a", "c"]).unwrap();
    assert_eq!(two().placed_by(other).unwrap_err(), BuildError::UnknownName { name: "c".into() });
}

#[test]
fn every_refusal_says_what_to_do_in_one_line() {
    let refused = ShardRouter::builder().spec(ShardSpec::new("a", 1).weight(0)).rendezvous().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "shard \"a\" has the weight 0: weights run from 1 to 1048576; remove a shard that shall hold nothing"
    );
}
