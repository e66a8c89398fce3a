//! The works, by name.

use std::time::Duration;

/// One load that every subject is put under.
#[derive(Debug)]
pub(crate) struct Work {
    /// Stable: rows of earlier runs are found by it.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) types: Types,
    pub(crate) load: Load,
    pub(crate) ttl: Option<Duration>,
    /// The hit ratio below which a subject's time is not worth printing.
    pub(crate) least_hits: f64,
}

/// Keys and values, and thereby the subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Types {
    /// `u64` to `u64`.
    Words,
    /// 24-byte `String` to `Arc<[u8; 128]>`.
    Strings,
    /// The same keys and values, read in place where the peer can.
    StringsInPlace,
    /// The same through whole stacks.
    Tiered,
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Reads by zipf 0.99; all of `keys` are resident, at a capacity of twice as many so that a sharded cache evicts none.
    Reads { keys: u32 },
    /// Reads of one key among `keys` resident ones.
    Hot { keys: u32 },
    /// Reads and inserts by zipf 0.99 over `keys`, of which a tenth fits. Inserts do not depend on what a read found.
    Mixed { keys: u32, inserts_percent: u8 },
    /// The same keys, read by one thread whose every call is timed, while another inserts.
    UnderWriter { keys: u32 },
    /// No time: the memory that `keys` live entries take, and that a cache of as many takes once it evicts.
    Resident { keys: u32 },
}

impl Load {
    pub(crate) fn inserts(self) -> bool {
        matches!(self, Self::Mixed { .. } | Self::UnderWriter { .. })
    }

    pub(crate) fn capacity(self) -> usize {
        match self {
            Self::Reads { keys } | Self::Hot { keys } => 2 * keys as usize,
            Self::Mixed { keys, .. } | Self::UnderWriter { keys } => keys as usize / 10,
            Self::Resident { keys } => keys as usize,
        }
    }
}

const MINUTE: Option<Duration> = Some(Duration::from_mins(1));
const RESIDENT: u32 = 100_000;
/// A cache that evicts by bucket (scc) loses up to 3 % of its entries even at half of its capacity.
const ALL: f64 = 0.95;
const MOST: f64 = 0.5;

/// In the order in which they are measured.
pub(crate) const WORKS: [Work; 13] = [
    Work {
        name: "u64-zipf",
        about: "u64 to u64, zipf 0.99 over 100,000 resident keys, no TTL",
        types: Types::Words,
        load: Load::Reads { keys: RESIDENT },
        ttl: None,
        least_hits: ALL,
    },
    Work {
        name: "u64-zipf-ttl",
        about: "u64 to u64, zipf 0.99 over 100,000 resident keys, TTL 60 s",
        types: Types::Words,
        load: Load::Reads { keys: RESIDENT },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "string-zipf-ttl",
        about: "String of 24 B to Arc<[u8; 128]>, zipf 0.99 over 100,000 resident keys, TTL 60 s",
        types: Types::Strings,
        load: Load::Reads { keys: RESIDENT },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "string-zipf-ttl-borrow",
        about: "String of 24 B to Arc<[u8; 128]> read in place, zipf 0.99 over 100,000 resident keys, TTL 60 s",
        types: Types::StringsInPlace,
        load: Load::Reads { keys: RESIDENT },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "u64-hot-ttl",
        about: "u64 to u64, one hot key among 100,000, TTL 60 s",
        types: Types::Words,
        load: Load::Hot { keys: RESIDENT },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "string-hot-ttl",
        about: "String of 24 B to Arc<[u8; 128]>, one hot key among 100,000, TTL 60 s",
        types: Types::Strings,
        load: Load::Hot { keys: RESIDENT },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "string-hot-ttl-borrow",
        about: "String of 24 B to Arc<[u8; 128]> read in place, one hot key among 100,000, TTL 60 s",
        types: Types::StringsInPlace,
        load: Load::Hot { keys: RESIDENT },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "u64-95-5-ttl",
        about: "u64 to u64, 95 % get and 5 % insert, zipf 0.99 over 1,000,000 keys, capacity 10 %, TTL 60 s",
        types: Types::Words,
        load: Load::Mixed { keys: 1_000_000, inserts_percent: 5 },
        ttl: MINUTE,
        least_hits: MOST,
    },
    Work {
        name: "u64-50-50-ttl",
        about: "u64 to u64, 50 % get and 50 % insert, zipf 0.99 over 1,000,000 keys, capacity 10 %, TTL 60 s",
        types: Types::Words,
        load: Load::Mixed { keys: 1_000_000, inserts_percent: 50 },
        ttl: MINUTE,
        least_hits: MOST,
    },
    Work {
        name: "tiered-hit",
        about: "a hit in L1 through a whole asynchronous stack, String of 24 B, zipf 0.99 over 1,000 resident keys, TTL 60 s",
        types: Types::Tiered,
        load: Load::Reads { keys: 1_000 },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "u64-latency",
        about: "u64 to u64, time of each get while one thread inserts, zipf 0.99 over 1,000,000 keys, capacity 10 %, TTL 60 s",
        types: Types::Words,
        load: Load::UnderWriter { keys: 1_000_000 },
        ttl: MINUTE,
        least_hits: MOST,
    },
    Work {
        name: "u64-memory",
        about: "u64 to u64, bytes per entry of 1,000,000 live ones, TTL 60 s",
        types: Types::Words,
        load: Load::Resident { keys: 1_000_000 },
        ttl: MINUTE,
        least_hits: ALL,
    },
    Work {
        name: "string-memory",
        about: "String of 24 B to Arc<[u8; 128]>, bytes per entry of 1,000,000 live ones, payload included, TTL 60 s",
        types: Types::Strings,
        load: Load::Resident { keys: 1_000_000 },
        ttl: MINUTE,
        least_hits: ALL,
    },
];
