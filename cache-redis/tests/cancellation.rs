//! Calls that are dropped half-way.

mod common;

use cache_core::record::Record;
use cache_core::{RemoteKey, RemoteTier};
use common::{Raw, namespace, shared, store, tier, until};
use futures_util::poll;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use test_servers::{Proxy, Redis};

/// What shared connections got wrong elsewhere (CVE-2023-28858): a call cancelled between its command and its reply leaves the
/// reply to the next call, which hands one user's data to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_a_cancelled_call_never_leaves_its_reply_to_another() {
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

#[tokio::test]
async fn b8_a_reply_that_comes_after_its_call_was_cancelled_is_not_the_next_call_s() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.port());
    let (tier, raw) = (tier(&proxy.url()).await, Raw::connect(&redis.url()).await);
    let namespace = namespace();
    let [cancelled, next] = [1, 2].map(|id| namespace.key(&id));
    store(&tier, &cancelled, "of the cancelled call").await;
    store(&tier, &next, "of the next").await;
    raw.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    for round in 1..=20 {
        proxy.stall();
        {
            let mut call = pin!(tier.get(&cancelled));
            // The driver's task sends it, and the reply is on its way when nobody waits for it any more.
            for _ in 0..10 {
                assert!(poll!(&mut call).is_pending());
                tokio::task::yield_now().await;
            }
        }
        proxy.forward();
        let record = tier.get(&next).await.unwrap().record.expect("a record");
        let record = Record::decode(&record, next.echo()).expect("the record of this very key");
        assert_eq!(record.body.payload, "of the next", "round {round}");
        let sent = format!("cmdstat_get:calls={},", round * 2);
        until("both were answered", async || raw.run::<String>(&["INFO", "commandstats"]).await.contains(&sent)).await;
    }
}
