//! The writes of a node.

use super::cache::{Cache, NodeRelay};
use super::desk::Desk;
use super::pace::{Keys, ticks};
use crate::database::Database;
use crate::orders::{Settings, Writing};
use cachestack::BoxError;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Writers at a time: with Redis away a write may wait.
const TASKS: u32 = 4;

pub(super) fn start(
    load: &mut JoinSet<Result<(), BoxError>>,
    settings: &Settings,
    cache: &Cache,
    desk: &Arc<Desk>,
    database: &Database,
    relay: Option<Arc<NodeRelay>>,
) {
    if !settings.writes {
        // Other nodes' changes may be its relay's to tell.
        load.spawn(async move {
            let _relay = relay;
            std::future::pending().await
        });
        return;
    }
    let keys = Keys::of(settings.keys);
    let pace = settings.writes_per_second / f64::from(TASKS);
    for _ in 0..TASKS {
        let (keys, cache, desk, database, relay) = (keys.clone(), cache.clone(), desk.clone(), database.clone(), relay.clone());
        load.spawn(async move {
            let mut ticks = ticks(pace);
            loop {
                ticks.tick().await;
                let writing = desk.writing().await;
                match *writing {
                    Writing::Paused => {}
                    Writing::Plain => write(keys.draw(), &cache, &desk, &database).await?,
                    Writing::Outbox => leave_to_the_relay(keys.draw(), &cache, &desk, &database, relay.as_deref()).await?,
                }
            }
        });
    }
}

async fn write(key: u64, cache: &Cache, desk: &Desk, database: &Database) -> Result<(), BoxError> {
    let committed = cache.write(key, database).await;
    desk.counts.writes.add_one();
    if let Ok(version) = committed {
        return desk.told(key, version);
    }
    desk.counts.invalidation_errors.add_one();
    Ok(())
}

async fn leave_to_the_relay(
    key: u64,
    cache: &Cache,
    desk: &Desk,
    database: &Database,
    relay: Option<&NodeRelay>,
) -> Result<(), BoxError> {
    let Some(relay) = relay else { return write(key, cache, desk, database).await };
    // SQLite has one writer at a time, and where it stands still the others give up in the end.
    match database.raise(key, |version| cache.message(key, version)).await {
        Ok(_) => {
            desk.counts.writes.add_one();
            relay.wake();
        }
        Err(_) => desk.counts.write_errors.add_one(),
    }
    Ok(())
}
