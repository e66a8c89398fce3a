//! The map of a cluster: which node has which of the 16,384 slots.

use crate::builder::Address;
use crc::{CRC_16_XMODEM, Crc};
use redis::Value;
use std::fmt;
use std::sync::Arc;

/// As many slots there are in any cluster.
pub(crate) const SLOTS: usize = 16_384;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a key: a CRC of what stands between the first `{` and the next `}`, if that is anything, or else of all of it. As in the
/// specification of Redis Cluster.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        Some(&rest[..close]).filter(|tag| !tag.is_empty())
    });
    CRC.checksum(tag.unwrap_or(key)) % SLOTS as u16
}

/// Where a node listens.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    host: Arc<str>,
    port: u16,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses stay out of logs.
        f.write_str("Endpoint")
    }
}

impl Endpoint {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    pub(crate) fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Tcp(host, port) => Some(Self::new(host, *port)),
            _ => None,
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Tcp(self.host.to_string(), self.port)
    }

    /// An endpoint that this node names. Without a host it is this one's: a node behind a name that it does not know.
    pub(crate) fn beside(&self, host: &str, port: u16) -> Option<Self> {
        let unknown = matches!(host, "" | "?");
        (port != 0).then(|| Self { host: if unknown { self.host.clone() } else { host.into() }, port })
    }
}

/// The owners of all slots.
#[derive(Clone, Default)]
pub(crate) struct SlotMap {
    masters: Vec<Endpoint>,
    /// One more than the place of the master in the list, or zero; empty while nothing is known.
    owners: Vec<u16>,
}

impl SlotMap {
    /// Reads the reply to CLUSTER SLOTS of the node that was asked; `None` if it is none.
    pub(crate) fn from_slots(reply: &Value, asked: &Endpoint) -> Option<Self> {
        let mut map = Self { masters: Vec::new(), owners: vec![0; SLOTS] };
        for range in array(reply)? {
            let [first, last, master, ..] = array(range)? else { return None };
            let (first, last) = (slot(first)?, slot(last)?);
            let [host, port, ..] = array(master)? else { return None };
            let host = match host {
                Value::Nil => "",
                host => text(host)?,
            };
            let Value::Int(port) = port else { return None };
            let owner = map.place(&asked.beside(host, u16::try_from(*port).ok()?)?);
            map.owners.get_mut(first..=last)?.fill(owner);
        }
        Some(map)
    }

    /// One more than the place of a master, which is added if it is new.
    fn place(&mut self, master: &Endpoint) -> u16 {
        let place = self.masters.iter().position(|known| known == master).unwrap_or_else(|| {
            self.masters.push(master.clone());
            self.masters.len() - 1
        });
        place as u16 + 1
    }

    /// The master of a slot, if anyone has it.
    pub(crate) fn master(&self, slot: u16) -> Option<&Endpoint> {
        let owner = usize::from(*self.owners.get(usize::from(slot))?);
        self.masters.get(owner.checked_sub(1)?)
    }

    pub(crate) fn masters(&self) -> impl Iterator<Item = &Endpoint> {
        self.masters.iter()
    }

    /// The same with another master for one slot. One that is left without slots stays: the next map has it or not.
    pub(crate) fn with_moved(&self, slot: u16, to: &Endpoint) -> Self {
        let mut map = self.clone();
        map.owners.resize(SLOTS, 0);
        let owner = map.place(to);
        map.owners[usize::from(slot) % SLOTS] = owner;
        map
    }
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn slot(value: &Value) -> Option<usize> {
    match value {
        Value::Int(slot) => usize::try_from(*slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31C3 % 16_384);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), CRC.checksum(b"foo{}{bar}") % 16_384, "an empty tag is none");
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"), "the first brace opens");
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"), "the first tag counts");
        assert_eq!(slot_of(b"foo{bar"), CRC.checksum(b"foo{bar") % 16_384, "a tag that does not end is none");
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = |host, port| Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), node(bulk("replica"), 1)])
    }

    #[test]
    fn a_map_knows_the_master_of_each_slot_and_its_gaps() {
        let reply =
            Value::Array(vec![range(0, 99, bulk("a"), 1), range(200, 16_383, bulk("b"), 2), range(100, 100, bulk("a"), 1)]);
        let map = SlotMap::from_slots(&reply, &Endpoint::new("asked", 9)).unwrap();
        let (a, b) = (Endpoint::new("a", 1), Endpoint::new("b", 2));
        assert_eq!(
            [0, 99, 100, 101, 199, 200, 16_383].map(|slot| map.master(slot)),
            [Some(&a), Some(&a), Some(&a), None, None, Some(&b), Some(&b)]
        );
        assert_eq!(map.masters().count(), 2);
    }

    #[test]
    fn a_node_that_does_not_know_its_host_is_where_it_was_asked() {
        for host in [Value::Nil, bulk(""), bulk("?")] {
            let map = SlotMap::from_slots(&Value::Array(vec![range(0, 16_383, host, 5)]), &Endpoint::new("asked", 9)).unwrap();
            assert_eq!(map.master(7), Some(&Endpoint::new("asked", 5)));
        }
    }

    #[test]
    fn a_move_changes_one_slot() {
        let map = SlotMap::from_slots(&Value::Array(vec![range(0, 16_383, bulk("a"), 1)]), &Endpoint::new("asked", 9)).unwrap();
        let moved = map.with_moved(7, &Endpoint::new("b", 2));
        assert_eq!((moved.master(6), moved.master(7)), (map.master(6), Some(&Endpoint::new("b", 2))));
        assert_eq!(SlotMap::default().with_moved(7, &Endpoint::new("b", 2)).master(7), Some(&Endpoint::new("b", 2)));
    }

    proptest! {
        #[test]
        fn what_is_no_map_is_refused_without_a_panic(first in -2_i64..20_000, last in -2_i64..20_000, port in -1_i64..70_000) {
            let map = SlotMap::from_slots(&Value::Array(vec![range(first, last, bulk("a"), port)]), &Endpoint::new("asked", 9));
            let fine = (0..16_384).contains(&first) && (first - 1..16_384).contains(&last) && (1..65_536).contains(&port);
            prop_assert_eq!(map.is_some(), fine);
        }
    }
}
