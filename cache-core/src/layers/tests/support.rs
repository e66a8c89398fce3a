//! A tier that fails by a script, calls of every verb, and a subscriber that keeps what is traced.

use crate::error::{Error, ErrorKind, Result};
use crate::key::{Echo, Namespace, RemoteKey};
use crate::layers::Verb;
use crate::layers::forward::{Call, forward_verbs};
use crate::record::{Body, Flags, Life};
use crate::remote::{Acquire, Claim, Fill, Invalidation, Mark, Put, RemoteTier, Unmark};
use crate::token::Token;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Level, Metadata, Subscriber, span};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const MS: Duration = Duration::from_millis(1);

/// Of the one key of these tests. It must show nowhere.
pub(super) const CANARY: &str = "canary@example.org";

pub(super) fn namespace() -> Namespace {
    Namespace::new("app", "layers").expect("a plain name")
}

pub(super) fn key() -> RemoteKey {
    namespace().key(CANARY)
}

pub(super) fn body() -> Body {
    let life = Life { soft: MINUTE, hard: MINUTE, last: MINUTE };
    Body {
        schema: 1,
        generation: 0,
        life,
        flags: Flags::NONE,
        codec: 1,
        echo: Echo::default(),
        payload: Bytes::from_static(b"v"),
    }
}

pub(super) fn acquire_of(token: Token) -> Acquire {
    Acquire { token, lease: MINUTE, retain: MINUTE, claim: Claim::Vacant, schema: 1, generation: 0 }
}

/// Calls a verb and drops what it answers.
pub(super) async fn call(tier: &impl RemoteTier, verb: Verb) -> Result<()> {
    let (key, token) = (key(), Token::unique());
    match verb {
        Verb::Get => tier.get(&key).await.map(drop),
        Verb::GetMany => tier.get_many(&[key.clone(), key]).await.map(drop),
        Verb::Acquire => tier.acquire(&key, &acquire_of(token)).await.map(drop),
        Verb::Fill => tier.fill(&key, &Fill { token, version: 0, created: 1, body: body() }).await.map(drop),
        Verb::Release => tier.release(&key, token).await.map(drop),
        Verb::Invalidate => tier.invalidate(&[Invalidation { key, version: None }], MINUTE, None).await.map(drop),
        Verb::Put => tier.put(&key, &Put { token, version: 1, age: Duration::ZERO, body: body() }, MINUTE, None).await.map(drop),
        Verb::Clear => tier.clear(&namespace(), MINUTE, None).await.map(drop),
        Verb::Mark => tier.mark(&key, &Mark { token, life: MINUTE, retain: MINUTE }).await.map(drop),
        Verb::Unmark => tier.unmark(&key, &Unmark { token, version: None, retain: MINUTE }, None).await.map(drop),
    }
}

pub(super) async fn get(tier: &impl RemoteTier) -> Result<()> {
    call(tier, Verb::Get).await
}

pub(super) fn kind(answer: Result<()>) -> Option<ErrorKind> {
    answer.err().map(|err| err.kind())
}

/// Fails the next calls with what its script says, and those after it with `then`; passes on what fails with nothing.
pub(super) struct Scripted<T> {
    inner: T,
    script: Mutex<VecDeque<Option<ErrorKind>>>,
    then: Mutex<Option<ErrorKind>>,
    is_partial: AtomicBool,
    verbs: Mutex<Vec<Verb>>,
}

impl<T> Scripted<T> {
    pub(super) fn new(inner: T) -> Arc<Self> {
        let (script, then, verbs) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { inner, script, then, is_partial: AtomicBool::new(false), verbs })
    }

    pub(super) fn next(&self, script: &[Option<ErrorKind>]) {
        self.script.lock().extend(script);
    }

    pub(super) fn then(&self, then: Option<ErrorKind>) {
        *self.then.lock() = then;
    }

    /// Whether its failures are from now on those of a part.
    pub(super) fn set_partial(&self, is_partial: bool) {
        self.is_partial.store(is_partial, Ordering::Relaxed);
    }

    /// The verbs that have come in since this was last asked.
    pub(super) fn take_verbs(&self) -> Vec<Verb> {
        std::mem::take(&mut self.verbs.lock())
    }

    async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        self.verbs.lock().push(verb);
        let (next, then) = (self.script.lock().pop_front(), *self.then.lock());
        match next.unwrap_or(then) {
            Some(kind) if self.is_partial.load(Ordering::Relaxed) => Err(Error::new(kind, "scripted").partial()),
            Some(kind) => Err(Error::new(kind, "scripted")),
            None => call().await,
        }
    }
}

forward_verbs!(Scripted);

/// Keeps the text of this thread's spans and events, and the levels of the events.
#[derive(Clone, Default)]
pub(super) struct Traced(Arc<Mutex<(Vec<Level>, String)>>);

impl Traced {
    /// Listens until the guard is dropped.
    pub(super) fn listen() -> (Self, DefaultGuard) {
        // With one subscriber only, tracing asks the thread that first comes to a call site whether anybody listens; that may be
        // another test's, where nobody does, and its answer would be kept. With two it asks both of them.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(Self::default()));
        let traced = Self::default();
        let guard = tracing::subscriber::set_default(traced.clone());
        (traced, guard)
    }

    pub(super) fn take(&self) -> (Vec<Level>, String) {
        std::mem::take(&mut self.0.lock())
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Traced {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let text = &mut self.0.lock().1;
        text.push_str(attributes.metadata().name());
        text.push(' ');
        attributes.record(&mut Text(text));
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Text(&mut self.0.lock().1));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let (levels, text) = &mut *self.0.lock();
        levels.push(*event.metadata().level());
        event.record(&mut Text(text));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
