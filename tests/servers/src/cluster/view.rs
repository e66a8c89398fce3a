//! How one node of a cluster sees all of them.

use std::collections::BTreeMap;

use redis::Value;

use crate::command::Client;
use crate::error::StartError;

/// The answers of one node to `CLUSTER NODES`, `CLUSTER INFO` and `CLUSTER SLOTS`.
#[derive(Debug)]
pub(super) struct View {
    nodes: BTreeMap<String, Member>,
    me: Option<String>,
    info: String,
    announced: Value,
}

/// One line of `CLUSTER NODES`.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    /// The id of the node it replicates; none for a master.
    pub(super) master: Option<String>,
    pub(super) epoch: u64,
    /// First and last of each range.
    pub(super) slots: Vec<(u16, u16)>,
    flags: Vec<String>,
}

impl View {
    pub(super) fn of(client: &mut Client) -> Result<Self, StartError> {
        let lines: String = client.ask("CLUSTER NODES")?;
        let info = client.ask("CLUSTER INFO")?;
        let announced = client.ask("CLUSTER SLOTS")?;
        let nodes: BTreeMap<_, _> = lines.lines().filter_map(Member::parse).map(|node| (node.id.clone(), node)).collect();
        let me = nodes.values().find(|node| node.has_flag("myself")).map(|node| node.id.clone());
        Ok(Self { nodes, me, info, announced })
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn me(&self) -> Option<&Member> {
        self.nodes.get(self.me.as_ref()?)
    }

    pub(super) fn is_master(&self, id: &str) -> bool {
        self.nodes.get(id).is_some_and(|node| node.master.is_none() && node.has_flag("master"))
    }

    pub(super) fn is_failing(&self, id: &str) -> bool {
        self.nodes.get(id).is_some_and(|node| node.has_flag("fail") || node.has_flag("fail?"))
    }

    /// Who replicates whom, and who serves what.
    pub(super) fn topology(&self) -> impl PartialEq + '_ {
        self.nodes.values().map(|node| (&node.id, &node.master, &node.slots)).collect::<Vec<_>>()
    }

    /// Whether clients are told of this node. A replica is left out until it has the master's data.
    pub(super) fn announces(&self, id: &str) -> bool {
        let Value::Array(ranges) = &self.announced else { return false };
        let nodes = ranges.iter().filter_map(Value::as_sequence).flat_map(|range| range.iter().skip(2));
        let mut ids = nodes.filter_map(Value::as_sequence).filter_map(|node| node.get(2));
        // A master without slots is in no range, and neither are its replicas.
        let serves = |id: &str| self.nodes.get(id).is_some_and(|node| !node.slots.is_empty());
        let master = self.nodes.get(id).and_then(|node| node.master.as_deref());
        !serves(master.unwrap_or(id)) || ids.any(|found| matches!(found, Value::BulkString(found) if found == id.as_bytes()))
    }

    /// What keeps this node from answering for all slots.
    pub(super) fn missing(&self) -> Option<String> {
        let is_ok = self.info.lines().any(|line| line == "cluster_state:ok");
        let is_whole = self.info.lines().any(|line| line == "cluster_slots_ok:16384");
        if is_ok && is_whole {
            return None;
        }
        let parts = self.info.lines().filter(|line| line.starts_with("cluster_state") || line.starts_with("cluster_slots"));
        Some(parts.collect::<Vec<_>>().join(", "))
    }
}

impl Member {
    /// `id address flags master ping pong epoch link slots…`; a range under migration stands in brackets.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [id, _address, flags, master, _ping, _pong, epoch, _link, slots @ ..] = fields.as_slice() else { return None };
        let range = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Some(Self {
            id: (*id).to_owned(),
            master: (*master != "-").then(|| (*master).to_owned()),
            epoch: epoch.parse().ok()?,
            slots: slots.iter().filter(|text| !text.starts_with('[')).filter_map(range).collect(),
            flags: flags.split(',').map(str::to_owned).collect(),
        })
    }

    pub(super) fn has_slot(&self, slot: u16) -> bool {
        self.slots.iter().any(|&(first, last)| (first..=last).contains(&slot))
    }

    fn has_flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }
}
