//! Slots that change their master.

use std::ops::RangeInclusive;

use redis::Value;

use crate::cluster::RedisCluster;
use crate::command::Client;
use crate::error::{StartError, or_panic};

const KEYS_AT_ONCE: usize = 100;
const MIGRATE_LIMIT_MS: u64 = 2_000;

impl RedisCluster {
    /// Moves slots with their keys from one master to another, live, one slot after the other as `redis-cli --cluster reshard`
    /// does, and waits until every running node knows. Clients meet ASK, TRYAGAIN and MOVED. A few milliseconds
    /// a slot.
    #[track_caller]
    pub fn migrate_slots(&self, slots: RangeInclusive<u16>, from: usize, to: usize) {
        or_panic(self.path(from, to).and_then(|mut path| {
            slots.into_iter().try_for_each(|slot| {
                path.begin(slot)?;
                while path.move_keys(slot, KEYS_AT_ONCE)? != 0 {}
                path.finish(slot)
            })
        }));
        self.await_settled();
    }

    /// Opens a slot for migration and moves no key: from here on `from` answers ASK for keys that it does not have, and either
    /// node TRYAGAIN for several keys that are not all there.
    #[track_caller]
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        or_panic(self.path(from, to).and_then(|mut path| path.begin(slot)));
    }

    /// Moves up to `limit` keys of a slot that is open for migration. Returns how many.
    #[track_caller]
    pub fn migrate_keys(&self, slot: u16, from: usize, to: usize, limit: usize) -> usize {
        or_panic(self.path(from, to).and_then(|mut path| path.move_keys(slot, limit)))
    }

    /// Makes `to` the master of a slot that is open for migration and has no key left at `from`; waits until every running node
    /// knows.
    #[track_caller]
    pub fn finish_migration(&self, slot: u16, from: usize, to: usize) {
        or_panic(self.path(from, to).and_then(|mut path| path.finish(slot)));
        self.await_settled();
    }

    /// Gives a slot to another master without its keys, as an operator does who repairs a cluster by `CLUSTER SETSLOT NODE`, and
    /// waits until every running node knows. The old master deletes its keys; no client is asked to follow them.
    #[track_caller]
    pub fn set_slot_without_migrate(&self, slot: u16, from: usize, to: usize) {
        // Asked itself, the old master would refuse for as long as it has keys of the slot. It believes the new one's greater epoch.
        or_panic(self.path(from, to).and_then(|mut path| {
            path.target.ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", path.from))?;
            path.target.ask::<()>(&format!("CLUSTER SETSLOT {slot} NODE {}", path.to))
        }));
        self.await_settled();
    }

    fn path(&self, from: usize, to: usize) -> Result<Path<'_>, StartError> {
        let node = self.node(to);
        let port = self.port(node);
        let (source, target) = (self.client(from)?, self.client(to)?);
        Ok(Path { from: self.id(from), to: self.id(to), source, target, port, password: node.password() })
    }
}

/// From one master to another, by their ids.
struct Path<'a> {
    from: &'a str,
    to: &'a str,
    source: Client,
    target: Client,
    /// The target's, as the source reaches it.
    port: u16,
    password: Option<&'a str>,
}

impl Path<'_> {
    fn begin(&mut self, slot: u16) -> Result<(), StartError> {
        // In this order: a source that answers ASK needs a target that knows.
        self.target.ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.from))?;
        self.source.ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.to))
    }

    fn move_keys(&mut self, slot: u16, limit: usize) -> Result<usize, StartError> {
        let keys: Vec<Vec<u8>> = self.source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} {limit}"))?;
        if !keys.is_empty() {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.port).arg("").arg(0).arg(MIGRATE_LIMIT_MS);
            if let Some(password) = self.password {
                migrate.arg("AUTH").arg(password);
            }
            self.source.run::<Value>(migrate.arg("KEYS").arg(&keys))?;
        }
        Ok(keys.len())
    }

    fn finish(&mut self, slot: u16) -> Result<(), StartError> {
        let told = format!("CLUSTER SETSLOT {slot} NODE {}", self.to);
        // The target first: were it to fail after the source, nobody would serve the slot. Gossip tells the rest.
        self.target.ask::<()>(&told)?;
        self.source.ask::<()>(&told)
    }
}
