//! All that is traced on a test's thread.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Once;
use tracing_subscriber::layer::{Context, SubscriberExt};

thread_local! {
    /// One thread runs a test and all its tasks, the supervisor's among them.
    static TRACED: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Collector;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Collector {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        TRACED.with_borrow_mut(|text| writeln!(text, "{} {event:?}", event.metadata().level()).expect("a string takes all"));
    }
}

/// From now on, for the whole process: a subscriber of one thread misses events whose call site another thread comes to first.
pub(crate) fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Collector)).expect("the first");
    });
}

pub(crate) fn all() -> String {
    TRACED.with_borrow(Clone::clone)
}

pub(crate) fn warnings() -> Vec<String> {
    all().lines().filter(|line| line.starts_with("WARN")).map(ToOwned::to_owned).collect()
}
