//! What a tier owes the nodes that listen to it.

use crate::coherence::{Ear, Frame, Meta, Notice};
use crate::key::Namespace;
use crate::partition::Partition;
use crate::record::{Body, Life};
use crate::remote::{Invalidation, Mark, Put, Receipt, RemoteTier, Unmark};
use crate::token::Token;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// A message of a server's takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an ear has heard.
#[derive(Default)]
struct Heard {
    listening: Mutex<HashSet<Partition>>,
    messages: Mutex<Vec<(Receipt, Vec<u8>)>>,
}

impl Ear for Heard {
    fn listening(&self, partitions: &[Partition]) {
        self.listening.lock().extend(partitions);
    }

    fn deaf(&self, partitions: &[Partition]) {
        let mut listening = self.listening.lock();
        for partition in partitions {
            listening.remove(partition);
        }
    }

    fn hear(&self, partition: Partition, message: &[u8]) {
        let frame = Frame::decode(message).expect("a message begins with incarnation and sequence");
        let receipt = Receipt { partition, incarnation: frame.incarnation, sequence: frame.sequence };
        self.messages.lock().push((receipt, message[16..].to_vec()));
    }

    fn changed(&self, _: &[u8]) {}

    fn may_have_changed(&self, _: &[Partition]) {}
}

/// Runs a tier's messages and sequences on keys of its own: `tier` tells, and `other`, which may be the same or a second connection to the same store,
/// listens. Panics with what is wrong.
///
/// # Panics
/// When the tier does not do what [`RemoteTier`] says.
pub async fn backplane_suite(tier: &dyn RemoteTier, other: &dyn RemoteTier) {
    let prefix = format!("suite{:x}", fastrand::u64(..));
    let namespace = Namespace::new(&prefix, "suite").expect("a good name");
    let notice = Notice { node: 7, namespace: namespace.clone() };
    let heard = Arc::new(Heard::default());
    let ear: Arc<dyn Ear> = heard.clone();
    let listening = other.listen(&prefix, Arc::downgrade(&ear)).expect("the tier has messages");
    eventually("every partition is listened to", || heard.listening.lock().len() == 256).await;

    let key = |number: u64| namespace.key(&number);
    let invalidation = |number, version| Invalidation { key: key(number), version };
    let body = |number| Body { life: Life { soft: MINUTE, hard: MINUTE, last: MINUTE }, ..Body::empty(1, 0, key(number).echo()) };
    let mut receipts: Vec<Receipt> = Vec::new();
    // In silence.
    tier.invalidate(&[invalidation(1, None)], MINUTE, None).await.expect("the tier answers");
    for round in 0..3 {
        // Many keys: one message for each partition that they are of.
        let keys: Vec<_> = (0..40).map(|number| invalidation(number, Some(round))).collect();
        let told = tier.invalidate(&keys, MINUTE, Some(&notice)).await.expect("the tier answers");
        let partitions: HashSet<_> = keys.iter().map(|told| told.key.partition()).collect();
        let said: HashSet<_> = told.receipts.iter().map(|receipt| receipt.partition).collect();
        assert_eq!((told.outcome.len(), told.receipts.len()), (keys.len(), partitions.len()));
        assert_eq!(said, partitions);
        receipts.extend(told.receipts);
        // A write of a value, whether it replaces one or not, and a mark's end.
        let put = Put { token: Token::unique(), version: round + 1, age: Duration::ZERO, body: body(1) };
        let told = tier.put(&key(1), &put, MINUTE, Some(&notice)).await.expect("the tier answers");
        assert_eq!(told.receipts.len(), 1, "{:?}", told.outcome);
        receipts.extend(told.receipts);
        let token = Token::unique();
        tier.mark(&key(2), &Mark { token, life: MINUTE, retain: MINUTE }).await.expect("the tier answers");
        let unmark = Unmark { token, version: None, retain: MINUTE };
        let told = tier.unmark(&key(2), &unmark, Some(&notice)).await.expect("the tier answers");
        assert_eq!(told.receipts.len(), 1);
        receipts.extend(told.receipts);
    }
    let cleared = tier.clear(&namespace, MINUTE, Some(&notice)).await.expect("the tier answers");
    assert_eq!(cleared.receipts.len(), 256);
    receipts.extend(cleared.receipts);

    eventually("every message has come", || heard.messages.lock().len() >= receipts.len()).await;
    let messages = heard.messages.lock().clone();
    let told: HashSet<_> = messages.iter().map(|(receipt, _)| *receipt).collect();
    assert_eq!(told, receipts.iter().copied().collect(), "what is told is what is heard");
    assert_eq!(messages.len(), receipts.len(), "and once each");
    assert!(
        messages
            .iter()
            .all(|(_, frame)| Frame::decode(&[&[0; 16][..], frame].concat()).is_some_and(|frame| frame.news.is_some()))
    );

    // The sequences have no gaps, and polls know their ends.
    let partitions: Vec<_> = (0..=u8::MAX).map(Partition::from_index).collect();
    let polled = other.poll(&prefix, &partitions).await.expect("the tier answers");
    for (partition, meta) in partitions.iter().zip(polled) {
        let Meta { incarnation, sequence, .. } = meta.expect("each partition is answered");
        let mut sequences: Vec<_> = receipts.iter().filter(|receipt| receipt.partition == *partition).collect();
        sequences.sort_by_key(|receipt| receipt.sequence);
        assert!(sequences.iter().all(|receipt| receipt.incarnation == incarnation) && incarnation != 0);
        let numbers: Vec<_> = sequences.iter().map(|receipt| receipt.sequence).collect();
        assert_eq!(numbers, (1..=sequence).collect::<Vec<_>>(), "{partition:?}");
    }
    drop(listening);
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedTier;

    #[tokio::test]
    async fn the_embedded_tier_tells_other_nodes() {
        let tier = EmbeddedTier::new();
        backplane_suite(&tier, &tier.as_another_node()).await;
    }
}
