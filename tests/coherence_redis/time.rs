//! Group F: a machine that was suspended. The nodes' clock is moved by hand; the server's goes on.

use crate::nodes::{KEYS, World, eventually};
use crate::on_both;
use crate::servers::Servers;
use cachestack::testing::Messages;
use cachestack::{Freshness, ManualClock, Tier};
use std::time::Duration;

on_both! {
    Servers::one;
    f1_a_machine_that_was_suspended_asks_before_it_serves;
    f1_there_is_no_grace_for_what_is_from_before_a_suspension;
}

/// By their clock no time passes, so that nothing is ever older than the bound but by the suspension.
async fn f1_a_machine_that_was_suspended_asks_before_it_serves(servers: Servers) {
    let hands = ManualClock::new();
    let world = World::over(&servers).clock(hands.clock());
    let (a, b) = (world.node().await, world.node().await);
    for round in 1..=3 {
        for key in KEYS {
            b.read(key).await;
        }
        eventually("L1 has them", async || KEYS.clone().all(|key| b.cache.get_local(&key).is_some())).await;
        b.l2.set_messages(Messages::Lost);
        for key in KEYS.step_by(2) {
            world.commit(key, round);
            a.cache.invalidate(&key).await.unwrap();
        }
        hands.suspend(Duration::from_secs(600));
        if round == 1 {
            let polls = b.cache.stats().coherence.polls;
            eventually("a poll comes first", async || b.cache.stats().coherence.polls > polls + 1).await;
        } else {
            assert!(KEYS.clone().all(|key| b.cache.get_local(&key).is_none()), "a read comes first");
        }
        let queries = world.queries();
        for key in KEYS {
            let cached = b.cache.load_cached(&key).await.unwrap();
            assert_eq!((cached.value, cached.freshness), (world.row(key), Freshness::Fresh), "{key}");
            assert_ne!(cached.tier, Tier::L1, "not even what nobody has changed is taken for granted");
        }
        assert_eq!(world.queries() - queries, KEYS.end / 2, "those that were invalidated");
        b.l2.set_messages(Messages::Delivered);
    }
}

async fn f1_there_is_no_grace_for_what_is_from_before_a_suspension(mut servers: Servers) {
    let hands = ManualClock::new();
    let world = World::over(&servers).clock(hands.clock());
    let node = world.node().await;
    for key in KEYS {
        node.read(key).await;
        world.commit(key, 7);
    }
    servers.kill_all();
    hands.suspend(Duration::from_secs(600));
    for key in KEYS {
        let cached = node.cache.load_cached(&key).await.unwrap();
        assert_eq!((cached.value, cached.tier), (7, Tier::Origin));
    }
}
