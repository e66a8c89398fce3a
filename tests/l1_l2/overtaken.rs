//! Invalidations, and what they overtake.

use super::*;
use cache_core::record::State;
use cache_core::testing::Chaos;
use cachestack::ErrorKind;

#[tokio::test]
async fn an_invalidation_leaves_no_older_value_in_l2_or_in_the_invalidators_l1() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    a.load(&1).await.unwrap();
    world.row.store(2, Ordering::SeqCst);
    a.invalidate(&1).await.unwrap();
    assert_eq!(world.record().await.unwrap().state, State::Tombstone);
    assert_eq!(b.load(&1).await.unwrap(), 2);
    assert_eq!(a.load(&1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_load_on_one_node_that_began_before_an_invalidation_on_another_is_kept_by_no_tier() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let caller = tokio::spawn({
        let (a, slow) = (a.clone(), slow.clone());
        async move { a.get_or_load(&1, move || slow.load(1)).await.unwrap() }
    });
    slow.has_begun().await;
    world.row.store(2, Ordering::SeqCst);
    b.invalidate(&1).await.unwrap();
    slow.let_go();
    assert_eq!(caller.await.unwrap(), 1, "its callers get what they asked for");
    assert_eq!(a.stats().l2.refused, 1);
    assert_eq!((a.load(&1).await.unwrap(), b.load(&1).await.unwrap()), (2, 2));
}

#[tokio::test]
async fn an_answer_of_l2_that_an_invalidation_has_overtaken_is_given_and_not_kept() {
    let world = World::new();
    for many in [false, true] {
        world.node().insert(&1, 1).await.unwrap();
        let a = world.node();
        world.l2.set(Chaos::HeldAnswers);
        world.l2.take_verbs();
        let reader = tokio::spawn({
            let a = a.clone();
            async move { if many { a.get_many(&[1]).await[0] } else { a.get(&1).await } }
        });
        until("the answer is on its way", || world.l2.take_verbs().contains(&if many { "get_many" } else { "get" })).await;
        a.invalidate(&1).await.unwrap();
        world.l2.set(Chaos::Calm);
        assert_eq!(reader.await.unwrap(), Some(1), "many: {many}");
        assert_eq!(a.get_local(&1), None, "many: {many}");
    }
}

/// Reads the key's old value from L2 while a write is on its way there, and lets the reader have the answer, and keep it if
/// it may, only when the write is done.
async fn overtaken<V, F>(
    world: &World,
    verb: &'static str,
    reader: F,
    write: impl Future<Output = cachestack::Result<()>> + Send + 'static,
) -> V
where
    V: Send + 'static,
    F: Future<Output = V> + Send + 'static,
{
    world.l2.set(Chaos::HeldWritesAndAnswers);
    world.l2.take_verbs();
    let write = tokio::spawn(write);
    until("the write is on its way", || world.l2.take_verbs().contains(&verb)).await;
    let reader = tokio::spawn(reader);
    until("the answer is on its way", || world.l2.take_verbs().contains(&"get")).await;
    world.l2.set(Chaos::HeldAnswers);
    write.await.unwrap().unwrap();
    world.l2.set(Chaos::Calm);
    reader.await.unwrap()
}

#[tokio::test]
async fn an_answer_of_l2_that_an_insert_has_overtaken_does_not_replace_it() {
    let world = World::new();
    world.node().insert(&1, 1).await.unwrap();
    let a = world.node();
    let (reader, writer) = (a.clone(), a.clone());
    // The insert's own acquire is held; its tickets are taken before.
    overtaken(&world, "acquire", async move { reader.get(&1).await }, async move { writer.insert(&1, 2).await }).await;
    assert_eq!(a.get(&1).await, Some(2));
}

#[tokio::test]
async fn what_is_read_from_l2_while_an_invalidation_is_on_its_way_is_gone_when_it_is_done() {
    let world = World::new();
    world.node().load(&1).await.unwrap();
    let a = world.node();
    for clear in [false, true] {
        world.l2.set(Chaos::HeldWrites);
        world.l2.take_verbs();
        let invalidation = tokio::spawn({
            let a = a.clone();
            async move { if clear { a.clear().await } else { a.invalidate(&1).await } }
        });
        until("the call is held", || world.l2.take_verbs().contains(&if clear { "clear" } else { "invalidate" })).await;
        if clear {
            assert_eq!(a.get(&1).await, Some(1), "the old value is still in L2, and read rightly");
            assert_eq!(a.get_local(&1), Some(1));
        } else {
            assert_eq!(a.get(&1).await, None, "the old value is still in L2, and nobody goes there");
            assert_eq!(a.load(&1).await.unwrap(), 1);
            assert_eq!(a.get_local(&1), None, "nor is anything kept");
        }
        world.l2.set(Chaos::Calm);
        invalidation.await.unwrap().unwrap();
        assert_eq!(a.get_local(&1), None, "clear: {clear}");
        a.insert(&1, 1).await.unwrap();
    }
}

#[tokio::test]
async fn an_invalidation_that_did_not_reach_l2_is_an_error_and_clears_l1() {
    let world = World::new();
    let a = world.node();
    a.load(&1).await.unwrap();
    world.l2.set(Chaos::Down);
    assert_eq!(a.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(a.get_local(&1), None);
    assert_eq!(a.clear().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(a.stats().invalidation_errors, 2);
}

#[tokio::test]
async fn an_insert_over_a_load_in_flight_elsewhere_stays() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let slow = Slow::new();
    let held = slow.clone();
    let caller = tokio::spawn(async move { a.get_or_load(&1, move || held.load(1)).await.unwrap() });
    slow.has_begun().await;
    b.insert(&1, 2).await.unwrap();
    slow.let_go();
    caller.await.unwrap();
    assert_eq!(world.node().get(&1).await, Some(2));
}

#[tokio::test]
async fn a_clear_empties_both_tiers_of_this_cache_and_of_no_other() {
    let world = World::new();
    let [a, b] = [world.node(), world.node()];
    let other = Cache::builder("t2").l2(world.l2.clone()).clock(world.hands.clock()).build().unwrap();
    a.load(&1).await.unwrap();
    other.insert(&1, 7).await.unwrap();
    a.clear().await.unwrap();
    assert_eq!((a.get(&1).await, b.get(&1).await, other.get(&1).await), (None, None, Some(7)));
}
