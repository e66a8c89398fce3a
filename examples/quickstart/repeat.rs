//! `--loop`: the trace again and again through the full stack, for playing with faults.

use std::time::{Duration, Instant};

use cachestack::{BoxError, Ttl};

use crate::chaos::Chaos;
use crate::replay::{Extent, Replay};
use crate::report;
use crate::run::{Run, put_away};
use crate::ways::Way;

/// Short, so that loads and L2 keep working when every product has been seen.
const TTL: Duration = Duration::from_secs(2);
const LINE: Duration = Duration::from_secs(1);

/// Returns how many requests failed.
pub(crate) async fn repeat(run: &Run, limit: Duration, chaos: bool) -> Result<u64, BoxError> {
    let cache = run.products("loop", Ttl::new(TTL).jitter(0.1))?;
    println!(
        "\nThe same requests again and again for {limit:?}. Products live {TTL:?} here, so that L2 and the database stay in use."
    );
    let chaos = if chaos { Some(Chaos::begin(&run.l2)?) } else { None };
    if chaos.is_none() {
        how_to_break(run);
    }
    println!();
    report::second_head();
    let (mut before, mut requests, mut seconds) = (cache.stats(), 0, 0);
    let replay = Replay::start(&Way::Load(cache.clone()), &run.trace.views, Extent::Until(Instant::now() + limit), &run.stop);
    let tally = replay
        .finish(LINE, |progress| {
            let (now, served) = (cache.stats(), progress.requests());
            seconds += 1;
            report::second(seconds, served - requests, &now.since(&before), progress.failed());
            (before, requests) = (now, served);
        })
        .await?;
    report::loop_end(&tally, &cache.stats());
    if let Some(chaos) = chaos {
        println!("redis-server was killed {} times.", chaos.end().await);
    }
    put_away(&cache).await;
    Ok(tally.failed)
}

#[cfg(unix)]
fn how_to_break(run: &Run) {
    let Some(server) = run.l2.server() else { return };
    let port = server.lock().unwrap_or_else(std::sync::PoisonError::into_inner).port();
    println!("To kill its Redis meanwhile:  redis-cli -p {port} shutdown nosave");
    println!("To bring it back:             redis-server --port {port} --save ''   (in another terminal)");
}

#[cfg(not(unix))]
fn how_to_break(_: &Run) {}
