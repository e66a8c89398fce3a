//! Calls that are dropped half-way.

mod common;

use cache_core::record::Record;
use cache_core::{RemoteKey, RemoteTier};
use common::{namespace, shared, store, tier};
use std::sync::Arc;
use std::time::Duration;

/// What shared connections got wrong elsewhere (CVE-2023-28858): a call cancelled between its command and its reply leaves the
/// reply to the next call, which hands one user's data to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_never_leaves_its_reply_to_another() {
    let tier = tier(&shared().url()).await;
    let namespace = namespace();
    let keys: Arc<Vec<RemoteKey>> = Arc::new((0..50).map(|key: u32| namespace.key(&key)).collect());
    for (at, key) in keys.iter().enumerate() {
        // Large ones take several reads of the socket.
        store(&tier, key, vec![at as u8; 1 + at * 2_000]).await;
    }
    let clients: Vec<_> = (0..16)
        .map(|seed| {
            let (tier, keys) = (tier.clone(), keys.clone());
            tokio::spawn(async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut answered = 0;
                for _ in 0..300 {
                    let at = rng.usize(0..keys.len());
                    let others = [keys[at].clone(), keys[rng.usize(0..keys.len())].clone()];
                    let patience = Duration::from_micros(rng.u64(0..3_000));
                    let fetched = match rng.u8(0..3) {
                        0 => tokio::time::timeout(patience, tier.get_many(&others))
                            .await
                            .ok()
                            .map(|all| all.and_then(|mut all| all.remove(0))),
                        1 => tokio::time::timeout(patience, tier.get(&keys[at])).await.ok(),
                        _ => Some(tier.get(&keys[at]).await),
                    };
                    let Some(fetched) = fetched else { continue };
                    let record = fetched.expect("an answer").record.expect("a record");
                    let record = Record::decode(&record, keys[at].echo()).expect("the record of this very key");
                    assert!(record.body.payload.iter().all(|&byte| usize::from(byte) == at));
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.expect("no foreign answer");
    }
    assert!((1_600..4_800).contains(&answered), "some calls were cancelled, and some not: {answered}");
}
