//! What a deployment does with what its store tells it.

use super::{Deployment, Member};
use crate::coherence::Ear;
use crate::coherence::Frame;
use crate::key::Named;
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Ear for Deployment {
    fn listening(&self, partitions: &[Partition]) {
        for partition in partitions {
            let mut state = self.known(*partition).state.lock();
            state.is_listening = true;
            state.subscription += 1;
        }
        // What was told before is told by the next poll, and nothing is verified until then.
        self.poked.notify_one();
    }

    fn deaf(&self, partitions: &[Partition]) {
        for partition in partitions {
            let known = self.known(*partition);
            let mut state = known.state.lock();
            if std::mem::replace(&mut state.is_listening, false) {
                state.begin_anew();
                known.verified.store(0, Ordering::Release);
            }
        }
        self.publish();
        self.poked.notify_one();
    }

    fn hear(&self, partition: Partition, message: &[u8]) {
        self.counts.heard.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = Frame::decode(message) else {
            return self.suspect(partition);
        };
        if is(Mutant::DuplicatesIgnored) && frame.sequence <= self.known(partition).state.lock().ledger.mark().sequence {
            return;
        }
        match frame.news {
            // A newer version's news: something has changed.
            None => self.suspect(partition),
            Some(news) => {
                // Not whoever sent it, which lets go before and after it tells, and keeps the key blocked in between.
                let concerned =
                    |member: &&Arc<dyn Member>| member.name().as_bytes() == news.name && member.signature() != news.node;
                for member in self.members().iter().filter(concerned) {
                    if !news.keys.as_ref().is_some_and(|keys| member.let_go_of(keys)) {
                        self.has_suspect(&**member, partition);
                    }
                }
            }
        }
        self.applied(partition, frame.incarnation, frame.sequence);
    }

    fn changed(&self, key: &[u8]) {
        // What is no record's is the store's own: the sequences of a partition change with each invalidation.
        let Some(named) = Named::parse(&self.prefix, key) else { return };
        self.counts.changes.fetch_add(1, Ordering::Relaxed);
        for member in self.members().iter().filter(|member| member.name().as_bytes() == named.name) {
            if !named.encoded.is_some_and(|encoded| member.ask_again(encoded))
                && let Some(partition) = named.partition()
            {
                self.has_suspect(&**member, partition);
            }
        }
    }

    fn may_have_changed(&self, partitions: &[Partition]) {
        // What was never verified is suspected by its first poll.
        let known = |partition: &&Partition| self.known(**partition).state.lock().ledger.mark().incarnation != 0;
        for partition in partitions.iter().filter(known) {
            self.suspect(*partition);
        }
    }
}
