//! A relay over a table in memory. Time stands still but where all wait.

mod delivery;
mod fake;
mod leaving;
mod sharing;
mod trouble;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{self, Instant};

use super::Claimed;
use fake::key;

/// What was delivered: when, the row's key, and which attempt it was.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Instant, u32, u32)>>>);

impl Seen {
    fn note(&self, claimed: &Claimed) -> u32 {
        let key = key(&claimed.row);
        self.0.lock().unwrap().push((Instant::now(), key, claimed.attempt));
        key
    }

    fn all(&self) -> Vec<(Instant, u32, u32)> {
        self.0.lock().unwrap().clone()
    }

    /// The keys, sorted, repeated where they were delivered again.
    fn keys(&self) -> Vec<u32> {
        let mut keys: Vec<_> = self.all().into_iter().map(|(_, key, _)| key).collect();
        keys.sort_unstable();
        keys
    }

    /// Since when the row had been waiting, each time it was delivered.
    fn pauses_of(&self, wanted: u32) -> Vec<Duration> {
        let times: Vec<_> = self.all().into_iter().filter(|(_, key, _)| *key == wanted).map(|(at, ..)| at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Lets virtual time pass until `done`, an hour of it at most.
async fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(3600);
    while !done() {
        assert!(Instant::now() < end, "not within an hour of virtual time");
        time::sleep(Duration::from_millis(1)).await;
    }
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
