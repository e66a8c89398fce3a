//! The slot map without any node behind it.

use super::slots::Endpoint;
use super::topology::Cluster;
use crate::config::Config;
use cache_core::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

const SLOT: u16 = 3_999;

fn cluster() -> Cluster {
    let config = Config {
        login: None,
        database: 0,
        timeout: Duration::from_millis(100),
        connect_timeout: Duration::from_millis(500),
        max_record_bytes: 1 << 20,
        gathers: false,
        resp3: false,
        tracks: false,
        tls: None,
        #[cfg(feature = "fred")]
        driver: crate::config::Driver::Own,
    };
    Cluster::new(Arc::new(config), Vec::new(), false)
}

#[test]
fn a_thousand_calls_to_where_a_slot_was_change_the_map_once() {
    let (cluster, at) = (cluster(), Endpoint::new("127.0.0.1", 1));
    let shared = cluster.shared();
    let mut map = shared.changes();
    let mut changes = 0;
    for _ in 0..1_000 {
        shared.moved(SLOT, &at).expect("it is open");
        changes += u32::from(map.has_changed().expect("it is there"));
        map.mark_unchanged();
    }
    assert_eq!((changes, cluster.masters_of([SLOT].into_iter())), (1, vec![Some(at)]));
    shared.moved(SLOT, &Endpoint::new("127.0.0.1", 2)).expect("it is open");
    assert!(map.has_changed().expect("it is there"), "it moved on");
}

#[tokio::test]
async fn a_redirect_after_the_close_adds_no_node() {
    let (cluster, at) = (cluster(), Endpoint::new("127.0.0.1", 1));
    let known = cluster.shared().node(&at).expect("it is open");
    cluster.stop().await;
    for at in [at, Endpoint::new("127.0.0.1", 2)] {
        assert_eq!(cluster.shared().node(&at).err().map(|err| err.kind()), Some(ErrorKind::Closed));
        assert_eq!(cluster.shared().moved(SLOT, &at).err().map(|err| err.kind()), Some(ErrorKind::Closed));
        assert_eq!(cluster.masters_of([SLOT].into_iter()), [None]);
    }
    assert_eq!(known.start().err().map(|err| err.kind()), Some(ErrorKind::Closed), "who still holds one cannot have it dial");
}
