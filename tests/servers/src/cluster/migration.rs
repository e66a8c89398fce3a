//! Slots that change their master.

use std::ops::RangeInclusive;

use redis::Value;

use crate::cluster::RedisCluster;
use crate::error::{StartError, or_panic};

const KEYS_AT_ONCE: usize = 100;
const MIGRATE_LIMIT_MS: u64 = 2_000;

impl RedisCluster {
    /// Moves slots with their keys from one master to another, live, one slot after the other as `redis-cli --cluster reshard`
    /// does, and waits until every running node knows. Clients meet ASK, TRYAGAIN and MOVED. Half a millisecond a slot and some
    /// 20 µs a key.
    #[track_caller]
    pub fn migrate_slots(&self, slots: RangeInclusive<u16>, from: usize, to: usize) {
        or_panic(slots.into_iter().try_for_each(|slot| {
            self.try_begin(slot, from, to)?;
            while self.try_move(slot, from, to, KEYS_AT_ONCE)? != 0 {}
            self.try_finish(slot, from, to)
        }));
        self.await_settled();
    }

    /// Opens a slot for migration and moves no key: from here on `from` answers ASK for keys that it does not have, and either
    /// node TRYAGAIN for several keys that are not all there.
    #[track_caller]
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        or_panic(self.try_begin(slot, from, to));
    }

    /// Moves up to `limit` keys of a slot that is open for migration. Returns how many.
    #[track_caller]
    pub fn migrate_keys(&self, slot: u16, from: usize, to: usize, limit: usize) -> usize {
        or_panic(self.try_move(slot, from, to, limit))
    }

    /// Makes `to` the master of a slot that is open for migration and has no key left at `from`; waits until every running node
    /// knows.
    #[track_caller]
    pub fn finish_migration(&self, slot: u16, from: usize, to: usize) {
        or_panic(self.try_finish(slot, from, to));
        self.await_settled();
    }

    /// Gives a slot to another master without its keys, as an operator does who repairs a cluster by `CLUSTER SETSLOT NODE`, and
    /// waits until every running node knows. The old master deletes its keys; no client is asked to follow them.
    #[track_caller]
    pub fn set_slot_without_migrate(&self, slot: u16, from: usize, to: usize) {
        // Asked itself, the old master would refuse for as long as it has keys of the slot. It believes the new one's greater epoch.
        or_panic(self.client(to).and_then(|mut target| {
            target.ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.id(from)))?;
            target.ask::<()>(&format!("CLUSTER SETSLOT {slot} NODE {}", self.id(to)))
        }));
        self.await_settled();
    }

    fn try_begin(&self, slot: u16, from: usize, to: usize) -> Result<(), StartError> {
        // In this order: a source that answers ASK needs a target that knows.
        self.client(to)?.ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.id(from)))?;
        self.client(from)?.ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.id(to)))
    }

    fn try_move(&self, slot: u16, from: usize, to: usize, limit: usize) -> Result<usize, StartError> {
        let mut source = self.client(from)?;
        let keys: Vec<Vec<u8>> = source.ask(&format!("CLUSTER GETKEYSINSLOT {slot} {limit}"))?;
        if !keys.is_empty() {
            let target = self.node(to);
            let mut migrate = redis::cmd("MIGRATE");
            let port = if self.is_tls { target.tls_port() } else { target.port() };
            migrate.arg("127.0.0.1").arg(port).arg("").arg(0).arg(MIGRATE_LIMIT_MS);
            if let Some(password) = target.password() {
                migrate.arg("AUTH").arg(password);
            }
            source.run::<Value>(migrate.arg("KEYS").arg(&keys))?;
        }
        Ok(keys.len())
    }

    fn try_finish(&self, slot: u16, from: usize, to: usize) -> Result<(), StartError> {
        let told = format!("CLUSTER SETSLOT {slot} NODE {}", self.id(to));
        // The target first: were it to fail after the source, nobody would serve the slot. Gossip tells the rest.
        self.client(to)?.ask::<()>(&told)?;
        self.client(from)?.ask::<()>(&told)
    }
}
