//! C4: Redis without memory, where every script that could store anything may be refused.

use crate::nodes::{BOUND, KEYS, World, eventually};
use crate::on_both;
use crate::servers::Servers;
use cachestack::ErrorKind;
use cachestack::testing::Messages;

on_both! {
    Servers::one;
    c4_an_invalidation_without_memory_is_followed_though_its_message_is_lost;
    c4_an_invalidation_that_can_neither_mark_nor_remove_is_an_error_and_owed;
}

async fn use_up_the_memory(servers: &Servers) {
    servers.each(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;
}

async fn c4_an_invalidation_without_memory_is_followed_though_its_message_is_lost(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
    }
    use_up_the_memory(&servers).await;
    b.l2.set_messages(Messages::Lost);
    for key in KEYS {
        world.commit(key, 7);
        a.cache.invalidate(&key).await.unwrap();
        assert_eq!(a.read(key).await, 7);
    }
    b.follows_within_the_bound(&world, KEYS).await;
    servers.each(&["CONFIG", "SET", "maxmemory", "0"]).await;
    b.l2.set_messages(Messages::Delivered);
    eventually("it is verified", async || b.cache.stats().coherence.unverified_partitions == 0).await;
    for key in KEYS {
        assert_eq!(b.read(key).await, 7);
    }
}

async fn c4_an_invalidation_that_can_neither_mark_nor_remove_is_an_error_and_owed(servers: Servers) {
    let world = World::over(&servers);
    let (a, b) = (world.node().await, world.node().await);
    for key in KEYS {
        a.read(key).await;
        b.read(key).await;
    }
    use_up_the_memory(&servers).await;
    servers.each(&["ACL", "SETUSER", "default", "-unlink", "-del"]).await;
    for key in KEYS {
        world.commit(key, 7);
        let err = a.cache.invalidate(&key).await.unwrap_err();
        assert!(matches!(err.kind(), ErrorKind::Credentials | ErrorKind::Unavailable), "{err}");
        assert_eq!(a.read(key).await, 7, "the node that wrote never reads the older value again");
    }
    assert_eq!(a.cache.stats().coherence.owed, KEYS.end);
    tokio::time::sleep(BOUND).await;
    assert_eq!(a.cache.stats().coherence.owed, KEYS.end, "it is tried again, in vain");
    servers.each(&["ACL", "SETUSER", "default", "+@all"]).await;
    servers.each(&["CONFIG", "SET", "maxmemory", "0"]).await;
    eventually("all are told", async || a.cache.stats().coherence.owed == 0).await;
    b.follows_within_the_bound(&world, KEYS).await;
}
