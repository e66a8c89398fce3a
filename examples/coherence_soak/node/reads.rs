//! The reads of a node.

use super::cache::Cache;
use super::desk::Desk;
use super::pace::{Keys, ticks};
use crate::boot_clock;
use crate::events::Mark;
use crate::orders::Settings;
use cachestack::BoxError;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Readers at a time: one that waits for a load does not keep the others.
const TASKS: u32 = 8;
/// Reads on one tick of a task: fewer ticks wake the process less often.
const BURST: u32 = 4;

pub(super) fn start(load: &mut JoinSet<Result<(), BoxError>>, settings: &Settings, cache: &Cache, desk: &Arc<Desk>) {
    let keys = Keys::of(settings.keys);
    let pace = settings.reads_per_second / f64::from(TASKS * BURST);
    for _ in 0..TASKS {
        let (keys, cache, desk) = (keys.clone(), cache.clone(), desk.clone());
        load.spawn(async move {
            let mut ticks = ticks(pace);
            loop {
                ticks.tick().await;
                for _ in 0..BURST {
                    read(keys.draw(), &cache, &desk).await?;
                }
            }
        });
    }
}

async fn read(key: u64, cache: &Cache, desk: &Desk) -> Result<(), BoxError> {
    let began = boot_clock::now();
    let answer = cache.read(key).await;
    desk.counts.reads.add_one();
    let Ok(answer) = answer else {
        desk.counts.read_errors.add_one();
        return Ok(());
    };
    let mark = match (answer.item.key == key, answer.is_marked) {
        (false, _) => Mark::Wrong,
        (true, true) => Mark::Marked,
        (true, false) => Mark::Verified,
    };
    desk.read(began, key, answer.item.version, mark)
}
