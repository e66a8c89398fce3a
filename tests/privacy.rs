//! No key, value, address or password in any span, event, error or Debug text (H3), nor a key in any figure (H6).

use cache_core::testing::{Chaos, ChaosTier};
use cachestack::{EmbeddedTier, MemoryTier, RedisTier, TieredCache};
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

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
    // For the process: the tasks of a cache run on threads of their own. This test is alone in its binary.
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut texts = runtime.block_on(provoke());
    texts.push_str(&String::from_utf8_lossy(&log.0.lock().unwrap()));
    assert!(texts.contains("cache.load"), "the spans are there: {texts}");
    for secret in ["canary-key", "canary-value", "canary-password", "canary-user", "127.0.0.1"] {
        let found = texts.find(secret).map(|at| &texts[at.saturating_sub(200)..(at + 40).min(texts.len())]);
        assert!(found.is_none(), "{secret} in: {}", found.unwrap_or_default());
    }
}

/// Everything that traces or fails; returns the texts of errors and of Debug.
async fn provoke() -> String {
    let mut texts = String::new();
    let l2 = ChaosTier::new(EmbeddedTier::new());
    let redis = RedisTier::lazy("redis://canary-user:canary-password@127.0.0.1:1/").unwrap();
    let build = |name: &str| TieredCache::<String, String>::builder(name).l1(MemoryTier::new(100)).max_value_bytes(64);
    let key = "canary-key".to_owned();
    for cache in [build("embedded").l2(l2.clone()).build().unwrap(), build("redis").l2(redis).build().unwrap()] {
        writeln!(texts, "{cache:?}").unwrap();
        for chaos in [Chaos::Calm, Chaos::Down, Chaos::ReplyLost] {
            l2.set(chaos);
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
                writeln!(texts, "{err} {err:?}").unwrap();
            }
            cache.get_many(std::slice::from_ref(&key)).await;
            writeln!(texts, "{:?}", cache.stats()).unwrap();
        }
    }
    texts
}
