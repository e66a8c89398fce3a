//! Versioned namespaces.

use super::*;
use cache_core::testing::Chaos;
use cachestack::ErrorKind;

#[tokio::test]
async fn while_a_versioned_write_is_on_its_way_to_l2_nobody_goes_there_for_the_key() {
    let world = World::new();
    versioned(&world).insert(&1, row((1, "one"))).await.unwrap();
    let a = versioned(&world);
    world.l2.set(Chaos::HeldWrites);
    world.l2.take_verbs();
    let writer = a.clone();
    let write = tokio::spawn(async move { writer.write(&1, row((2, "two"))).await });
    until("the write is on its way", || world.l2.take_verbs().contains(&"put")).await;
    assert_eq!(a.get(&1).await, None);
    assert!(!world.l2.take_verbs().contains(&"get"));
    world.l2.set(Chaos::Calm);
    write.await.unwrap().unwrap();
    assert_eq!(a.get_local(&1).unwrap().version, 2);
}

#[tokio::test]
async fn a_versioned_write_stores_its_value_and_an_older_one_does_not_overtake_it() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    a.insert(&1, row((1, "first"))).await.unwrap();
    a.write(&1, row((2, "second"))).await.unwrap();
    assert_eq!(b.get(&1).await.unwrap().name, "second");
    b.write(&1, row((1, "first, and late"))).await.unwrap();
    assert_eq!(versioned(&world).get(&1).await.unwrap().name, "second");
    assert_eq!(a.insert(&1, row((1, "older"))).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_versioned_write_of_a_key_that_l2_does_not_have_is_loaded_by_its_next_reader_and_by_no_older_load() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    a.write(&1, row((2, "second"))).await.unwrap();
    assert_eq!((a.get(&1).await, b.get(&1).await), (None, None));
    let read = b.get_or_load(&1, || async { Ok::<_, io::Error>(row((1, "of a replica that lags"))) }).await.unwrap();
    assert_eq!((read.version, versioned(&world).get(&1).await), (1, None), "given to who asked, and kept by nobody");
    b.get_or_load(&1, || async { Ok::<_, io::Error>(row((2, "second"))) }).await.unwrap();
    assert_eq!(a.get(&1).await.unwrap().version, 2);
}

#[tokio::test]
async fn a_versioned_write_that_l2_cannot_take_does_not_leave_the_older_value_behind() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    a.insert(&1, row((1, "first"))).await.unwrap();
    let long = Versioned { version: 2, name: "x".repeat(2 << 20) };
    a.write(&1, long).await.unwrap();
    assert_eq!(b.get(&1).await, None);
    world.l2.set(Chaos::Down);
    let err = a.write(&1, row((3, "third"))).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable);
    assert!(err.to_string().contains("written to the origin"), "{err}");
}

#[tokio::test]
async fn a_lagging_replica_cannot_bring_an_older_row_back() {
    let world = World::new();
    let cache = versioned(&world);
    cache.write(&1, row((5, "five"))).await.unwrap();
    cache.invalidate_older(&1, 6).await.unwrap();
    let lagging = || async { Ok::<_, io::Error>(row((5, "five"))) };
    assert_eq!(cache.get_or_load(&1, lagging).await.unwrap().version, 5);
    assert_eq!(cache.get(&1).await, None, "answered, and kept by nobody");
    let caught_up = || async { Ok::<_, io::Error>(row((6, "six"))) };
    cache.get_or_load(&1, caught_up).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().version, 6);
    cache.invalidate_older(&1, 6).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().version, 6, "what is as new as the write stays");
}

#[tokio::test]
async fn an_older_row_that_l2_cannot_take_is_kept_in_l1_no_more_than_another() {
    let world = World::new();
    let cache = versioned(&world);
    cache.invalidate_older(&1, 2).await.unwrap();
    let long = |version| Versioned { version, name: "x".repeat(2 << 20) };
    let lagging = cache.get_or_load(&1, move || async move { Ok::<_, io::Error>(long(1)) }).await.unwrap();
    assert_eq!((lagging.version, cache.get_local(&1)), (1, None), "answered, and kept by nobody");
    cache.get_or_load(&1, move || async move { Ok::<_, io::Error>(long(2)) }).await.unwrap();
    assert_eq!(cache.get_local(&1).unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_row_loaded_without_a_lease_because_another_load_has_it_is_kept_by_nobody() {
    let world = World::new();
    let [a, b] = [versioned(&world), versioned(&world)];
    let slow = Slow::new();
    let (holder, held) = (a.clone(), slow.clone());
    let load = tokio::spawn(async move { holder.get_or_load(&1, move || held.load(row((2, "second")))).await });
    slow.has_begun().await;
    // What its floor is only the lease tells.
    let read = b.get_or_load(&1, || async { Ok::<_, io::Error>(row((1, "of a replica that lags"))) }).await.unwrap();
    assert_eq!((read.version, b.get_local(&1)), (1, None));
    slow.let_go();
    load.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_invalidation_by_version_needs_a_versioned_cache() {
    let err = World::new().node().invalidate_older(&1, 3).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
}
