//! An ear that writes down what it hears.

use crate::common::{PATIENCE, until};
use cache_core::{Ear, Invalidation, Listening, Meta, Namespace, Notice, Partition, Receipt, RemoteKey, RemoteTier};
use cache_redis::RedisTier;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) at: Receipt,
    pub(crate) frame: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Ears(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) heard: Vec<Heard>,
    pub(crate) listening: BTreeSet<u8>,
    /// How many times a partition was lost.
    pub(crate) losses: Vec<u8>,
    pub(crate) changed: Vec<Vec<u8>>,
    /// Each time, whether or not it was listened to by then.
    pub(crate) may_have_changed: Vec<u8>,
}

impl Ear for Ears {
    fn listening(&self, partitions: &[Partition]) {
        self.state().listening.extend(partitions.iter().map(|partition| partition.index()));
    }

    fn deaf(&self, partitions: &[Partition]) {
        let mut state = self.state();
        for partition in partitions {
            assert!(state.listening.remove(&partition.index()), "it is told once");
            state.losses.push(partition.index());
        }
    }

    fn hear(&self, partition: Partition, message: &[u8]) {
        let number = |at: usize| u64::from_be_bytes(message[at..at + 8].try_into().expect("a stamp"));
        let at = Receipt { partition, incarnation: number(0), sequence: number(8) };
        self.state().heard.push(Heard { at, frame: message[16..].to_vec() });
    }

    fn changed(&self, key: &[u8]) {
        self.state().changed.push(key.to_vec());
    }

    fn may_have_changed(&self, partitions: &[Partition]) {
        let mut state = self.state();
        state.may_have_changed.extend(partitions.iter().map(|partition| partition.index()));
    }
}

impl Ears {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test ends in here")
    }

    /// Listens on a tier, without waiting for it.
    pub(crate) fn begin(tier: &RedisTier, prefix: &str) -> (Arc<Self>, Listening) {
        let ears = Arc::new(Self::default());
        let ear: Arc<dyn Ear> = ears.clone();
        let listening = tier.listen(prefix, Arc::downgrade(&ear) as Weak<dyn Ear>).expect("there is a runtime");
        (ears, listening)
    }

    /// Listens on a tier, to all partitions.
    pub(crate) async fn on(tier: &RedisTier, prefix: &str) -> (Arc<Self>, Listening) {
        let (ears, listening) = Self::begin(tier, prefix);
        ears.until_all().await;
        (ears, listening)
    }

    pub(crate) fn is_listening_to_all(&self) -> bool {
        self.state().listening.len() == 256
    }

    pub(crate) async fn until_all(&self) {
        until("every partition is listened to", async || self.is_listening_to_all()).await;
    }

    /// Every partition was lost once more, and is listened to again.
    pub(crate) async fn until_deaf_and_back(&self) {
        until("every partition was lost", async || self.state().losses.len() >= 256).await;
        self.until_all().await;
        self.state().losses.clear();
    }

    pub(crate) async fn until_deaf(&self) {
        until("no partition is listened to", async || self.state().listening.is_empty()).await;
    }

    /// What was heard, once it is so much.
    pub(crate) async fn take(&self, count: usize) -> Vec<Heard> {
        until("the messages have come", async || self.state().heard.len() >= count).await;
        let heard = std::mem::take(&mut self.state().heard);
        assert_eq!(heard.len(), count);
        heard
    }

    /// All messages that were sent before have come by now: this one comes behind them.
    pub(crate) async fn nothing_but(&self, tier: &RedisTier, namespace: &Namespace, key: &RemoteKey) {
        let notice = notice(namespace);
        let told = tell(tier, &notice, std::slice::from_ref(key)).await;
        let heard = self.take(1).await;
        assert_eq!((&heard[0].at, &heard[0].frame), (&told[0], &notice.frame([invalidation(key)].iter())));
    }
}

/// Tells of keys, and where.
pub(crate) async fn tell(tier: &RedisTier, notice: &Notice, keys: &[RemoteKey]) -> Vec<Receipt> {
    let keys: Vec<_> = keys.iter().map(invalidation).collect();
    tier.invalidate(&keys, PATIENCE, Some(notice)).await.expect("the tier answers").receipts
}

fn invalidation(key: &RemoteKey) -> Invalidation {
    Invalidation { key: key.clone(), version: None }
}

pub(crate) fn notice(namespace: &Namespace) -> Notice {
    Notice { node: 7, namespace: namespace.clone() }
}

/// A namespace in a deployment that no other test uses.
pub(crate) fn alone() -> Namespace {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    Namespace::new(&format!("p{}", COUNT.fetch_add(1, Ordering::Relaxed)), "n").expect("plain names")
}

pub(crate) fn all() -> Vec<Partition> {
    (0..=u8::MAX).map(Partition::from_index).collect()
}

/// Where all partitions are.
pub(crate) async fn poll(tier: &RedisTier, prefix: &str) -> Vec<Meta> {
    let polled = tier.poll(prefix, &all()).await.expect("an answer for each");
    polled.into_iter().map(|meta| meta.expect("the master answers")).collect()
}

/// Keys of the same partition.
pub(crate) fn keys_of_one_partition(namespace: &Namespace, partition: Partition, count: usize) -> Vec<RemoteKey> {
    (0_u64..).map(|id| namespace.key(&id)).filter(|key| key.partition() == partition).take(count).collect()
}
