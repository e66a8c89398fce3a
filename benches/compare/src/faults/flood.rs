//! Calls that do not wait for each other: towards a server that does not answer they pile up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::interval;

use crate::remote::{Writer, payload};

use super::trial::{Call, Keys, Outcome};

/// 64 KiB each ms are 187 MiB in the three seconds of a fault: more than twice what a client may grow by, if it keeps them.
const EVERY: Duration = Duration::from_millis(1);
const VALUE_BYTES: usize = 64 << 10;
const KEYS: u64 = 256;

/// Stores one value after the other from key `first` on, until it is told to stop. Returns the calls that have not ended then.
pub(crate) async fn flood<C: Writer>(client: C, first: u64, log: Sender<Call>, stop: Arc<AtomicBool>) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    let mut turns = interval(EVERY);
    for turn in 0.. {
        turns.tick().await;
        // Ordering: relaxed, as where it is set.
        if stop.load(Ordering::Relaxed) {
            break;
        }
        while calls.try_join_next().is_some() {}
        let (client, log) = (client.clone(), log.clone());
        calls.spawn(async move {
            let id = first + turn % KEYS;
            let (key, value, mut hand) = (client.key(id), payload(id, VALUE_BYTES), C::Hand::default());
            let began = Instant::now();
            let outcome = Outcome::of(&client.write(C::STORE, &key, value, &mut hand).await);
            let _ = log.send(Call { keys: Keys::All, verb: C::STORE, began, ended: Instant::now(), outcome });
        });
    }
    calls
}
