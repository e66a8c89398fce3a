//! Who listens where: one connection to the one server, or one to each master that has partitions, as the map has it.

use super::names::channel;
use super::roster::{NOBODY, Roster};
use super::station::{Channels, Station};
use super::tell::every_partition;
use crate::cluster::{Cluster, Endpoint, slot_of};
use crate::config::Address;
use crate::multiplexer::Guard;
use crate::nodes::Nodes;
use crate::tier::RedisTier;
use cache_core::{Ear, Listening, PARTITIONS, Partition};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Listens until what is returned is dropped, or the tier is closed. `None` outside of a runtime.
pub(crate) fn listen(tier: &RedisTier, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
    let runtime = Handle::try_current().ok()?;
    let roster = Arc::new(Roster::new(ear, PARTITIONS));
    let post = Post { tier: tier.clone(), prefix: prefix.to_owned(), roster, last: NOBODY };
    Some(Listening::new(Guard(runtime.spawn(post.keep()).abort_handle())))
}

struct Post {
    tier: RedisTier,
    prefix: String,
    roster: Arc<Roster>,
    /// The last connection's number.
    last: u64,
}

/// A connection's partitions, and its end.
struct Posted {
    id: u64,
    wanted: watch::Sender<Vec<Partition>>,
    _task: Guard,
}

impl Post {
    async fn keep(mut self) {
        let (tier, roster) = (self.tier.clone(), self.roster.clone());
        tokio::select! {
            () = self.listen() => {}
            () = tier.closed() => {}
        }
        for partition in every_partition() {
            roster.assign(partition, NOBODY);
        }
    }

    async fn listen(&mut self) {
        let tier = self.tier.clone();
        let channels = Arc::new(Channels::new(&self.prefix, tier.config().database));
        match tier.nodes() {
            Nodes::One(node) => {
                let posted = self.station(node.address().clone(), &channels);
                self.give(&posted, every_partition());
                std::future::pending::<()>().await;
            }
            Nodes::Cluster(cluster) => self.follow(cluster, &channels).await,
        }
    }

    /// Has each partition listened to where it is.
    async fn follow(&mut self, cluster: &Cluster, channels: &Arc<Channels>) {
        let slots = every_partition().into_iter().map(|partition| slot_of(&channel(&self.prefix, partition, 0)));
        let slots: Vec<_> = slots.collect();
        let mut changes = cluster.changes();
        let mut posted: HashMap<Endpoint, Posted> = HashMap::new();
        loop {
            changes.mark_unchanged();
            let mut shares: HashMap<Endpoint, Vec<Partition>> = HashMap::new();
            for (partition, master) in every_partition().into_iter().zip(cluster.masters_of(slots.iter().copied())) {
                match master {
                    Some(master) => shares.entry(master).or_default().push(partition),
                    None => self.roster.assign(partition, NOBODY),
                }
            }
            for (master, share) in &shares {
                let posted = posted.entry(master.clone()).or_insert_with(|| self.station(master.address(), channels));
                self.give(posted, share.clone());
            }
            posted.retain(|master, _| shares.contains_key(master));
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn station(&mut self, address: Address, channels: &Arc<Channels>) -> Posted {
        self.last += 1;
        let (wanted, wants) = watch::channel(Vec::new());
        let (tier, roster) = (self.tier.clone(), self.roster.clone());
        let station = Station { tier, address, channels: channels.clone(), wanted: wants, roster, id: self.last };
        Posted { id: self.last, wanted, _task: Guard(tokio::spawn(station.run()).abort_handle()) }
    }

    /// Partitions are this connection's, and no other's any more.
    fn give(&self, posted: &Posted, share: Vec<Partition>) {
        for partition in &share {
            self.roster.assign(*partition, posted.id);
        }
        posted.wanted.send_if_modified(|wanted| {
            let is_new = *wanted != share;
            *wanted = share;
            is_new
        });
    }
}
