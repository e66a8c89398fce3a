//! On what terms the stack keeps entries in L1, and what it makes of suspicion.

use cache_core::record::Record;
use cache_core::testing::{Chaos, ChaosTier};
use cachestack::{
    EmbeddedTier, ErrorKind, LocalTier, ManualClock, Namespace, Partition, RemoteTier, Terms, Tier, TieredCache, Ttl,
};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

#[path = "support/watched.rs"]
#[expect(dead_code, reason = "nothing happens before a removal here")]
mod watched;
use watched::Watched;

type Cache = TieredCache<u64, u64, Watched>;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn partition_of(key: u64) -> Partition {
    Namespace::new("cs", "t").unwrap().key(&key).partition()
}

/// A cache of two tiers whose rows are their own versions, and a number to read from them.
struct Node {
    l1: Watched,
    cache: Cache,
    row: Arc<AtomicU64>,
}

impl Node {
    fn new(l2: impl RemoteTier, hands: &ManualClock) -> Self {
        let (l1, row) = (Watched::new(), Arc::new(AtomicU64::new(1)));
        let read = row.clone();
        let load = move |_| {
            let value = read.load(Ordering::SeqCst);
            async move { if value == 0 { Err(io::Error::other("down")) } else { Ok(value) } }
        };
        let builder = TieredCache::<u64, u64>::builder("t").l1(l1.clone()).l2(l2).clock(hands.clock());
        let ttl = Ttl::seconds(100).stale_if_error(seconds(1_000)).time_to_idle(seconds(50));
        let cache = builder.ttl(ttl).versioned(|row| *row).origin(load).writer(|_, _| async { Ok::<_, io::Error>(()) });
        Self { l1, cache: cache.build().unwrap(), row }
    }

    fn terms(&self, key: u64) -> Terms {
        let (tell, told) = mpsc::channel();
        self.l1.after_look(move |tier, hash, now| tell.send(LocalTier::<u64, u64>::terms(tier, hash, &key, now)).unwrap());
        self.cache.get_local(&key);
        told.recv().unwrap().expect("L1 has the key")
    }
}

#[tokio::test]
async fn an_entry_has_the_version_the_token_and_the_partition_that_its_value_has_in_l2() {
    let (hands, l2) = (ManualClock::new(), EmbeddedTier::new());
    let l2 = l2.clock(hands.clock());
    let [a, b] = [(); 2].map(|()| Node::new(l2.clone(), &hands));
    let in_l2 = async |key: u64| {
        let key = Namespace::new("cs", "t").unwrap().key(&key);
        let record = Record::decode(&l2.get(&key).await.unwrap().record.unwrap(), key.echo()).unwrap();
        (record.version, record.token, key.partition())
    };
    let kept = |terms: Terms| (terms.version, terms.token, terms.partition);
    assert_eq!(a.cache.load(&1).await.unwrap(), 1);
    assert_eq!(kept(a.terms(1)), in_l2(1).await, "loaded");
    assert_eq!(b.cache.get(&1).await, Some(1));
    assert_eq!(kept(b.terms(1)), in_l2(1).await, "found in L2");
    b.cache.load(&1).await.unwrap();
    a.cache.insert(&2, 7).await.unwrap();
    assert_eq!(kept(a.terms(2)), in_l2(2).await, "inserted");
    b.cache.load(&2).await.unwrap();
    assert_eq!(kept(b.terms(2)), in_l2(2).await, "found in L2 by a load");
    a.cache.insert(&3, 8).await.unwrap();
    a.cache.write(&3, 9).await.unwrap();
    assert_eq!(kept(a.terms(3)), in_l2(3).await, "written");
    assert_eq!((a.terms(3).version, a.terms(3).idle.is_some()), (9, true));
    assert_ne!(a.terms(2).token, a.terms(3).token);
}

#[tokio::test]
async fn suspicion_of_a_partition_sends_its_keys_to_l2_once_and_no_others() {
    let hands = ManualClock::new();
    let node = Node::new(EmbeddedTier::new().clock(hands.clock()), &hands);
    for key in [1, 2] {
        node.cache.load(&key).await.unwrap();
    }
    assert_ne!(partition_of(1), partition_of(2));
    LocalTier::<u64, u64>::suspect(&node.l1, partition_of(1));
    assert_eq!((node.cache.get_local(&1), node.cache.get_local(&2)), (None, Some(1)));
    assert_eq!(node.cache.with_local(&1, |_| ()), None);
    assert_eq!(node.cache.get_cached(&1).await.unwrap().unwrap().tier, Tier::L2);
    assert_eq!(node.cache.get_local(&1), Some(1), "what L2 said is not suspect");
    assert_eq!((node.cache.stats().l2.hits, node.cache.stats().loads), (1, 2));
}

#[tokio::test]
async fn a_suspect_entry_is_no_last_resort() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let node = Node::new(l2.clone(), &hands);
    node.cache.load(&1).await.unwrap();
    LocalTier::<u64, u64>::suspect(&node.l1, partition_of(1));
    node.row.store(0, Ordering::SeqCst);
    l2.set(Chaos::Down);
    assert_eq!(node.cache.load(&1).await.unwrap_err().kind(), ErrorKind::Origin);
}

#[tokio::test]
async fn a_suspect_entry_gives_way_to_what_l2_has_however_new_it_is() {
    let hands = ManualClock::new();
    let l2 = ChaosTier::new(EmbeddedTier::new().clock(hands.clock()));
    let node = Node::new(l2.clone(), &hands);
    node.cache.load(&1).await.unwrap();
    hands.advance(seconds(10));
    assert_eq!(node.cache.get(&1).await, Some(1), "and L1 is verified again");
    l2.set(Chaos::Down);
    node.cache.insert(&1, 5).await.unwrap_err();
    l2.set(Chaos::Calm);
    assert_eq!(node.cache.get(&1).await, Some(5), "L1 has it, L2 could not be told");
    LocalTier::<u64, u64>::suspect(&node.l1, partition_of(1));
    assert_eq!(node.cache.get(&1).await, Some(1));
    assert_eq!(node.cache.get_local(&1), Some(1), "and the next read does not ask L2 again");
}
