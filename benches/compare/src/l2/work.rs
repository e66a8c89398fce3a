//! What is measured over the wire.

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    OneNode,
    /// Three masters with a replica each.
    Cluster,
}

impl Topology {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneNode => "one-node",
            Self::Cluster => "cluster",
        }
    }
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Reads one key that has a value.
    Get,
    /// Reads so many keys that have values, in one call.
    GetMany(usize),
    /// Reads a key that has no value and stores one.
    Fill,
}

/// A load at a size of values on a kind of server.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) topology: Topology,
    pub(crate) load: Load,
    pub(crate) value_bytes: usize,
    /// Keys that have a value before it begins.
    pub(crate) keys: u64,
    /// Tasks that each make one call after the other.
    pub(crate) tasks: &'static [usize],
}

/// As a reader says it.
pub(crate) fn tasks_in_words(tasks: usize) -> String {
    if tasks == 1 { "1 task (pinned)".into() } else { format!("{tasks} tasks") }
}

const SMALL: usize = 128;

pub(crate) const WORKS: [Work; 8] = [
    Work {
        name: "get-128",
        about: "GET of 128 B",
        topology: Topology::OneNode,
        load: Load::Get,
        value_bytes: SMALL,
        keys: 10_000,
        tasks: &[1, 16, 128, 1_024],
    },
    Work {
        name: "get-4k",
        about: "GET of 4 KiB",
        topology: Topology::OneNode,
        load: Load::Get,
        value_bytes: 4 << 10,
        keys: 5_000,
        tasks: &[16, 128],
    },
    Work {
        name: "get-64k",
        about: "GET of 64 KiB",
        topology: Topology::OneNode,
        load: Load::Get,
        value_bytes: 64 << 10,
        keys: 500,
        tasks: &[16, 128],
    },
    Work {
        name: "fill",
        about: "a miss and its fill of 128 B: read, acquire, fill; of a driver GET and SET",
        topology: Topology::OneNode,
        load: Load::Fill,
        value_bytes: SMALL,
        keys: 0,
        tasks: &[128],
    },
    Work {
        name: "fill-4k",
        about: "a miss and its fill of 4 KiB: read, acquire, fill; of a driver GET and SET",
        topology: Topology::OneNode,
        load: Load::Fill,
        value_bytes: 4 << 10,
        keys: 0,
        tasks: &[128],
    },
    Work {
        name: "fill-64k",
        about: "a miss and its fill of 64 KiB: read, acquire, fill; of a driver GET and SET",
        topology: Topology::OneNode,
        load: Load::Fill,
        value_bytes: 64 << 10,
        keys: 0,
        tasks: &[128],
    },
    Work {
        name: "cluster-get-128",
        about: "GET of 128 B, keys of all slots",
        topology: Topology::Cluster,
        load: Load::Get,
        value_bytes: SMALL,
        keys: 10_000,
        tasks: &[1, 16, 128],
    },
    Work {
        name: "cluster-get-many",
        about: "100 keys of all slots with 128 B each, in one call",
        topology: Topology::Cluster,
        load: Load::GetMany(100),
        value_bytes: SMALL,
        keys: 10_000,
        tasks: &[1, 16],
    },
];
