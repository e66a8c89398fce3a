//! Sweeps: every key of a namespace, or those that begin alike, by SCAN over every master.

use crate::invalidate::{INVALIDATE_BATCH, Lot};
use crate::multiplexer::Request;
use crate::node::Node;
use crate::tier::{RedisTier, failed, read};

use bytes::Bytes;
use cache_core::{KeyPrefix, Namespace, Notice, Receipt, Result};
use std::sync::Arc;
use std::time::Duration;

/// Keys that one SCAN looks at. Redis does nothing else meanwhile: a millisecond at most.
const SCAN_BATCH: usize = 1_000;

/// How far a sweep has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Replies to SCAN so far: each stands for some 1,000 keys, of whatever kind.
    pub batches: u64,
    /// Keys found that were to go. One that is renewed meanwhile may be found twice.
    pub found: u64,
    /// Of these, the records that are tombstones now. The others had vanished, or are not ours.
    pub tombstoned: u64,
    /// Masters whose keys have all been looked at.
    pub masters_done: usize,
    /// Masters there are.
    pub masters: usize,
}

/// What a sweep does with keys: which ones, and where to.
struct Sweep<'a> {
    verb: &'static str,
    namespace: &'a Namespace,
    retain: Duration,
    wanted: &'a (dyn Fn(&[u8]) -> bool + Sync),
    progress: &'a mut (dyn FnMut(&Swept) + Send),
    swept: Swept,
}

impl RedisTier {
    /// Invalidates the records of all keys that begin with a prefix: their values are unreadable in L2, and loads of them that began earlier
    /// cannot store. Tombstones stay for `retain`: at least as long as the longest load, a minute as a rule. Counters stay.
    ///
    /// **Digested keys**, those over 200 bytes, are known by their digest alone: all of the namespace's go with each sweep, since any may begin
    /// so. Keys whose records come meanwhile may be missed; a load that brings one began after the sweep did. Those of slots that move meanwhile (a resharding cluster) may
    /// be missed, too: sweep again when they have.
    ///
    /// **L1**: when all is swept, every node is told, this one too, and lets go of whatever it has of the namespace: a message names no prefix.
    /// Nobody is told of a sweep that failed or was dropped.
    ///
    /// Cost: a `SCAN` over *all* keys of every master, in batches of 1,000 that take Redis up to 1 ms each; the names of the namespace's
    /// keys come over the network; then the invalidation script, up to 128 keys at a time, for some 5 µs a key, and at the end
    /// a script for each of the 256 partitions. Never `KEYS`. Each step
    /// ends within the tier's timeout, the whole takes as long as it takes: 4 s for 1,000,000 keys of others, in a debug build on 2 vCPUs that
    /// were busy with more. For what is done often, make it a namespace of its own, or a version in the key.
    ///
    /// `progress` is called after each batch. Dropping the future stops after the batch under way, and what is done stays done: repeat
    /// it to finish.
    ///
    /// ```no_run
    /// # async fn example(tier: cache_redis::RedisTier) -> cache_core::Result<()> {
    /// use cache_core::Namespace;
    /// use cache_redis::KeyPrefix;
    /// use std::time::Duration;
    ///
    /// let orders = Namespace::new("shop", "orders")?; // keys are (customer, order)
    /// let of_customer = KeyPrefix::parts(["17"]);
    /// let swept = tier.invalidate_prefix(&orders, &of_customer, Duration::from_secs(60), |so_far| println!("{so_far:?}")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first one of any step, as [`RemoteTier::invalidate`](cache_core::RemoteTier::invalidate); a master that fails does not keep
    /// the others from being swept. What was reached is what `progress` was told last.
    pub async fn invalidate_prefix(
        &self,
        namespace: &Namespace,
        prefix: &KeyPrefix,
        retain: Duration,
        mut progress: impl FnMut(&Swept) + Send,
    ) -> Result<Swept> {
        // No node's number, so that no node takes it for its own news.
        let notice = Notice { node: fastrand::u64(..), namespace: namespace.clone() };
        Ok(self.sweep_prefix(namespace, prefix, retain, Some(&notice), &mut progress).await?.0)
    }

    /// The same, told by whomever.
    pub(crate) async fn sweep_prefix(
        &self,
        namespace: &Namespace,
        prefix: &KeyPrefix,
        retain: Duration,
        notice: Option<&Notice>,
        progress: &mut (dyn FnMut(&Swept) + Send),
    ) -> Result<(Swept, Vec<Receipt>)> {
        let verb = "invalidate_prefix";
        let swept = self.sweep(verb, namespace, retain, &|key| prefix.may_match(namespace, key), progress).await?;
        let receipts = match notice {
            Some(notice) => self.tell_all(verb, notice).await?,
            None => Vec::new(),
        };
        Ok((swept, receipts))
    }

    /// Tombstones the records of a namespace whose Redis keys are wanted.
    pub(crate) async fn sweep(
        &self,
        verb: &'static str,
        namespace: &Namespace,
        retain: Duration,
        wanted: &(dyn Fn(&[u8]) -> bool + Sync),
        progress: &mut (dyn FnMut(&Swept) + Send),
    ) -> Result<Swept> {
        // Replicas may have records that the masters have lost, which no sweep finds.
        if let Some(replicas) = self.replicas() {
            replicas.note_all(retain);
        }
        let masters = self.nodes().masters(self.deadline()).await.inspect_err(|err| failed(verb, err))?;
        let swept = Swept { masters: masters.len(), ..Swept::default() };
        let mut sweep = Sweep { verb, namespace, retain, wanted, progress, swept };
        let mut first = Ok(());
        for master in &masters {
            let outcome = self.sweep_master(master, &mut sweep).await;
            first = first.and(outcome);
        }
        first.map(|()| sweep.swept)
    }

    async fn sweep_master(&self, master: &Arc<Node>, sweep: &mut Sweep<'_>) -> Result<()> {
        // Neither part of a namespace can hold a character that means something in a pattern. A prefix could, and is no part of it:
        // beside it the digested keys are needed, and a pattern has no "or".
        let pattern = format!("{}{{*}}:{}[:#]*", sweep.namespace.prefix(), sweep.namespace.name());
        let mut cursor = 0_u64;
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_BATCH);
            let scanned = master.send(self.deadline(), Request::Run(&cmd)).await;
            let scanned = scanned.and_then(|scanned| read::<(u64, Vec<Bytes>)>(scanned.reply));
            let (next, mut keys) = scanned.inspect_err(|err| failed(sweep.verb, err))?;
            // The pattern's star also crosses colons and braces.
            keys.retain(|key| sweep.namespace.contains(key) && (sweep.wanted)(key));
            sweep.swept.batches += 1;
            sweep.swept.found += keys.len() as u64;
            for lot in self.nodes().lots(keys.iter().map(|key| &key[..]), INVALIDATE_BATCH) {
                let wanted = lot.into_iter().map(|place| (&keys[place][..], Vec::new()));
                let Lot { letters, .. } =
                    self.run_invalidate(sweep.verb, self.deadline(), sweep.retain, wanted.collect(), None).await?;
                sweep.swept.tombstoned += letters.iter().map(|letter| u64::from(*letter == b'T')).sum::<u64>();
            }
            sweep.swept.masters_done += usize::from(next == 0);
            (sweep.progress)(&sweep.swept);
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}
