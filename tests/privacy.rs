//! No key, value, address or password in any span, event, error or Debug text (H3), nor a key in any figure (H6).

use cache_core::layers::Observed;
use cache_core::testing::{Chaos, ChaosTier};
use cachestack::{EmbeddedTier, MemoryTier, RedisTier, TieredCache};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use test_servers::Redis;

const SECRETS: [&str; 5] = ["canary-key", "canary-value", "canary-password", "canary-user", "127.0.0.1"];

/// All that is traced, at every level, spans and their fields included.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a service may log or export.
#[derive(Default)]
struct Shown {
    errors: String,
    figures: String,
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        let found = text.find(secret).map(|at| &text[at.saturating_sub(200)..(at + 40).min(text.len())]);
        assert!(found.is_none(), "{secret} in: {}", found.unwrap_or_default());
    }
}

#[test]
fn h3_keys_values_addresses_and_passwords_are_in_no_trace_and_no_error() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // For the process: the tasks of a cache run on threads of their own. The other test here has nothing to hide either.
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).unwrap();
    let mut text = run(provoke()).errors;
    text.push_str(&String::from_utf8_lossy(&log.0.lock().unwrap()));
    for wanted in ["cache.load", "connected to Redis", "the connection to Redis is lost", "refused the user name or password"] {
        assert!(text.contains(wanted), "{wanted} was not provoked: {text}");
    }
    assert_no_secret(&text);
}

#[test]
fn h6_no_figure_is_of_a_key() {
    let figures = run(provoke()).figures;
    assert!(figures.contains("hits") && figures.contains("latency"), "the figures are there: {figures}");
    assert_no_secret(&figures);
}

/// Everything that traces, fails or is counted, with a second level in memory, a Redis that is killed midway, one that refuses us, and none.
async fn provoke() -> Shown {
    let mut shown = Shown::default();
    let mut server = Redis::builder().user("canary-user", "canary-password", "~* &* +@all").start();
    let redis = |password: &str, port: u16| format!("redis://canary-user:{password}@127.0.0.1:{port}/");
    let real = RedisTier::connect(&redis("canary-password", server.port())).await.unwrap();
    let refused = RedisTier::lazy(&redis("canary-password-of-another", server.port())).unwrap();
    let absent = RedisTier::lazy(&redis("canary-password", 1)).unwrap();
    let embedded = ChaosTier::new(EmbeddedTier::new());
    let observed = Arc::new(Observed::new(embedded.clone()));
    let build = |name: &str| TieredCache::<String, String>::builder(name).l1(MemoryTier::new(100)).max_value_bytes(64);
    let caches = [
        build("embedded").l2(observed.clone()).build().unwrap(),
        build("real").l2(real).build().unwrap(),
        build("refused").l2(refused).build().unwrap(),
        build("absent").l2(absent).build().unwrap(),
    ];
    let key = "canary-key".to_owned();
    for chaos in [Chaos::Calm, Chaos::Down, Chaos::ReplyLost] {
        embedded.set(chaos);
        if chaos == Chaos::Down {
            tokio::task::block_in_place(|| server.kill());
        }
        for cache in &caches {
            writeln!(shown.errors, "{cache:?}").unwrap();
            let large = "canary-value".repeat(20);
            let results = [
                cache.get_or_load(&key, || async { Ok::<_, io::Error>("canary-value".to_owned()) }).await.err(),
                cache.get_cached(&key).await.err(),
                cache.insert(&key, "canary-value".to_owned()).await.err(),
                cache.insert(&key, large).await.err(),
                cache.invalidate(&key).await.err(),
                cache.get_or_load(&key, || async { Err::<String, _>(io::Error::other("down")) }).await.err(),
                cache.write_with(&key, || async { Ok::<_, io::Error>("canary-value".to_owned()) }).await.err(),
                cache.write(&key, "canary-value".to_owned()).await.err(),
                cache.clear().await.err(),
            ];
            for err in results.into_iter().flatten() {
                writeln!(shown.errors, "{err} {err:?}").unwrap();
            }
            cache.get_many(std::slice::from_ref(&key)).await;
            writeln!(shown.figures, "{:?}", cache.stats()).unwrap();
        }
        writeln!(shown.figures, "{:?}", observed.stats()).unwrap();
    }
    shown.errors.push_str(&shown.figures);
    shown
}
