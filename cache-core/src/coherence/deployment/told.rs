//! What becomes of what a cache of this process has told its store.

use super::{Deployment, Member, State, every_partition};
use crate::key::Namespace;
use crate::partition::Partition;
use crate::remote::{Invalidation, Receipt};
use std::sync::Arc;

/// What was told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What<'a> {
    /// These keys.
    Keys(&'a [Invalidation]),
    /// A clear.
    All,
}

impl Deployment {
    /// How many servers polls have told of so far, to be asked before anything is told.
    pub(crate) fn servers(&self) -> u64 {
        self.replay.lock().servers()
    }

    /// What a member has told, since there were so many [servers](Self::servers), and let go of itself. The other caches of its name in this process share the ledger, so they let go before
    /// it says that this is applied.
    pub(crate) fn told(&self, by: u64, namespace: &Namespace, servers: u64, what: What<'_>, receipts: &[Receipt]) {
        self.note(namespace, servers, what, receipts);
        let is_sibling = |member: &Arc<dyn Member>| member.name() == namespace.name() && member.signature() != by;
        // One cache of a name is the rule.
        let mut siblings = self.members();
        siblings.retain(is_sibling);
        // What was heard they have let go of by that.
        let has_heard = |receipt: &Receipt| {
            let state = self.known(receipt.partition).state.lock();
            state.ledger.has(receipt.incarnation, receipt.sequence)
        };
        if !siblings.is_empty() && (receipts.is_empty() || !receipts.iter().all(has_heard)) {
            self.have_let_go(&siblings, what);
        }
        for receipt in receipts {
            self.applied(receipt.partition, receipt.incarnation, receipt.sequence);
        }
    }

    fn have_let_go(&self, members: &[Arc<dyn Member>], what: What<'_>) {
        for member in members {
            match what {
                What::All => every_partition().into_iter().for_each(|partition| self.has_suspect(&**member, partition)),
                What::Keys(told) => {
                    let keys: Vec<_> = told.iter().map(|told| (told.key.encoded(), told.version)).collect();
                    if !member.let_go_of(&keys) {
                        for told in told {
                            self.has_suspect(&**member, told.key.partition());
                        }
                    }
                }
            }
        }
    }

    /// For a failover to come. One that was already noticed here, or comes before anything is known of the server, leaves nobody who would ask for it: what was not told, for certain,
    /// to the server that answered the last poll is told again. So is what another server came amid of, for the receipts are of the messages alone: a clear scans long before it sends those,
    /// and while slots move keys are told in two steps, too. (`spec/src/clear`, `JudgedByReceipts`.)
    fn note(&self, namespace: &Namespace, servers: u64, what: What<'_>, receipts: &[Receipt]) {
        let now = self.now();
        // Under the lock of the state, as when a poll is answered: of the two, whoever comes second sees the other.
        let is_current = |state: &State, partition| {
            let polled = state.polled.map(|meta| meta.incarnation);
            receipts.iter().any(|receipt| receipt.partition == partition && Some(receipt.incarnation) == polled)
        };
        match what {
            What::All => {
                let is_sure = self.replay.lock().note_clear(namespace, servers, now);
                let unsure = |partition: &Partition| !is_current(&self.known(*partition).state.lock(), *partition);
                if !is_sure || every_partition().iter().any(unsure) {
                    self.replay.lock().owe_clear(namespace);
                }
            }
            What::Keys(keys) => {
                for told in keys {
                    let state = self.known(told.key.partition()).state.lock();
                    let mut replay = self.replay.lock();
                    let is_owed = !is_current(&state, told.key.partition()) || replay.servers() != servers;
                    replay.note(namespace, told, now, is_owed);
                }
            }
        }
    }
}
