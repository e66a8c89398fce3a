//! Several nodes over real servers: the promise, with Redis really killed, stopped, cut off, replaced and tampered with. What needs a clock moved by hand is in
//! `../coherence/`; here the bound is a real one, and short.
//!
//! # What is shown where
//!
//! The faults that concern coherence, by their numbers, which begin the tests' names. *Here* is this program, over one Redis and over a cluster of six, each by itself
//! (`one_node::`, `cluster_of_six::`); failovers of one Redis are Sentinel's.
//!
//! | fault | one node | cluster |
//! |---|---|---|
//! | C1 refused at start and later | here `c1_…`; `cache-redis/tests/backplane/outages.rs` | here `c1_…`; `backplane/cluster.rs` |
//! | C2 stopped | here `c2_…`: hits, and invalidations | here `c2_…` |
//! | C3 half-open | here `c3_a_subscription_…` (that alone), `c3_a_network_…` (all of it) | here `c3_a_subscription_…` |
//! | C4 out of memory | here `c4_…`; `backplane/histories.rs`, `backplane/gathered.rs` | here `c4_…` |
//! | C5 a demoted master | `backplane/outages.rs`, `backplane/histories.rs` | `backplane/cluster.rs` |
//! | C6 a failover that loses what was acknowledged | here `c6_…`; `../coherence/outages.rs` | here `c6_…` |
//! | C7 slots that move | there are none | here `c7_…`; `backplane/cluster.rs` |
//! | C8 a slot given away without its keys | there are none | here `c8_…` |
//! | C9 scripts forgotten | here `c9_…` | here `c9_…` |
//! | C10 replicas that lag | `../replicas.rs`, `cache-redis/tests/replicas.rs` | `cache-redis/tests/replicas.rs` |
//! | C11 more owed than is remembered | here `c11_…`; `../coherence/outages.rs` | here `c11_…` |
//! | C12 errors for answers | here `c12_…`; `../faults/refusals.rs` | here `c12_…`; `../faults/refusals.rs` |
//! | D1 every message lost | here `d1_…`; `../coherence/bound.rs` | here `d1_…` |
//! | D2 all channels again after a failover | here `d2_…` | here `d2_…` |
//! | D3 tripled and reversed | here `d3_…`; `../coherence/messages.rs` | here `d3_…` |
//! | D4 reads tell nobody | here `d4_…`; `../coherence/messages.rs` | here `d4_…` |
//! | D5 the start-up's own test | here `d5_…`; `backplane/permissions.rs` | here `d5_…` |
//! | D6 messages of a later version | here `d6_…` | here `d6_…` |
//! | E1 old and new code | here `e1_…`; `../faults/records.rs`, `../l1_l2/records.rs` | here `e1_…` |
//! | E2 damage, to records and to the meta key | here `e2_…`; `../faults/records.rs`, `backplane/histories.rs` | here `e2_…` |
//! | F1 a suspended machine | here `f1_…`; `../coherence/bound.rs` | here `f1_…` |
//! | H1, H2 keys that users choose | here `h1_…`; `../faults/keys.rs` | here `h1_…` |
//! | H4 TLS, of the subscription too | `backplane/ways.rs`; `../faults/tls.rs` | `backplane/ways.rs`; `cache-redis/tests/tls/` |
//! | H5 forged messages | here `h5_…` | here `h5_…` |
//!
//! The rest of E, F and H concerns a record, a life or a process by itself, whatever lies below it: see `../faults/`, `../l1.rs`, `../l1_l2/` and `../privacy.rs`.
#![cfg(all(feature = "redis", unix))]

mod backplane;
mod failover;
mod forged;
mod memory;
mod nodes;
mod outages;
mod records;
mod servers;
mod time;
mod tracking;

/// Each scenario over one Redis, which is started by the first name, and over a cluster of six of its own.
macro_rules! on_both {
    (Servers::$one:ident; $($name:ident;)+) => {
        mod one_node {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Servers::$one()).await;
                }
            )+
        }

        mod cluster_of_six {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::Servers::cluster()).await;
                }
            )+
        }
    };
}
use on_both;
