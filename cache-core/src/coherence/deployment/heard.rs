//! What a deployment does with what its store tells it.

use super::Deployment;
use crate::coherence::Ear;
use crate::coherence::Frame;
use crate::key::Named;
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
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
                let is_applied = self.known(partition).state.lock().ledger.has(frame.incarnation, frame.sequence);
                for member in self.members().iter().filter(|member| member.name().as_bytes() == news.name) {
                    let is_own = member.signature() == news.node;
                    // Whoever sent it lets go before and after it tells, and skips it once it has said so. Where nobody has, because the answer is on its way, or because nobody waits
                    // for one any more, its block tells the two apart: so that a `put` whose message is faster than its answer does not throw its own value away.
                    let has_let_go = match &news.keys {
                        _ if is_own && is_applied => true,
                        Some(keys) if is_own => member.let_go_of_own(keys),
                        Some(keys) => member.let_go_of(keys),
                        None => false,
                    };
                    if !has_let_go {
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
