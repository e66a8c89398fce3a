//! The server's clock as reads report it.

mod common;

use cache_core::RemoteTier;
use common::{Raw, key, shared, store, tier, until};
use std::time::Duration;
use test_servers::Proxy;

/// Reads, and gives how far `now` lay behind and ahead of the server's clock, in microseconds.
async fn read(tier: &impl RemoteTier, raw: &Raw) -> (i64, i64) {
    let key = key();
    let before = raw.time_us().await as i64;
    let fetched = tier.get(&key).await.expect("an answer");
    let after = raw.time_us().await as i64;
    let now = fetched.now as i64 * 1_000;
    (before - now, now - after)
}

#[tokio::test]
async fn now_is_never_behind_the_server_s_clock_when_the_read_was_sent() {
    let (tier, raw) = (tier(&shared().url()).await, Raw::connect(&shared().url()).await);
    for _ in 0..300 {
        let (behind, _) = read(&tier, &raw).await;
        assert!(behind <= 0, "{behind} us behind");
    }
}

#[tokio::test]
async fn a_slow_dial_makes_now_late_and_the_answers_of_scripts_mend_it() {
    let proxy = Proxy::start(shared().port());
    proxy.stall();
    let url = proxy.url();
    let dial = tokio::spawn(async move { tier(&url).await });
    until("the dial is under way", async || proxy.accepted() == 1).await;
    // The network holds the command for the time back: when it is answered, much has passed since it was sent.
    tokio::time::sleep(Duration::from_millis(150)).await;
    proxy.forward();
    let (tier, raw) = (dial.await.expect("a tier"), Raw::connect(&shared().url()).await);
    let (behind, ahead) = read(&tier, &raw).await;
    assert!(behind <= 0, "{behind} us behind");
    assert!(ahead > 50_000, "only {ahead} us ahead, so this test shows nothing");

    for _ in 0..20 {
        store(&tier, &key(), "x").await;
    }
    let mut least = i64::MAX;
    for _ in 0..20 {
        let (behind, ahead) = read(&tier, &raw).await;
        assert!(behind <= 0, "{behind} us behind");
        least = least.min(ahead);
    }
    assert!(least < 20_000, "still {least} us ahead");
}
