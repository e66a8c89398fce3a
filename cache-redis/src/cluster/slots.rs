//! The map of a cluster: which node has which of the 16,384 slots.

use crate::config::Address;
use crc::{CRC_16_XMODEM, Crc};
use redis::Value;
use std::fmt;
use std::sync::Arc;

/// As many slots there are in any cluster.
pub(crate) const SLOTS: usize = 16_384;
/// Redis recommends 1,000 nodes at most. What names more is no cluster, and must not cost us memory.
const MOST_MASTERS: usize = 1_024;
/// As many replicas of one master are worth knowing.
const MOST_REPLICAS: usize = 16;

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

    /// An endpoint that this node names. Without a host it is this one's: a node behind a name that it does not know. `None` for what
    /// cannot be an endpoint, and for `?`: a node that should have a host name and has none.
    pub(crate) fn beside(&self, host: &str, port: u16) -> Option<Self> {
        let host = if host.is_empty() { self.host.clone() } else { is_host(host).then(|| host.into())? };
        (port != 0).then_some(Self { host, port })
    }
}

/// Whether a text from the network may be a name or an address: of these characters, and no longer than names are.
fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%');
    (1..=255).contains(&text.len()) && text.bytes().all(fits)
}

/// The owners of all slots.
#[derive(Clone, Default)]
pub(crate) struct SlotMap {
    shards: Vec<Shard>,
    /// One more than the place of the shard in the list, or zero; empty while nothing is known.
    owners: Vec<u16>,
}

#[derive(Clone)]
struct Shard {
    master: Endpoint,
    replicas: Vec<Endpoint>,
}

impl SlotMap {
    /// Reads the reply to CLUSTER SLOTS of the node that was asked; `None` if it is none.
    pub(crate) fn from_slots(reply: &Value, asked: &Endpoint) -> Option<Self> {
        let mut map = Self { shards: Vec::new(), owners: vec![0; SLOTS] };
        let ranges = array(reply).filter(|ranges| ranges.len() <= SLOTS)?;
        for range in ranges {
            let [first, last, master, replicas @ ..] = array(range)? else { return None };
            let (first, last) = (slot(first)?, slot(last)?);
            let owner = map.place(&endpoint(master, asked)?)?;
            map.owners.get_mut(first..=last)?.fill(owner);
            // Redis leaves out those that are down or without data. One without an address that we understand is none to us.
            let replicas = replicas.iter().take(MOST_REPLICAS).filter_map(|replica| endpoint(replica, asked));
            map.shards[usize::from(owner) - 1].replicas = replicas.collect();
        }
        Some(map)
    }

    /// One more than the place of a master, which is added if it is new; `None` if there are too many.
    fn place(&mut self, master: &Endpoint) -> Option<u16> {
        let known = self.shards.iter().position(|known| known.master == *master);
        let place = known.unwrap_or(self.shards.len());
        if place == MOST_MASTERS {
            return None;
        }
        if known.is_none() {
            self.shards.push(Shard { master: master.clone(), replicas: Vec::new() });
        }
        Some(place as u16 + 1)
    }

    /// A number that all slots of one master share; 0 if nobody has the slot.
    pub(crate) fn number(&self, slot: u16) -> u16 {
        self.owners.get(usize::from(slot)).copied().unwrap_or(0)
    }

    fn shard(&self, slot: u16) -> Option<&Shard> {
        self.shards.get(usize::from(self.number(slot)).checked_sub(1)?)
    }

    /// The master of a slot, if anyone has it.
    pub(crate) fn master(&self, slot: u16) -> Option<&Endpoint> {
        self.shard(slot).map(|shard| &shard.master)
    }

    /// The replicas of a slot's master that were well when the map was made.
    pub(crate) fn replicas(&self, slot: u16) -> &[Endpoint] {
        self.shard(slot).map_or(&[], |shard| &shard.replicas)
    }

    /// The first slot that nobody has.
    pub(crate) fn gap(&self) -> Option<u16> {
        if self.owners.is_empty() {
            return Some(0);
        }
        self.owners.iter().position(|owner| *owner == 0).map(|slot| slot as u16)
    }

    pub(crate) fn masters(&self) -> impl Iterator<Item = &Endpoint> {
        self.shards.iter().map(|shard| &shard.master)
    }

