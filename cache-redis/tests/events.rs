//! What is traced, and what never is.

mod common;

use cache_core::{Claim, RemoteTier, Result, Token};
use cache_redis::RedisTier;
use common::{AMPLE, Raw, asks, fills, namespace, until, until_back};
use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Once;
use test_servers::{Proxy, Redis};
use tracing_subscriber::layer::{Context, SubscriberExt};

const CANARY: &str = "canary-5f3759df";

thread_local! {
    /// One thread runs a test and all its tasks, the supervisor's among them.
    static TRACED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Collects all that is traced, whoever traces it and at whatever level.
struct Collector;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Collector {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, _: &tracing::span::Id, _: Context<'_, S>) {
        TRACED.with_borrow_mut(|text| writeln!(text, "{attributes:?}").expect("a string takes all"));
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        TRACED.with_borrow_mut(|text| writeln!(text, "{} {event:?}", event.metadata().level()).expect("a string takes all"));
    }
}

/// For the whole process: a subscriber of one thread misses events whose call site another thread comes to first.
fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Collector)).expect("the first");
    });
}

fn url(redis: &Redis, credentials: &str) -> String {
    format!("redis://{credentials}@127.0.0.1:{}/", redis.port())
}

async fn connect(url: &str) -> Result<RedisTier> {
    RedisTier::builder(url).timeout(AMPLE).connect_timeout(AMPLE).connect().await
}

#[tokio::test]
async fn an_outage_is_one_warning_and_one_event_when_it_is_over() {
    collect();
    let count = |level: &str| TRACED.with_borrow(|text| text.lines().filter(|line| line.starts_with(level)).count());
    let mut redis = Redis::start();
    let tier = connect(&redis.url()).await.unwrap();
    redis.kill();
    until("some dials have failed", async || count("DEBUG") >= 5).await;
    redis.restart();
    until("the tier is back", async || tier.is_connected()).await;
    assert_eq!((count("WARN"), count("INFO")), (1, 1), "{}", TRACED.take());
}

#[tokio::test]
async fn h3_neither_events_nor_errors_nor_debug_show_a_password_a_user_an_address_a_key_or_a_value() {
    collect();
    let mut seen = String::new();
    let mut note = |what: &dyn std::fmt::Debug| writeln!(seen, "{what:?}").expect("a string takes all");

    let redis = Redis::builder().password(CANARY).start();
    let proxy = Proxy::start(redis.port());
    let address = |credentials: &str| format!("redis://{credentials}@127.0.0.1:{}/", proxy.port());
    for refused in
        [address(":wrong-canary-5f3759df"), address("canary-5f3759df:x"), format!("http://{CANARY}"), CANARY.to_owned()]
    {
        let err = connect(&refused).await.unwrap_err();
        note(&err);
        note(&err.to_string());
    }
    let tier = RedisTier::builder(&address(&format!("default:{CANARY}"))).connect().await.unwrap();
    note(&tier);
    let key = namespace().key(&CANARY);
    let token = Token::unique();
    note(&tier.acquire(&key, &asks(token, Claim::Vacant)).await);
    note(&tier.fill(&key, &fills(&key, token, CANARY)).await);
    // An error of the server's that quotes the user's name and the key, and then a loss.
    let raw = Raw::connect(&url(&redis, &format!(":{CANARY}"))).await;
    raw.run::<()>(&["ACL", "SETUSER", CANARY, "on", &format!(">{CANARY}"), "~other*", "+@all", "-get"]).await;
    let stranger = connect(&address(&format!("{CANARY}:{CANARY}"))).await.unwrap();
    for result in [stranger.get(&key).await.err(), stranger.release(&key, token).await.err()] {
        note(&result.as_ref().map(ToString::to_string));
        note(&result.expect("no permission"));
    }
    proxy.refuse();
    until("the loss shows", async || !tier.is_connected()).await;
    note(&tier.get(&key).await);
    note(&tier);
    proxy.forward();
    until_back(&tier).await;

    let traced = TRACED.take();
    for level in ["WARN", "INFO", "DEBUG"] {
        assert!(traced.contains(level), "no {level} event: {traced}");
    }
    for text in [&seen, &traced] {
        for secret in [CANARY, "canary", "127.0.0.1", &proxy.port().to_string()] {
            assert!(!text.contains(secret), "{secret} is in: {text}");
        }
    }
}
