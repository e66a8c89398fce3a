//! Each fault of a simulation does what it says: what nothing suffers from proves nothing.

use cachestack::testing::simulation::{Event, Fault, Node, Simulation, World};
use cachestack::{
    Acquire, Claim, Coherence, ErrorKind, Freshness, Invalidation, MemoryTier, Namespace, RemoteKey, RemoteTier, Tier,
    TieredCache, Token, Ttl,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn key() -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(&1_u64)
}

/// One of `fault`, of node 0, from 1 s on for a second.
fn of_a_second(fault: Fault) -> Event {
    Event::at(SECOND, fault).on(0).lasting(SECOND)
}

fn run<T, F: Future<Output = T>>(event: Event, scenario: impl FnOnce(World, Node) -> F) -> T {
    Simulation::new(7)
        .run(|world| async move {
            world.inject(event);
            let node = world.node();
            scenario(world, node).await
        })
        .outcome
}

async fn take_lease(node: &Node) -> cachestack::Result<()> {
    let acquire = Acquire {
        token: Token::unique(),
        lease: SECOND * 60,
        retain: SECOND * 60,
        claim: Claim::Vacant,
        generation: 0,
        schema: 0,
    };
    node.tier().acquire(&key(), &acquire).await.map(drop)
}

async fn has_record(world: &World) -> bool {
    world.server().get(&key()).await.unwrap().record.is_some()
}

async fn invalidate(node: &Node) -> cachestack::Result<()> {
    node.tier().invalidate(&[Invalidation { key: key(), version: None }], SECOND * 60, None).await.map(drop)
}

/// A cache over a row that it loads, on a node.
fn cache(node: &Node, row: &Arc<AtomicU64>) -> TieredCache<u64, u64, MemoryTier<u64, u64>> {
    let row = row.clone();
    let load = move |_key| {
        let row = row.load(Ordering::SeqCst);
        async move { Ok::<_, std::io::Error>(row) }
    };
    let builder = TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(10)).l2(node.tier()).clock(node.clock());
    builder.ttl(Ttl::minutes(60)).coherence(Coherence::new()).origin(load).build().unwrap()
}

/// What is loaded before the first poll is asked about again.
async fn keeps(world: &World, cache: &TieredCache<u64, u64, MemoryTier<u64, u64>>) {
    world.sleep(ms(100)).await;
    cache.load(&1).await.unwrap();
    world.sleep(ms(100)).await;
    cache.load(&1).await.unwrap();
    assert!(cache.get_local(&1).is_some());
}