    pub(crate) fn all_replicas(&self) -> impl Iterator<Item = &Endpoint> {
        self.shards.iter().flat_map(|shard| &shard.replicas)
    }

    /// The same with another master for one slot. One that is left without slots stays: the next map has it or not.
    pub(crate) fn with_moved(&self, slot: u16, to: &Endpoint) -> Self {
        let mut map = self.clone();
        map.owners.resize(SLOTS, 0);
        // A node that keeps naming new ones is not followed: the next map tells.
        if let Some(owner) = map.place(to) {
            map.owners[usize::from(slot) % SLOTS] = owner;
        }
        map
    }
}

/// A node in the reply: its preferred name or address, its port, its id, and what else is known of it by name.
fn endpoint(node: &Value, asked: &Endpoint) -> Option<Endpoint> {
    let [host, port, rest @ ..] = array(node)? else { return None };
    let Value::Int(port) = port else { return None };
    let host = match host {
        Value::Nil => "",
        // It should be called by a name and has none, so its address is named beside.
        host if text(host) == Some("?") => address(rest.get(1)?)?,
        host => text(host)?,
    };
    asked.beside(host, u16::try_from(*port).ok()?)
}

/// The address among a node's further properties: pairs, which RESP3 calls a map.
fn address(properties: &Value) -> Option<&str> {
    match properties {
        Value::Map(pairs) => pairs.iter().find(|(name, _)| text(name) == Some("ip")).and_then(|(_, ip)| text(ip)),
        properties => {
            array(properties)?.chunks_exact(2).find(|pair| text(&pair[0]) == Some("ip")).and_then(|pair| text(&pair[1]))
        }
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
        assert_eq!(slot_of(b"123456789"), 0x31C3);
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
        for host in [Value::Nil, bulk("")] {
            let map = SlotMap::from_slots(&Value::Array(vec![range(0, 16_383, host, 5)]), &Endpoint::new("asked", 9)).unwrap();
            assert_eq!(map.master(7), Some(&Endpoint::new("asked", 5)));
        }
    }

    /// What Redis 7.0.15 wrote for slots 0 to 5,461, with a master and a replica.
    fn recorded(host: &str, more: &str) -> Value {
        let node = |port| format!("*4\r\n{host}:{port}\r\n$40\r\ne90edd111371aab756d3e9554de9523057f4f30f\r\n{more}");
        let reply = format!("*1\r\n*4\r\n:0\r\n:5461\r\n{}{}", node(6379), node(6380));
        redis::parse_redis_value(reply.as_bytes()).unwrap()
    }

    #[test]
    fn nodes_are_called_as_they_prefer_by_both_protocols() {
        let ip = "$2\r\nip\r\n$8\r\n10.1.2.3\r\n";
        let name = "$8\r\nhostname\r\n$7\r\nredis-0\r\n";
        for (host, more, expected) in [
            ("$8\r\n10.1.2.3\r\n", "*0\r\n".to_owned(), "10.1.2.3"),
            ("$8\r\n10.1.2.3\r\n", format!("%1\r\n{name}"), "10.1.2.3"),
            ("$7\r\nredis-0\r\n", format!("*2\r\n{ip}"), "redis-0"),
            ("$7\r\nredis-0\r\n", format!("%1\r\n{ip}"), "redis-0"),
            // Told to call nodes by their names, of which this one has none.
            ("$1\r\n?\r\n", format!("*2\r\n{ip}"), "10.1.2.3"),
            ("$1\r\n?\r\n", format!("%2\r\n{name}{ip}"), "10.1.2.3"),
            // Told not to name any.
            ("$-1\r\n", format!("*2\r\n{ip}"), "asked"),
            ("_\r\n", format!("%2\r\n{ip}{name}"), "asked"),
        ] {
            let map = SlotMap::from_slots(&recorded(host, &more), &Endpoint::new("asked", 9)).unwrap();
            let (master, replicas) = (map.master(5461), map.replicas(5461));
            assert_eq!(
                (master, replicas),
                (Some(&Endpoint::new(expected, 6379)), &[Endpoint::new(expected, 6380)][..]),
                "{host}{more}"
            );
            assert_eq!((map.master(5462), map.replicas(5462)), (None, &[][..]));
        }
    }

    #[test]
    fn a_name_that_is_missing_or_cannot_be_one_makes_no_map() {
        for host in ["?", "a b", "a\r\nGET", "user@a", "a/b", "ä", &"a".repeat(256)] {
            let reply = Value::Array(vec![range(0, 16_383, bulk(host), 5)]);
            assert!(SlotMap::from_slots(&reply, &Endpoint::new("asked", 9)).is_none(), "{host}");
        }
    }

    #[test]
    fn a_replica_that_cannot_be_understood_costs_no_map() {
        let reply = Value::Array(vec![range(0, 16_383, bulk("a"), 1)]);
        let Value::Array(mut ranges) = reply else { panic!("an array") };
        let Value::Array(range) = &mut ranges[0] else { panic!("an array") };
        range.push(Value::Nil);
        range.push(Value::Array(vec![bulk("b c"), Value::Int(1)]));
        let map = SlotMap::from_slots(&Value::Array(ranges), &Endpoint::new("asked", 9)).unwrap();
        assert_eq!(map.replicas(0), [Endpoint::new("replica", 1)]);
    }

    #[test]
    fn more_masters_than_a_cluster_has_are_refused_and_not_followed() {
        let one = |slot: i64| range(slot, slot, bulk(&format!("host-{slot}")), 1);
        let of = |count: i64| SlotMap::from_slots(&Value::Array((0..count).map(one).collect()), &Endpoint::new("asked", 9));
        let full = of(1_024).unwrap();
        assert!(of(1_025).is_none());
        let (known, stranger) = (Endpoint::new("host-5", 1), Endpoint::new("stranger", 1));
        assert_eq!(full.with_moved(0, &known).master(0), Some(&known));
        assert_eq!(full.with_moved(0, &stranger).master(0), full.master(0));
    }

    #[test]
    fn a_move_changes_one_slot() {
        let map = SlotMap::from_slots(&Value::Array(vec![range(0, 16_383, bulk("a"), 1)]), &Endpoint::new("asked", 9)).unwrap();
        let moved = map.with_moved(7, &Endpoint::new("b", 2));
        assert_eq!((moved.master(6), moved.master(7)), (map.master(6), Some(&Endpoint::new("b", 2))));
        assert_eq!(SlotMap::default().with_moved(7, &Endpoint::new("b", 2)).master(7), Some(&Endpoint::new("b", 2)));
    }

    /// First slot, last slot and host of a few ranges, which may overlap.
    fn owners() -> impl Strategy<Value = Vec<(i64, i64, i64)>> {
        let bound = || prop_oneof![0_i64..130, 16_300_i64..16_384];
        proptest::collection::vec(
            (bound(), bound(), 0_i64..4).prop_map(|(one, other, host)| (one.min(other), one.max(other), host)),
            0..6,
        )
    }

    fn map_of(ranges: &[(i64, i64, i64)]) -> SlotMap {
        let ranges = ranges.iter().map(|(first, last, host)| range(*first, *last, bulk(&format!("host-{host}")), 1));
        SlotMap::from_slots(&Value::Array(ranges.collect()), &Endpoint::new("asked", 9)).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_no_map_is_refused_without_a_panic(first in -2_i64..20_000, last in -2_i64..20_000, port in -1_i64..70_000) {
            let map = SlotMap::from_slots(&Value::Array(vec![range(first, last, bulk("a"), port)]), &Endpoint::new("asked", 9));
            let fine = (0..16_384).contains(&first) && (first - 1..16_384).contains(&last) && (1..65_536).contains(&port);
            prop_assert_eq!(map.is_some(), fine);
        }

        #[test]
        fn a_slot_has_the_master_of_the_last_range_over_it(ranges in owners()) {
            let map = map_of(&ranges);
            for slot in [0, 1, 63, 64, 127, 128, 16_383] {
                let over = ranges.iter().rfind(|(first, last, _)| (*first..=*last).contains(&i64::from(slot)));
                prop_assert_eq!(map.master(slot).cloned(), over.map(|(_, _, host)| Endpoint::new(&format!("host-{host}"), 1)));
            }
        }
    }
}
