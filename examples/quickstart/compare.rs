//! The comparison: how many queries reach the database without a cache, and with each part of one.

use std::time::Duration;

use cachestack::{BoxError, Ttl};
use indicatif::{ProgressBar, ProgressStyle};

use crate::replay::{Extent, Replay, Tally};
use crate::report::{self, Row};
use crate::run::{Run, put_away};
use crate::ways::Way;

const REDRAW: Duration = Duration::from_millis(100);

/// Replays the trace once each way. Returns how many requests failed.
pub(crate) async fn compare(run: &Run) -> Result<u64, BoxError> {
    let (db, ttl) = (&run.db, Ttl::minutes(5).jitter(0.1));
    let ways = [
        ("no cache", Way::Direct(db.clone())),
        ("L1", Way::CacheAside(run.memory_only(ttl)?, db.clone())),
        ("L1 + L2", Way::CacheAside(run.products("l1-l2", ttl)?, db.clone())),
        ("L1 + L2 + single-flight", Way::Load(run.products("load", ttl)?)),
    ];
    println!(
        "\nEach way serves all requests, and begins with empty tiers. L1 and L1 + L2 are used by hand: look, query, insert.\n"
    );
    report::rows_head();
    let mut failed = 0;
    for (name, way) in ways {
        let before = db.queries();
        let tally = one_pass(run, name, &way).await?;
        if run.stop.is_requested() {
            break;
        }
        let shards: Vec<u64> = db.queries().iter().zip(before).map(|(after, before)| after - before).collect();
        report::row(&Row { name, queries: shards.iter().sum(), tally: &tally });
        failed += tally.failed;
        report::failures(&tally);
        if let Way::Load(cache) = &way {
            let named: Vec<_> = db.shard_names().zip(shards).collect();
            report::full_stack(&tally, &cache.stats(), &named);
        }
        if let Some(cache) = way.cache() {
            put_away(cache).await;
        }
    }
    Ok(failed)
}

async fn one_pass(run: &Run, name: &'static str, way: &Way) -> Result<Tally, BoxError> {
    let style = ProgressStyle::with_template("{msg:24} {bar:40} {percent:>3} %")?;
    // Draws on a terminal only.
    let bar = ProgressBar::new(run.trace.views.len() as u64).with_style(style).with_message(name);
    let replay = Replay::start(way, &run.trace.views, Extent::Once, &run.stop);
    let tally = replay.finish(REDRAW, |progress| bar.set_position(progress.requests())).await;
    bar.finish_and_clear();
    tally
}
