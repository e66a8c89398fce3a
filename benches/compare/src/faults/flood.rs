//! Calls that do not wait for each other: towards a server that does not answer they pile up.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::interval;

use crate::remote::{Writer, payload};

use super::trial::{Call, Keys, Outcome, Watch};

/// 64 KiB each ms are 187 MiB in the three seconds of a fault: more than twice what a client may grow by, if it keeps them.
const EVERY: Duration = Duration::from_millis(1);
const VALUE_BYTES: usize = 64 << 10;
const KEYS: u64 = 256;

/// Stores one value after the other from key `first` on, until the trial is over. Returns the calls that have not ended then.
pub(crate) async fn flood<C: Writer>(client: C, first: u64, watch: Watch) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    let mut turns = interval(EVERY);
    for turn in 0.. {
        turns.tick().await;
        if watch.is_over() {
            break;
        }
        while calls.try_join_next().is_some() {}
        let (client, watch) = (client.clone(), watch.clone());
        calls.spawn(async move {
            let id = first + turn % KEYS;
            let (key, value, mut hand) = (client.key(id), payload(id, VALUE_BYTES), C::Hand::default());
            let began = Instant::now();
            let outcome = Outcome::of(&client.write(C::STORE, &key, value, &mut hand).await);
            watch.saw(Call { keys: Keys::All, verb: C::STORE, began, ended: Instant::now(), outcome });
        });
    }
    calls
}
