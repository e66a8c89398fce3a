//! Values of hundreds of megabytes, planted in Redis or loaded: the memory of one is never taken for what nobody may have.

use crate::{Bare, Raw, tier};
use cachestack::{Namespace, RemoteKey, Tier};
use std::io;
use test_servers::Redis;

const PLANTED: usize = 256 << 20;
/// Far over the cap on values, of 1 MiB by default, and over the one on records.
const LOADED: usize = 64 << 20;
/// The tests beside this one are small.
const MOST_TAKEN: u64 = 64 << 20;

fn key(id: &str) -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(id)
}

/// The most memory that this process has ever had, in bytes. `None` where the system does not tell.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

async fn plant(raw: &Raw, id: &str, length: usize) {
    let mut cmd = redis::cmd("SETRANGE");
    raw.query::<()>(cmd.arg(key(id).as_bytes()).arg(length - 1).arg("x")).await.unwrap();
}

#[tokio::test]
async fn e4_a_giant_in_redis_is_a_miss_that_takes_no_memory_and_one_that_is_loaded_is_served_and_not_stored() {
    let redis = Redis::start();
    let (l2, raw) = (tier(&redis.url()).await, Raw::connect(&redis.url()).await);
    let load =
        |id: String| async move { Ok::<_, io::Error>(if id == "giant" { "g".repeat(LOADED) } else { format!("of {id}") }) };
    let cache = cache_core::TieredCache::<String, String>::builder("t").l2(l2.clone()).origin(load);
    let cache: Bare<String, String> = cache.build().unwrap();
    for id in ["grown", "other", "another"] {
        cache.load(id).await.unwrap();
    }
    // Nobody's; and one of ours, with its header, that has grown.
    plant(&raw, "foreign", PLANTED).await;
    plant(&raw, "grown", PLANTED).await;
    let (before, peak_before) = (cache.stats(), peak());

    for id in ["foreign", "grown"] {
        // What is asked at the same time, before it and behind.
        let (first, giant, behind) = tokio::join!(cache.get("other"), cache.get(id), cache.get("another"));
        assert_eq!((first.as_deref(), giant, behind.as_deref()), (Some("of other"), None, Some("of another")), "{id}");
        assert_eq!(cache.get(id).await, None, "alone");
        assert_eq!(cache.get("other").await.as_deref(), Some("of other"));
    }
    let l2 = cache.stats().since(&before).l2;
    assert_eq!((l2.unreadable, l2.misses, l2.errors), (4, 4, 0));
    // What is not ours stays; what was ours is replaced.
    for (id, again) in [("foreign", Tier::Origin), ("grown", Tier::L2)] {
        let loaded = cache.load_cached(id).await.unwrap();
        assert_eq!((loaded.value, loaded.tier), (format!("of {id}"), Tier::Origin));
        assert_eq!(cache.load_cached(id).await.unwrap().tier, again, "{id}");
    }
    if let (Some(before), Some(after)) = (peak_before, peak()) {
        // The system counts in steps, so it may have been more before.
        let taken = after.saturating_sub(before);
        assert!(taken < MOST_TAKEN, "{} MiB were taken", taken >> 20);
    }

    let before = cache.stats();
    for _ in 0..2 {
        let loaded = cache.load_cached("giant").await.unwrap();
        assert_eq!((loaded.value.len(), loaded.tier), (LOADED, Tier::Origin));
    }
    let kept: usize = raw.query(redis::cmd("STRLEN").arg(key("giant").as_bytes())).await.unwrap();
    assert!(kept < 200, "{kept} bytes are in Redis");
    let l2 = cache.stats().since(&before).l2;
    assert_eq!((l2.unstorable, l2.errors), (2, 0));
    assert_eq!(cache.get("other").await.as_deref(), Some("of other"));
}
