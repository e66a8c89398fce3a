//! Free loopback ports that stay ours while their server is down.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ephemeral ranges (Linux 32768–60999, macOS 49152–65535), also after the 10 000 that a Redis Cluster node adds for
/// its bus. No bus is among them: one would take the port of a server that is down.
const PORTS: Range<u16> = 10_000..20_000;

/// A listener on a free port. Test processes run in parallel, so each draws at random instead of walking the range from its
/// start.
pub(crate) fn listen() -> TcpListener {
    let random = RandomState::new();
    (0_u64..)
        .map(|attempt| PORTS.start + (random.hash_one(attempt) % PORTS.len() as u64) as u16)
        .take(10 * PORTS.len())
        .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .expect("no free loopback port between 10000 and 19999")
}

/// A port that was free a moment ago. Whoever binds it must be ready to lose it, and to draw again.
pub(crate) fn draw() -> u16 {
    listen().local_addr().expect("a bound listener has an address").port()
}