#[test]
fn cut_off_a_node_waits_in_vain_and_the_server_is_not_reached() {
    run(of_a_second(Fault::Cut), |world, node| async move {
        world.sleep(ms(1_001)).await;
        assert_eq!(take_lease(&node).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(!has_record(&world).await);
        assert_eq!(world.now(), ms(2_001), "it waits for its timeout");
        take_lease(&node).await.unwrap();
    });
}

#[test]
fn a_lost_request_is_not_done_and_one_whose_reply_is_lost_is() {
    for (fault, is_done) in [(Fault::RequestsLost(100), false), (Fault::RepliesLost(100), true)] {
        run(of_a_second(fault), |world, node| async move {
            world.sleep(ms(1_001)).await;
            assert_eq!(take_lease(&node).await.unwrap_err().kind(), ErrorKind::Timeout);
            assert_eq!(has_record(&world).await, is_done, "{fault:?}");
        });
    }
}

#[test]
fn a_share_of_what_is_sent_is_lost() {
    let event = Event::at(Duration::ZERO, Fault::RequestsLost(50)).lasting(SECOND * 10_000);
    let lost = run(event, |_, node| async move {
        let mut lost = 0;
        for _ in 0..1_000 {
            lost += u32::from(node.tier().get(&key()).await.is_err());
        }
        lost
    });
    assert!((400..600).contains(&lost), "{lost}");
}

#[test]
fn a_doubled_request_is_done_twice_if_it_may_be() {
    for (fault, told) in [(Fault::RequestsDoubled(100), 2), (Fault::RequestsDoubled(0), 1)] {
        run(of_a_second(fault), |world, node| async move {
            let row = Arc::new(AtomicU64::new(1));
            let cache = cache(&node, &row);
            cache.load(&1).await.unwrap();
            world.sleep(ms(1_001)).await;
            cache.invalidate(&1).await.unwrap();
            world.sleep(SECOND * 3).await;
            let partition = key().partition();
            let meta = world.server().poll("cs", &[partition]).await.unwrap().remove(0).unwrap();
            assert_eq!(meta.sequence, told);
        });
    }
}

#[test]
fn messages_are_lost_doubled_and_late() {
    for (fault, heard) in [
        (Fault::MessagesLost(100), 0),
        (Fault::MessagesLost(0), 1),
        (Fault::MessagesDoubled(100), 2),
        (Fault::MessagesSlow(SECOND * 1_000), 0),
    ] {
        run(of_a_second(fault), |world, node| async move {
            let row = Arc::new(AtomicU64::new(1));
            let (hears, tells) = (cache(&node, &row), cache(&world.node(), &row));
            keeps(&world, &hears).await;
            world.sleep(ms(801)).await;
            tells.invalidate(&1).await.unwrap();
            world.sleep(ms(100)).await;
            assert_eq!(hears.stats().coherence.messages, heard, "{fault:?}");
            assert_eq!(hears.get_local(&1).is_some(), heard == 0, "{fault:?}");
        });
    }
}

#[test]
fn slow_is_what_takes_up_to_that_long() {
    let longest = run(of_a_second(Fault::Slow(ms(400))), |world, node| async move {
        world.sleep(ms(1_001)).await;
        let mut longest = Duration::ZERO;
        while world.now() < ms(1_900) {
            let began = world.now();
            node.tier().get(&key()).await.unwrap();
            longest = longest.max(world.now().saturating_sub(began));
        }
        longest
    });
    assert!((ms(200)..ms(810)).contains(&longest), "{longest:?}");
}

/// What a node reads that lost its subscription, and when it first doubts what it has.
fn first_doubt(fault: Fault) -> Duration {
    run(of_a_second(fault), |world, node| async move {
        let row = Arc::new(AtomicU64::new(1));
        let (hears, tells) = (cache(&node, &row), cache(&world.node(), &row));
        keeps(&world, &hears).await;
        world.sleep(ms(810)).await;
        tells.invalidate(&1).await.unwrap();
        while hears.stats().coherence.unverified_partitions == 0 {
            world.sleep(ms(5)).await;
        }
        world.now()
    })
}

#[test]
fn a_broken_subscription_is_noticed_at_once_and_a_half_open_one_later() {
    assert!(first_doubt(Fault::Deaf) < ms(1_020));
    let late = first_doubt(Fault::HalfOpen(SECOND * 60));
    assert!(late > ms(1_500) && late < SECOND * 5, "by polls, within the bound: {late:?}");
}

#[test]
fn paused_a_process_does_nothing_and_its_clock_goes_on_and_suspended_that_stands_too() {
    for (fault, gone) in [(Fault::Paused, ms(2_000)), (Fault::Suspended, ms(1_000))] {
        run(of_a_second(fault), |world, node| async move {
            let began = node.clock().now();
            node.run(world.sleep(ms(1_500))).await;
            assert_eq!((world.now(), node.clock().now().since(began)), (ms(2_000), gone), "{fault:?}");
            assert_eq!(node.clock().unix_ms() % 1_000_000, 2_000, "wall time goes on");
        });
    }
}

#[test]
fn pauses_that_overlap_end_with_the_last() {
    let short = Event::at(SECOND, Fault::Suspended).on(0).lasting(SECOND * 2);
    run(short, |world, node| async move {
        world.inject(Event::at(ms(1_500), Fault::Paused).on(0).lasting(SECOND * 3));
        let began = node.clock().now();
        node.run(world.sleep(ms(1_200))).await;
        assert_eq!((world.now(), node.clock().now().since(began)), (ms(4_500), ms(2_500)));
    });
}

#[test]
fn a_process_that_is_restarted_dies_and_another_one_takes_its_place() {
    run(Event::at(SECOND, Fault::Restarted).on(0), |world, node| async move {
        let work = tokio::spawn(node.run(std::future::pending::<()>()));
        node.died().await;
        assert_eq!(world.now(), SECOND);
        work.abort();
        node.again().tier().get(&key()).await.unwrap();
    });
}

#[test]
fn down_is_a_refusal_at_once() {
    run(of_a_second(Fault::Down), |world, node| async move {
        world.sleep(ms(1_001)).await;
        assert_eq!(take_lease(&node).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(world.now() < ms(1_010));
        take_lease(&world.node()).await.unwrap();
    });
}

#[test]
fn where_polls_are_refused_values_are_not() {
    run(of_a_second(Fault::PollsRefused), |world, node| async move {
        world.sleep(ms(1_001)).await;
        assert_eq!(node.tier().poll("cs", &[key().partition()]).await.unwrap_err().kind(), ErrorKind::Refused);
        node.tier().get(&key()).await.unwrap();
    });
}

#[test]
fn a_failover_loses_the_last_of_what_was_written_and_no_more() {
    for (written, is_lost) in [(ms(700), false), (ms(900), true)] {
        run(Event::at(SECOND, Fault::Failover(ms(200))), |world, node| async move {
            world.sleep(written).await;
            take_lease(&node).await.unwrap();
            world.sleep(SECOND).await;
            assert_eq!(has_record(&world).await, !is_lost);
        });
    }
}

#[test]
fn a_wiped_server_has_nothing_an_evicting_one_no_records_and_a_forgetful_one_no_sequences() {
    for (fault, keeps_record, keeps_sequences) in
        [(Fault::Wiped, false, false), (Fault::Evicted, false, true), (Fault::SequencesForgotten, true, false)]
    {
        run(Event::at(SECOND, fault), |world, node| async move {
            invalidate(&node).await.unwrap();
            take_lease(&node).await.unwrap();
            let poll = async || world.server().poll("cs", &[key().partition()]).await.unwrap().remove(0).unwrap();
            let before = poll().await;
            world.sleep(SECOND).await;
            world.sleep(ms(1)).await;
            assert_eq!(has_record(&world).await, keeps_record, "{fault:?}");
            assert_eq!(poll().await.incarnation == before.incarnation, keeps_sequences, "{fault:?}");
        });
    }
}

#[test]
fn a_server_that_tracks_tells_of_foreign_writes_and_one_that_does_not_does_not() {
    for tracks in [true, false] {
        let simulation = Simulation::new(7);
        let simulation = if tracks { simulation.tracking() } else { simulation };
        let ran = simulation.run(|world| async move {
            let row = Arc::new(AtomicU64::new(1));
            let cache = cache(&world.node(), &row);
            keeps(&world, &cache).await;
            row.store(2, Ordering::SeqCst);
            world.server().unplant(&key());
            world.sleep(ms(100)).await;
            let read = cache.load_cached(&1).await.unwrap();
            (read.value, read.freshness)
        });
        assert_eq!(ran.outcome, (if tracks { 2 } else { 1 }, Freshness::Fresh));
    }
}

#[test]
fn a_replica_answers_as_many_reads_as_it_is_told_to() {
    let ran = Simulation::new(7).replica_reads(100, ms(50)).run(|world| async move {
        let row = Arc::new(AtomicU64::new(1));
        let [a, b] = [cache(&world.node(), &row), cache(&world.node(), &row)];
        a.load(&1).await.unwrap();
        world.sleep(SECOND).await;
        b.load_cached(&1).await.unwrap().tier
    });
    assert_eq!(ran.outcome, Tier::L2Replica);
}

#[test]
#[should_panic(expected = "tell how long it lasts")]
fn a_fault_that_would_do_nothing_is_refused() {
    run(Event::at(SECOND, Fault::Cut).on(0), |_, _| async {});
}

#[test]
#[should_panic(expected = "is about a node that there was not")]
fn a_fault_of_a_node_that_nobody_made_is_refused() {
    run(of_a_second(Fault::Cut).on(3), |_, _| async {});
}
